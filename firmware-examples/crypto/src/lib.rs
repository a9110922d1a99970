//! Hash and curve in software: the points of `salty`, a SHA-2 that is small in code and on the stack; 7 KB of
//! code. Hardware that does either is faster and smaller.
//!
//! What is our own, hashes and how a signature is put together, is held against ring by its tests.
#![no_std]

#[cfg(test)]
extern crate std;

mod primes;
mod sha2;

#[cfg(test)]
mod tests;

use salty::{CompressedY, EdwardsPoint};
use tidegate_wire::crypto::{Crypto, Curve, Sha256};
use tidegate_wire::digest::Digest;
use tidegate_wire::ed25519::{PublicKey, SIGNATURE_BYTES};

/// The hash of images and keys.
#[derive(Debug, Clone)]
pub struct Sha2(sha2::Sha256);

impl Default for Sha2 {
    fn default() -> Sha2 {
        Sha2(sha2::Sha256::new())
    }
}

impl Sha256 for Sha2 {
    fn update(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.0.push(*byte));
    }

    fn finish(mut self) -> Digest {
        Digest(self.0.finish())
    }
}

/// The points of `salty`, hashes of our own.
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
        let k = challenge([r, key.as_bytes(), parts[0], parts[1]]);
        negated(key).is_some_and(|point| sum(s, &k, &point).0 == *r)
    }
}

impl Crypto for Salty {
    type Hash = Sha2;
}

/// The point of a key, negated; `None` when it is none of the curve. On the stack by itself.
#[inline(never)]
fn negated(key: &PublicKey) -> Option<EdwardsPoint> {
    let point = CompressedY(*key.as_bytes()).decompressed().ok()?;
    Some(-&point)
}

/// `s` times the base point and `k` times another one, by doubling and adding. Nothing of it is
/// secret, so it may take as long as its bits say.
fn sum(s: &[u8], k: &[u8; 32], point: &EdwardsPoint) -> CompressedY {
    let base = EdwardsPoint::basepoint();
    let mut sum = EdwardsPoint::neutral_element();
    for bit in (0..256).rev() {
        sum = &sum + &sum;
        // A loop over both by value would be a function and a copy more.
        for (scalar, point) in &[(s, &base), (&k[..], point)] {
            if scalar[bit / 8] >> (bit % 8) & 1 == 1 {
                sum = &sum + point;
            }
        }
    }
    sum.compressed()
}

/// The SHA-512 of the parts, one after the other, modulo the order. On the stack by itself.
#[inline(never)]
fn challenge(parts: [&[u8]; 4]) -> [u8; 32] {
    let mut hash = sha2::Sha512::new();
    for part in parts {
        part.iter().for_each(|byte| hash.push(*byte));
    }
    modulo_order(&hash.finish())
}

/// A little-endian number modulo the order of the base point, bit by bit.
fn modulo_order(number: &[u8; 64]) -> [u8; 32] {
    static ORDER: [u32; 8] =
        [0x5cf5_d3ed, 0x5812_631a, 0xa2f7_9cd6, 0x14de_f9de, 0, 0, 0, 0x1000_0000];
    let mut rest = [0u32; 8];
    for bit in (0..512).rev() {
        let mut carry = u32::from(number[bit / 8] >> (bit % 8) & 1);
        for word in &mut rest {
            (*word, carry) = (*word << 1 | carry, *word >> 31);
        }
        let mut less = rest;
        let mut borrow = false;
        for (word, order) in less.iter_mut().zip(&ORDER) {
            let (difference, first) = word.overflowing_sub(*order);
            let (difference, second) = difference.overflowing_sub(borrow.into());
            (*word, borrow) = (difference, first | second);
        }
        if !borrow {
            rest = less;
        }
    }
    let mut bytes = [0; 32];
    for (place, word) in bytes.chunks_exact_mut(4).zip(&rest) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
