//! SHA-2 (FIPS 180-4), byte by byte: small in code and on the stack. SHA-256 and SHA-512 are the same but for the
//! size of a word and some numbers.

use crate::primes::{FIRST, ROUNDS};

/// `big` and `small` are the numbers of bits in Σ1, Σ0, σ0 and σ1; the last of σ is shifted.
macro_rules! sha2 {
    ($name:ident, $word:ty, rounds: $rounds:literal, big: $big:expr, small: $small:expr) => {
        #[derive(Debug, Clone)]
        pub(crate) struct $name {
            state: [$word; 8],
            block: [$word; 16],
            length: usize,
        }

        impl $name {
            const WORD: usize = size_of::<$word>();
            const BLOCK: usize = 16 * Self::WORD;

            pub(crate) fn new() -> $name {
                $name { state: FIRST.map(upper), block: [0; 16], length: 0 }
            }

            pub(crate) fn push(&mut self, byte: u8) {
                let word = &mut self.block[self.length / Self::WORD % 16];
                *word = *word << 8 | <$word>::from(byte);
                self.length += 1;
                if self.length.is_multiple_of(Self::BLOCK) {
                    self.mix();
                }
            }

            /// The digest of what was pushed. Then there is nothing more to be done with it.
            pub(crate) fn finish(&mut self) -> [u8; 8 * size_of::<$word>()] {
                let bits = 8 * self.length as u64;
                self.push(0x80);
                // The number of bits has two words, the first of which has to be free as well.
                while self.length % Self::BLOCK != Self::BLOCK - 2 * Self::WORD {
                    self.push(0);
                }
                (8..2 * Self::WORD).for_each(|_| self.push(0));
                bits.to_be_bytes().iter().for_each(|byte| self.push(*byte));
                let mut digest = [0; 8 * size_of::<$word>()];
                for (place, word) in digest.chunks_exact_mut(Self::WORD).zip(&self.state) {
                    place.copy_from_slice(&word.to_be_bytes());
                }
                digest
            }

            #[inline(never)]
            fn mix(&mut self) {
                let w = &mut self.block;
                let mut s = self.state;
                const BIG: [[u32; 3]; 2] = $big;
                const SMALL: [[u32; 3]; 2] = $small;
                for round in 0..$rounds {
                    // Instead of moving all eight words on, a is one place before where it was.
                    let at = |n: usize| (n + $rounds - round) % 8;
                    let (a, b, c) = (s[at(0)], s[at(1)], s[at(2)]);
                    let (e, f, g) = (s[at(4)], s[at(5)], s[at(6)]);
                    let first = s[at(7)]
                        .wrapping_add(g ^ e & (f ^ g))
                        .wrapping_add(rotated(e, BIG[0]))
                        .wrapping_add(upper(ROUNDS[round]))
                        .wrapping_add(w[round % 16]);
                    let second = rotated(a, BIG[1]).wrapping_add(a & b | c & (a | b));
                    s[at(3)] = s[at(3)].wrapping_add(first);
                    s[at(7)] = first.wrapping_add(second);
                    // The word that takes this one's place in 16 rounds.
                    w[round % 16] = w[round % 16]
                        .wrapping_add(shifted(w[(round + 1) % 16], SMALL[0]))
                        .wrapping_add(shifted(w[(round + 14) % 16], SMALL[1]))
                        .wrapping_add(w[(round + 9) % 16]);
                }
                for (word, more) in self.state.iter_mut().zip(&s) {
                    *word = word.wrapping_add(*more);
                }
            }
        }

        fn upper(number: u64) -> $word {
            (number >> (u64::BITS - <$word>::BITS)) as $word
        }

        #[inline(always)]
        fn rotated(word: $word, by: [u32; 3]) -> $word {
            word.rotate_right(by[0]) ^ word.rotate_right(by[1]) ^ word.rotate_right(by[2])
        }

        #[inline(always)]
        fn shifted(word: $word, by: [u32; 3]) -> $word {
            word.rotate_right(by[0]) ^ word.rotate_right(by[1]) ^ word >> by[2]
        }
    };
}

pub(crate) use short::Sha256;

mod short {
    use super::{FIRST, ROUNDS};
    sha2!(Sha256, u32, rounds: 64, big: [[6, 11, 25], [2, 13, 22]], small: [[7, 18, 3], [17, 19, 10]]);
}

pub(crate) use long::Sha512;

mod long {
    use super::{FIRST, ROUNDS};
    sha2!(Sha512, u64, rounds: 80, big: [[14, 18, 41], [28, 34, 39]], small: [[1, 8, 7], [19, 61, 6]]);
}
