//! Simulated time: what happens when, in an order that only the seed decides.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use tidegate_flow::{ClockQuality, Now};

/// 2026-06-01, where every world begins, or a little before.
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
    /// What a right wall clock shows in the beginning.
    first_ms: i64,
    /// By how much the gateway's wall clock is wrong.
    wall_error_ms: i64,
    quality: ClockQuality,
    /// From when on it was wrong by how much, and whether it was trusted.
    past: Vec<(Duration, i64, ClockQuality)>,
}

impl<E> Timeline<E> {
    /// The world begins so long before [`FIRST_UNIX_MS`].
    pub(crate) fn new(before: Duration) -> Timeline<E> {
        Timeline {
            base: Instant::now(),
            clock: Duration::ZERO,
            queue: BinaryHeap::new(),
            order: 0,
            first_ms: FIRST_UNIX_MS - before.as_millis() as i64,
            wall_error_ms: 0,
            quality: ClockQuality::Synced,
            past: vec![(Duration::ZERO, 0, ClockQuality::Synced)],
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

    /// What a right wall clock shows.
    fn wall_ms(&self, clock: Duration) -> i64 {
        self.first_ms + clock.as_millis() as i64
    }

    /// This moment as the gateway sees it.
    pub(crate) fn now(&self) -> Now {
        Now {
            instant: self.base + self.clock,
            unix_ms: self.wall_ms(self.clock) + self.wall_error_ms,
            micros: (self.clock.subsec_micros() % 1_000) as u16,
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
        self.note_wall_clock();
    }

    /// The clock begins in 1970, as on a board without a battery, or is ahead by so much; nobody
    /// has set it yet.
    pub(crate) fn lose_wall_clock(&mut self, ahead_ms: Option<i64>) {
        self.wall_error_ms = ahead_ms.unwrap_or(-self.first_ms);
        self.quality = ClockQuality::Unsynced;
        self.note_wall_clock();
    }

    /// Somebody sets the clock.
    pub(crate) fn set_wall_clock(&mut self) {
        self.wall_error_ms = 0;
        self.quality = ClockQuality::Synced;
        self.note_wall_clock();
    }

    fn note_wall_clock(&mut self) {
        self.past.push((self.clock, self.wall_error_ms, self.quality));
    }

    /// The least that a trusted wall clock has shown since then.
    pub(crate) fn least_trusted_ms(&self, since: Duration) -> Option<i64> {
        let ends = self.past.iter().skip(1).map(|(from, ..)| *from).chain([Duration::MAX]);
        let pieces = self.past.iter().zip(ends).filter(|(_, end)| *end > since);
        let trusted = pieces.filter(|((.., quality), _)| *quality == ClockQuality::Synced);
        trusted.map(|((from, error_ms, _), _)| self.wall_ms((*from).max(since)) + error_ms).min()
    }

    /// Whether something has happened to the wall clock between two moments.
    pub(crate) fn was_touched(&self, from: Duration, to: Duration) -> bool {
        self.past.iter().skip(1).any(|(at, ..)| (from..=to).contains(at))
    }

    /// Whether a trusted wall clock has shown less between two moments, by so much, than one had
    /// shown before.
    pub(crate) fn fell_back(&self, from: Duration, to: Duration, by_ms: i64) -> bool {
        let ends = self.past.iter().skip(1).map(|(from, ..)| *from).chain([Duration::MAX]);
        let pieces = self.past.iter().zip(ends);
        let pieces = pieces.filter(|((at, ..), end)| *at <= to && *end >= from);
        let mut highest = i64::MIN;
        for ((at, error_ms, quality), end) in pieces {
            let [first, last] =
                [(*at).max(from), end.min(to)].map(|at| self.wall_ms(at) + error_ms);
            if *quality != ClockQuality::Synced {
                continue;
            }
            if highest.saturating_sub(first) > by_ms {
                return true;
            }
            highest = highest.max(last);
        }
        false
    }
}
