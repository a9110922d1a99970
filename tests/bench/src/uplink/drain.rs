//! A backlog and a sink that comes back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::upstream::{Broker, Counter, Kind, Upstream};
use super::{BENCH, Field, PAYLOAD_BYTES, PUBLISHERS, Settings};
use crate::contender::{Contender, Gateway, Mosquitto, Running};
use crate::leftovers::ScratchDir;
use crate::load::{Generator, Load};
use crate::medium::Medium;
use crate::procfs;
use crate::quantile::median;
use crate::report::Row;

/// Longest filling, and longest draining.
const LIMIT: Duration = Duration::from_secs(180);
const IDLE_LIMIT: Duration = Duration::from_secs(10);
/// Pause between two looks at the gateway.
const LOOK: Duration = Duration::from_millis(10);

/// One drain.
#[derive(Debug, Clone, Copy)]
struct Sample {
    rate: f64,
    cpu_per_100k: f64,
    peak_rss_mb: f64,
}

pub(super) fn run(settings: &Settings, field: &Field, medium: &Medium) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for kind in [Kind::Mosquitto, Kind::JetStream, Kind::PostgreSql] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for run in 1..=settings.runs {
            let sample = ours_to(kind, settings, field, medium)
                .with_context(|| format!("drain to {}", kind.name()))?;
            let (name, rate) = (kind.name(), sample.rate);
            eprintln!("run {run} of {}: drain to {name}: {rate:.0} records/s", settings.runs);
            ours.push(sample);
            if kind == Kind::Mosquitto {
                theirs.push(bridge(settings, field, medium).context("mosquitto's bridge")?);
            }
        }
        rows.extend(compare(kind, field, &ours, &theirs));
    }
    Ok(rows)
}

fn compare(kind: Kind, field: &Field, ours: &[Sample], theirs: &[Sample]) -> Vec<Row> {
    let case = format!("drain to {}", kind.name());
    let peer = format!("{} bridge", field.mosquitto.version);
    let row = |metric, unit, pick: fn(&Sample) -> f64| {
        let row = Row::new(BENCH, &case, metric, unit, median(ours.iter().map(pick)));
        if theirs.is_empty() { row } else { row.beside(&peer, median(theirs.iter().map(pick))) }
    };
    vec![
        row("records_per_second", "records/s", |sample| sample.rate),
        row("cpu_per_100k_records", "CPU s", |sample| sample.cpu_per_100k),
        row("peak_rss", "MB", |sample| sample.peak_rss_mb),
    ]
}

fn load() -> Load {
    Load { publishers: PUBLISHERS, payload_bytes: PAYLOAD_BYTES, ..Load::default() }
}

fn fill(broker: &Running, records: u64) -> Result<()> {
    let mut generator = Generator::connect(broker.address, load())?;
    let phase = generator.drive(records, LIMIT)?;
    let acknowledged = phase.acknowledged;
    ensure!(acknowledged == records, "{acknowledged} of {records} were acknowledged");
    Ok(())
}

fn sample(records: u64, took: Duration, cpu: Duration, pid: u32) -> Result<Sample> {
    Ok(Sample {
        rate: records as f64 / took.as_secs_f64().max(1e-9),
        cpu_per_100k: cpu.as_secs_f64() * 1e5 / records as f64,
        peak_rss_mb: procfs::resident(pid)?.peak as f64 / 1e6,
    })
}

fn ours_to(kind: Kind, settings: &Settings, field: &Field, medium: &Medium) -> Result<Sample> {
    let scratch = ScratchDir::new(&medium.dir)?;
    let mut upstream = Upstream::down(kind, field, medium)?;
    let uplink = Some(upstream.url());
    let gateway = Gateway { uplink, uplink_keys: kind.keys(), ..field.gateway.clone() };
    let gateway = Contender::Tidegate(gateway).start(scratch.path())?;
    let drained = drain(settings.records, field, &mut upstream, &gateway);
    let drained = drained.with_context(|| format!("its log ends with:\n{}", gateway.log_tail()))?;
    if let Some(count) = upstream.count()? {
        let records = settings.records;
        ensure!(count == records, "{count} records there, {records} were published");
    }
    gateway.kill()?;
    Ok(drained)
}

fn drain(
    records: u64,
    field: &Field,
    upstream: &mut Upstream,
    gateway: &Running,
) -> Result<Sample> {
    fill(gateway, records)?;
    let before = procfs::cpu_time_when_idle(gateway.pid(), IDLE_LIMIT)?;
    upstream.start(field)?;
    let took = match upstream {
        Upstream::Mosquitto(broker) => Counter::connect(broker.address)?.wait_for(records)?,
        Upstream::JetStream(_) | Upstream::PostgreSql(..) => watch(gateway)?,
    };
    let after = procfs::cpu_time_when_idle(gateway.pid(), IDLE_LIMIT)?;
    sample(records, took, after.since(&before), gateway.pid())
}

/// From the first acknowledgement of the upstream until nothing waits any more.
fn watch(gateway: &Running) -> Result<Duration> {
    let start = Instant::now();
    let mut first = None;
    loop {
        ensure!(start.elapsed() < LIMIT, "not drained within {LIMIT:?}");
        let status = gateway.status()?;
        let uplink = &status["uplinks"][0];
        let number =
            |key: &str| uplink[key].as_u64().with_context(|| format!("no {key}: {uplink}"));
        if number("acknowledged")? > 0 {
            first.get_or_insert_with(Instant::now);
        }
        if let Some(first) = first.filter(|_| number("backlog").is_ok_and(|left| left == 0)) {
            return Ok(first.elapsed());
        }
        std::thread::sleep(LOOK);
    }
}

fn bridge(settings: &Settings, field: &Field, medium: &Medium) -> Result<Sample> {
    let scratch = ScratchDir::new(&medium.dir)?;
    let mut upstream = Broker::down(medium)?;
    let bridge = Mosquitto { bridge: Some(upstream.address), ..field.mosquitto.clone() };
    let broker = Contender::Mosquitto(bridge).start(scratch.path())?;
    fill(&broker, settings.records)?;
    let before = procfs::cpu_time_when_idle(broker.pid(), IDLE_LIMIT)?;
    upstream.start(field)?;
    let took = Counter::connect(upstream.address)?.wait_for(settings.records)?;
    let after = procfs::cpu_time_when_idle(broker.pid(), IDLE_LIMIT)?;
    let drained = sample(settings.records, took, after.since(&before), broker.pid())?;
    broker.kill()?;
    Ok(drained)
}
