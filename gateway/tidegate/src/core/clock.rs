//! The clocks of the machine, read in one place.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidegate_flow::{ClockQuality, Now};

/// A clock that reads less than this (1 January 2026) has never been set: it comes up at the
/// epoch, or at the build date of the system, on a board without a battery.
const EARLIEST_PLAUSIBLE_MS: i64 = 1_767_225_600_000;

/// This moment, on both clocks.
pub(crate) fn now() -> Now {
    let unix_us = match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_micros()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_micros()).unwrap_or(i64::MAX),
    };
    let (unix_ms, micros) = (unix_us.div_euclid(1_000), unix_us.rem_euclid(1_000) as u16);
    let clock =
        if unix_ms < EARLIEST_PLAUSIBLE_MS { ClockQuality::Unsynced } else { ClockQuality::Synced };
    Now { instant: Instant::now(), unix_ms, micros, clock }
}
