//! The time since the start.

use crate::read;

/// Counts up at 25 MHz, round in 171 s.
const COUNTER: usize = 0x4002_8018;
const TICKS_PER_MICRO: u64 = 25;

/// Has to be asked more often than the counter goes round.
#[derive(Debug, Default)]
pub struct Clock {
    last: u32,
    rounds: u64,
}

impl Clock {
    /// Microseconds since the start.
    pub fn micros(&mut self) -> u64 {
        let count = read(COUNTER);
        if count < self.last {
            self.rounds += 1;
        }
        self.last = count;
        (self.rounds << 32 | u64::from(count)) / TICKS_PER_MICRO
    }

    /// Lets time pass.
    pub(crate) fn wait(micros: u32) {
        let from = read(COUNTER);
        while read(COUNTER).wrapping_sub(from) < micros * TICKS_PER_MICRO as u32 {}
    }
}
