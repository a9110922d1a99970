//! The SHA-256 of something, as its name.

use core::fmt;

/// 32 bytes that name what they are the SHA-256 of. Shown in 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// The first 8 bytes of a digest: names something among the few that a device knows, and proves
/// nothing.
pub type Digest8 = [u8; 8];

impl Digest {
    /// Its first 8 bytes.
    #[must_use]
    pub fn short(&self) -> Digest8 {
        let mut short = [0; 8];
        short.copy_from_slice(&self.0[..8]);
        short
    }

    /// Reads 64 lower-case hexadecimal digits; `None` for anything else, so that there is one
    /// spelling.
    #[must_use]
    pub fn parse(text: &str) -> Option<Digest> {
        let digits: &[u8; 64] = text.as_bytes().try_into().ok()?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = value(pair[0])? << 4 | value(pair[1])?;
        }
        Some(Digest(bytes))
    }
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_one_spelling() {
        let digits = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
        let digest = Digest::parse(digits).unwrap();
        assert_eq!((digest.0[1], digest.0[31]), (0x11, 0xff));
        for wrong in ["", &digits[1..], &digits.to_uppercase(), &digits.replace('f', "g")] {
            assert_eq!(Digest::parse(wrong), None, "{wrong}");
        }
    }
}
