use super::*;
use crate::policy::Timeout;
use crate::units::DurationError;

const MINUTE: Duration = Duration::from_mins(1);

/// default 10m, max 60m, grace 5s, max_grace 30s.
fn node(raise: bool) -> NodePolicy {
    let timeout = Timeout { max: 60 * MINUTE, raise, ..Timeout::default() };
    NodePolicy { timeout, ..NodePolicy::default() }
}

fn timeout(raise: bool, asked: &str) -> PodPolicy {
    node(raise).for_pod([("curfew.dev/timeout", asked)]).unwrap()
}

fn fault(key: &str, value: &str) -> Fault {
    match node(false).for_pod([(key, value)]).unwrap_err() {
        AnnotationError::Value { key: named, value: shown, fault } => {
            assert_eq!((&*named, &*shown), (key, value));
            fault
        }
        other @ AnnotationError::Unknown { .. } => panic!("{other:?}"),
    }
}

#[test]
fn a_pod_that_asks_for_nothing_gets_the_defaults() {
    let pod = node(true).for_pod([("io.kubernetes.cri.sandbox-uid", "1"), ("curfew", "x")]).unwrap();
    let expected =
        PodPolicy { timeout: 10 * MINUTE, grace: Duration::from_secs(5), pids: 512, clamped: Vec::new() };
    assert_eq!(pod, expected);
}

#[test]
fn a_shorter_timeout_is_always_granted() {
    for raise in [false, true] {
        let pod = timeout(raise, "90s");
        assert_eq!(pod.timeout, Duration::from_secs(90));
        assert_eq!(pod.clamped, []);
    }
}

#[test]
fn a_longer_timeout_without_raise_is_cut_to_the_default() {
    for asked in [20 * MINUTE, 90 * MINUTE] {
        let pod = timeout(false, &format_duration(asked));
        assert_eq!(pod.timeout, 10 * MINUTE);
        let clamp = Clamp {
            key: TIMEOUT.to_owned(),
            asked: format_duration(asked),
            got: "10m0s".into(),
            rule: "timeout.raise".to_owned(),
        };
        assert_eq!(pod.clamped, [clamp]);
    }
}

#[test]
fn a_longer_timeout_with_raise_is_granted_up_to_max() {
    assert_eq!(timeout(true, "60m").timeout, 60 * MINUTE);
    assert_eq!(timeout(true, "60m").clamped, []);
    let pod = timeout(true, "61m");
    assert_eq!(pod.timeout, 60 * MINUTE);
    assert_eq!(pod.clamped[0].rule, "timeout.max");
}

#[test]
fn a_grace_is_granted_up_to_max_grace() {
    let grace = |asked| node(false).for_pod([("curfew.dev/grace", asked)]).unwrap();
    assert_eq!(grace("0s").grace, Duration::ZERO);
    assert_eq!(grace("30s").grace, Duration::from_secs(30));
    assert_eq!(grace("30s").clamped, []);
    assert_eq!(grace("31s").grace, Duration::from_secs(30));
    assert_eq!(grace("31s").clamped[0].rule, "timeout.max_grace");
}

#[test]
fn a_clamp_reads_as_one_line() {
    let line = timeout(false, "2h").clamped[0].to_string();
    assert_eq!(line, "curfew.dev/timeout lowered from 2h0m0s to 10m0s by timeout.raise");
}

#[test]
fn an_unknown_key_under_our_prefix_is_refused_with_the_known_ones() {
    for key in ["curfew.dev/timeuot", "curfew.dev/", "curfew.dev/Timeout", "curfew.dev/timeout/x"] {
        let error = node(false).for_pod([(key, "1s")]).unwrap_err();
        let expected = AnnotationError::Unknown { key: key.to_owned(), known: KNOWN.to_vec() };
        assert_eq!(error, expected);
    }
}

#[test]
fn a_malformed_value_is_refused_with_key_and_value() {
    assert_eq!(fault(TIMEOUT, "10"), Fault::Duration(DurationError::NoUnit));
    assert_eq!(fault(TIMEOUT, ""), Fault::Duration(DurationError::Empty));
    assert_eq!(fault(TIMEOUT, "99999999999999999999h"), Fault::Duration(DurationError::Overflow));
    assert_eq!(fault(GRACE, "-1s"), Fault::Duration(DurationError::Signed));
}

#[test]
fn a_timeout_of_zero_is_refused() {
    assert_eq!(fault(TIMEOUT, "0s"), Fault::Zero);
    assert_eq!(fault(TIMEOUT, "0.5ns"), Fault::Zero);
}

#[test]
fn a_hostile_value_can_neither_break_nor_flood_a_line() {
    let value = format!("1s\n\u{1b}[31m\u{202e}{}", "x".repeat(100_000));
    for (key, value) in [(TIMEOUT, &*value), (&*format!("curfew.dev/{value}"), "1s")] {
        let message = node(false).for_pod([(key, value)]).unwrap_err().to_string();
        assert!(!message.contains(|c: char| c.is_control() || c == '\u{202e}'));
        assert!(message.len() < 500, "{message}");
    }
}

#[test]
fn fewer_processes_are_granted_and_more_are_cut() {
    let pids = |asked| node(true).for_pod([(PIDS, asked)]).unwrap();
    assert_eq!((pids("64").pids, pids("64").clamped), (64, vec![]));
    assert_eq!(pids("513").pids, 512);
    assert_eq!(pids("513").clamped[0].to_string(), "curfew.dev/pids lowered from 513 to 512 by limits.pids");
    for asked in ["", "0", "-1", "+1", " 1", "1 ", "1e3", "\u{663}", "4194305", "99999999999999999999"] {
        assert!(matches!(fault(PIDS, asked), Fault::OutOfRange { .. }), "{asked:?}");
    }
}
