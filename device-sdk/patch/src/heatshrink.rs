//! The bit stream of heatshrink, with a window of 9 bits and a lookahead of 5.

use std::collections::HashMap;

const WINDOW_BITS: u32 = 9;
const LENGTH_BITS: u32 = 5;
const WINDOW: usize = 1 << WINDOW_BITS;
const LONGEST: usize = 1 << LENGTH_BITS;
/// Shorter matches take more bits than the bytes themselves.
const SHORTEST: usize = 2;

/// Most places that are tried for a match.
const TRIES: usize = 64;

/// Packs bytes, greedily.
pub(crate) fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut out = Bits::default();
    let mut seen: HashMap<[u8; 2], Vec<usize>> = HashMap::new();
    let mut at = 0;
    while at < bytes.len() {
        let taken = match longest(bytes, at, &seen) {
            Some((back, length)) => {
                out.put(0, 1);
                out.put(back as u32 - 1, WINDOW_BITS);
                out.put(length as u32 - 1, LENGTH_BITS);
                length
            }
            None => {
                out.put(1, 1);
                out.put(bytes[at].into(), 8);
                1
            }
        };
        for place in at..at + taken {
            if let Some(pair) = bytes.get(place..place + 2) {
                seen.entry([pair[0], pair[1]]).or_default().push(place);
            }
        }
        at += taken;
    }
    out.finish()
}

/// How far back the longest match begins, and how long it is.
fn longest(bytes: &[u8], at: usize, seen: &HashMap<[u8; 2], Vec<usize>>) -> Option<(usize, usize)> {
    let pair = bytes.get(at..at + SHORTEST)?;
    let places = seen.get(&[pair[0], pair[1]])?;
    let most = LONGEST.min(bytes.len() - at);
    let near = places.iter().rev().take_while(|place| at - **place <= WINDOW).take(TRIES);
    let lengths = near.map(|place| {
        let same = (0..most).take_while(|n| bytes[place + n] == bytes[at + n]).count();
        (same, at - place)
    });
    let (length, back) = lengths.max_by_key(|(same, back)| (*same, WINDOW - back))?;
    Some((back, length))
}

/// Bits, the most significant first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    waiting: u32,
    count: u32,
}

impl Bits {
    fn put(&mut self, value: u32, bits: u32) {
        self.waiting = self.waiting << bits | value;
        self.count += bits;
        while self.count >= 8 {
            self.count -= 8;
            self.bytes.push((self.waiting >> self.count) as u8);
        }
        self.waiting &= (1 << self.count) - 1;
    }

    fn finish(mut self) -> Vec<u8> {
        if self.count > 0 {
            self.put(0, 8 - self.count);
        }
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_a_byte_and_matches_one_byte_back() {
        // 1 'a', then 0 000000000 01110: fifteen more from one byte back.
        let packed = packed(&[b'a'; 16]);
        assert_eq!(packed, [0b1011_0000, 0b1000_0000, 0b0000_1110]);
    }

    #[test]
    fn bytes_without_a_match_take_nine_bits_each() {
        assert_eq!(packed(b"ab"), [0b1011_0000, 0b1101_1000, 0b1000_0000]);
        assert_eq!(packed(b""), []);
    }
}
