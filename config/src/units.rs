//! Durations as Go writes them, because that is what Kubernetes users write everywhere else.

pub mod quantity;

use std::time::Duration;

use crate::error::quoted;

#[cfg(test)]
mod tests;

/// Go's units in nanoseconds. Microseconds have three spellings: ASCII, U+00B5 and U+03BC.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", MICROSECOND),
    ("\u{b5}s", MICROSECOND),
    ("\u{3bc}s", MICROSECOND),
    ("ms", MILLISECOND),
    ("s", SECOND),
    ("m", MINUTE),
    ("h", 60 * MINUTE),
];
const MICROSECOND: u128 = 1_000;
const MILLISECOND: u128 = 1_000_000;
const SECOND: u128 = 1_000_000_000;
const MINUTE: u128 = 60 * SECOND;

/// Digits of a fraction that count: enough for a nanosecond of an hour, and no product overflows.
const FRACTION_DIGITS: usize = 18;

/// Why a text is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    #[error("is empty; write a duration such as 90s, 10m or 1h30m")]
    Empty,
    #[error("has a sign; durations here are never negative")]
    Signed,
    #[error("has no number where one is expected")]
    NoNumber,
    #[error("has a number without a unit; the units are ns, us, ms, s, m and h")]
    NoUnit,
    /// Carries what stands in the unit's place, as written.
    #[error("has the unknown unit {}; the units are ns, us, ms, s, m and h", quoted(.0))]
    UnknownUnit(String),
    #[error("is too long to be represented")]
    Overflow,
}

/// Reads a duration in Go's grammar: numbers with units, such as `90s`, `1h30m`, `1.5h` or `250ms`.
///
/// What is finer than a nanosecond is cut off, as Go does. Stricter than Go in two points: a sign is
/// refused, and so is a bare `0`. Zero (`0s`) is a duration; whether it makes sense is the caller's question.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    if text.is_empty() {
        return Err(DurationError::Empty);
    }
    if text.starts_with(['+', '-']) {
        return Err(DurationError::Signed);
    }
    let mut rest = text;
    let mut total = 0u128;
    while !rest.is_empty() {
        let (nanos, after) = component(rest)?;
        total = total.checked_add(nanos).ok_or(DurationError::Overflow)?;
        rest = after;
    }
    if total > Duration::MAX.as_nanos() {
        return Err(DurationError::Overflow);
    }
    Ok(Duration::from_nanos_u128(total))
}

/// The nanoseconds of the first number with its unit, and the text after them.
fn component(text: &str) -> Result<(u128, &str), DurationError> {
    let (whole, rest) = split_digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => split_digits(after),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::NoNumber);
    }
    let end = rest.find(|c: char| c == '.' || c.is_ascii_digit());
    let (unit, rest) = rest.split_at(end.unwrap_or(rest.len()));
    if unit.is_empty() {
        return Err(DurationError::NoUnit);
    }
    let (_, unit_nanos) = UNITS
        .into_iter()
        .find(|(name, _)| *name == unit)
        .ok_or_else(|| DurationError::UnknownUnit(unit.to_owned()))?;
    let fraction = &fraction[..fraction.len().min(FRACTION_DIGITS)];
    let scale = (0..fraction.len()).fold(1u128, |scale, _| scale * 10);
    let part = number(fraction)? * unit_nanos / scale;
    let nanos = number(whole)?
        .checked_mul(unit_nanos)
        .and_then(|nanos| nanos.checked_add(part))
        .ok_or(DurationError::Overflow)?;
    Ok((nanos, rest))
}

fn split_digits(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

/// The value of ASCII digits; of none, zero.
fn number(digits: &str) -> Result<u128, DurationError> {
    if digits.is_empty() {
        return Ok(0);
    }
    // The only thing that can be wrong with digits is that there are too many.
    digits.parse().map_err(|_| DurationError::Overflow)
}

/// Writes a duration as Go prints it: `10m0s`, `1h30m0s`, `1.5s`, `250ms`, `0s`.
///
/// [`parse_duration`] reads it back to the same value.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < MICROSECOND {
        return format!("{nanos}ns");
    }
    if nanos < MILLISECOND {
        return format!("{}\u{b5}s", decimal(nanos, MICROSECOND, 3));
    }
    if nanos < SECOND {
        return format!("{}ms", decimal(nanos, MILLISECOND, 6));
    }
    let seconds = decimal(nanos % MINUTE, SECOND, 9);
    let minutes = nanos / MINUTE;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// `nanos` in units of 10^`places` nanoseconds (`unit`), without trailing zeros.
fn decimal(nanos: u128, unit: u128, places: usize) -> String {
    let (whole, fraction) = (nanos / unit, nanos % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = format!("{fraction:0places$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}
