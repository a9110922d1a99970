//! How long records take from hop to hop: one histogram a hop, of fixed size.

use std::time::Duration;

/// Upper ends of the buckets, in microseconds: what an operator tells apart, from a fast disk's
/// sync to a week without a link. A last bucket takes the rest.
pub const BOUNDS_US: [u64; 20] = [
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    60_000_000,
    600_000_000,
    3_600_000_000,
    86_400_000_000,
    604_800_000_000,
];

/// A histogram over [`BOUNDS_US`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Latency {
    counts: [u64; BOUNDS_US.len() + 1],
    sum_us: u64,
}

impl Latency {
    /// Counts `records` that took so long.
    pub(crate) fn add(&mut self, took: Duration, records: u64) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[bucket] += records;
        self.sum_us = self.sum_us.saturating_add(us.saturating_mul(records));
    }

    /// Counts records by the time of their receipt. A clock that went back says nothing below
    /// zero.
    pub(crate) fn add_age(&mut self, unix_ms: i64, now_ms: i64, records: u64) {
        let ms = u64::try_from(now_ms.saturating_sub(unix_ms)).unwrap_or(0);
        self.add(Duration::from_millis(ms), records);
    }

    pub(crate) fn counts(&self) -> &[u64] {
        &self.counts
    }

    pub(crate) fn sum_us(&self) -> u64 {
        self.sum_us
    }
}

/// The bound, in microseconds, below which this share of what `counts` holds lies: 0.99 for p99.
/// `None` when nothing was counted, or when it lies beyond the last bound.
#[must_use]
pub fn quantile_us(counts: &[u64], share: f64) -> Option<u64> {
    let total: u64 = counts.iter().sum();
    let wanted = (total as f64 * share).ceil() as u64;
    let mut seen = 0;
    let reached = |count: &u64| {
        seen += count;
        seen >= wanted
    };
    let bucket = counts.iter().position(reached).filter(|_| total > 0)?;
    BOUNDS_US.get(bucket).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_counted_in_the_first_bucket_that_holds_it() {
        let mut latency = Latency::default();
        latency.add(Duration::from_micros(250), 1);
        latency.add(Duration::from_micros(251), 2);
        latency.add(Duration::from_secs(700_000), 3);
        assert_eq!(latency.counts()[..2], [1, 2]);
        assert_eq!(latency.counts().last(), Some(&3));
        assert_eq!(latency.sum_us(), 250 + 502 + 2_100_000_000_000);
    }

    #[test]
    fn a_receipt_in_the_future_took_no_time() {
        let mut latency = Latency::default();
        latency.add_age(5_000, 1_000, 1);
        assert_eq!((latency.counts()[0], latency.sum_us()), (1, 0));
    }

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        let mut latency = Latency::default();
        latency.add(Duration::from_micros(300), 98);
        latency.add(Duration::from_millis(40), 2);
        assert_eq!(quantile_us(latency.counts(), 0.5), Some(500));
        assert_eq!(quantile_us(latency.counts(), 0.98), Some(500));
        assert_eq!(quantile_us(latency.counts(), 0.99), Some(50_000));
        assert_eq!(quantile_us(&[0; 21], 0.5), None);
    }
}
