//! The durable log: beside the stores that it could have been built on, what it writes to the
//! flash, and what a backlog costs.
//!
//! The log runs as it is: with its real files, in processes of their own, or in the gateway.

pub(crate) mod backlog;
pub(crate) mod beside;
mod engine;
mod ours;
#[cfg(feature = "peers")]
mod peers;
pub(crate) mod store;
pub(crate) mod wear;
pub(crate) mod worker;

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::medium::Medium;
use crate::report::Row;

const BENCH: &str = "streams";

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Runs, of which medians are taken.
    pub(crate) runs: usize,
    /// Time for each store and number of records a sync.
    pub(crate) store_milliseconds: u64,
    /// Records in the stores that are opened again.
    pub(crate) store_records: u64,
    /// Time for each measurement of what is written.
    pub(crate) wear_seconds: u64,
    /// Payload of the backlog.
    pub(crate) backlog_bytes: u64,
    /// What is measured.
    pub(crate) parts: Vec<Part>,
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Beside sled, redb and SQLite
    Stores,
    /// Bytes written to the device for each payload byte
    Wear,
    /// Open and drain a backlog
    Backlog,
}

impl Default for Settings {
    /// About a quarter of an hour.
    fn default() -> Settings {
        Settings {
            runs: 3,
            store_milliseconds: 3_000,
            store_records: 400_000,
            wear_seconds: 30,
            backlog_bytes: 1_000_000_000,
            parts: vec![Part::Stores, Part::Wear, Part::Backlog],
        }
    }
}

/// The stores beside the log are a cargo feature, because they take a minute to build.
pub(crate) fn need_peers(settings: &Settings) -> Result<()> {
    ensure!(
        !store::Engine::PEERS.is_empty() || !settings.parts.contains(&Part::Stores),
        "this program was built without the other stores: use `cargo xtask bench streams`, \
         build it with --features peers, or choose --parts wear,backlog"
    );
    Ok(())
}

/// What a reader must know to read the figures.
pub(crate) fn notes(settings: &Settings, medium: &Medium) -> Result<Vec<String>> {
    let Settings { runs, wear_seconds, .. } = settings;
    let counted = match wear::probe(&medium.dir)? {
        None => "bytes are counted at the block device of an ext4 on a loop device, journal included, where nothing else writes".to_owned(),
        Some(why) => format!("bytes are what the kernel counts for the process (/proc/PID/io), the file system's journal left out: {why}"),
    };
    let records = store::PAYLOAD_BYTES;
    Ok(vec![
        format!("medians of {runs} runs, a fresh process and store each; {records} B of random payload; MB and GB are decimal"),
        format!("beside the stores: one thread, {} streams in turn, a sync for each batch; ours keeps topic, client and publisher identity too", store::STREAMS),
        "sled 0.34 flushes by sync_file_range, which promises nothing about a power cut; redb has its default durability, SQLite a WAL with synchronous=FULL".to_owned(),
        "forgotten: a reader that has read all and a trim; sled clear; redb retain and compact; SQLite DELETE and VACUUM".to_owned(),
        format!("what is written: the gateway, {wear_seconds} s of an open loop at QoS 1 over TCP; latency counts from when a message was due"),
        "full pipeline: readings as JSON, each tenth an alert by the function, all sent to mosquitto and acknowledged; JSON: readings of a weather station, 128 B".to_owned(),
        counted,
    ])
}

/// Measures.
pub(crate) fn run(settings: &Settings, field: &wear::Field, medium: &Medium) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for part in &settings.parts {
        rows.extend(match part {
            Part::Stores => beside::run(settings, medium)?,
            Part::Wear => wear::run(settings, field, medium)?,
            Part::Backlog => backlog::run(settings, medium)?,
        });
    }
    Ok(rows)
}
