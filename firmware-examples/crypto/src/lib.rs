//! Hash and curve in software: the points of `salty`, the hashes of `sha2` in their compact form
//! (`.cargo/config.toml`), about 8 KB of code. Hardware that does either is faster and smaller.
#![no_std]

use salty::{CompressedY, EdwardsPoint};
use tidegate_wire::crypto::{Crypto, Curve, Sha256};
use tidegate_wire::digest::Digest;
use tidegate_wire::ed25519::{PublicKey, SIGNATURE_BYTES};

/// `sha2` of RustCrypto.
#[derive(Debug, Clone, Default)]
pub struct Sha2(sha2::Sha256);

impl Sha256 for Sha2 {
    fn update(&mut self, bytes: &[u8]) {
        sha2::Digest::update(&mut self.0, bytes);
    }

    fn finish(self) -> Digest {
        Digest(sha2::Digest::finalize(self.0).into())
    }
}

/// The points of `salty`, the hashes of `sha2`.
#[derive(Debug, Clone, Copy)]
pub struct Salty;

impl Curve for Salty {
    fn is_signed(
        &self,
        key: &PublicKey,
        parts: [&[u8]; 2],
        signature: &[u8; SIGNATURE_BYTES],
    ) -> bool {
        let Some((r, s)) = signature.split_first_chunk::<32>() else { return false };
        let Ok(point) = CompressedY(*key.as_bytes()).decompressed() else { return false };
        let mut hash = sha2::Sha512::default();
        for part in [r, key.as_bytes(), parts[0], parts[1]] {
            sha2::Digest::update(&mut hash, part);
        }
        let k = modulo_order(&sha2::Digest::finalize(hash).into());
        is_same(&sum(s, &k, &-&point), r)
    }
}

impl Crypto for Salty {
    type Hash = Sha2;
}

/// `s` times the base point and `k` times another one, by doubling and adding. Nothing of it is
/// secret, so it may take as long as its bits say.
fn sum(s: &[u8], k: &[u8; 32], point: &EdwardsPoint) -> CompressedY {
    let base = EdwardsPoint::basepoint();
    let mut sum = EdwardsPoint::neutral_element();
    for bit in (0..256).rev() {
        sum = &sum + &sum;
        for (scalar, point) in [(s, &base), (k, point)] {
            if scalar[bit / 8] >> (bit % 8) & 1 == 1 {
                sum = &sum + point;
            }
        }
    }
    sum.compressed()
}

fn is_same(a: &CompressedY, b: &[u8; 32]) -> bool {
    a.0 == *b
}

/// A little-endian number modulo the order of the base point, bit by bit.
fn modulo_order(number: &[u8; 64]) -> [u8; 32] {
    const ORDER: [u32; 8] =
        [0x5cf5_d3ed, 0x5812_631a, 0xa2f7_9cd6, 0x14de_f9de, 0, 0, 0, 0x1000_0000];
    let mut rest = [0u32; 8];
    for bit in (0..512).rev() {
        let mut carry = u32::from(number[bit / 8] >> (bit % 8) & 1);
        for word in &mut rest {
            (*word, carry) = (*word << 1 | carry, *word >> 31);
        }
        let mut less = rest;
        let mut borrow = false;
        for (word, order) in less.iter_mut().zip(ORDER) {
            let (difference, first) = word.overflowing_sub(order);
            let (difference, second) = difference.overflowing_sub(borrow.into());
            (*word, borrow) = (difference, first | second);
        }
        if !borrow {
            rest = less;
        }
    }
    let mut bytes = [0; 32];
    for (place, word) in bytes.chunks_exact_mut(4).zip(rest) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
