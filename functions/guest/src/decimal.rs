//! Numbers with a fraction as text, without the formatting machinery, which adds 20 KB; and a
//! square root, which `core` does not have.

use crate::text::push_number;
use alloc::string::String;

/// Above this, rounding to a digit after the point says nothing any more: whole numbers up to here
/// are exact.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// Digits after the point at most.
const MAX_DECIMALS: u8 = 12;

/// Appends a number rounded to so many digits after the point (12 at most), zeros at the end left
/// out; as JSON has it. What is not finite becomes `null`, which is what JSON has for it.
///
/// ```
/// use tidegate_guest::decimal::push_decimal;
///
/// let mut text = String::new();
/// push_decimal(&mut text, -21.5049, 2);
/// assert_eq!(text, "-21.5");
/// ```
///
/// Numbers too large for that many exact digits are written with fewer, from 9e15 on as
/// `ddde+xx` with 13 or more right digits.
pub fn push_decimal(text: &mut String, value: f64, decimals: u8) {
    if !value.is_finite() {
        text.push_str("null");
        return;
    }
    let mut size = value.abs();
    let mut exponent = 0u64;
    while size >= EXACT {
        size /= 10.0;
        exponent += 1;
    }
    let mut decimals = if exponent > 0 { 0 } else { decimals.min(MAX_DECIMALS) };
    let mut scale = 1u64;
    for _ in 0..decimals {
        scale *= 10;
    }
    while size * scale as f64 >= EXACT {
        scale /= 10;
        decimals -= 1;
    }
    // The cast cuts off, so this rounds halves up.
    let scaled = (size * scale as f64 + 0.5) as u64;
    if value < 0.0 && scaled > 0 {
        text.push('-');
    }
    push_number(text, scaled / scale);
    push_fraction(text, scaled % scale, decimals);
    if exponent > 0 {
        text.push_str("e+");
        push_number(text, exponent);
    }
}

/// The digits after the point, zeros at the end left out.
fn push_fraction(text: &mut String, mut fraction: u64, mut digits: u8) {
    if fraction == 0 {
        return;
    }
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        digits -= 1;
    }
    text.push('.');
    let mut shown = String::new();
    push_number(&mut shown, fraction);
    for _ in shown.len()..usize::from(digits) {
        text.push('0');
    }
    text.push_str(&shown);
}

/// The square root, to the last digit or the one before it; that of a negative number is NaN.
pub fn sqrt(value: f64) -> f64 {
    if value == 0.0 || value.is_nan() || value == f64::INFINITY {
        return value;
    }
    if value < 0.0 {
        return f64::NAN;
    }
    // Half of the exponent is a first guess within a few percent; Newton's steps double its digits.
    let mut root = f64::from_bits((value.to_bits() >> 1) + (0x3ff0_0000_0000_0000 >> 1));
    for _ in 0..6 {
        root = 0.5 * (root + value / root);
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(value: f64, decimals: u8) -> String {
        let mut text = String::new();
        push_decimal(&mut text, value, decimals);
        text
    }

    #[test]
    fn numbers_are_rounded_and_written_without_zeros_at_the_end() {
        for (value, decimals, text) in [
            (0.0, 3, "0"),
            (-0.0, 3, "0"),
            (-0.0004, 3, "0"),
            (-0.0005, 3, "-0.001"),
            (21.5, 3, "21.5"),
            (0.05, 2, "0.05"),
            (1.999, 2, "2"),
            (99.996, 2, "100"),
            (1234.5, 0, "1235"),
            (100.0, 0, "100"),
            (1.0 / 3.0, 12, "0.333333333333"),
            (1.0 / 3.0, 200, "0.333333333333"),
            (4_503_599_627_370_495.5, 3, "4503599627370496"),
            (-1e18, 3, "-1000000000000000e+3"),
            (f64::NAN, 3, "null"),
            (f64::INFINITY, 3, "null"),
        ] {
            assert_eq!(decimal(value, decimals), text, "{value}");
        }
        assert!(decimal(1e300, 3).parse::<f64>().unwrap().is_finite());
    }

    proptest! {
        #[test]
        fn what_is_written_is_the_number_to_its_last_digit(value in -1e9..1e9f64) {
            let read: f64 = decimal(value, 6).parse().unwrap();
            let rounding = 0.5e-6 + value.abs() * 4e-16;
            prop_assert!((read - value).abs() <= rounding, "{} {}", value, read);
            let short = decimal(value, 6);
            prop_assert!(!short.contains('.') || !short.ends_with('0'), "{}", short);
        }

        #[test]
        fn huge_numbers_keep_thirteen_digits(value in 1e16..1e300f64) {
            let read: f64 = decimal(value, 3).parse().unwrap();
            prop_assert!(((read - value) / value).abs() < 1e-13, "{} {}", value, read);
        }

        #[test]
        fn roots_are_those_of_the_standard_library(value in 0.0..1e300f64) {
            let wanted = value.sqrt();
            prop_assert!((sqrt(value) - wanted).abs() <= wanted * 4e-16, "{}", value);
        }
    }

    #[test]
    fn roots_at_the_edges() {
        assert_eq!((sqrt(0.0), sqrt(4.0), sqrt(f64::INFINITY)), (0.0, 2.0, f64::INFINITY));
        assert!(sqrt(-1.0).is_nan() && sqrt(f64::NAN).is_nan());
        assert!((sqrt(1e-300) - 1e-150).abs() < 1e-165);
    }
}
