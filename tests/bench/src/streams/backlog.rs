//! A backlog of a gigabyte: what it costs to open it, how fast it drains while more is written,
//! how much memory that takes, and what is given back of the disk at the end.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use tidegate_stream::{
    AppendError, Overflow, Position, ReadLimit, ReadOutcome, ReaderId, RecordRef, Seq,
    StreamConfig, StreamId, WallClock,
};

use super::engine::Threaded;
use super::store::PAYLOAD_BYTES;
use super::worker::{Opened, work};
use super::{BENCH, Settings};
use crate::directory::{allocated_below, drop_from_page_cache};
use crate::leftovers::ScratchDir;
use crate::medium::Medium;
use crate::procfs;
use crate::quantile::{median, percentile};
use crate::random::Random;
use crate::report::{Bar, Row};

const MAX_OPEN_MS: f64 = 300.0;
const MAX_RSS_MB: f64 = 20.0;
const MIN_DRAIN: f64 = 200_000.0;
/// Share of the store that the file system has to have again after the trim.
const MIN_GIVEN_BACK: f64 = 0.8;
/// Who writes while the backlog drains.
const WRITER_PER_SECOND: u32 = 10_000;
/// As the uplink of a gateway reads.
const READ: ReadLimit = ReadLimit { records: 1_000, bytes: 256 << 10 };
/// Devices that records come from, in turn.
const DEVICES: u64 = 100;
/// The daemon trims once a second.
const TRIM_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for segments to be given back.
const TRIM_LIMIT: Duration = Duration::from_secs(30);
const STREAM: StreamConfig = StreamConfig {
    max_bytes: 8 << 30,
    overflow: Overflow::Reject,
    retain: Duration::ZERO,
    max_records: None,
    max_age: None,
    compression: tidegate_stream::Compression::None,
};

/// What a drain gives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Drained {
    /// Seconds until the store was open.
    open_seconds: f64,
    /// Resident memory then, in bytes.
    open_rss: u64,
    /// Records of the backlog.
    records: u64,
    /// Seconds until the last of them was read.
    seconds: f64,
    /// Most resident memory until then, in bytes.
    peak_rss: u64,
    /// Records that were written meanwhile.
    written: u64,
    /// From when one of them was due until it was durable, p99, in milliseconds.
    ack_p99_ms: Option<f64>,
    /// Bytes of the disk that the store takes after the last trim.
    kept_bytes: u64,
}

/// Rows of this benchmark.
pub(crate) fn run(settings: &Settings, medium: &Medium) -> Result<Vec<Row>> {
    let mut cold = Vec::new();
    let (mut drains, mut filled) = (Vec::new(), Vec::new());
    for run in 1..=settings.runs {
        let scratch = ScratchDir::new(&medium.dir)?;
        let dir = scratch.path().join("store");
        let bytes = settings.backlog_bytes.to_string();
        let ((), worker) = work(&dir, &["fill", "--payload-bytes", &bytes])?;
        worker.kill()?;
        filled.push(allocated_below(&dir)? as f64);
        drop_from_page_cache(&dir)?;
        let (opened, worker): (Opened, _) = work(&dir, &["open", "--engine", "tidegate"])?;
        worker.kill()?;
        cold.push(opened.seconds * 1e3);
        let (drained, worker): (Drained, _) = work(&dir, &["drain"])?;
        worker.kill()?;
        eprintln!("run {run} of {}: backlog: {drained:?}", settings.runs);
        drains.push(drained);
    }
    Ok(rows(settings, &cold, &filled, &drains))
}

fn rows(settings: &Settings, cold: &[f64], filled: &[f64], drains: &[Drained]) -> Vec<Row> {
    let case = format!(
        "backlog of {} MB of payload, drained to nothing",
        settings.backlog_bytes / 1_000_000
    );
    let row = |metric, unit, bar, pick: &dyn Fn(&Drained) -> Option<f64>| {
        let value = median(drains.iter().filter_map(pick));
        Row::new(BENCH, &case, metric, unit, value).with_bar(bar)
    };
    let store = median(filled.iter().copied());
    let given_back = |drained: &Drained| Some(1.0 - drained.kept_bytes as f64 / store?);
    let rss = Some(Bar::UpTo(MAX_RSS_MB));
    vec![
        row("open_after_sigkill", "ms", Some(Bar::UpTo(MAX_OPEN_MS)), &|d| {
            Some(d.open_seconds * 1e3)
        }),
        Row::new(BENCH, &case, "open_after_sigkill_cold_cache", "ms", median(cold.iter().copied()))
            .with_bar(Some(Bar::UpTo(MAX_OPEN_MS))),
        row("rss_after_open", "MB", rss, &|d| Some(d.open_rss as f64 / 1e6)),
        row("drain_rate", "records/s", Some(Bar::From(MIN_DRAIN)), &|d| {
            Some(d.records as f64 / d.seconds)
        }),
        row("peak_rss_while_draining", "MB", rss, &|d| Some(d.peak_rss as f64 / 1e6)),
        row("written_meanwhile", "records/s", None, &|d| Some(d.written as f64 / d.seconds)),
        row("ack_p99_meanwhile", "ms", None, &|d| d.ack_p99_ms),
        Row::new(BENCH, &case, "store_on_disk", "MB", store.map(|bytes| bytes / 1e6)),
        row("store_on_disk_after_trim", "MB", None, &|d| Some(d.kept_bytes as f64 / 1e6)),
        row("given_back", "share of the store", Some(Bar::From(MIN_GIVEN_BACK)), &given_back),
    ]
}

/// A log with one stream and one reader.
pub(crate) struct Backlog {
    engine: Threaded,
    stream: StreamId,
    reader: ReaderId,
    devices: Vec<(String, String)>,
    random: Random,
    written: u64,
    payload: [u8; PAYLOAD_BYTES],
}

impl Backlog {
    fn open(dir: &Path) -> Result<Backlog> {
        let mut engine = Threaded::open(dir)?;
        let stream = engine.log.stream("telemetry", STREAM)?;
        let reader = engine.log.reader(stream, "sink")?;
        let device = |n| (format!("sensors/dev-{n:03}/telemetry"), format!("dev-{n:03}"));
        let devices = (0..DEVICES).map(device).collect();
        let (random, payload) = (Random::new(3), [0; PAYLOAD_BYTES]);
        Ok(Backlog { engine, stream, reader, devices, random, written: 0, payload })
    }

    /// Appends one record; `None` while the log has to catch up with the disk.
    fn append(&mut self, now: Instant, unix_ms: i64) -> Result<Option<Position>> {
        self.random.fill(&mut self.payload);
        let (topic, client) = &self.devices[(self.written % DEVICES) as usize];
        let record = RecordRef {
            unix_ms,
            topic,
            client,
            publisher: None,
            attributes: &[],
            payload: &self.payload,
        };
        match self.engine.log.append(now, self.stream, &record) {
            Ok(appended) => {
                self.written += 1;
                Ok(Some(appended.position))
            }
            Err(AppendError::Busy { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Writes a backlog that nobody reads.
pub(crate) fn fill(dir: &Path, payload_bytes: u64) -> Result<Backlog> {
    let mut backlog = Backlog::open(dir)?;
    while backlog.written * PAYLOAD_BYTES as u64 <= payload_bytes {
        if backlog.append(Instant::now(), wall()?)?.is_none() {
            backlog.engine.step(Some(Instant::now() + TRIM_EVERY))?;
        } else if backlog.written % 256 == 0 {
            backlog.engine.step(None)?;
        }
    }
    backlog.engine.log.flush(Instant::now());
    while backlog.engine.log.durable() < backlog.engine.log.end() {
        backlog.engine.step(Some(Instant::now() + TRIM_EVERY))?;
    }
    Ok(backlog)
}

/// Reads all of a backlog while more is written, and waits until its segments are given back.
pub(crate) fn drain(dir: &Path) -> Result<(Drained, Backlog)> {
    let start = Instant::now();
    let mut backlog = Backlog::open(dir)?;
    let open_seconds = start.elapsed().as_secs_f64();
    let open_rss = procfs::resident(std::process::id())?.now;
    let first = backlog.engine.log.cursor(backlog.reader);
    let end = backlog.engine.log.durable_seq(backlog.stream);
    ensure!(end > first, "there is no backlog");

    let start = Instant::now();
    let mut writer = Writer::new(start);
    let (mut next, mut trimmed) = (first, start);
    while next < end {
        writer.write(&mut backlog)?;
        next = read(&mut backlog, next)?;
        if trimmed.elapsed() > TRIM_EVERY {
            backlog.engine.log.trim(Instant::now(), WallClock::Trusted(wall()?));
            trimmed = Instant::now();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let peak_rss = procfs::resident(std::process::id())?.peak;
    writer.finish(&mut backlog)?;
    give_back(&mut backlog)?;
    let drained = Drained {
        open_seconds,
        open_rss,
        records: end.0 - first.0,
        seconds,
        peak_rss,
        written: backlog.written,
        ack_p99_ms: writer.p99_ms(),
        kept_bytes: allocated_below(dir)?,
    };
    Ok((drained, backlog))
}

/// One read at the cursor; the records go nowhere.
fn read(backlog: &mut Backlog, next: Seq) -> Result<Seq> {
    let Backlog { engine, stream, reader, .. } = backlog;
    let mut visit = |_, _, record: RecordRef<'_>| {
        std::hint::black_box(record.payload);
    };
    match engine.log.read(Instant::now(), *stream, next, READ, &mut visit) {
        ReadOutcome::Read { next } => {
            engine.log.advance(Instant::now(), *reader, next);
            engine.step(None)?;
            Ok(next)
        }
        ReadOutcome::Fetching => {
            // Until the disk answers, or the writer's next record is due.
            engine.step(Some(Instant::now() + Duration::from_micros(100)))?;
            Ok(next)
        }
        ReadOutcome::Lost { next } => bail!("records before {next} are lost"),
        ReadOutcome::End => bail!("the backlog ends at {next}, before its last record"),
    }
}

/// Waits until the log has nothing more to give back.
fn give_back(backlog: &mut Backlog) -> Result<()> {
    let end = backlog.engine.log.durable_seq(backlog.stream);
    backlog.engine.log.advance(Instant::now(), backlog.reader, end);
    let (mut segments, mut unchanged) = (usize::MAX, 0);
    let deadline = Instant::now() + TRIM_LIMIT;
    while unchanged < 3 && Instant::now() < deadline {
        let pause = Instant::now() + TRIM_EVERY;
        while Instant::now() < pause {
            backlog.engine.step(Some(pause))?;
        }
        backlog.engine.log.trim(Instant::now(), WallClock::Trusted(wall()?));
        let now = backlog.engine.log.status().segments;
        unchanged = if now == segments { unchanged + 1 } else { 0 };
        segments = now;
    }
    Ok(())
}

/// An open loop beside the drain.
struct Writer {
    due: Instant,
    /// Appended, not yet durable: position, and when it was due.
    waiting: std::collections::VecDeque<(Position, Instant)>,
    micros: Vec<u32>,
}

impl Writer {
    fn new(start: Instant) -> Writer {
        Writer { due: start, waiting: std::collections::VecDeque::new(), micros: Vec::new() }
    }

    /// Appends what is due, and notes what has become durable.
    fn write(&mut self, backlog: &mut Backlog) -> Result<()> {
        let (now, unix_ms) = (Instant::now(), wall()?);
        while self.due <= now {
            let Some(position) = backlog.append(now, unix_ms)? else { break };
            self.waiting.push_back((position, self.due));
            self.due += Duration::from_secs(1) / WRITER_PER_SECOND;
        }
        let durable = backlog.engine.log.durable();
        while let Some((_, due)) = self.waiting.front().filter(|(at, _)| *at <= durable) {
            self.micros.push(u32::try_from((now - *due).as_micros()).unwrap_or(u32::MAX));
            self.waiting.pop_front();
        }
        backlog.engine.step(None)
    }

    fn finish(&mut self, backlog: &mut Backlog) -> Result<()> {
        backlog.engine.log.flush(Instant::now());
        while backlog.engine.log.durable() < backlog.engine.log.end() {
            backlog.engine.step(Some(Instant::now() + TRIM_EVERY))?;
        }
        Ok(())
    }

    fn p99_ms(&mut self) -> Option<f64> {
        self.micros.sort_unstable();
        percentile(&self.micros, 99.0).map(|micros| f64::from(micros) / 1e3)
    }
}

/// Milliseconds since 1970.
fn wall() -> Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    i64::try_from(now.as_millis()).context("a clock beyond all time")
}
