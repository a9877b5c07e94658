//! What a deadline file says: how long its pod may live from the moment when it first said so, or until when.

use std::{
    io,
    time::{Duration, SystemTime},
};

use curfew_config::{DurationError, units::parse_duration};
use thiserror::Error;

use super::{clock::Boottime, span::Span};

/// Bytes: many times what either form needs.
pub(crate) const LARGEST: usize = 64;

/// A deadline file's content that means something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    /// As it was written, which tells one claim from another.
    text: String,
    until: Until,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// From the pod's first claim on.
    For(Duration),
    /// What the wall's clock said is converted once: later steps of it move nothing.
    At(Boottime),
}

/// A content that means nothing, and changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Malformed {
    #[error("it is empty")]
    Empty,
    #[error("it is longer than {LARGEST} bytes")]
    TooLong,
    #[error("it isn't UTF-8")]
    NotText,
    #[error("{0:?} is no time in UTC such as 2026-01-02T03:04:05Z")]
    Timestamp(String),
    #[error("{0:?} {1}")]
    Duration(String, DurationError),
    #[error("{0:?} is no time at all")]
    Zero(String),
}

impl Claim {
    /// Understands a file's content: a duration as in the configuration, or a time in UTC by RFC 3339.
    ///
    /// # Errors
    /// [`Malformed`] says why it is neither.
    pub(crate) fn parse(content: &[u8]) -> Result<Self, Malformed> {
        if content.len() > LARGEST {
            return Err(Malformed::TooLong);
        }
        let text = std::str::from_utf8(content).map_err(|_| Malformed::NotText)?;
        let text = text.strip_suffix('\n').unwrap_or(text).to_owned();
        let until = match text.as_str() {
            "" => return Err(Malformed::Empty),
            time if time.ends_with('Z') => match timestamp(time) {
                Some(until) => Until::At(until),
                None => return Err(Malformed::Timestamp(text)),
            },
            duration => match parse_duration(duration) {
                Ok(Duration::ZERO) => return Err(Malformed::Zero(text)),
                Ok(duration) => Until::For(duration),
                Err(error) => return Err(Malformed::Duration(text, error)),
            },
        };
        Ok(Self { text, until })
    }

    /// What the file says.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn limit(&self, started: Boottime) -> Duration {
        match self.until {
            Until::For(duration) => duration,
            Until::At(until) => until.since(started),
        }
    }
}

fn timestamp(text: &str) -> Option<Boottime> {
    let is_plain = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'-' | b':' | b'.' | b'T' | b'Z');
    let at = text.bytes().all(is_plain).then(|| humantime::parse_rfc3339(text).ok())??;
    // What has passed is now: the time is up.
    Some(Boottime::now().after(at.duration_since(SystemTime::now()).unwrap_or_default()))
}

impl Span {
    /// The time of a pod that this claim is made on at `now`: at most `most` from the first claim. `None` if it is the one
    /// that the pod has had last, whatever has been made of its time since.
    ///
    /// # Errors
    /// The kernel doesn't say which clock the pod's time is on.
    pub(crate) fn claimed(&self, claim: &Claim, now: Boottime, most: Duration) -> io::Result<Option<Self>> {
        if self.claim.as_deref() == Some(claim.text()) {
            return Ok(None);
        }
        let mut claimed = if self.waits {
            Self::new(now, claim.limit(now).min(most), self.grace())?
        } else {
            // By its end, since its beginning may be before this boot.
            let (due, limit) = (self.due.here()?, self.limit());
            let asked = match claim.until {
                Until::For(duration) => duration,
                Until::At(until) => limit.saturating_add(until.since(due)).saturating_sub(due.since(until)),
            };
            // A deadline that has passed is now, so that a grace follows it.
            let least = limit.saturating_sub(due.since(now));
            self.lasting(asked.max(least).min(most))?
        };
        claimed.is_final = self.is_final;
        claimed.claim = Some(claim.text.clone());
        Ok(Some(claimed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);
    const HOUR: Duration = Duration::from_hours(1);

    fn claim(text: &str) -> Claim {
        Claim::parse(text.as_bytes()).unwrap()
    }

    /// One that has waited for so long, with an hour in all.
    fn waiting(for_so_long: Duration) -> (Span, Boottime) {
        let started = Boottime::now();
        let span = Span::new(started, HOUR, Duration::ZERO).unwrap().into_final();
        (span.that_waits(), started.after(for_so_long))
    }

    /// When its time is up, from `started` on.
    fn due(span: &Span, started: Boottime) -> Duration {
        span.due.here().unwrap().since(started)
    }

    #[test]
    fn a_moment_moves_the_end_there_also_after_a_reboot() {
        let (waiting, now) = waiting(Duration::ZERO);
        let mut span = waiting.claimed(&claim("5h"), now, 24 * HOUR).unwrap().unwrap();
        // Begun before this boot, with a clock that says so.
        span.started = span.started.clone().on_another_clock();
        let at = |later| Claim { text: format!("{later:?}"), until: Until::At(now.after(later)) };
        for (said, expected) in [(7 * HOUR, 7 * HOUR), (2 * HOUR, 2 * HOUR), (40 * HOUR, 24 * HOUR)] {
            let moved = span.claimed(&at(said), now, 24 * HOUR).unwrap().unwrap();
            assert_eq!((due(&moved, now), moved.limit()), (expected, expected));
        }
        // What has passed is now, and no earlier.
        let over = span.claimed(&at(Duration::ZERO), now.after(HOUR), 24 * HOUR).unwrap().unwrap();
        assert_eq!(due(&over, now), HOUR);
    }

    #[test]
    fn a_duration_and_a_time_in_utc_are_claims_with_or_without_a_line_break() {
        for text in ["10m", "1h30m", "1.5s\n"] {
            assert!(matches!(claim(text).until, Until::For(_)), "{text}");
        }
        let tomorrow = SystemTime::now() + 24 * HOUR;
        let text = humantime::format_rfc3339_seconds(tomorrow).to_string();
        let Until::At(until) = claim(&format!("{text}\n")).until else { panic!("{text}") };
        let ahead = until.since(Boottime::now());
        assert!(ahead <= 24 * HOUR && ahead > 24 * HOUR - 5 * MINUTE / 60, "{ahead:?}");
        assert_eq!(claim("10m\n"), claim("10m"));
        assert!(matches!(claim("1971-01-01T00:00:00.5Z").until, Until::At(at) if at <= Boottime::now()));
    }

    #[test]
    fn everything_else_is_malformed() {
        for text in [
            "",
            "\n",
            "10m\n\n",
            " 10m",
            "10m ",
            "+10m",
            "-10m",
            "0",
            "0s",
            "600",
            "10",
            "10x",
            "m",
            "ten minutes",
            "\0",
            "2026-01-02",
            "2026-01-02T03:04:05",
            "2026-01-02T03:04:05+00:00",
            "2026-01-02T03:04:05+00:00Z",
            "2026-13-02T03:04:05Z",
            "-026-01-02T03:04:05Z",
            "2026-01-02T03:04:05+Z",
            "Z",
            "{\"a\":1}",
            "99999999999999999999999999999h",
            "\u{661}0m",
        ] {
            assert!(Claim::parse(text.as_bytes()).is_err(), "{text:?}");
        }
        assert_eq!(Claim::parse(b"\xff10m"), Err(Malformed::NotText));
        assert_eq!(Claim::parse(&[b'1'; 65]), Err(Malformed::TooLong));
        let longest = format!("{}m", "0".repeat(62) + "9");
        assert!(Claim::parse(longest.as_bytes()).is_ok());
    }

    #[test]
    fn the_first_claim_starts_the_time_anew_and_later_ones_count_from_it() {
        let (span, now) = waiting(30 * MINUTE);
        let armed = span.claimed(&claim("10m"), now, HOUR).unwrap().unwrap();
        assert_eq!((armed.waits, armed.is_final, armed.limit()), (false, true, 10 * MINUTE));
        assert_eq!(due(&armed, now), 10 * MINUTE);
        let later = now.after(MINUTE);
        for (text, expected) in [("20m", 20 * MINUTE), ("5m", 5 * MINUTE), ("2h", HOUR), ("30s", MINUTE)] {
            let moved = armed.claimed(&claim(text), later, HOUR).unwrap().unwrap();
            assert_eq!((due(&moved, now), moved.limit()), (expected, expected), "{text}");
        }
    }

    #[test]
    fn a_claim_that_says_the_same_does_not_undo_an_extension() {
        let (span, now) = waiting(MINUTE);
        let armed = span.claimed(&claim("10m"), now, HOUR).unwrap().unwrap();
        let extended = armed.lasting(20 * MINUTE).unwrap();
        assert_eq!(due(&extended, now), 20 * MINUTE);
        assert_eq!(extended.claimed(&claim("10m\n"), now, HOUR).unwrap(), None);
        let moved = extended.claimed(&claim("11m"), now, HOUR).unwrap().unwrap();
        assert_eq!(moved.limit(), 11 * MINUTE);
    }

    #[test]
    fn a_time_that_an_earlier_version_wrote_down_waits_for_nothing() {
        let span = Span::new(Boottime::now(), HOUR, MINUTE).unwrap();
        let mut written = serde_json::to_value(&span).unwrap();
        for new in ["waits", "claim"] {
            assert!(written.as_object_mut().unwrap().remove(new).is_some());
        }
        assert_eq!(serde_json::from_value::<Span>(written).unwrap(), span);
        let waiting = span.that_waits();
        let written = serde_json::to_value(&waiting).unwrap();
        assert_eq!(serde_json::from_value::<Span>(written).unwrap(), waiting);
    }

    #[test]
    fn a_time_that_has_passed_is_now() {
        let (span, now) = waiting(MINUTE);
        let over = span.claimed(&claim("2001-01-01T00:00:00Z"), now, HOUR).unwrap().unwrap();
        assert_eq!((due(&over, now), over.limit()), (Duration::ZERO, Duration::ZERO));
    }

    proptest! {
        #[test]
        fn no_content_makes_a_longer_life_than_the_ceiling_from_the_first_claim(
            contents in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..70),
                    "[0-9]{1,20}(ns|us|ms|s|m|h)([0-9]{1,9}[smh])?\n?".prop_map(String::into_bytes),
                    "[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-6][0-9](\\.[0-9]{0,12})?Z\n?"
                        .prop_map(String::into_bytes),
                ],
                1..8,
            ),
            steps in proptest::collection::vec(0u64..7200, 8),
            most in 1u64..7200,
        ) {
            let most = Duration::from_secs(most);
            let (mut span, mut now) = waiting(Duration::ZERO);
            let mut armed_at = None;
            for (content, step) in contents.iter().zip(steps) {
                now = now.after(Duration::from_secs(step));
                let Ok(claim) = Claim::parse(content) else { continue };
                let Some(next) = span.claimed(&claim, now, most).unwrap() else { continue };
                let first = *armed_at.get_or_insert(now);
                prop_assert_eq!(next.started.here().unwrap(), first);
                prop_assert!(next.due.here().unwrap() <= first.after(most));
                prop_assert!(next.limit() <= most && !next.waits);
                span = next;
            }
        }
    }
}
