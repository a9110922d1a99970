//! Calls of functions: what a record costs in the engine beside the same code as native code, how
//! fast a module starts, what an instance takes of memory.
//!
//! Two functions. The gauge (`tests/bench/guest`) compares one number of a packed reading of 128
//! bytes: what it costs is the cost of a call. The threshold (`functions/examples`) reads JSON of
//! 128 bytes, with a state and without.

mod readings;
mod start;
mod warm;
pub(crate) mod worker;

use std::path::PathBuf;

use anyhow::Result;

use crate::report::Row;

const BENCH: &str = "functions";

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Runs, of which medians are taken.
    pub(crate) runs: usize,
    /// Records of a case and run.
    pub(crate) records: u64,
    /// Processes that each start a module once.
    pub(crate) starts: usize,
    /// Instances whose memory is measured.
    pub(crate) instances: usize,
    /// Instances that are tried at once.
    pub(crate) many: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { runs: 5, records: 400_000, starts: 21, instances: 100, many: 15_000 }
    }
}

/// What is measured.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// `gauge.wasm`
    pub(crate) gauge: PathBuf,
    /// `threshold.wasm`
    pub(crate) threshold: PathBuf,
}

/// What a reader must know to read the figures.
pub(crate) fn notes(settings: &Settings) -> Vec<String> {
    let Settings { runs, records, starts, .. } = settings;
    vec![
        format!("warm calls: medians of {runs} runs of {records} records in one instance, engine and native code in turns; every tenth record is above the limit and makes an output. A call is the frame in, the function, the checked frame out; building the input frame is not in it"),
        format!("starts: medians of {starts} processes that do it once. Cold: read, check, translate, instantiate, configure, first record. Warm: the module is translated, the rest again"),
        "memory: what the process has more with the instances, each of which has handled a batch of 16, by their number".to_owned(),
    ]
}

/// Measures and compares.
pub(crate) fn run(settings: &Settings, field: &Field) -> Result<Vec<Row>> {
    let mut rows = warm::run(settings, field)?;
    rows.extend(start::run(settings, field)?);
    Ok(rows)
}
