//! The way up: how fast a backlog drains into each kind of sink, and how long a record takes from
//! its publish to the upstream's subscriber, beside mosquitto's own bridge in the same run.
//!
//! Ours reads the backlog from the disk, durable on both ends of the way; the bridge's queue is
//! in memory.

mod drain;
mod latency;
mod upstream;

use std::path::PathBuf;

use anyhow::Result;

use crate::contender::{Gateway, Mosquitto};
use crate::medium::Medium;
use crate::report::Row;

const BENCH: &str = "uplink";
const PAYLOAD_BYTES: usize = 128;
const PUBLISHERS: usize = 10;

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Runs, of which medians are taken.
    pub(crate) runs: usize,
    /// Records of a backlog.
    pub(crate) records: u64,
    /// Seconds at each rate.
    pub(crate) seconds: u64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { runs: 3, records: 200_000, seconds: 10 }
    }
}

/// Who is compared, and with what.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// Ours.
    pub(crate) gateway: Gateway,
    /// The peer, and the upstream of both.
    pub(crate) mosquitto: Mosquitto,
    /// The reference server of the HTTPS sink.
    pub(crate) sink: PathBuf,
}

/// What a reader must know to read the figures.
pub(crate) fn notes(settings: &Settings) -> Vec<String> {
    let Settings { runs, records, seconds } = settings;
    vec![
        format!("medians of {runs} runs, a fresh process each; {PAYLOAD_BYTES} B payload, {PUBLISHERS} publishers at QoS 1"),
        format!("drain: {records} records are published while the upstream is down; then it starts. From the first record there to the last; CPU is the gateway's, what it takes to notice included"),
        "the peer is mosquitto's bridge with max_inflight_messages 100, its queue in memory; ours has window 100 with MQTT and 1000 elsewhere, batches of 500 over HTTPS".to_owned(),
        format!("latency: {seconds} s at an even rate, an open loop: from when a message is due to its arrival at a subscriber of the upstream mosquitto"),
        "JetStream writes to files, PostgreSQL syncs each batch; both, the upstream mosquitto and the generator share the two cores with the gateway".to_owned(),
    ]
}

/// Measures and compares.
pub(crate) fn run(settings: &Settings, field: &Field, medium: &Medium) -> Result<Vec<Row>> {
    let mut rows = drain::run(settings, field, medium)?;
    rows.extend(latency::run(settings, field, medium)?);
    Ok(rows)
}
