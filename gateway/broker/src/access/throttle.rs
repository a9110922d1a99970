//! How fast one client may publish.

use std::time::{Duration, Instant};

/// What a client may publish at once after it was quiet: as much as in this time.
const BURST: Duration = Duration::from_secs(1);

/// Counts a client's publishes against a rate (the generic cell rate algorithm: one time to keep).
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Throttle {
    /// When everything published so far would have been in time.
    level_at: Option<Instant>,
}

impl Throttle {
    /// Counts a publish, or says when the next one may be read.
    pub(crate) fn take(&mut self, now: Instant, per_second: u32) -> Result<(), Instant> {
        let level_at = self.level_at.unwrap_or(now).max(now);
        if let Some(wait) = level_at.saturating_duration_since(now).checked_sub(BURST)
            && !wait.is_zero()
        {
            return Err(now + wait);
        }
        self.level_at = Some(level_at + Duration::from_secs(1) / per_second.max(1));
        Ok(())
    }

    /// Whether nothing may be read yet.
    pub(crate) fn holds(&self, now: Instant) -> bool {
        self.level_at.is_some_and(|at| at.saturating_duration_since(now) > BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "simulated time has to start somewhere")]
    fn a_second_may_come_at_once_and_then_the_rate_holds() {
        let (mut throttle, start) = (Throttle::default(), Instant::now());
        let mut now = start;
        for _ in 0..11 {
            throttle.take(now, 10).unwrap();
        }
        let mut taken = 0;
        while now < start + Duration::from_secs(10) {
            match throttle.take(now, 10) {
                Ok(()) => taken += 1,
                Err(at) => {
                    assert!(at > now && throttle.holds(now));
                    now = at;
                }
            }
        }
        assert!((99..=101).contains(&taken), "{taken}");
        now += Duration::from_secs(5);
        assert!(!throttle.holds(now));
        throttle.take(now, 10).unwrap();
    }
}
