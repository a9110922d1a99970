//! Division for processors of 32 bits.

/// Quotient and rest, by digits of 16 bits, which a processor of 32 bits divides itself: the
/// compiler's own division of 64 bits takes half a kilobyte of flash. `by` is not 0.
#[must_use]
pub fn divided(number: u64, by: u16) -> (u64, u32) {
    let by = u32::from(by);
    let digits = [48, 32, 16, 0].map(|shift| (number >> shift) as u32 & 0xffff);
    digits.iter().fold((0, 0), |(quotient, rest), digit| {
        let part = rest << 16 | digit;
        (quotient << 16 | u64::from(part / by), part % by)
    })
}

#[cfg(test)]
mod tests {
    use super::divided;

    #[test]
    fn division_by_digits_is_division() {
        for number in [0, 1, 999, 1_000, 65_535, 65_536, 1 << 40, u64::MAX - 1, u64::MAX] {
            for by in [1, 60, 1_000, 1_440, u16::MAX] {
                let expected = (number / u64::from(by), (number % u64::from(by)) as u32);
                assert_eq!(divided(number, by), expected, "{number} by {by}");
            }
        }
    }
}
