//! All functions as the operator lists them: those of the configuration and those that were pushed.

use serde::{Deserialize, Serialize};

use crate::alias::{Alias, Version};
use crate::clock::Now;
use crate::function::FunctionRun;
use crate::gateway::Gateway;
use crate::report::hop;
use crate::status::{FunctionStatus, LatencyStatus};

/// One function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionEntry {
    /// Its name.
    pub name: String,
    /// `configuration` or `pushed`.
    pub source: String,
    /// As in the status, or `failed` when its first version did not last.
    pub state: String,
    /// The stream that it reads, when it runs.
    pub stream: Option<String>,
    /// Records that wait for it, when it runs.
    pub lag: Option<u64>,
    /// The HTTP routes that it answers, when it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// The version that runs, if it was pushed.
    pub version: Option<VersionEntry>,
    /// When that became so, in milliseconds since 1970.
    pub since_unix_ms: Option<i64>,
    /// It is taken back when it fails.
    pub on_trial: bool,
    /// The version that can be taken back.
    pub previous: Option<VersionEntry>,
    /// The last version that did not last.
    pub failed: Option<FailedEntry>,
    /// The version that is tried beside it on a share of the keys.
    #[serde(default)]
    pub canary: Option<CanaryEntry>,
    /// What is counted of it, when it runs.
    #[serde(default)]
    pub metering: Option<Metering>,
}

/// What is counted of a function since the daemon, or this version of it, started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metering {
    /// Calls made.
    pub invocations: u64,
    /// Records handled and committed.
    pub records: u64,
    /// Records emitted.
    pub emitted: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Of those, the ones that missed their deadline.
    pub deadline_misses: u64,
    /// Calls that are made again, for all their records or some.
    pub retries: u64,
    /// Records that wait in the retry lane.
    pub retry_lane: u64,
    /// Records that the function dropped.
    pub dropped: u64,
    /// Records that went to the dead-letter stream.
    pub dead_letters: u64,
    /// Fuel used.
    pub fuel: u64,
    /// Time on a processor, in microseconds.
    pub cpu_us: u64,
    /// Time in the guest on the wall, in microseconds.
    pub busy_us: u64,
    /// Linear memory of the instance at the last call, in bytes.
    pub memory_bytes: u64,
    /// The most that it was.
    pub memory_high_bytes: u64,
    /// Keys of state held.
    pub state_keys: u64,
    /// Bytes of state held.
    pub state_bytes: u64,
    /// Age of the oldest record that was read and is not done, in milliseconds.
    pub queue_age_ms: u64,
    /// The last failure, in words.
    pub last_failure: Option<String>,
    /// From receipt of a record to the end of its handling.
    pub record_latency: LatencyStatus,
    /// Time of a call in the guest.
    pub call_latency: LatencyStatus,
}

/// A version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionEntry {
    /// What its author calls it.
    pub version: String,
    /// The hash of its package, in 64 hexadecimal digits.
    pub package: String,
}

/// A version that is tried on a share of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryEntry {
    /// The version.
    #[serde(flatten)]
    pub version: VersionEntry,
    /// Its share, in hundredths of a percent.
    pub share: u16,
    /// Records that it must have been given before it is promoted.
    pub wanted: u32,
    /// Records that it handled.
    pub records: u64,
    /// Records that it failed, or gave up; the present version had them.
    pub errors: u64,
    /// Deadlines that it missed.
    pub deadline_misses: u64,
}

/// A version that was taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedEntry {
    /// The version.
    #[serde(flatten)]
    pub version: VersionEntry,
    /// When, in milliseconds since 1970.
    pub unix_ms: i64,
    /// Why.
    pub reason: String,
}

impl Gateway {
    /// All functions: those that run, in the order in which they came, then those that do not.
    pub fn function_entries(&self, now: Now) -> Vec<FunctionEntry> {
        let running = self.present().map(|(_, run)| {
            let status = self.function_status(now, run);
            let alias = self.alias(&status.name).filter(|_| !self.is_configured(&status.name));
            let (stream, lag) = (Some(status.stream.clone()), Some(status.lag));
            let (name, state) = (status.name.clone(), status.state.clone());
            let metering = Some(metering(status, run));
            let routes = run.plan.routes.iter().map(ToString::to_string).collect();
            let mut entry =
                FunctionEntry { stream, lag, metering, routes, ..entry(name, state, alias) };
            let beside = run.canary.and_then(|canary| self.functions.get(canary.slot));
            if let Some((canary, run)) = entry.canary.as_mut().zip(beside) {
                canary.records = run.tally.records;
                canary.errors = run.tally.erred;
                canary.deadline_misses = run.tally.deadline_misses;
            }
            entry
        });
        let mut entries: Vec<FunctionEntry> = running.collect();
        for (name, alias) in self.aliases() {
            if entries.iter().all(|entry| entry.name != name) {
                let state = if alias.current.is_some() { "not loaded" } else { "failed" };
                entries.push(entry(name.to_owned(), state.to_owned(), Some(alias)));
            }
        }
        entries
    }
}

fn entry(name: String, state: String, alias: Option<Alias>) -> FunctionEntry {
    let source = if alias.is_some() { "pushed" } else { "configuration" }.to_owned();
    let alias = alias.unwrap_or_default();
    FunctionEntry {
        name,
        source,
        state,
        stream: None,
        lag: None,
        routes: Vec::new(),
        since_unix_ms: alias.current.is_some().then_some(alias.since_unix_ms),
        on_trial: alias.on_trial,
        version: alias.current.map(version_entry),
        previous: alias.previous.map(version_entry),
        failed: alias.failed.map(|failed| FailedEntry {
            version: version_entry(failed.version),
            unix_ms: failed.unix_ms,
            reason: failed.reason,
        }),
        canary: alias.canary.map(|canary| CanaryEntry {
            version: version_entry(canary.version),
            share: canary.share,
            wanted: canary.records,
            records: 0,
            errors: 0,
            deadline_misses: 0,
        }),
        metering: None,
    }
}

fn metering(status: FunctionStatus, run: &FunctionRun) -> Metering {
    Metering {
        invocations: status.calls,
        records: status.records,
        emitted: status.emitted,
        errors: status.failures,
        deadline_misses: status.deadline_misses,
        retries: status.retries,
        retry_lane: status.retry_lane,
        dropped: status.dropped,
        dead_letters: status.dead_letters,
        fuel: status.fuel,
        cpu_us: status.cpu_us,
        busy_us: status.busy_us,
        memory_bytes: status.memory_bytes,
        memory_high_bytes: status.memory_high_bytes,
        state_keys: status.state_keys,
        state_bytes: status.state_bytes,
        queue_age_ms: status.queue_age_ms,
        last_failure: status.last_failure,
        record_latency: hop("receipt-to-function", &status.name, &run.tally.latency),
        call_latency: hop("function-call", &status.name, &run.tally.call_time),
    }
}

fn version_entry(version: Version) -> VersionEntry {
    VersionEntry { version: version.label, package: version.package.to_string() }
}
