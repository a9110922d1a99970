//! Hash and curve in software: the points of `salty`, SHA-256 of `sha2` in its compact form
//! (`.cargo/config.toml`), an SHA-512 that is small on the stack; 7.5 KB of code. Hardware that does
//! either is faster and smaller.
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
        let k = challenge([r, key.as_bytes(), parts[0], parts[1]]);
        let Ok(point) = CompressedY(*key.as_bytes()).decompressed() else { return false };
        sum(s, &k, &-&point).0 == *r
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

/// The SHA-512 of the parts, one after the other, modulo the order. On the stack by itself.
#[inline(never)]
fn challenge(parts: [&[u8]; 4]) -> [u8; 32] {
    let mut hash = Sha512::new();
    for part in parts {
        part.iter().for_each(|byte| hash.push(*byte));
    }
    modulo_order(&hash.finish())
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

/// SHA-512 (FIPS 180-4), byte by byte: a quarter of the code and of the stack of `sha2`'s, and its time
/// is nothing beside the curve's.
struct Sha512 {
    state: [u64; 8],
    block: [u64; 16],
    length: usize,
}

impl Sha512 {
    fn new() -> Sha512 {
        Sha512 { state: FIRST, block: [0; 16], length: 0 }
    }

    fn push(&mut self, byte: u8) {
        let word = &mut self.block[self.length / 8 % 16];
        *word = *word << 8 | u64::from(byte);
        self.length += 1;
        if self.length.is_multiple_of(128) {
            self.mix();
        }
    }

    fn finish(mut self) -> [u8; 64] {
        let bits = 8 * self.length as u64;
        self.push(0x80);
        while self.length % 128 != 120 {
            self.push(0);
        }
        bits.to_be_bytes().into_iter().for_each(|byte| self.push(byte));
        let mut digest = [0; 64];
        for (place, word) in digest.chunks_exact_mut(8).zip(self.state) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        digest
    }

    fn mix(&mut self) {
        let w = &mut self.block;
        let mut s = self.state;
        for round in 0..80 {
            // Instead of moving all eight words on, a is one place before where it was.
            let at = |n: usize| (n + 80 - round) % 8;
            let (a, b, c) = (s[at(0)], s[at(1)], s[at(2)]);
            let (e, f, g) = (s[at(4)], s[at(5)], s[at(6)]);
            let mut first = s[at(7)].wrapping_add(g ^ e & (f ^ g));
            for word in [rotated(e, 14, 18, 41), ROUNDS[round], w[round % 16]] {
                first = first.wrapping_add(word);
            }
            let second = rotated(a, 28, 34, 39).wrapping_add(a & b | c & (a | b));
            s[at(3)] = s[at(3)].wrapping_add(first);
            s[at(7)] = first.wrapping_add(second);
            // The word that takes this one's place in 16 rounds.
            let (low, high) = (w[(round + 1) % 16], w[(round + 14) % 16]);
            let low = low.rotate_right(1) ^ low.rotate_right(8) ^ low >> 7;
            let high = high.rotate_right(19) ^ high.rotate_right(61) ^ high >> 6;
            for word in [low, high, w[(round + 9) % 16]] {
                w[round % 16] = w[round % 16].wrapping_add(word);
            }
        }
        for (word, more) in self.state.iter_mut().zip(s) {
            *word = word.wrapping_add(more);
        }
    }
}

fn rotated(word: u64, one: u32, two: u32, three: u32) -> u64 {
    word.rotate_right(one) ^ word.rotate_right(two) ^ word.rotate_right(three)
}

/// The fractional parts of the square roots of the first 8 primes.
static FIRST: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// The fractional parts of the cube roots of the first 80 primes.
static ROUNDS: [u64; 80] = [
    0x428a_2f98_d728_ae22,
    0x7137_4491_23ef_65cd,
    0xb5c0_fbcf_ec4d_3b2f,
    0xe9b5_dba5_8189_dbbc,
    0x3956_c25b_f348_b538,
    0x59f1_11f1_b605_d019,
    0x923f_82a4_af19_4f9b,
    0xab1c_5ed5_da6d_8118,
    0xd807_aa98_a303_0242,
    0x1283_5b01_4570_6fbe,
    0x2431_85be_4ee4_b28c,
    0x550c_7dc3_d5ff_b4e2,
    0x72be_5d74_f27b_896f,
    0x80de_b1fe_3b16_96b1,
    0x9bdc_06a7_25c7_1235,
    0xc19b_f174_cf69_2694,
    0xe49b_69c1_9ef1_4ad2,
    0xefbe_4786_384f_25e3,
    0x0fc1_9dc6_8b8c_d5b5,
    0x240c_a1cc_77ac_9c65,
    0x2de9_2c6f_592b_0275,
    0x4a74_84aa_6ea6_e483,
    0x5cb0_a9dc_bd41_fbd4,
    0x76f9_88da_8311_53b5,
    0x983e_5152_ee66_dfab,
    0xa831_c66d_2db4_3210,
    0xb003_27c8_98fb_213f,
    0xbf59_7fc7_beef_0ee4,
    0xc6e0_0bf3_3da8_8fc2,
    0xd5a7_9147_930a_a725,
    0x06ca_6351_e003_826f,
    0x1429_2967_0a0e_6e70,
    0x27b7_0a85_46d2_2ffc,
    0x2e1b_2138_5c26_c926,
    0x4d2c_6dfc_5ac4_2aed,
    0x5338_0d13_9d95_b3df,
    0x650a_7354_8baf_63de,
    0x766a_0abb_3c77_b2a8,
    0x81c2_c92e_47ed_aee6,
    0x9272_2c85_1482_353b,
    0xa2bf_e8a1_4cf1_0364,
    0xa81a_664b_bc42_3001,
    0xc24b_8b70_d0f8_9791,
    0xc76c_51a3_0654_be30,
    0xd192_e819_d6ef_5218,
    0xd699_0624_5565_a910,
    0xf40e_3585_5771_202a,
    0x106a_a070_32bb_d1b8,
    0x19a4_c116_b8d2_d0c8,
    0x1e37_6c08_5141_ab53,
    0x2748_774c_df8e_eb99,
    0x34b0_bcb5_e19b_48a8,
    0x391c_0cb3_c5c9_5a63,
    0x4ed8_aa4a_e341_8acb,
    0x5b9c_ca4f_7763_e373,
    0x682e_6ff3_d6b2_b8a3,
    0x748f_82ee_5def_b2fc,
    0x78a5_636f_4317_2f60,
    0x84c8_7814_a1f0_ab72,
    0x8cc7_0208_1a64_39ec,
    0x90be_fffa_2363_1e28,
    0xa450_6ceb_de82_bde9,
    0xbef9_a3f7_b2c6_7915,
    0xc671_78f2_e372_532b,
    0xca27_3ece_ea26_619c,
    0xd186_b8c7_21c0_c207,
    0xeada_7dd6_cde0_eb1e,
    0xf57d_4f7f_ee6e_d178,
    0x06f0_67aa_7217_6fba,
    0x0a63_7dc5_a2c8_98a6,
    0x113f_9804_bef9_0dae,
    0x1b71_0b35_131c_471b,
    0x28db_77f5_2304_7d84,
    0x32ca_ab7b_40c7_2493,
    0x3c9e_be0a_15c9_bebc,
    0x431d_67c4_9c10_0d4c,
    0x4cc5_d4be_cb3e_42b6,
    0x597f_299c_fc65_7e2a,
    0x5fcb_6fab_3ad6_faec,
    0x6c44_198c_4a47_5817,
];
