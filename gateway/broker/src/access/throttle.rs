//! How fast one client, or all from one address, may publish.

use std::time::{Duration, Instant};

/// What may be published at once after it was quiet: as much as in this time.
const BURST: Duration = Duration::from_secs(1);

/// Counts publishes against a rate (the generic cell rate algorithm: one time to keep).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Throttle {
    /// When everything counted so far will have been in time.
    level_at: Option<Instant>,
}

impl Throttle {
    /// Counts a publish and says when it may be read: now or later. Who waits has its turn for
    /// sure: what is counted afterwards is read after it.
    pub(crate) fn count(&mut self, now: Instant, per_second: u32) -> Instant {
        let level_at = self.level_at.unwrap_or(now).max(now);
        self.level_at = Some(level_at + Duration::from_secs(1) / per_second.max(1));
        now + level_at.saturating_duration_since(now).saturating_sub(BURST)
    }

    /// Whether what was counted makes no difference any more.
    pub(crate) fn is_level(&self, now: Instant) -> bool {
        self.level_at.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "simulated time has to start somewhere")]
    fn a_second_may_come_at_once_and_then_the_rate_holds() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        for _ in 0..11 {
            assert_eq!(throttle.count(start, 10), start);
        }
        for number in 1..=100 {
            let due = throttle.count(start, 10);
            assert_eq!(due, start + Duration::from_millis(100) * number, "each has its turn");
        }
        let later = start + Duration::from_secs(12);
        assert!(throttle.is_level(later) && !throttle.is_level(start));
        assert_eq!(throttle.count(later, 10), later);
    }
}
