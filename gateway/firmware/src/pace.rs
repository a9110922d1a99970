//! How fast blocks may leave.

use std::time::{Duration, Instant};

/// A bucket that fills with bytes; `None` is no limit.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes a second.
    rate: Option<u64>,
    left: u64,
    at: Option<Instant>,
}

/// What may leave at once, beside a quarter of a second's: a few of the largest blocks.
const BURST: u64 = 8 * 1_024;

impl Pace {
    pub(crate) fn new(rate: Option<u64>) -> Pace {
        Pace { rate, left: BURST, at: None }
    }

    /// When so many bytes may leave; they count as gone when that is now.
    pub(crate) fn take(&mut self, now: Instant, bytes: u64) -> Result<(), Instant> {
        let Some(rate) = self.rate.map(|rate| rate.max(1)) else { return Ok(()) };
        let most = BURST.max(rate / 4);
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        let filled = (passed.as_micros().min(u128::from(u32::MAX)) as u64).saturating_mul(rate);
        if filled >= 1_000_000 || self.at.is_none() {
            self.left = (self.left + filled / 1_000_000).min(most);
            self.at = Some(now);
        }
        if self.left >= bytes {
            self.left -= bytes;
            return Ok(());
        }
        let missing = (bytes - self.left).saturating_mul(1_000_000).div_ceil(rate);
        Err(now + Duration::from_micros(missing.max(1_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_leaves_than_the_rate_allows() {
        let mut pace = Pace::new(Some(50_000));
        #[expect(clippy::disallowed_methods, reason = "tests need some instant to start from")]
        let start = Instant::now();
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            match pace.take(now, 1_000) {
                Ok(()) => sent += 1_000,
                Err(later) => now = later,
            }
        }
        assert!((495_000..=515_000).contains(&sent), "{sent}");
    }
}
