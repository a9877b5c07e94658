//! Sizes and CPUs as Kubernetes writes them in a pod's resources.

#[cfg(test)]
mod tests;

/// Kubernetes' suffixes of bytes, the longest first.
const SUFFIXES: [(&str, u128); 12] = [
    ("Ki", 1 << 10),
    ("Mi", 1 << 20),
    ("Gi", 1 << 30),
    ("Ti", 1 << 40),
    ("Pi", 1 << 50),
    ("Ei", 1 << 60),
    ("k", 1_000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("E", 1_000_000_000_000_000_000),
];
/// Digits after the point: as many as Kubernetes keeps.
const FRACTION_DIGITS: usize = 9;

/// Why a text is no size, or no number of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("is empty; write a quantity such as {example}")]
    Empty { example: &'static str },
    #[error("must be a number in decimal digits with {suffixes}, such as {example}")]
    Malformed { suffixes: &'static str, example: &'static str },
    #[error("is too large to be represented")]
    Overflow,
}

const SIZE: QuantityError = QuantityError::Malformed {
    suffixes: "Ki, Mi, Gi, Ti, Pi, Ei, k, M, G, T, P, E or nothing",
    example: "512Mi",
};
const CPU: QuantityError = QuantityError::Malformed { suffixes: "m or nothing", example: "500m or 1.5" };

/// Reads a size such as `512Mi`, `1.5Gi`, `64M` or `4096`. What is finer than a byte is rounded up, as Kubernetes does.
///
/// # Errors
/// Signs, exponents, other suffixes, and what doesn't fit.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Empty { example: "512Mi" });
    }
    let found = SUFFIXES.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, *unit)));
    let (number, unit) = found.unwrap_or((text, 1));
    scaled(number, unit).ok_or(SIZE)?
}

/// Reads a number of CPUs, such as `2`, `0.5` or `500m`, in thousandths. What is finer is rounded up, as Kubernetes does.
///
/// # Errors
/// As [`parse_size`].
pub fn parse_cpu(text: &str) -> Result<u64, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Empty { example: "500m" });
    }
    let (number, unit) = text.strip_suffix('m').map_or((text, 1000), |number| (number, 1));
    scaled(number, unit).ok_or(CPU)?
}

/// `number` times `unit`, rounded up; `None` if it isn't a number.
fn scaled(number: &str, unit: u128) -> Option<Result<u64, QuantityError>> {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || fraction.len() > FRACTION_DIGITS {
        return None;
    }
    let product = |digits: &str| digits.parse::<u128>().ok().and_then(|number| number.checked_mul(unit));
    let Some(wholes) = product(whole) else { return Some(Err(QuantityError::Overflow)) };
    let scale = (0..fraction.len()).fold(1, |scale, _| scale * 10);
    let parts = if fraction.is_empty() { Some(0) } else { product(fraction) };
    let total = parts.and_then(|parts| wholes.checked_add(parts.div_ceil(scale)));
    Some(total.and_then(|total| u64::try_from(total).ok()).ok_or(QuantityError::Overflow))
}

/// Writes a size with the largest of the suffixes Ki to Ei that divides it, or as plain bytes.
///
/// [`parse_size`] reads it back to the same value.
pub fn format_size(bytes: u64) -> String {
    let divides = |unit: &u128| bytes != 0 && u128::from(bytes) % unit == 0;
    match SUFFIXES.iter().take(6).rev().find(|(_, unit)| divides(unit)) {
        Some((name, unit)) => format!("{}{name}", u128::from(bytes) / unit),
        None => bytes.to_string(),
    }
}

/// Writes thousandths of a CPU: `2`, `1500m`. [`parse_cpu`] reads it back to the same value.
pub fn format_cpu(thousandths: u64) -> String {
    match thousandths % 1000 {
        0 => (thousandths / 1000).to_string(),
        _ => format!("{thousandths}m"),
    }
}
