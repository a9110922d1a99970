//! How often something happens under a name: logins of a client, failures of a user.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Names that are remembered, as their hashes: about 60 bytes each. Beyond, those whose count has
/// drained are forgotten, and if there is none, all are.
const MAX_NAMES: usize = 10_000;
const MINUTE: Duration = Duration::from_secs(60);

/// How often something happened lately: a count that drains steadily.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Events that have not drained yet, at the time of the last one.
    level: f64,
    at: Option<Instant>,
}

impl Tally {
    /// The level now, when `per_minute` drain in a minute.
    fn level(&self, now: Instant, per_minute: u64) -> f64 {
        let Some(at) = self.at else { return 0.0 };
        let minutes = now.saturating_duration_since(at).as_secs_f64() / MINUTE.as_secs_f64();
        (self.level - minutes * per_minute as f64).max(0.0)
    }

    pub(crate) fn is_full(&self, now: Instant, per_minute: u64) -> bool {
        self.level(now, per_minute) + 1.0 > per_minute as f64
    }

    pub(crate) fn add(&mut self, now: Instant, per_minute: u64) {
        self.level = self.level(now, per_minute) + 1.0;
        self.at = Some(now);
    }
}

/// Counts by name against one limit.
#[derive(Debug)]
pub(crate) struct Rates {
    per_minute: Cell<Option<u64>>,
    /// By hash, as whoever connects may make up names of any length.
    names: RefCell<BTreeMap<u64, Tally>>,
    hasher: RandomState,
}

impl Rates {
    /// `None`: nothing is counted, and nothing is ever full.
    pub(crate) fn new(per_minute: Option<u64>) -> Rates {
        let per_minute = Cell::new(per_minute);
        Rates { per_minute, names: RefCell::default(), hasher: RandomState::new() }
    }

    /// Another limit counts from now on.
    pub(crate) fn set(&self, per_minute: Option<u64>) {
        self.per_minute.set(per_minute);
    }

    /// Whether it happened as often as it may.
    pub(crate) fn is_full(&self, now: Instant, name: &str) -> bool {
        let Some(rate) = self.per_minute.get() else { return false };
        let name = self.hasher.hash_one(name);
        self.names.borrow().get(&name).is_some_and(|tally| tally.is_full(now, rate))
    }

    /// It happened.
    pub(crate) fn add(&self, now: Instant, name: &str) {
        let Some(rate) = self.per_minute.get() else { return };
        let name = self.hasher.hash_one(name);
        let mut names = self.names.borrow_mut();
        if names.len() >= MAX_NAMES && !names.contains_key(&name) {
            names.retain(|_, tally| tally.level(now, rate) > 0.0);
            if names.len() >= MAX_NAMES {
                names.clear();
            }
        }
        names.entry(name).or_default().add(now, rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_own_count_which_drains() {
        let (rates, now) = (Rates::new(Some(2)), Instant::now());
        (0..2).for_each(|_| rates.add(now, "one"));
        assert!(rates.is_full(now, "one") && !rates.is_full(now, "other"));
        assert!(!rates.is_full(now + MINUTE / 2, "one"));
    }

    #[test]
    fn without_a_limit_nothing_is_kept() {
        let rates = Rates::new(None);
        (0..10).for_each(|_| rates.add(Instant::now(), "one"));
        assert!(!rates.is_full(Instant::now(), "one") && rates.names.borrow().is_empty());
    }

    #[test]
    fn names_that_somebody_makes_up_take_a_bounded_memory() {
        let (rates, now) = (Rates::new(Some(2)), Instant::now());
        for number in 0..2 * MAX_NAMES {
            rates.add(now, &number.to_string());
        }
        assert!(rates.names.borrow().len() <= MAX_NAMES);
    }
}
