//! Figures that a function reports: counters and gauges by name, since the daemon started.
//!
//! Invariant: bounded, whatever a guest reports; what has no room is counted.

use std::collections::BTreeMap;

use tidegate_abi::MetricKind;

use crate::status::MetricStatus;

/// Most names of a function. With the longest names 8 KiB.
const MAX_NAMES: usize = 64;
/// Longest name, in bytes.
const MAX_NAME: usize = 64;

/// A figure as an output frame reports it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reported {
    pub(crate) name: String,
    pub(crate) kind: MetricKind,
    pub(crate) value: f64,
}

/// What a function has reported.
#[derive(Debug, Default, Clone)]
pub(crate) struct Metrics {
    by_name: BTreeMap<String, (MetricKind, f64)>,
    /// Figures that were not taken: no room for the name, a name that is too long or of another
    /// kind, a value that is no number, a counter that would fall.
    pub(crate) dropped: u64,
}

impl Metrics {
    /// Takes a figure of a call that has committed.
    pub(crate) fn take(&mut self, reported: Reported) {
        let Reported { name, kind, value } = reported;
        let falls = kind == MetricKind::Counter && value < 0.0;
        if name.len() > MAX_NAME || !value.is_finite() || falls {
            self.dropped += 1;
            return;
        }
        let full = self.by_name.len() >= MAX_NAMES;
        match (self.by_name.get_mut(&name), kind) {
            (Some((MetricKind::Counter, sum)), MetricKind::Counter) => *sum += value,
            (Some((MetricKind::Gauge, last)), MetricKind::Gauge) => *last = value,
            (None, MetricKind::Counter | MetricKind::Gauge) if !full => {
                self.by_name.insert(name, (kind, value));
            }
            (Some(_) | None, MetricKind::Counter | MetricKind::Gauge) => self.dropped += 1,
        }
    }

    /// In the order of their names.
    pub(crate) fn status(&self) -> Vec<MetricStatus> {
        let status = |(name, (kind, value)): (&String, &(MetricKind, f64))| {
            let kind = match kind {
                MetricKind::Counter => "counter",
                MetricKind::Gauge => "gauge",
            };
            MetricStatus { name: name.clone(), kind: kind.to_owned(), value: *value }
        };
        self.by_name.iter().map(status).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(metrics: &mut Metrics, name: &str, kind: MetricKind, value: f64) {
        metrics.take(Reported { name: name.to_owned(), kind, value });
    }

    #[test]
    fn counters_add_up_and_gauges_replace() {
        let mut metrics = Metrics::default();
        for value in [1.0, 2.5] {
            report(&mut metrics, "seen", MetricKind::Counter, value);
            report(&mut metrics, "level", MetricKind::Gauge, -value);
        }
        let found: Vec<(String, String, f64)> =
            metrics.status().into_iter().map(|one| (one.name, one.kind, one.value)).collect();
        let expected = [("level", "gauge", -2.5), ("seen", "counter", 3.5)];
        let expected = expected.map(|(name, kind, value)| (name.into(), kind.into(), value));
        assert_eq!((found, metrics.dropped), (expected.to_vec(), 0));
    }

    #[test]
    fn what_has_no_room_or_no_meaning_is_counted() {
        let mut metrics = Metrics::default();
        for n in 0..MAX_NAMES {
            report(&mut metrics, &format!("m{n:063}"), MetricKind::Gauge, 1.0);
        }
        assert_eq!((metrics.status().len(), metrics.dropped), (MAX_NAMES, 0));
        report(&mut metrics, "one more", MetricKind::Gauge, 1.0);
        let mut few = Metrics::default();
        report(&mut few, "seen", MetricKind::Counter, 1.0);
        report(&mut few, "seen", MetricKind::Gauge, 9.0);
        report(&mut few, "seen", MetricKind::Counter, -1.0);
        report(&mut few, "seen", MetricKind::Counter, f64::NAN);
        report(&mut few, &"n".repeat(MAX_NAME + 1), MetricKind::Gauge, 1.0);
        assert_eq!((metrics.dropped, few.dropped), (1, 4));
        assert_eq!((few.status().len(), few.status()[0].value), (1, 1.0));
    }
}
