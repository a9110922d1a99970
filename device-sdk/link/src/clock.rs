//! The other side's time, from four timestamps: the link's own pings, or messages that carry them otherwise.

use crate::micros::Micros;

/// Samples that compete.
const SAMPLES: usize = 8;
/// How far two clocks may run apart: 2^-14 of the time, 61 ppm. A shift, because dividing 64 bits takes
/// half a kilobyte of a device's flash.
const DRIFT_SHIFT: u32 = 14;
/// Drift after which a sample is worse than any new one, whose round trip is shorter than a session's silence:
/// 17 s, after three days.
const WORTHLESS: u32 = 1 << 24;

/// How good a time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TimeQuality {
    /// It is off by at most this, as long as the other side's clock is right.
    pub error: Micros,
    /// The other side trusts its clock.
    pub trusted: bool,
}

/// Times in words of 32 bits: eight samples are an eighth of a kilobyte.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    offset: i64,
    /// Microseconds: sessions end long before it is full.
    round_trip: u32,
    /// When it was asked for, in units of 2^[`DRIFT_SHIFT`] microseconds: what has passed since is the drift. It begins
    /// anew after two years.
    at: u32,
}

/// Follows the other side's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    samples: [Sample; SAMPLES],
    /// Which of them are of a clock that was trusted.
    trusted: u8,
    /// How many of them there are.
    known: u8,
    next: u8,
    /// When the newest was taken.
    newest: Micros,
}

impl Clock {
    /// One that knows nothing.
    #[must_use]
    pub const fn new() -> Clock {
        let sample = Sample { offset: 0, round_trip: 0, at: 0 };
        let newest = Micros(0);
        Clock { samples: [sample; SAMPLES], trusted: 0, known: 0, next: 0, newest }
    }

    /// Takes in a pong: sent at `t1` and received at `t4` by this side's clock, received at `t2` and
    /// answered at `t3` by the other's. Times that cannot be are passed over. A link does this itself.
    pub fn take(&mut self, [t1, t2, t3]: [u64; 3], t4: Micros, trusted: bool) {
        let (Some(away), Some(inside)) = (t4.0.checked_sub(t1), t3.checked_sub(t2)) else { return };
        let round_trip = away.checked_sub(inside).and_then(|trip| u32::try_from(trip).ok());
        let Some(round_trip) = round_trip else { return };
        let (out, back) = (t2.checked_signed_diff(t1), t3.checked_signed_diff(t4.0));
        let (Some(out), Some(back)) = (out, back) else { return };
        // The mean, without leaving the range.
        let offset = (out >> 1) + (back >> 1) + (out & back & 1);
        if self.drift(t4).is_none_or(|drift| drift >= WORTHLESS) {
            (self.known, self.next) = (0, 0);
        }
        let bit = 1 << self.next;
        self.trusted = if trusted { self.trusted | bit } else { self.trusted & !bit };
        if let Some(place) = self.samples.get_mut(usize::from(self.next)) {
            // From when on they may have run apart: from the question.
            *place = Sample { offset, round_trip, at: (t1 >> DRIFT_SHIFT) as u32 };
        }
        self.newest = t4;
        self.known = (SAMPLES as u8).min(self.known + 1);
        self.next = (self.next + 1) % SAMPLES as u8;
    }

    /// The other side's time in microseconds, and how good it is; `None` until there is a pong, and when
    /// there was none for two years.
    #[must_use]
    pub fn now(&self, now: Micros) -> Option<(u64, TimeQuality)> {
        self.drift(now)?;
        let now_at = (now.0 >> DRIFT_SHIFT) as u32;
        let aged = |sample: &Sample| {
            u64::from(sample.round_trip / 2) + u64::from(now_at.wrapping_sub(sample.at))
        };
        let known = self.samples.iter().take(self.known.into()).enumerate();
        let (n, best) = known.min_by_key(|(_, sample)| aged(sample))?;
        let time = now.0.saturating_add_signed(best.offset);
        let trusted = self.trusted >> n & 1 == 1;
        Some((time, TimeQuality { error: Micros(aged(best)), trusted }))
    }

    /// How far the clocks may have run apart since the newest sample; `None` when that cannot be told of one
    /// before it.
    fn drift(&self, now: Micros) -> Option<u32> {
        let drift = now.since(self.newest).0 >> DRIFT_SHIFT;
        u32::try_from(drift).ok().filter(|drift| *drift < u32::MAX - SAMPLES as u32 * WORTHLESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_round_trip_counts_until_it_is_old() {
        let mut clock = Clock::default();
        assert_eq!(clock.now(Micros(0)), None);
        // The other side is 1,000,000 ahead; 200 there, 800 back: off by 300.
        clock.take([0, 1_000_200, 1_000_300], Micros(1_100), true);
        let (time, quality) = clock.now(Micros(1_100)).unwrap();
        assert_eq!((time, quality.error), (1_001_100 - 300, Micros(500)));
        clock.take([2_000, 1_002_010, 1_002_010], Micros(2_020), true);
        let (time, quality) = clock.now(Micros(2_020)).unwrap();
        assert_eq!((time, quality.error), (1_002_020, Micros(10)));
        // Worse, so it does not count yet; a minute later the drift of the other outweighs it.
        clock.take([62_000_000, 63_000_500, 63_000_500], Micros(62_001_000), true);
        assert_eq!(clock.now(Micros(62_001_000)).unwrap().1.error, Micros(500));
    }

    #[test]
    fn impossible_times_are_passed_over() {
        let mut clock = Clock::default();
        clock.take([5, 0, 0], Micros(4), true);
        clock.take([0, 9, 8], Micros(4), true);
        clock.take([0, 0, 9], Micros(4), true);
        clock.take([0, u64::MAX, u64::MAX], Micros(4), true);
        assert_eq!(clock.now(Micros(9)), None);
    }

    #[test]
    fn what_was_known_of_the_time_before_years_of_silence_does_not_count() {
        let mut clock = Clock::default();
        clock.take([0, 1_000_000, 1_000_000], Micros(2), true);
        let days = |days: u64| Micros(days * 24 * 3_600_000_000);
        let (_, quality) = clock.now(days(365)).unwrap();
        assert_eq!(quality.error, Micros((days(365).0 >> 14) + 1));
        assert_eq!(clock.now(days(3 * 365)), None);
        // Behind the first eight, so that the new one is not in the first place by chance.
        for n in 1..5 {
            let at = days(n).0;
            clock.take([at, at + 1_000_000, at + 1_000_000], Micros(at + 2), false);
        }
        let at = days(4 * 365).0;
        clock.take([at, at + 7, at + 7], Micros(at + 40), true);
        let (time, quality) = clock.now(Micros(at + 40)).unwrap();
        assert_eq!((time, quality), (at + 27, TimeQuality { error: Micros(20), trusted: true }));
    }
}
