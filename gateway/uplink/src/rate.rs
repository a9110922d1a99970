//! A pace that is not exceeded: so many units a second, with a bounded burst.

use std::time::{Duration, Instant};

/// What may go at once after a pause.
const BURST: Duration = Duration::from_millis(100);

/// Counts by time: each unit moves `due` on by its share of a second; while `due` is ahead of
/// the clock nothing may go.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    per_second: u64,
    due: Option<Instant>,
}

impl Pace {
    /// `None`: no limit. A limit of 0 is taken as 1.
    pub(crate) fn new(per_second: Option<u64>) -> Option<Pace> {
        per_second.map(|per_second| Pace { per_second: per_second.max(1), due: None })
    }

    /// Counts what goes now.
    pub(crate) fn take(&mut self, now: Instant, units: u64) {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let from = self.due.map_or(earliest, |due| due.max(earliest));
        let nanos = u128::from(units) * 1_000_000_000 / u128::from(self.per_second);
        let share = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX / 4));
        self.due = Some(from + share);
    }

    /// When more may go; `None`: now.
    pub(crate) fn blocked_until(&self, now: Instant) -> Option<Instant> {
        self.due.filter(|due| *due > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an Instant cannot be made from nothing")]
    fn some_instant() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    #[test]
    fn no_more_than_the_pace_goes_over_any_long_time() {
        let mut pace = Pace::new(Some(100)).unwrap();
        let start = some_instant();
        let (mut now, mut sent) = (start, 0);
        while now < start + Duration::from_secs(10) {
            match pace.blocked_until(now) {
                Some(at) => now = at,
                None => {
                    pace.take(now, 1);
                    sent += 1;
                }
            }
        }
        assert!((1_000..=1_011).contains(&sent), "{sent}");
    }

    #[test]
    fn one_large_unit_goes_at_once_and_is_paid_for_afterwards() {
        let mut pace = Pace::new(Some(1_000)).unwrap();
        let now = some_instant();
        assert_eq!(pace.blocked_until(now), None);
        pace.take(now, 5_000);
        let wait = pace.blocked_until(now).unwrap() - now;
        assert_eq!(wait, Duration::from_millis(4_900));
    }

    #[test]
    fn no_limit_is_no_pace() {
        assert!(Pace::new(None).is_none());
    }
}
