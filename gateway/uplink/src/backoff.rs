//! Exponential backoff with full jitter: a fleet that lost the same server at the same moment
//! must not come back at the same moment.

use std::time::Duration;

/// Beyond this many doublings every sensible minimum has met its maximum.
const MAX_DOUBLINGS: u32 = 32;

/// Random delays whose upper end doubles with each failure.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
    jitter: SplitMix64,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration, seed: u64) -> Backoff {
        Backoff { min, max: max.max(min), failures: 0, jitter: SplitMix64(seed) }
    }

    /// Failures since the last success.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }

    pub(crate) fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// Counts a failure and draws the delay before the next attempt: uniform between zero and
    /// the current upper end.
    pub(crate) fn failed(&mut self) -> Duration {
        let doublings = self.failures.min(MAX_DOUBLINGS);
        self.failures = self.failures.saturating_add(1);
        let factor = 1_u64 << doublings;
        let upper = u64::try_from(self.min.as_nanos()).unwrap_or(u64::MAX).saturating_mul(factor);
        let upper = upper.min(u64::try_from(self.max.as_nanos()).unwrap_or(u64::MAX));
        Duration::from_nanos(self.jitter.below(upper.saturating_add(1)))
    }
}

/// Steele, Lea, Flood 2014, the constants of `java.util.SplittableRandom`. Enough for jitter,
/// and the same on every platform, so a simulated run repeats.
#[derive(Clone, Debug)]
pub(crate) struct SplitMix64(pub(crate) u64);

impl SplitMix64 {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `0..end` up to a bias of `end / 2^64`; 0 when `end` is 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitmix_repeats_the_published_sequence() {
        let mut random = SplitMix64(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(
            drawn,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn the_upper_end_doubles_up_to_the_maximum_and_falls_back_after_a_success() {
        let (min, max) = (Duration::from_millis(200), Duration::from_secs(30));
        let mut largest = [Duration::ZERO; 12];
        for seed in 0..300 {
            let mut backoff = Backoff::new(min, max, seed);
            for (failure, largest) in largest.iter_mut().enumerate() {
                let delay = backoff.failed();
                let upper = (min * (1 << failure.min(20))).min(max);
                assert!(delay <= upper, "seed {seed} failure {failure}: {delay:?}");
                *largest = (*largest).max(delay);
            }
            assert_eq!(backoff.failures(), 12);
            backoff.succeeded();
            assert!(backoff.failed() <= min);
        }
        // Full jitter: over many seeds the whole range is used.
        assert!(largest[0] > min.mul_f64(0.9), "{largest:?}");
        assert!(largest[11] > max.mul_f64(0.9), "{largest:?}");
    }

    #[test]
    fn endless_failures_and_absurd_limits_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX, 1);
        for _ in 0..200 {
            backoff.failed();
        }
        let mut none = Backoff::new(Duration::ZERO, Duration::ZERO, 1);
        assert_eq!(none.failed(), Duration::ZERO);
    }
}
