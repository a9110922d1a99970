//! The time since the start.

use crate::{read, write};

/// Counts up at 10 MHz, in two words.
const COUNTER: usize = 0x0200_bff8;
const COMPARED: usize = 0x0200_4000;
const TICKS_PER_MICRO: u64 = 10;

/// The timer.
#[derive(Debug, Default)]
pub struct Clock(());

impl Clock {
    /// Microseconds since the start.
    #[must_use]
    pub fn micros(&self) -> u64 {
        loop {
            let (high, low) = (read(COUNTER + 4), read(COUNTER));
            if high == read(COUNTER + 4) {
                return (u64::from(high) << 32 | u64::from(low)) / TICKS_PER_MICRO;
            }
        }
    }

    /// Wakes the processor at that time.
    pub(crate) fn wake_at(&mut self, micros: u64) {
        let ticks = micros * TICKS_PER_MICRO;
        // Never too early in between.
        write(COMPARED + 4, u32::MAX);
        write(COMPARED, ticks as u32);
        write(COMPARED + 4, (ticks >> 32) as u32);
    }
}
