//! What is counted of each function since the daemon started.

use std::time::Duration;

use crate::call::{CallResult, CallVerdict};
use crate::latency::Latency;
use crate::metric::Metrics;

/// Counters of one function.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    /// Handled and committed; what its topic filters let pass is not among these.
    pub(crate) records: u64,
    pub(crate) emitted: u64,
    pub(crate) failures: u64,
    /// Records that were failed, given up or wanted again at their first try.
    pub(crate) erred: u64,
    pub(crate) deadline_misses: u64,
    pub(crate) retries: u64,
    pub(crate) dead_letters: u64,
    pub(crate) dropped: u64,
    pub(crate) traces_dropped: u64,
    /// Keys of state whose time to live has ended.
    pub(crate) expired: u64,
    /// Timers given and done.
    pub(crate) timers_given: u64,
    /// Timers given up.
    pub(crate) timers_passed: u64,
    /// Requests whose answer counted.
    pub(crate) requests: u64,
    /// Requests that were turned away: the function did not run, or was busy.
    pub(crate) requests_refused: u64,
    pub(crate) fuel: u64,
    pub(crate) busy: Duration,
    pub(crate) cpu: Duration,
    /// Of the instance that was called last.
    pub(crate) memory_bytes: u64,
    pub(crate) memory_high_bytes: u64,
    /// What the function itself reports.
    pub(crate) metrics: Metrics,
    pub(crate) last_failure: Option<String>,
    /// From receipt of a record to the end of its handling.
    pub(crate) latency: Latency,
    /// Time of a call in the guest.
    pub(crate) call_time: Latency,
}

impl Tally {
    /// Counts the end of a call, whatever follows from it.
    pub(crate) fn called(&mut self, result: &CallResult) {
        self.calls += 1;
        self.fuel += result.fuel;
        self.busy += result.elapsed;
        self.cpu += result.cpu;
        self.memory_bytes = result.memory_bytes;
        self.memory_high_bytes = self.memory_high_bytes.max(result.memory_bytes);
        self.call_time.add(result.elapsed, 1);
        if let CallVerdict::Late(_) = result.verdict {
            self.deadline_misses += 1;
        }
    }
}
