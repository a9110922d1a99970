//! What the kernel says of the gateway's process.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

/// One look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// Resident memory.
    pub(super) rss_kib: u64,
    /// Open files, without the segments of its log: it keeps up to 32 of those at hand.
    pub(super) files: u64,
    /// Threads.
    pub(super) threads: u64,
}

impl Sample {
    /// Of the process with this number.
    pub(super) fn of(pid: u32) -> Result<Sample> {
        let path = format!("/proc/{pid}");
        let status = fs::read_to_string(format!("{path}/status"))
            .with_context(|| format!("the gateway's process {pid} is gone"))?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let word = line.and_then(|line| line.split_ascii_whitespace().next());
            word.and_then(|word| word.parse::<u64>().ok())
                .with_context(|| format!("{path}/status has no {name}"))
        };
        let files = fs::read_dir(format!("{path}/fd")).context("cannot count its files")?;
        // One that is closed meanwhile is not open.
        let open = files.flatten().filter_map(|file| fs::read_link(file.path()).ok());
        let is_segment = |path: &PathBuf| path.to_string_lossy().contains("/data/log/");
        let files = open.filter(|path| !is_segment(path)).count() as u64;
        Ok(Sample { rss_kib: number("VmRSS:")?, files, threads: number("Threads:")? })
    }
}
