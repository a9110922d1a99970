//! What a gateway takes when it has nothing to do: memory, time to start, bytes on disk.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::contender::{Contender, Gateway, Mosquitto, Running, free_port};
use crate::directory::{bytes_below, drop_from_page_cache};
use crate::elf;
use crate::leftovers::ScratchDir;
use crate::load::{Generator, Load};
use crate::medium::Medium;
use crate::packet::Qos;
use crate::procfs;
use crate::quantile::median;
use crate::report::{Bar, Row};

const BENCH: &str = "footprint";
const MAX_IDLE_MB: f64 = 10.0;
const MAX_START_MS: f64 = 300.0;
const MAX_BINARY_MB: f64 = 8.0;

/// Memory has settled when it has stayed within this many bytes for this long.
const SETTLED_WITHIN: u64 = 64 * 1024;
const SETTLED_FOR: Duration = Duration::from_secs(2);
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// Longest time to fill the store.
const FILL_LIMIT: Duration = Duration::from_secs(540);
/// Acknowledged messages in the log's open end before a SIGKILL.
const UNCLEAN_TAIL: u64 = 1_000;

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Runs, of which medians are taken.
    pub(crate) runs: usize,
    /// Payload bytes in the store before it is started again.
    pub(crate) backlog_bytes: u64,
    /// Payload bytes of a record of it.
    pub(crate) record_bytes: usize,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { runs: 3, backlog_bytes: 1_000_000_000, record_bytes: 1_024 }
    }
}

/// What a reader must know to read the figures.
pub(crate) fn notes(settings: &Settings) -> Vec<String> {
    let Settings { runs, backlog_bytes, record_bytes } = settings;
    vec![
        format!("medians of {runs} runs, a fresh process each; MB and GB are decimal"),
        "idle: one function loaded and called, an uplink to a closed port, resident memory unchanged for 2 s; mosquitto with nothing connected".to_owned(),
        format!("backlog: {backlog_bytes} bytes of payload in records of {record_bytes} bytes, acknowledged at QoS 1, none of it sent upstream"),
        "start: from exec to the first CONNACK; cold: the store's pages dropped from the page cache before".to_owned(),
    ]
}

/// Measures.
pub(crate) fn run(
    settings: &Settings,
    gateway: Gateway,
    peer: Mosquitto,
    medium: &Medium,
) -> Result<Vec<Row>> {
    let mut rows = vec![binary_row(&gateway.program)?];
    // Nobody listens there: bound once and let go.
    let uplink = Some(format!("mqtt://127.0.0.1:{}", free_port()?));
    let ours = Contender::Tidegate(Gateway { uplink, ..gateway });
    rows.extend(idle_rows(settings, &ours, &Contender::Mosquitto(peer), medium)?);
    rows.extend(backlog_rows(settings, &ours, medium)?);
    Ok(rows)
}

fn binary_row(program: &Path) -> Result<Row> {
    let bytes = std::fs::read(program)
        .with_context(|| format!("cannot read --gateway {}", program.display()))?;
    let profile = program.canonicalize().ok().and_then(|path| {
        path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned())
    });
    let symbols = match elf::has_symbols(&bytes) {
        Some(true) => "not stripped",
        Some(false) => "stripped",
        None => "not a 64-bit ELF file",
    };
    let case = format!("binary, profile {}, {symbols}", profile.as_deref().unwrap_or("unknown"));
    let bar = Some(Bar::UpTo(MAX_BINARY_MB));
    Ok(Row::new(BENCH, &case, "size", "MB", Some(mega(bytes.len() as u64))).with_bar(bar))
}

#[derive(Debug)]
struct Idle {
    rss_mb: f64,
    start_ms: f64,
}

fn idle_rows(
    settings: &Settings,
    ours: &Contender,
    peer: &Contender,
    medium: &Medium,
) -> Result<Vec<Row>> {
    let (mut our_runs, mut their_runs) = (vec![], vec![]);
    for run in 1..=settings.runs {
        for (contender, runs) in [(peer, &mut their_runs), (ours, &mut our_runs)] {
            let scratch = ScratchDir::new(&medium.dir)?;
            let broker = contender.start(scratch.path())?;
            let idle = Idle { rss_mb: idle_rss(&broker)?, start_ms: millis(broker.ready_after) };
            broker.stop()?;
            eprintln!("run {run} of {}: {}: {idle:?}", settings.runs, contender.label());
            runs.push(idle);
        }
    }
    let row = |metric, unit, bar, pick: fn(&Idle) -> f64| {
        Row::new(BENCH, "idle, empty store", metric, unit, median(our_runs.iter().map(pick)))
            .beside(peer.label(), median(their_runs.iter().map(pick)))
            .with_bar(Some(bar))
    };
    Ok(vec![
        row("idle_rss", "MB", Bar::UpTo(MAX_IDLE_MB), |idle| idle.rss_mb),
        row("start_to_connack", "ms", Bar::UpTo(MAX_START_MS), |idle| idle.start_ms),
    ])
}

/// Has the function called, when there is one, and waits until memory no longer moves.
fn idle_rss(broker: &Running) -> Result<f64> {
    for reading in 0..20 {
        let payload = format!("{{\"value\":{}}}", 20 + reading);
        broker.publish("sensors/idle/telemetry", payload.as_bytes())?;
    }
    settled_rss(broker.pid()).map(mega)
}

fn settled_rss(pid: u32) -> Result<u64> {
    let start = Instant::now();
    let mut rss = procfs::resident(pid)?.now;
    let mut since = start;
    while since.elapsed() < SETTLED_FOR {
        ensure!(
            start.elapsed() < SETTLE_LIMIT,
            "memory of process {pid} still moves after {SETTLE_LIMIT:?} at {rss} bytes: \
             it is not idle"
        );
        std::thread::sleep(SAMPLE_EVERY);
        let now = procfs::resident(pid)?.now;
        if now.abs_diff(rss) > SETTLED_WITHIN {
            (rss, since) = (now, Instant::now());
        }
    }
    Ok(procfs::resident(pid)?.now)
}

fn backlog_rows(settings: &Settings, ours: &Contender, medium: &Medium) -> Result<Vec<Row>> {
    let scratch = ScratchDir::new(&medium.dir)?;
    let dir = scratch.path();
    let case = format!("backlog of {} GB", settings.backlog_bytes as f64 / 1e9);
    let broker = ours.start(dir)?;
    let fill = fill(&broker, settings)
        .with_context(|| format!("filling the store; its log ends with:\n{}", broker.log_tail()))?;
    eprintln!("{case}: filled at {fill:.0} msg/s");
    let stop = broker.stop().context("stopping with a full backlog")?;
    let on_disk = bytes_below(&dir.join("data"))?;
    ensure!(
        on_disk >= settings.backlog_bytes,
        "the store holds {on_disk} bytes after {} bytes were acknowledged: records were dropped",
        settings.backlog_bytes
    );
    let rss = {
        let broker = ours.start(dir)?;
        let rss = settled_rss(broker.pid()).map(mega)?;
        broker.stop()?;
        rss
    };
    let (mut clean, mut killed, mut cold) = (vec![], vec![], vec![]);
    for run in 1..=settings.runs {
        clean.push(start_time(ours, dir)?);
        leave_unclean(ours, dir)?;
        killed.push(start_time(ours, dir)?);
        drop_from_page_cache(&dir.join("data"))?;
        cold.push(start_time(ours, dir)?);
        let last = [&clean, &killed, &cold].map(|times| times.last().copied().unwrap_or_default());
        eprintln!(
            "run {run} of {}: start after SIGTERM, SIGKILL, cold: {last:.1?} ms",
            settings.runs
        );
    }
    let row = |metric, unit, value| Row::new(BENCH, &case, metric, unit, value);
    let start = |metric, times: Vec<f64>| {
        row(metric, "ms", median(times)).with_bar(Some(Bar::UpTo(MAX_START_MS)))
    };
    Ok(vec![
        start("start_to_connack", clean),
        start("start_to_connack_after_sigkill", killed),
        start("start_to_connack_cold_cache", cold),
        row("idle_rss_with_backlog", "MB", Some(rss)),
        row("store_on_disk", "MB", Some(mega(on_disk))),
        row("fill_rate", "msg/s", Some(fill)),
        row("clean_stop", "ms", Some(millis(stop))),
    ])
}

/// Acknowledged messages a second.
fn fill(broker: &Running, settings: &Settings) -> Result<f64> {
    let mut generator = Generator::connect(broker.address, fill_load(settings.record_bytes))?;
    let messages = settings.backlog_bytes.div_ceil(settings.record_bytes as u64);
    let phase = generator.drive(messages, FILL_LIMIT)?;
    ensure!(
        phase.acknowledged == messages,
        "of {messages} messages {} were published and {} acknowledged in {:?}",
        phase.published,
        phase.acknowledged,
        phase.elapsed
    );
    Ok(messages as f64 / phase.elapsed.as_secs_f64())
}

fn fill_load(record_bytes: usize) -> Load {
    Load {
        qos: Qos::One,
        publishers: 10,
        window: 100,
        in_flight: 0,
        payload_bytes: record_bytes,
        subscribers: 0,
        ..Load::default()
    }
}

/// Starts, stops cleanly, and says how long the start took, in milliseconds.
fn start_time(ours: &Contender, dir: &Path) -> Result<f64> {
    let broker = ours.start(dir)?;
    let time = broker.ready_after;
    broker.stop()?;
    Ok(millis(time))
}

/// Kills a process that has just acknowledged messages.
fn leave_unclean(ours: &Contender, dir: &Path) -> Result<()> {
    let broker = ours.start(dir)?;
    let phase = Generator::connect(broker.address, fill_load(128))?
        .drive(UNCLEAN_TAIL, Duration::from_secs(10))?;
    ensure!(phase.acknowledged > 0, "nothing was acknowledged before the SIGKILL");
    broker.kill()
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_row_names_profile_and_size() {
        let row = binary_row(&std::env::current_exe().unwrap()).unwrap();
        let row = serde_json::to_value(row).unwrap();
        assert!(row["case"].as_str().unwrap().starts_with("binary, profile deps"), "{row}");
        assert!(row["ours"].as_f64().unwrap() > 0.1, "{row}");
        assert_eq!(row["bar"], "at most 8 MB");
    }
}
