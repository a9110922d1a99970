//! Quantities as people write them: `"64MiB"`, `"30s"`. A bare number is refused, because
//! nobody can tell from `max_bytes = 64` what was meant.

use std::time::Duration;

const BYTE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

const TIME_UNITS: &[(&str, u64)] = &[
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

/// Why a quantity could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum QuantityError {
    /// No digits in front of the unit.
    NoNumber,
    /// A number alone.
    NoUnit,
    /// A unit that is not known.
    UnknownUnit(String),
    /// More than 2^64 of the smallest unit.
    TooLarge,
}

/// Reads a size such as `"64MiB"` into bytes.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, QuantityError> {
    parse(text, BYTE_UNITS)
}

/// Reads a time such as `"30s"` or `"1.5h"`; microseconds are the smallest unit.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, QuantityError> {
    parse(text, TIME_UNITS).map(Duration::from_micros)
}

/// Writes bytes in the largest binary unit that divides them.
pub(crate) fn show_bytes(bytes: u64) -> String {
    show(bytes, &BYTE_UNITS[..5])
}

/// Writes a duration in the largest unit that divides it.
pub(crate) fn show_duration(duration: Duration) -> String {
    match u64::try_from(duration.as_micros()) {
        Ok(0) => "0s".to_owned(),
        Ok(micros) => show(micros, TIME_UNITS),
        Err(_) => format!("{}s", duration.as_secs()),
    }
}

/// The units of a size, for messages.
pub(crate) const BYTE_UNIT_NAMES: &str = "B, KiB, MiB, GiB, TiB, KB, MB, GB, TB";
/// The units of a time, for messages.
pub(crate) const TIME_UNIT_NAMES: &str = "us, ms, s, m, h, d";

fn parse(text: &str, units: &[(&str, u64)]) -> Result<u64, QuantityError> {
    let text = text.trim();
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim_start();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(QuantityError::NoNumber);
    }
    if unit.is_empty() {
        return Err(QuantityError::NoUnit);
    }
    let factor = units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, factor)| *factor)
        .ok_or_else(|| QuantityError::UnknownUnit(unit.to_owned()))?;
    let whole: u64 = whole.parse().map_err(|_| QuantityError::TooLarge)?;
    let whole = whole.checked_mul(factor).ok_or(QuantityError::TooLarge)?;
    whole.checked_add(part_of(fraction, factor)).ok_or(QuantityError::TooLarge)
}

/// The fraction's digits as a share of `factor`, rounded down; digits beyond the ninth do not
/// change a quantity that anybody writes.
fn part_of(fraction: &str, factor: u64) -> u64 {
    let mut share = 0u128;
    let mut scale = 1u128;
    for digit in fraction.bytes().take(9) {
        share = share * 10 + u128::from(digit - b'0');
        scale *= 10;
    }
    u64::try_from(u128::from(factor) * share / scale).unwrap_or(0)
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let (name, factor) = units
        .iter()
        .rev()
        .find(|(_, factor)| amount >= *factor && amount.is_multiple_of(*factor))
        .unwrap_or(&units[0]);
    format!("{}{name}", amount / factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_with_binary_and_decimal_units() {
        for (text, bytes) in [
            ("0B", 0),
            ("64MiB", 64 << 20),
            ("1.5 KiB", 1536),
            ("1GB", 1_000_000_000),
            (" 8TiB ", 8 << 40),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn times_are_read_down_to_microseconds() {
        for (text, micros) in
            [("500us", 500), ("10ms", 10_000), ("1.5h", 5_400_000_000), ("2d", 172_800_000_000)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_says_why() {
        for (text, error) in [
            ("", QuantityError::NoNumber),
            ("MiB", QuantityError::NoNumber),
            ("1..2s", QuantityError::NoNumber),
            ("1.s", QuantityError::NoNumber),
            ("-3s", QuantityError::NoNumber),
            ("64", QuantityError::NoUnit),
            ("64mib", QuantityError::UnknownUnit("mib".into())),
            ("99999999999999999999B", QuantityError::TooLarge),
            ("99999999999TiB", QuantityError::TooLarge),
        ] {
            assert_eq!(parse_bytes(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn what_is_shown_can_be_read_again() {
        for bytes in [0, 1, 1023, 1024, 64 << 20, 3 << 40, 1_000_000] {
            assert_eq!(parse_bytes(&show_bytes(bytes)), Ok(bytes));
        }
        for micros in [0, 1, 500, 1_000, 61_000_000, 86_400_000_000] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse_duration(&show_duration(duration)), Ok(duration));
        }
    }
}
