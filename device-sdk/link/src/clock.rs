//! The other side's time, from four timestamps.

use crate::micros::Micros;

/// Samples that compete.
const SAMPLES: usize = 8;
/// How far two clocks may run apart: 2^-14 of the time, 61 ppm. A shift, because dividing 64 bits takes
/// half a kilobyte of a device's flash.
const DRIFT_SHIFT: u32 = 14;

/// How good a time is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct TimeQuality {
    /// It is off by at most this, as long as the other side's clock is right.
    pub error: Micros,
    /// The other side trusts its clock.
    pub trusted: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    offset: i64,
    round_trip: u64,
    at: Micros,
    trusted: bool,
}

/// Follows the other side's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    samples: [Sample; SAMPLES],
    /// How many of them there are.
    known: usize,
    next: usize,
}

impl Clock {
    pub(crate) const fn new() -> Clock {
        let sample = Sample { offset: 0, round_trip: 0, at: Micros(0), trusted: false };
        Clock { samples: [sample; SAMPLES], known: 0, next: 0 }
    }

    /// Takes in a pong: sent at `t1` and received at `t4` by this side's clock, received at `t2` and
    /// answered at `t3` by the other's. Times that cannot be are passed over.
    pub(crate) fn take(&mut self, [t1, t2, t3]: [u64; 3], t4: Micros, trusted: bool) {
        let (Some(away), Some(inside)) = (t4.0.checked_sub(t1), t3.checked_sub(t2)) else { return };
        let Some(round_trip) = away.checked_sub(inside) else { return };
        let (out, back) = (t2.checked_signed_diff(t1), t3.checked_signed_diff(t4.0));
        let (Some(out), Some(back)) = (out, back) else { return };
        // The mean, without leaving the range.
        let offset = (out >> 1) + (back >> 1) + (out & back & 1);
        let sample = Sample { offset, round_trip, at: t4, trusted };
        if let Some(place) = self.samples.get_mut(self.next) {
            *place = sample;
        }
        self.known = SAMPLES.min(self.known + 1);
        self.next = (self.next + 1) % SAMPLES;
    }

    /// The other side's time in microseconds, and how good it is; `None` until there is a pong.
    #[must_use]
    pub fn now(&self, now: Micros) -> Option<(u64, TimeQuality)> {
        let aged = |sample: &Sample| {
            let drift = now.since(sample.at).0 >> DRIFT_SHIFT;
            sample.round_trip / 2 + drift
        };
        let best = self.samples.iter().take(self.known).min_by_key(|sample| aged(sample))?;
        let time = now.0.saturating_add_signed(best.offset);
        Some((time, TimeQuality { error: Micros(aged(best)), trusted: best.trusted }))
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
}
