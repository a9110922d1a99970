use std::vec::Vec;

use ring::digest;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use tidegate_wire::crypto::{Curve, Sha256};
use tidegate_wire::ed25519::{PublicKey, SIGNATURE_BYTES, has_one_spelling};

use crate::{Salty, Sha2, modulo_order, sha2};

/// Longest text: more than two blocks of either hash, at each place in a block.
const LENGTHS: usize = 400;

/// Numbers that look random and are the same in each run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }
}

fn sha512(bytes: &[u8]) -> [u8; 64] {
    let mut hash = sha2::Sha512::new();
    bytes.iter().for_each(|byte| hash.push(*byte));
    hash.finish()
}

#[test]
fn hashes_are_those_of_ring_at_every_length() {
    let text = Numbers(1).bytes(LENGTHS);
    for length in 0..=LENGTHS {
        let text = &text[..length];
        let expected = digest::digest(&digest::SHA256, text);
        assert_eq!(Sha2::of(text).0, expected.as_ref(), "SHA-256 of {length} bytes");
        let expected = digest::digest(&digest::SHA512, text);
        assert_eq!(sha512(text), expected.as_ref(), "SHA-512 of {length} bytes");
    }
}

#[test]
fn a_hash_does_not_depend_on_the_pieces_that_come() {
    let mut numbers = Numbers(2);
    let text = numbers.bytes(100_000);
    let mut hash = Sha2::default();
    let mut rest = &text[..];
    while !rest.is_empty() {
        let (piece, more) = rest.split_at(rest.len().min(numbers.next() as usize % 500));
        hash.update(piece);
        rest = more;
    }
    assert_eq!(hash.finish().0, digest::digest(&digest::SHA256, &text).as_ref());
}

/// Whether both libraries say so; that they agree is checked.
fn is_signed(key: &PublicKey, text: &[u8], signature: &[u8; SIGNATURE_BYTES], what: &str) -> bool {
    let middle = text.len() / 3;
    // Who verifies has looked at the spelling of S before.
    let ours = has_one_spelling(signature)
        && Salty.is_signed(key, [&text[..middle], &text[middle..]], signature);
    let theirs = UnparsedPublicKey::new(&ED25519, key.as_bytes()).verify(text, signature).is_ok();
    assert_eq!(ours, theirs, "{what}: {key:?} {text:02x?} {signature:02x?}");
    ours
}

#[test]
fn signatures_are_judged_as_by_ring_whole_and_changed() {
    let mut numbers = Numbers(3);
    let mut right = 0;
    for round in 0..120 {
        let seed: [u8; 32] = numbers.bytes(32).try_into().unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        let key = PublicKey::new(pair.public_key().as_ref().try_into().unwrap()).unwrap();
        let text = numbers.bytes(round * 7);
        let signature: [u8; SIGNATURE_BYTES] = pair.sign(&text).as_ref().try_into().unwrap();
        right += usize::from(is_signed(&key, &text, &signature, "whole"));
        for _ in 0..8 {
            let mut changed = signature;
            changed[numbers.next() as usize % SIGNATURE_BYTES] ^= 1 << (numbers.next() % 8);
            assert!(!is_signed(&key, &text, &changed, "a changed signature"));
        }
        if let Some(at) = (numbers.next() as usize).checked_rem(text.len()) {
            let mut changed = text.clone();
            changed[at] ^= 1 << (numbers.next() % 8);
            assert!(!is_signed(&key, &changed, &signature, "a changed text"));
        }
        // Half of them are no points of the curve.
        let mut other = *key.as_bytes();
        other[numbers.next() as usize % 31] ^= 1 << (numbers.next() % 8);
        if let Ok(other) = PublicKey::new(other) {
            assert!(!is_signed(&other, &text, &signature, "another key"));
        }
        let random = numbers.bytes(SIGNATURE_BYTES).try_into().unwrap();
        assert!(!is_signed(&key, &text, &random, "no signature"));
    }
    assert_eq!(right, 120);
}

#[test]
fn a_number_below_the_order_stays_and_the_order_itself_is_nothing() {
    let mut order = [0; 64];
    order[..16].copy_from_slice(&0x14de_f9de_a2f7_9cd6_5812_631a_5cf5_d3ed_u128.to_le_bytes());
    order[31] = 0x10;
    assert_eq!(modulo_order(&order), [0; 32]);
    order[0] -= 1;
    assert_eq!(modulo_order(&order), order[..32]);
}
