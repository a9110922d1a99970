//! All functions as the operator lists them: those of the configuration and those that were pushed.

use serde::{Deserialize, Serialize};

use crate::alias::{Alias, Version};
use crate::clock::Now;
use crate::gateway::Gateway;

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
}

/// A version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionEntry {
    /// What its author calls it.
    pub version: String,
    /// The hash of its package, in 64 hexadecimal digits.
    pub package: String,
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
        let running = self.status(now).functions.into_iter().map(|status| {
            let alias = self.alias(&status.name).filter(|_| !self.is_configured(&status.name));
            let (stream, lag) = (Some(status.stream), Some(status.lag));
            FunctionEntry { stream, lag, ..entry(status.name, status.state, alias) }
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
        since_unix_ms: alias.current.is_some().then_some(alias.since_unix_ms),
        on_trial: alias.on_trial,
        version: alias.current.map(version_entry),
        previous: alias.previous.map(version_entry),
        failed: alias.failed.map(|failed| FailedEntry {
            version: version_entry(failed.version),
            unix_ms: failed.unix_ms,
            reason: failed.reason,
        }),
    }
}

fn version_entry(version: Version) -> VersionEntry {
    VersionEntry { version: version.label, package: version.package.to_string() }
}
