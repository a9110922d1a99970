//! How often each route is asked: a count that drains steadily.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// The counts, by the pattern of the route. Patterns are those of functions that there are or were
/// since the start, at most 64 of each.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    by_route: BTreeMap<String, Rate>,
}

#[derive(Debug)]
struct Rate {
    /// Requests that have not drained yet, at the time of the last one.
    level: f64,
    at: Instant,
}

impl Rates {
    /// Counts a request, if there may be another: so many in a second, and so many at once.
    ///
    /// # Errors
    /// How long to wait for the next.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        route: &str,
        per_second: u64,
    ) -> Result<(), Duration> {
        let most = per_second as f64;
        if !self.by_route.contains_key(route) {
            self.by_route.insert(route.to_owned(), Rate { level: 0.0, at: now });
        }
        let Some(rate) = self.by_route.get_mut(route) else { return Ok(()) };
        let drained = now.saturating_duration_since(rate.at).as_secs_f64() * most;
        (rate.level, rate.at) = ((rate.level - drained).max(0.0), now);
        if rate.level + 1.0 > most {
            return Err(Duration::from_secs_f64((rate.level + 1.0 - most) / most));
        }
        rate.level += 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_has_so_many_requests_in_a_second_and_others_have_theirs() {
        let (mut rates, now) = (Rates::default(), Instant::now());
        assert!((0..10).all(|_| rates.take(now, "/a", 10).is_ok()));
        let wait = rates.take(now, "/a", 10).unwrap_err();
        assert!(wait > Duration::from_millis(99) && wait < Duration::from_millis(101), "{wait:?}");
        assert!(rates.take(now, "/b", 10).is_ok());
        let later = now + Duration::from_millis(250);
        assert!(rates.take(later, "/a", 10).is_ok() && rates.take(later, "/a", 10).is_ok());
        assert!(rates.take(later, "/a", 10).is_err());
    }
}
