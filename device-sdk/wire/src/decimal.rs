//! Whole numbers as text: the one spelling that the wire accepts.
//!
//! Each number has exactly one spelling, so equal numbers are equal bytes and may be compared,
//! hashed and used as a dedupe key without being parsed.

use core::fmt;

/// Digits of `u64::MAX`.
pub const MAX_DIGITS: usize = 20;

/// A `u64` in its one decimal spelling, formatted without allocation.
#[derive(Clone, Copy)]
pub struct Decimal {
    digits: [u8; MAX_DIGITS],
    start: usize,
}

/// Why a text is not the decimal spelling of a `u64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecimalError {
    /// No digit at all.
    Empty,
    /// A byte that is not an ASCII digit: a sign, a space, a letter.
    NotADigit {
        /// Where in the text, counted in bytes from 0.
        at: usize,
    },
    /// A zero in front of other digits.
    LeadingZero,
    /// Larger than `u64::MAX`.
    TooLarge,
}

impl Decimal {
    /// The spelling of `value`.
    #[must_use]
    pub fn new(value: u64) -> Decimal {
        let mut digits = [b'0'; MAX_DIGITS];
        let mut start = MAX_DIGITS;
        let mut rest = value;
        loop {
            start -= 1;
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return Decimal { digits, start };
            }
        }
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only ASCII digits were written, so this is always text.
        core::str::from_utf8(&self.digits[self.start..]).unwrap_or("0")
    }

    /// Reads the one accepted spelling: ASCII digits, no sign, no leading zero, at most
    /// `u64::MAX`.
    ///
    /// # Errors
    /// Says which rule the text broke.
    pub fn parse(text: &str) -> Result<u64, DecimalError> {
        let bytes = text.as_bytes();
        if bytes.is_empty() {
            return Err(DecimalError::Empty);
        }
        let mut value: u64 = 0;
        for (at, byte) in bytes.iter().enumerate() {
            if !byte.is_ascii_digit() {
                return Err(DecimalError::NotADigit { at });
            }
            value = value
                .checked_mul(10)
                .and_then(|tens| tens.checked_add(u64::from(byte - b'0')))
                .ok_or(DecimalError::TooLarge)?;
        }
        if bytes.len() > 1 && bytes[0] == b'0' {
            return Err(DecimalError::LeadingZero);
        }
        Ok(value)
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad_integral(true, "", self.as_str())
    }
}

impl fmt::Display for DecimalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DecimalError::Empty => f.write_str("is empty; write a decimal number"),
            DecimalError::NotADigit { at } => {
                write!(f, "has something other than a digit 0-9 at byte {at}")
            }
            DecimalError::LeadingZero => f.write_str("has a leading zero"),
            DecimalError::TooLarge => f.write_str("is larger than 18446744073709551615"),
        }
    }
}

impl core::error::Error for DecimalError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_power_of_ten_and_its_neighbours_survive_the_round_trip() {
        let mut power: u64 = 1;
        for _ in 0..20 {
            for value in [power - 1, power, power + 1] {
                assert_eq!(Decimal::parse(Decimal::new(value).as_str()), Ok(value));
            }
            power = power.wrapping_mul(10).max(1);
        }
        assert_eq!(Decimal::new(0).as_str(), "0");
        assert_eq!(Decimal::parse("18446744073709551615"), Ok(u64::MAX));
    }

    #[test]
    fn each_second_spelling_of_a_number_is_refused() {
        let refused = [
            ("", DecimalError::Empty),
            ("00", DecimalError::LeadingZero),
            ("07", DecimalError::LeadingZero),
            ("+7", DecimalError::NotADigit { at: 0 }),
            ("-7", DecimalError::NotADigit { at: 0 }),
            (" 7", DecimalError::NotADigit { at: 0 }),
            ("7 ", DecimalError::NotADigit { at: 1 }),
            ("7\0", DecimalError::NotADigit { at: 1 }),
            ("0x7", DecimalError::NotADigit { at: 1 }),
            ("٧", DecimalError::NotADigit { at: 0 }),
            ("18446744073709551616", DecimalError::TooLarge),
            ("99999999999999999999999", DecimalError::TooLarge),
        ];
        for (text, why) in refused {
            assert_eq!(Decimal::parse(text), Err(why), "{text:?}");
        }
    }
}
