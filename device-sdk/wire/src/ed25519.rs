//! What every verifier of Ed25519 (RFC 8032) has to refuse and some libraries do not: keys of
//! small order, under which anybody can sign, and signatures with a second spelling.
//!
//! Not here: the curve ([`crate::crypto::Curve`]). The gateway verifies with one library, devices with another.

use core::fmt;

/// Bytes of a public key.
pub const KEY_BYTES: usize = 32;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;

/// The order of the base point, 2^252 + 27742317777372353535851937790883648493, little-endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

/// The field's prime, 2^255 - 19, little-endian.
const PRIME: [u8; 32] = {
    let mut prime = [0xff; 32];
    prime[0] = 0xed;
    prime[31] = 0x7f;
    prime
};

/// The y coordinates of the eight points of small order, little-endian: 0 (order 4), 1 (order 1),
/// two of order 8, -1 (order 2). Their signs do not matter.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    {
        let mut minus_one = PRIME;
        minus_one[0] = 0xec;
        minus_one
    },
];

/// A public key that signatures may be checked with. That it is a point of the curve is known
/// only when a signature of it has been verified.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; KEY_BYTES]);

/// Why bytes are no key to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeakKey {
    /// The number is not below the field's prime: a second spelling of another key.
    NotCanonical,
    /// A point of small order: signatures under it prove nothing.
    SmallOrder,
}

impl fmt::Display for WeakKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WeakKey::NotCanonical => "the key is not in its only spelling",
            WeakKey::SmallOrder => "the key has small order: anybody can sign under it",
        })
    }
}

impl core::error::Error for WeakKey {}

impl PublicKey {
    /// No key: it has small order, so that nothing is ever read as it.
    pub(crate) const NONE: PublicKey = PublicKey([0; KEY_BYTES]);

    /// Takes a key as RFC 8032 writes it; in a constant, too, where a key that proves nothing is a program that is
    /// not built.
    ///
    /// # Errors
    /// A key that proves nothing.
    pub const fn new(bytes: [u8; KEY_BYTES]) -> Result<PublicKey, WeakKey> {
        let mut y = bytes;
        y[KEY_BYTES - 1] &= 0x7f;
        if !is_below(&y, &PRIME) {
            return Err(WeakKey::NotCanonical);
        }
        let mut n = 0;
        while n < SMALL_ORDER.len() {
            if !is_below(&y, &SMALL_ORDER[n]) && !is_below(&SMALL_ORDER[n], &y) {
                return Err(WeakKey::SmallOrder);
            }
            n += 1;
        }
        Ok(PublicKey(bytes))
    }

    /// The key as RFC 8032 writes it.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        for byte in self.0 {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// Whether the second half of a signature is below the order of the base point, as RFC 8032
/// (5.1.7) demands: else S + L would be a second signature of the same message.
#[must_use]
pub fn has_one_spelling(signature: &[u8; SIGNATURE_BYTES]) -> bool {
    signature.last_chunk().is_some_and(|s| is_below(s, &ORDER))
}

/// Compares little-endian numbers. Nothing here is secret.
const fn is_below(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let mut n = a.len();
    while n > 0 {
        n -= 1;
        if a[n] != b[n] {
            return a[n] < b[n];
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex<const N: usize>(digits: &str) -> [u8; N] {
        let mut bytes = [0; N];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap();
        }
        bytes
    }

    /// The blocklist of libsodium, which has each of them once, and the spellings above the prime.
    #[test]
    fn keys_of_small_order_are_refused_with_either_sign() {
        for digits in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            let mut key: [u8; 32] = hex(digits);
            assert_eq!(PublicKey::new(key), Err(WeakKey::SmallOrder), "{digits}");
            key[31] |= 0x80;
            assert_eq!(PublicKey::new(key), Err(WeakKey::SmallOrder), "{digits}, negative");
        }
    }

    #[test]
    fn keys_in_a_second_spelling_are_refused() {
        for digits in [
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        ] {
            assert_eq!(PublicKey::new(hex(digits)), Err(WeakKey::NotCanonical), "{digits}");
        }
    }

    /// RFC 8032, 7.1, test 1.
    #[test]
    fn the_key_and_the_signature_of_the_standard_are_taken() {
        let key = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        assert_eq!(PublicKey::new(key).unwrap().as_bytes(), &key);
        let r = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155";
        let s = "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&hex::<32>(r));
        signature[32..].copy_from_slice(&hex::<32>(s));
        assert!(has_one_spelling(&signature));
    }

    #[test]
    fn a_signature_is_refused_from_the_order_on() {
        let mut signature = [0; 64];
        signature[32..].copy_from_slice(&ORDER);
        assert!(!has_one_spelling(&signature), "S = L");
        signature[32] -= 1;
        assert!(has_one_spelling(&signature), "S = L - 1");
        signature[32..].copy_from_slice(&[0xff; 32]);
        assert!(!has_one_spelling(&signature));
    }
}
