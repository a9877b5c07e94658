use super::*;

#[test]
fn gos_grammar_is_read() {
    let nanos = |text| parse_duration(text).unwrap().as_nanos();
    assert_eq!(nanos("90s"), 90 * SECOND);
    assert_eq!(nanos("10m"), 10 * MINUTE);
    assert_eq!(nanos("1h30m"), 90 * MINUTE);
    assert_eq!(nanos("1.5h"), 90 * MINUTE);
    assert_eq!(nanos(".5s"), SECOND / 2);
    assert_eq!(nanos("5.s"), 5 * SECOND);
    assert_eq!(nanos("1m1s1ms1us1ns"), 61_001_001_001);
    assert_eq!(nanos("1us"), nanos("1\u{b5}s"));
    assert_eq!(nanos("1us"), nanos("1\u{3bc}s"));
    assert_eq!(nanos("0s"), 0);
    assert_eq!(nanos("007s"), 7 * SECOND);
}

#[test]
fn what_is_finer_than_a_nanosecond_is_cut_off() {
    assert_eq!(parse_duration("1.9ns"), Ok(Duration::from_nanos(1)));
    assert_eq!(parse_duration("0.1234567899s"), Ok(Duration::from_nanos(123_456_789)));
    let endless = format!("0.{}h", "3".repeat(1000));
    assert_eq!(parse_duration(&endless), Ok(Duration::from_nanos(1_199_999_999_999)));
}

#[test]
fn what_is_no_duration_is_refused_with_its_reason() {
    let error = |text: &str| parse_duration(text).unwrap_err();
    let unknown = |unit: &str| DurationError::UnknownUnit(unit.to_owned());
    assert_eq!(error(""), DurationError::Empty);
    assert_eq!(error("10"), DurationError::NoUnit);
    assert_eq!(error("0"), DurationError::NoUnit);
    assert_eq!(error("1h30"), DurationError::NoUnit);
    assert_eq!(error("-5s"), DurationError::Signed);
    assert_eq!(error("+5s"), DurationError::Signed);
    assert_eq!(error("10 minutes"), unknown(" minutes"));
    assert_eq!(error("10s "), unknown("s "));
    assert_eq!(error("1h 30m"), unknown("h "));
    assert_eq!(error("1e9"), unknown("e"));
    assert_eq!(error("1d"), unknown("d"));
    assert_eq!(error("1S"), unknown("S"));
    assert_eq!(error(" 10s"), DurationError::NoNumber);
    assert_eq!(error("s"), DurationError::NoNumber);
    assert_eq!(error(".s"), DurationError::NoNumber);
    assert_eq!(error("never"), DurationError::NoNumber);
    assert_eq!(error("\u{ff11}s"), DurationError::NoNumber);
    assert_eq!(error("1\u{661}s"), unknown("\u{661}s"));
    assert_eq!(error("1.2.3s"), DurationError::NoUnit);
    assert_eq!(error("1s\0"), unknown("s\0"));
}

#[test]
fn a_duration_beyond_the_type_is_an_overflow() {
    let most = u64::MAX;
    assert_eq!(parse_duration(&format!("{most}s999999999ns")), Ok(Duration::MAX));
    assert_eq!(parse_duration(&format!("{most}s1s")), Err(DurationError::Overflow));
    assert_eq!(parse_duration(&format!("{most}h")), Err(DurationError::Overflow));
    assert_eq!(parse_duration(&format!("{}ns", u128::MAX)), Err(DurationError::Overflow));
    assert_eq!(parse_duration(&format!("{}h", u128::MAX)), Err(DurationError::Overflow));
    let most_twice = format!("{0}ns{0}ns", u128::MAX);
    assert_eq!(parse_duration(&most_twice), Err(DurationError::Overflow));
    assert_eq!(parse_duration(&format!("{}s", "9".repeat(100_000))), Err(DurationError::Overflow));
}

#[test]
fn durations_are_written_as_go_prints_them() {
    let written = |text| format_duration(parse_duration(text).unwrap());
    assert_eq!(written("0s"), "0s");
    assert_eq!(written("10m"), "10m0s");
    assert_eq!(written("90m"), "1h30m0s");
    assert_eq!(written("24h"), "24h0m0s");
    assert_eq!(written("1500ms"), "1.5s");
    assert_eq!(written("250ms"), "250ms");
    assert_eq!(written("1.05ms"), "1.05ms");
    assert_eq!(written("1500ns"), "1.5\u{b5}s");
    assert_eq!(written("999ns"), "999ns");
    assert_eq!(written("600.004s"), "10m0.004s");
    assert_eq!(written("59.999999999s"), "59.999999999s");
}
