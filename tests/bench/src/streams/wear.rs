//! What a gateway writes to its flash, counted where it arrives: at the block device of a file
//! system of its own. Where there is no such device (that takes root), the kernel's count of what
//! the process has written stands in, which leaves out the file system's journal.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidegate_volume::Volume;

use super::{BENCH, Settings};
use crate::contender::{Contender, DATA, FunctionReads, Gateway, Keeping, Mosquitto, Running};
use crate::leftovers::ScratchDir;
use crate::load::{Arrivals, Generator, Load, Pace, Phase};
use crate::medium::Medium;
use crate::procfs;
use crate::quantile::{median, percentile};
use crate::report::{Bar, Row};
use crate::template::Filling;

const MAX_BYTES_PER_PAYLOAD_BYTE: f64 = 1.5;
const PAYLOAD_BYTES: usize = 128;
/// Messages a second of all publishers together.
const BUSY: u32 = 10_000;
const SLOW: u32 = 10;
/// Publishers of that load: as many sensors, or sensors behind so many forwarders.
const FEW: usize = 16;
const MANY: usize = 100;
/// How long a slow gateway may wait for messages to share a sync; `None` are the defaults, where
/// each message gets a sync of its own.
const ACK_DELAYS: [Option<Duration>; 4] = [
    None,
    Some(Duration::from_millis(200)),
    Some(Duration::from_secs(1)),
    Some(Duration::from_secs(5)),
];
/// Payload written before a measurement on recycled segments: more than is measured.
const FIRST_FILL_BYTES: u64 = 80 << 20;
const FIRST_FILL_LIMIT: Duration = Duration::from_secs(60);
/// Quota of a stream whose segments are used again: it was reached in the first fill, and the
/// oldest records go from then on.
const RECYCLED: &str = "32MiB";
/// Time for the first of them to be given back.
const RECYCLING: Duration = Duration::from_secs(4);
/// Room for the first fill, and for all segments that are kept to be used again.
const VOLUME_BYTES: u64 = 512 << 20;
/// Longest wait for the segments that are prepared ahead.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// They are, when less than this is written in so long.
const IDLE: Duration = Duration::from_secs(1);
const IDLE_BYTES: u64 = 64 << 10;
/// Longest wait for the pipeline to catch up.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// One row's circumstances.
#[derive(Debug, Clone, Copy)]
struct Case {
    name: &'static str,
    publishers: usize,
    pace: Pace,
    segments: Segments,
    pipeline: bool,
    payload: Filling,
    compression: &'static str,
    ack_delay: Option<Duration>,
    bar: Option<Bar>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segments {
    /// Each is written with zeros before it is used.
    Fresh,
    /// They are used again.
    Recycled,
}

#[derive(Debug, Clone)]
struct Sample {
    bytes_per_payload_byte: f64,
    /// Of those, what the log itself has written to its files.
    log_bytes_per_payload_byte: f64,
    /// Messages that shared a sync, on average.
    messages_per_sync: f64,
    bytes_per_day: f64,
    ack_p50_ms: Option<f64>,
    ack_p99_ms: Option<f64>,
    /// Messages that were not acknowledged at the end.
    unacknowledged: u64,
    cores: f64,
}

/// Who takes part.
pub(crate) struct Field {
    /// The gateway, with a function.
    pub(crate) gateway: Gateway,
    /// The upstream of the full pipeline.
    pub(crate) upstream: Mosquitto,
}

fn cases() -> Vec<Case> {
    let bar = Some(Bar::UpTo(MAX_BYTES_PER_PAYLOAD_BYTE));
    let even = Pace { per_second: BUSY, arrivals: Arrivals::Even };
    let random = Pace { per_second: BUSY, arrivals: Arrivals::Random };
    let ingest = Case {
        name: "10,000 msg/s, ingest only, recycled segments",
        publishers: FEW,
        pace: even,
        segments: Segments::Recycled,
        pipeline: false,
        payload: Filling::Random,
        compression: "none",
        ack_delay: None,
        bar,
    };
    vec![
        ingest,
        Case {
            name: "10,000 msg/s, ingest only, recycled segments, random arrivals",
            pace: random,
            ..ingest
        },
        Case {
            name: "10,000 msg/s, ingest only, recycled segments, 100 publishers",
            publishers: MANY,
            ..ingest
        },
        Case {
            name: "10,000 msg/s, ingest only, first fill",
            segments: Segments::Fresh,
            bar: None,
            ..ingest
        },
        Case {
            name: "10,000 msg/s, full pipeline: function and uplink, recycled segments",
            pipeline: true,
            payload: Filling::Reading,
            bar: None,
            ..ingest
        },
        Case {
            name: "10,000 msg/s of JSON, ingest only, recycled segments, not compressed",
            payload: Filling::Weather,
            bar: None,
            ..ingest
        },
        Case {
            name: "10,000 msg/s of JSON, ingest only, recycled segments, lz4",
            payload: Filling::Weather,
            compression: "lz4",
            bar: None,
            ..ingest
        },
    ]
}

fn slow_cases() -> [Case; ACK_DELAYS.len()] {
    ACK_DELAYS.map(|ack_delay| Case {
        name: match ack_delay {
            None => "10 msg/s, default delays",
            Some(delay) if delay < Duration::from_secs(1) => "10 msg/s, max_ack_delay 200 ms",
            Some(delay) if delay < Duration::from_secs(5) => "10 msg/s, max_ack_delay 1 s",
            Some(_) => "10 msg/s, max_ack_delay 5 s",
        },
        publishers: FEW,
        pace: Pace { per_second: SLOW, arrivals: Arrivals::Even },
        segments: Segments::Fresh,
        pipeline: false,
        payload: Filling::Random,
        compression: "none",
        ack_delay,
        bar: None,
    })
}

/// Rows of this benchmark.
pub(crate) fn run(settings: &Settings, field: &Field, medium: &Medium) -> Result<Vec<Row>> {
    let busy = cases();
    let slow = slow_cases();
    let mut samples: Vec<Vec<Sample>> = vec![vec![]; busy.len() + slow.len()];
    for run in 1..=settings.runs {
        for (index, case) in busy.iter().enumerate() {
            let sample = case.measure(settings, field, medium);
            let sample = sample.with_context(|| case.name)?;
            eprintln!("run {run} of {}: {}: {sample:?}", settings.runs, case.name);
            samples[index].push(sample);
        }
        // Ten messages a second leave room for each other.
        let together = std::thread::scope(|scope| {
            let measure = |case| scope.spawn(move || Case::measure(case, settings, field, medium));
            let running: Vec<_> = slow.iter().map(measure).collect();
            running.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        for (index, (case, sample)) in slow.iter().zip(together).enumerate() {
            let sample = sample.map_err(|_| anyhow::anyhow!("{}: panicked", case.name))?;
            let sample = sample.with_context(|| case.name)?;
            eprintln!("run {run} of {}: {}: {sample:?}", settings.runs, case.name);
            samples[busy.len() + index].push(sample);
        }
    }
    Ok(busy.iter().chain(&slow).zip(&samples).flat_map(|(case, of)| case.rows(of)).collect())
}

impl Case {
    fn rows(&self, samples: &[Sample]) -> Vec<Row> {
        let row = |metric, unit, pick: &dyn Fn(&Sample) -> Option<f64>| {
            Row::new(BENCH, self.name, metric, unit, median(samples.iter().filter_map(pick)))
        };
        let bytes =
            row("device_bytes_per_payload_byte", "bytes", &|s| Some(s.bytes_per_payload_byte));
        let missing = row("unacknowledged", "messages", &|s| Some(s.unacknowledged as f64));
        vec![
            bytes.with_bar(self.bar),
            row("log_bytes_per_payload_byte", "bytes", &|s| Some(s.log_bytes_per_payload_byte)),
            row("messages_per_sync", "messages", &|s| Some(s.messages_per_sync)),
            row("ack_p50", "ms", &|s| s.ack_p50_ms),
            row("ack_p99", "ms", &|s| s.ack_p99_ms),
            row("device_bytes_per_day", "GB", &|s| Some(s.bytes_per_day / 1e9)),
            row("cpu", "share of a core", &|s| Some(s.cores)),
            missing.with_bar(Some(Bar::UpTo(0.0))),
        ]
    }

    fn measure(&self, settings: &Settings, field: &Field, medium: &Medium) -> Result<Sample> {
        let scratch = ScratchDir::new(&medium.dir)?;
        let upstream_dir = ScratchDir::new(&medium.dir)?;
        let volume =
            Volume::new(&scratch.path().join("image"), VOLUME_BYTES, &scratch.path().join(DATA))
                .ok();
        let upstream = Contender::Mosquitto(field.upstream.clone());
        let upstream =
            if self.pipeline { Some(upstream.start(upstream_dir.path())?) } else { None };
        let url = upstream.as_ref().map(|broker| format!("mqtt://{}", broker.address));
        let gateway = self.contender(field, url).start(scratch.path())?;
        let sample = self
            .measure_running(settings, &gateway, volume.as_ref())
            .with_context(|| format!("the gateway's log ends with:\n{}", gateway.log_tail()));
        gateway.kill()?;
        if let Some(upstream) = upstream {
            upstream.kill()?;
        }
        if let Some(mut volume) = volume {
            volume.unmount()?;
        }
        sample
    }

    fn contender(&self, field: &Field, uplink: Option<String>) -> Contender {
        let (max_bytes, retain) = match self.segments {
            Segments::Fresh => ("4GiB", "24h"),
            Segments::Recycled => (RECYCLED, "0s"),
        };
        let (function, function_reads) = match self.pipeline {
            true => (field.gateway.function.clone(), FunctionReads::TheLoad),
            false => (None, FunctionReads::Another),
        };
        let (ack_delay, compression) = (self.ack_delay, self.compression);
        let keeping = Keeping {
            max_bytes,
            retain,
            ack_delay,
            compression,
            function_reads,
            ..Keeping::default()
        };
        Contender::Tidegate(Gateway { function, uplink, keeping, ..field.gateway.clone() })
    }

    fn load(&self) -> Load {
        Load {
            publishers: self.publishers,
            payload_bytes: PAYLOAD_BYTES,
            filling: self.payload,
            pace: Some(self.pace),
            ..Load::default()
        }
    }

    fn measure_running(
        &self,
        settings: &Settings,
        gateway: &Running,
        volume: Option<&Volume>,
    ) -> Result<Sample> {
        if self.segments == Segments::Recycled {
            let load = Load { pace: None, window: 100, ..self.load() };
            let messages = FIRST_FILL_BYTES / PAYLOAD_BYTES as u64;
            Generator::connect(gateway.address, load)?.drive(messages, FIRST_FILL_LIMIT)?;
            self.wait_for_the_pipeline(gateway)?;
            std::thread::sleep(RECYCLING);
        }
        wait_until_prepared(gateway, volume)?;
        let mut generator = Generator::connect(gateway.address, self.load())?;
        let (before, cpu) = (written(gateway, volume)?, procfs::cpu_time(gateway.pid())?);
        let log = LogCount::of(gateway)?;
        let messages = u64::from(self.pace.per_second) * settings.wear_seconds;
        let limit = Duration::from_secs(2 * settings.wear_seconds);
        let phase = generator.drive(messages, limit)?;
        self.wait_for_the_pipeline(gateway)?;
        let cpu = procfs::cpu_time(gateway.pid())?.since(&cpu);
        let log = LogCount::of(gateway)?.since(log);
        let bytes = written(gateway, volume)? - before;
        Ok(Sample::new(&phase, bytes, log, cpu))
    }

    /// Until every record has passed the function and the uplink.
    fn wait_for_the_pipeline(&self, gateway: &Running) -> Result<()> {
        if !self.pipeline {
            return Ok(());
        }
        let deadline = Instant::now() + DRAIN_LIMIT;
        loop {
            let status = gateway.status()?;
            let number = |pointer| status.pointer(pointer).and_then(serde_json::Value::as_u64);
            let left = [number("/uplinks/0/backlog"), number("/functions/0/lag")];
            if left == [Some(0); 2] {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the pipeline does not catch up: {left:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Until the gateway writes nothing more by itself: it has the segments that it keeps in reserve.
fn wait_until_prepared(gateway: &Running, volume: Option<&Volume>) -> Result<()> {
    let deadline = Instant::now() + IDLE_LIMIT;
    let mut before = written(gateway, volume)?;
    loop {
        std::thread::sleep(IDLE);
        let now = written(gateway, volume)?;
        if now - before < IDLE_BYTES {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the gateway does not come to rest");
        before = now;
    }
}

/// Bytes written so far, by the best count that there is.
fn written(gateway: &Running, volume: Option<&Volume>) -> Result<u64> {
    match volume {
        Some(volume) => volume.written_bytes(),
        None => procfs::written_bytes(gateway.pid()),
    }
}

/// What the log says of itself.
#[derive(Debug, Clone, Copy)]
struct LogCount {
    bytes: u64,
    groups: u64,
}

impl LogCount {
    fn of(gateway: &Running) -> Result<LogCount> {
        let status = gateway.status()?;
        let number = |pointer| {
            let number = status.pointer(pointer).and_then(serde_json::Value::as_u64);
            number.with_context(|| format!("no {pointer} in the status: {status}"))
        };
        Ok(LogCount { bytes: number("/disk/bytes_written")?, groups: number("/disk/groups")? })
    }

    fn since(self, before: LogCount) -> LogCount {
        LogCount { bytes: self.bytes - before.bytes, groups: self.groups - before.groups }
    }
}

impl Sample {
    fn new(phase: &Phase, bytes: u64, log: LogCount, cpu: Duration) -> Sample {
        let ms = |percent| percentile(&phase.latencies, percent).map(|us| f64::from(us) / 1e3);
        let seconds = phase.elapsed.as_secs_f64();
        let payload = (phase.published * PAYLOAD_BYTES as u64) as f64;
        Sample {
            bytes_per_payload_byte: bytes as f64 / payload,
            log_bytes_per_payload_byte: log.bytes as f64 / payload,
            messages_per_sync: phase.published as f64 / log.groups.max(1) as f64,
            bytes_per_day: bytes as f64 / seconds * 86_400.0,
            ack_p50_ms: ms(50.0),
            ack_p99_ms: ms(99.0),
            unacknowledged: phase.published - phase.acknowledged,
            cores: cpu.as_secs_f64() / seconds,
        }
    }
}

/// Why bytes are not counted at a device, if they are not.
pub(crate) fn probe(dir: &Path) -> Result<Option<String>> {
    let scratch = ScratchDir::new(dir)?;
    let volume = Volume::new(&scratch.path().join("image"), 16 << 20, &scratch.path().join(DATA));
    Ok(volume.err().map(|why| why.to_string()))
}
