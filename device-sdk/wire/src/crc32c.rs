//! CRC-32C (Castagnoli) of frames and flash records, by a table of 16 entries: 64 bytes of flash,
//! two look-ups a byte.

/// Reversed polynomial.
const POLYNOMIAL: u32 = 0x82F6_3B78;

const TABLE: [u32; 16] = {
    let mut table = [0; 16];
    let mut at = 0;
    while at < table.len() {
        let mut value = at as u32;
        let mut bit = 0;
        while bit < 4 {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            bit += 1;
        }
        table[at] = value;
        at += 1;
    }
    table
};

/// The CRC of the bytes alone.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    extend(0, bytes)
}

/// The CRC of what `before` is the CRC of, followed by `bytes`. With another value for `before` it
/// is a *seeded* CRC: right only for who knows the seed.
#[must_use]
pub fn extend(before: u32, bytes: &[u8]) -> u32 {
    let nibble = |crc: u32, low: u32| crc >> 4 ^ TABLE[((crc ^ low) & 0x0f) as usize];
    !bytes.iter().fold(!before, |crc, byte| {
        let byte = u32::from(*byte);
        nibble(nibble(crc, byte), byte >> 4)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, B.4, and the check value of the catalogue of CRCs.
    #[test]
    fn values_are_those_of_the_standard() {
        assert_eq!(crc32c(b"123456789"), 0xE306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
        assert_eq!(crc32c(&[0xff; 32]), 0x62A8_AB43);
        assert_eq!(crc32c(b""), 0);
    }

    #[test]
    fn pieces_make_the_same_value_as_the_whole() {
        for cut in 0..9 {
            let (head, tail) = b"123456789".split_at(cut);
            assert_eq!(extend(crc32c(head), tail), 0xE306_9283);
        }
    }
}
