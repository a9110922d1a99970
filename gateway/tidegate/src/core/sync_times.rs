//! How long the disk takes for what is written, with its sync: counted by the thread that waits for
//! it, read by whoever asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tidegate_flow::latency::{BOUNDS_US, quantile_us};
use tidegate_flow::status::LatencyStatus;

/// Counts by [`BOUNDS_US`], and the sum in microseconds.
#[derive(Debug, Clone, Default)]
pub(crate) struct SyncTimes(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl SyncTimes {
    /// A write took so long.
    pub(crate) fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        // Only one thread counts; who reads may see a sum without its count for a moment.
        if let Some(count) = self.0.buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(crate) fn status(&self) -> LatencyStatus {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let buckets: Vec<u64> = self.0.buckets.iter().map(read).collect();
        LatencyStatus {
            hop: "write-and-sync".to_owned(),
            name: String::new(),
            sum_us: read(&self.0.sum_us),
            p50_us: quantile_us(&buckets, 0.5),
            p99_us: quantile_us(&buckets, 0.99),
            buckets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_counted_where_they_belong() {
        let times = SyncTimes::default();
        times.add(Duration::from_micros(250));
        times.clone().add(Duration::from_millis(4));
        times.add(Duration::from_secs(1_000_000));
        let status = times.status();
        assert_eq!((status.buckets[0], status.buckets[4]), (1, 1));
        assert_eq!(status.buckets.last(), Some(&1));
        assert_eq!(status.sum_us, 250 + 4_000 + 1_000_000_000_000);
    }
}
