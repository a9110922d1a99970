//! Simulated time: what happens when, in an order that only the seed decides.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use tidegate_flow::{ClockQuality, Now};

/// 2026-06-01, where every world begins.
const FIRST_UNIX_MS: i64 = 1_780_272_000_000;

/// Something that will happen.
#[derive(Debug)]
struct Scheduled<E> {
    at: Duration,
    order: u64,
    event: E,
}

impl<E> PartialEq for Scheduled<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Scheduled<E> {}

impl<E> PartialOrd for Scheduled<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Scheduled<E> {
    /// The heap gives the greatest first: that is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

/// The clocks of a world and what is to come.
#[derive(Debug)]
pub(crate) struct Timeline<E> {
    base: Instant,
    /// Since the world began.
    pub(crate) clock: Duration,
    queue: BinaryHeap<Scheduled<E>>,
    order: u64,
    /// By how much the gateway's wall clock is wrong.
    wall_error_ms: i64,
    quality: ClockQuality,
}

impl<E> Timeline<E> {
    pub(crate) fn new() -> Timeline<E> {
        Timeline {
            base: Instant::now(),
            clock: Duration::ZERO,
            queue: BinaryHeap::new(),
            order: 0,
            wall_error_ms: 0,
            quality: ClockQuality::Synced,
        }
    }

    /// Something happens in `wait`.
    pub(crate) fn after(&mut self, wait: Duration, event: E) {
        self.order += 1;
        self.queue.push(Scheduled { at: self.clock + wait, order: self.order, event });
    }

    /// The next thing that happens; the clock moves there.
    pub(crate) fn next(&mut self) -> Option<E> {
        let scheduled = self.queue.pop()?;
        self.clock = scheduled.at;
        Some(scheduled.event)
    }

    /// This moment as the gateway sees it.
    pub(crate) fn now(&self) -> Now {
        Now {
            instant: self.base + self.clock,
            unix_ms: FIRST_UNIX_MS + self.clock.as_millis() as i64 + self.wall_error_ms,
            clock: self.quality,
        }
    }

    /// World time of an instant that the gateway named; never in the past.
    pub(crate) fn until(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.base).max(self.clock + Duration::from_micros(1))
    }

    /// The wall clock jumps.
    pub(crate) fn jump(&mut self, by_ms: i64) {
        self.wall_error_ms += by_ms;
    }

    /// The clock begins in 1970, as on a board without a battery, and nobody has set it yet.
    pub(crate) fn lose_wall_clock(&mut self) {
        self.wall_error_ms = -FIRST_UNIX_MS;
        self.quality = ClockQuality::Unsynced;
    }

    /// Somebody sets the clock.
    pub(crate) fn set_wall_clock(&mut self) {
        self.wall_error_ms = 0;
        self.quality = ClockQuality::Synced;
    }
}
