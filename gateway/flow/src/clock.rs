//! Time as the cores see it: an argument of every call.

use std::time::Instant;

use tidegate_stream::WallClock;

/// Whether the wall clock can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockQuality {
    /// The operating system says that the clock is synchronised.
    Synced,
    /// It does not: after a boot without network or battery the clock may be years off.
    Unsynced,
}

/// One moment, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Monotonic time: time-outs, intervals.
    pub instant: Instant,
    /// Wall clock, milliseconds since the Unix epoch: what records are stamped with.
    pub unix_ms: i64,
    /// Microseconds beyond them, below 1,000.
    pub micros: u16,
    /// Whether `unix_ms` can be trusted.
    pub clock: ClockQuality,
}

impl Now {
    /// Wall clock, microseconds since the Unix epoch.
    #[must_use]
    pub fn unix_us(&self) -> i64 {
        self.unix_ms.saturating_mul(1_000).saturating_add(self.micros.into())
    }

    /// The wall clock as the log takes it: what is old goes only by one that can be trusted.
    pub(crate) fn wall_clock(&self) -> WallClock {
        match self.clock {
            ClockQuality::Synced => WallClock::Trusted(self.unix_ms),
            ClockQuality::Unsynced => WallClock::Untrusted(self.unix_ms),
        }
    }
}
