//! One direction of a serial line: bytes take their time, and some are lost, changed, doubled or held
//! up on the way.

use std::collections::VecDeque;

use crate::random::Random;

/// What goes wrong, each so many times in a million bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A run of 1 to 16 bytes is lost: an overrun.
    pub drop: u32,
    /// A bit is changed.
    pub flip: u32,
    /// The last 1 to 64 bytes come again.
    pub duplicate: u32,
    /// Nothing comes for 1 to 400 ms.
    pub stall: u32,
    /// A byte is put in: noise.
    pub noise: u32,
}

impl Faults {
    /// All of them at this rate.
    #[must_use]
    pub fn all(per_million: u32) -> Faults {
        let rate = per_million;
        Faults { drop: rate, flip: rate, duplicate: rate, stall: rate / 8, noise: rate }
    }
}

/// One direction. Times are microseconds.
#[derive(Debug)]
pub struct Line {
    faults: Faults,
    random: Random,
    byte_time: u64,
    free_at: u64,
    travelling: VecDeque<(u64, u8)>,
    last: VecDeque<u8>,
    /// Bytes that were sent.
    pub sent: u64,
    /// Nothing arrives while this is set: it is unplugged.
    pub cut: bool,
}

impl Line {
    /// A line of so many bits a second, ten to a byte.
    #[must_use]
    pub fn new(baud: u32, faults: Faults, seed: u64) -> Line {
        Line {
            faults,
            random: Random::new(seed),
            byte_time: 10_000_000 / u64::from(baud),
            free_at: 0,
            travelling: VecDeque::new(),
            last: VecDeque::new(),
            sent: 0,
            cut: false,
        }
    }

    /// When the sender may send again: a driver with no buffer of its own.
    #[must_use]
    pub fn free_at(&self) -> u64 {
        self.free_at
    }

    /// Sends bytes, which take their time one after the other.
    pub fn send(&mut self, now: u64, bytes: &[u8]) {
        let mut lost = 0;
        for byte in bytes {
            self.free_at = self.free_at.max(now) + self.byte_time;
            self.sent += 1;
            if self.random.chance(self.faults.stall) {
                self.free_at += 1_000 + self.random.below(400_000) as u64;
            }
            if self.random.chance(self.faults.drop) {
                lost = 1 + self.random.below(16);
            }
            if lost > 0 || self.cut {
                lost = lost.saturating_sub(1);
                continue;
            }
            let flipped = self.random.chance(self.faults.flip);
            let bit = if flipped { 1 << self.random.below(8) } else { 0 };
            self.arrive(byte ^ bit);
            if self.random.chance(self.faults.noise) {
                let noise = self.random.number() as u8;
                self.arrive(noise);
            }
            if self.random.chance(self.faults.duplicate) {
                let count = (1 + self.random.below(64)).min(self.last.len());
                let again: Vec<u8> =
                    self.last.iter().skip(self.last.len() - count).copied().collect();
                again.into_iter().for_each(|byte| self.arrive(byte));
            }
        }
    }

    fn arrive(&mut self, byte: u8) {
        self.travelling.push_back((self.free_at, byte));
        self.last.push_back(byte);
        if self.last.len() > 64 {
            self.last.pop_front();
        }
    }

    /// When the next byte arrives.
    #[must_use]
    pub fn next_arrival(&self) -> Option<u64> {
        self.travelling.front().map(|(at, _)| *at)
    }

    /// What has arrived by now, in portions of any size: at most `most` bytes.
    pub fn receive(&mut self, now: u64, most: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        while bytes.len() < most && self.next_arrival().is_some_and(|at| at <= now) {
            bytes.extend(self.travelling.pop_front().map(|(_, byte)| byte));
        }
        bytes
    }
}
