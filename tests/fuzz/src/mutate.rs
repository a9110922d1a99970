//! Mutations without knowledge of coverage, from a seed.

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same seed, the same numbers.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `count`, which is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        (self.number() % count as u64) as usize
    }

    /// That many random bytes.
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.number() as u8).collect()
    }
}

/// Longest input made.
const MAX_INPUT: usize = 4096;

/// Bytes that tend to matter: ends of ranges, packet types, property identifiers.
const TELLING: &[u8] = &[
    0x00, 0x01, 0x02, 0x04, 0x7F, 0x80, 0xFF, 0x10, 0x30, 0x32, 0x34, 0x36, 0x3D, 0x40, 0x50, 0x62,
    0x70, 0x82, 0xA2, 0xC0, 0xE0, 0xF0, 0x11, 0x21, 0x22, 0x23, 0x26, 0x27, 0x0B, 0x08, 0x1F,
];

/// A new input: one of `corpus` with a few changes, spliced with another one now and then.
pub fn mutated(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = if corpus.is_empty() || random.below(20) == 0 {
        let count = random.below(400);
        random.bytes(count)
    } else {
        corpus[random.below(corpus.len())].clone()
    };
    for _ in 0..1 + random.below(8) {
        change(random, &mut bytes, corpus);
    }
    bytes.truncate(MAX_INPUT);
    bytes
}

fn change(random: &mut Random, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let at = random.below(bytes.len() + 1);
    let end = (at + 1 + random.below(32)).min(bytes.len());
    match random.below(9) {
        0 => bytes.insert(at, random.number() as u8),
        1 => bytes.insert(at, TELLING[random.below(TELLING.len())]),
        2 if at < end => {
            bytes.drain(at..end);
        }
        3 if at < end => {
            let copy = bytes[at..end].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        4 if at < end => bytes[at] = TELLING[random.below(TELLING.len())],
        5 if at < end => bytes[at] ^= 1 << random.below(8),
        6 if at < end => bytes[at] = bytes[at].wrapping_add(random.below(5) as u8).wrapping_sub(2),
        7 if !corpus.is_empty() => {
            let other = &corpus[random.below(corpus.len())];
            let from = random.below(other.len() + 1);
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        _ => {
            let count = random.below(24);
            let more = random.bytes(count);
            bytes.splice(at..at, more);
        }
    }
}
