//! The whole way: publish, function, upstream. Beside Node-RED and beside a Python script on
//! paho-mqtt, both behind mosquitto, doing the same work in the same run.
//!
//! The work: a reading of 128 bytes of JSON is parsed, compared with a limit, and for each one an
//! alert of five fields goes to the upstream with QoS 1. Ours is durable at each step, the others
//! keep nothing.

mod arrivals;
mod contestant;
mod through;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::contender::{Gateway, Mosquitto};
use crate::leftovers::ScratchDir;
use crate::medium::Medium;
use crate::procfs;
use crate::quantile::{median, percentile};
use crate::report::{Bar, Row};
use contestant::{Contestant, Way};
use through::{Pace, Through};

const BENCH: &str = "pipeline";
const PAYLOAD_BYTES: usize = 128;
const PUBLISHERS: usize = 10;
const WINDOW: usize = 20;
/// Most messages between a publisher and the upstream's subscriber: nobody may pile up a backlog
/// that the others do not have.
const IN_FLIGHT: u64 = 2_000;
/// Messages a second of the latency's measurement, which all can keep up with.
const PACED_RATE: u32 = 500;
/// Messages before the measurement.
const WARM_UP: u64 = 2_000;
/// What a thread takes for a message at least for it to be shown.
const SHOWN_FROM_US: f64 = 0.05;
/// Longest wait for a process to finish what it put off.
const IDLE_LIMIT: Duration = Duration::from_secs(10);

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Runs, of which medians are taken.
    pub(crate) runs: usize,
    /// Messages of a run, at most.
    pub(crate) messages: u64,
    /// Seconds of a run, at most, and of the latency's measurement.
    pub(crate) seconds: u64,
    /// Ours only is measured: no peer, and no bars.
    pub(crate) alone: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings { runs: 3, messages: 400_000, seconds: 10, alone: false }
    }
}

/// Who is compared.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// Ours, with the threshold as its function.
    pub(crate) gateway: Gateway,
    /// The broker of the others, and the upstream of all.
    pub(crate) mosquitto: Mosquitto,
    /// The directory that npm installed Node-RED into.
    pub(crate) node_red: PathBuf,
    /// A Python with paho-mqtt.
    pub(crate) python: PathBuf,
}

/// What a reader must know to read the figures.
pub(crate) fn notes(settings: &Settings) -> Vec<String> {
    let Settings { runs, messages, seconds, alone: _ } = settings;
    vec![
        format!("medians of {runs} runs, fresh processes each; {PAYLOAD_BYTES} B of JSON, QoS 1, {PUBLISHERS} publishers with a window of {WINDOW}, at most {IN_FLIGHT} messages between publisher and upstream"),
        format!("at full speed: up to {messages} messages or {seconds} s, until the last has arrived; CPU and memory are those of all processes that a side needs, its broker included, the upstream and the generator not"),
        format!("latency: {seconds} s at an even {PACED_RATE} msg/s, an open loop: from when a message is due to its alert's arrival at a subscriber of the upstream"),
        "ours stores and syncs each record, each alert and each cursor; Node-RED and the script behind mosquitto store nothing".to_owned(),
    ]
}

/// One run of one contestant.
#[derive(Debug, Clone)]
struct Sample {
    rate: f64,
    cpu_per_100k: f64,
    per_cpu_second: f64,
    rss_mb: f64,
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
    lost: f64,
    repeated: f64,
    /// Microseconds of processor time for a message, by thread of the broker.
    threads: BTreeMap<String, f64>,
}

/// Measures and compares.
pub(crate) fn run(settings: &Settings, field: &Field, medium: &Medium) -> Result<Vec<Row>> {
    let all = [Way::Tidegate, Way::NodeRed, Way::Script];
    let ways = if settings.alone { &all[..1] } else { &all[..] };
    let mut samples: [Vec<Sample>; 3] = Default::default();
    for run in 1..=settings.runs {
        for (way, samples) in ways.iter().copied().zip(&mut samples) {
            let sample = measure(way, settings, field, medium)
                .with_context(|| format!("{}, run {run}", way.name()))?;
            eprintln!(
                "run {run} of {}: {}: {:.0} msg/s, {:.2} CPU s per 100,000, {:.1} MB, p99 {:.1?} ms",
                settings.runs,
                way.name(),
                sample.rate,
                sample.cpu_per_100k,
                sample.rss_mb,
                sample.p99_ms,
            );
            samples.push(sample);
        }
    }
    let [ours, node_red, script] = &samples;
    let judged = if settings.alone { Judged::No } else { Judged::Yes };
    let mut rows = compare(ours, node_red, Way::NodeRed, judged);
    if !settings.alone {
        rows.extend(compare(ours, script, Way::Script, Judged::No));
    }
    rows.extend(by_thread(ours));
    Ok(rows)
}

/// What a message costs in each thread of ours that has something to do with messages.
fn by_thread(ours: &[Sample]) -> Vec<Row> {
    let names: BTreeSet<&String> = ours.iter().flat_map(|sample| sample.threads.keys()).collect();
    let mut rows = Vec::new();
    for name in names {
        let times = ours.iter().map(|sample| sample.threads.get(name).copied().unwrap_or(0.0));
        let time = median(times);
        if time.is_some_and(|time| time >= SHOWN_FROM_US) {
            let case = format!("publish to upstream, thread {name}");
            rows.push(Row::new(BENCH, &case, "cpu_per_message", "us", time));
            eprintln!("thread {name}: {:.2} us a message", time.unwrap_or_default());
        }
    }
    rows
}

/// Whether a peer's figures are bars.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judged {
    Yes,
    No,
}

fn compare(ours: &[Sample], theirs: &[Sample], way: Way, judged: Judged) -> Vec<Row> {
    let case = format!("publish to upstream, beside {}", way.name());
    let row = |metric, unit, figure: fn(&Sample) -> Option<f64>, bar: Option<Bar>| {
        let of = |samples: &[Sample]| median(samples.iter().filter_map(figure));
        let bar = bar.filter(|_| judged == Judged::Yes);
        Row::new(BENCH, &case, metric, unit, of(ours)).beside(way.name(), of(theirs)).with_bar(bar)
    };
    vec![
        row("messages_per_second", "msg/s", |one| Some(one.rate), None),
        row(
            "messages_per_cpu_second",
            "msg",
            |one| Some(one.per_cpu_second),
            Some(Bar::TimesPeer(10.0)),
        ),
        row("cpu_per_100k_messages", "s", |one| Some(one.cpu_per_100k), None),
        row("peak_rss", "MB", |one| Some(one.rss_mb), Some(Bar::ShareOfPeer(0.2))),
        row("latency_p50", "ms", |one| one.p50_ms, None),
        row("latency_p99", "ms", |one| one.p99_ms, None),
        row("lost", "messages", |one| Some(one.lost), Some(Bar::UpTo(0.0))),
        row("repeated", "messages", |one| Some(one.repeated), None),
    ]
}

fn measure(way: Way, settings: &Settings, field: &Field, medium: &Medium) -> Result<Sample> {
    let scratch = ScratchDir::new(&medium.dir)?;
    let contestant = Contestant::start(way, field, medium, scratch.path())?;
    let (broker, upstream) = (contestant.broker(), contestant.upstream());
    let mut through = Through::connect(broker, upstream)?;
    through.wait_until_open()?;
    through.drive(WARM_UP, Duration::from_secs(30), Pace::Window)?;
    let before = contestant.cpu(Duration::ZERO)?;
    let threads_before = contestant.cpu_by_thread();
    let limit = Duration::from_secs(settings.seconds);
    let full = through.drive(settings.messages, limit, Pace::Window)?;
    let cpu = contestant.cpu_since(&before, IDLE_LIMIT)?;
    let arrived = full.arrived as f64;
    let threads = contestant.cpu_by_thread().into_iter().map(|(name, time)| {
        let before = threads_before.get(&name).copied().unwrap_or_default();
        (name, time.saturating_sub(before).as_secs_f64() * 1e6 / arrived)
    });
    let threads = threads.collect();
    let rss_mb = contestant.peak_rss()? as f64 / 1e6;
    let paced = u64::from(PACED_RATE) * settings.seconds;
    let even = through.drive(paced, limit * 3, Pace::Even(PACED_RATE))?;
    contestant.kill()?;
    let at = |percent| percentile(&even.latencies, percent).map(|us: u32| f64::from(us) / 1e3);
    Ok(Sample {
        rate: arrived / full.elapsed.as_secs_f64(),
        cpu_per_100k: cpu.as_secs_f64() * 1e5 / arrived,
        per_cpu_second: arrived / cpu.as_secs_f64(),
        rss_mb,
        p50_ms: at(50.0),
        p99_ms: at(99.0),
        lost: (full.lost + even.lost) as f64,
        repeated: (full.repeated + even.repeated) as f64,
        threads,
    })
}

/// Processor time of several processes.
#[derive(Debug)]
struct Cpu(Vec<procfs::CpuTime>);
