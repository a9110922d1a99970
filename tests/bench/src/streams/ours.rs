//! The log of this repository on its real files, driven on one thread as its peers are: append,
//! write, sync, return.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use tidegate::disk::FileDisk;
use tidegate_stream::{
    Log, LogOptions, Overflow, Position, PublisherIdentity, ReaderId, RecordRef, StreamConfig,
    StreamId, WallClock,
};

use super::store::{Entry, STREAMS, Store};

/// It is at rest when so many trims, so far apart, have given nothing back.
const TRIMS_AT_REST: usize = 5;
const TRIM_PAUSE: Duration = Duration::from_millis(200);
/// Nothing is dropped in a measurement.
const MAX_BYTES: u64 = 64 << 30;

/// The log, one publisher a stream.
pub(crate) struct Ours {
    log: Log,
    disk: FileDisk,
    streams: Vec<(StreamId, String, String)>,
    /// One a stream: what it has not read stays.
    readers: Vec<ReaderId>,
}

impl Ours {
    /// Opens the store in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Ours> {
        let disk = FileDisk::open(dir)?;
        let mut log = open_log(&disk)?;
        let (mut streams, mut readers) = (Vec::new(), Vec::new());
        for number in 0..STREAMS {
            let config = StreamConfig {
                max_bytes: MAX_BYTES,
                overflow: Overflow::Reject,
                retain: Duration::ZERO,
                max_records: None,
                max_age: None,
                compression: tidegate_stream::Compression::None,
            };
            let id = log.stream(&format!("stream-{number}"), config)?;
            readers.push(log.reader(id, "sink")?);
            streams.push((id, format!("sensors/{number}/telemetry"), format!("sensor-{number}")));
        }
        Ok(Ours { log, disk, streams, readers })
    }

    /// Carries out what the log asks for until `position` is durable.
    fn until_durable(&mut self, position: Position) -> Result<()> {
        self.log.flush(Instant::now());
        while self.log.durable() < position {
            let now = Instant::now();
            let Some(request) = self.log.poll_disk(now) else {
                let status = self.log.status();
                bail!("the log waits: {:?}", status.last_error);
            };
            let reply = request.perform(&self.disk);
            self.log.handle_disk(now, reply);
        }
        Ok(())
    }
}

/// The log as the daemon has it by default.
pub(crate) fn open_log(disk: &FileDisk) -> Result<Log> {
    let (log, _) = Log::open(disk, LogOptions::default(), Instant::now(), unix_ms()?, 42)?;
    Ok(log)
}

fn unix_ms() -> Result<i64> {
    let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    i64::try_from(unix_ms).context("a clock beyond all time")
}

impl Store for Ours {
    fn keep(&mut self, batch: &[Entry]) -> Result<()> {
        let now = Instant::now();
        for entry in batch {
            let (stream, topic, client) = &self.streams[usize::from(entry.stream)];
            let record = RecordRef {
                unix_ms: entry.unix_ms,
                topic,
                client,
                publisher: Some(PublisherIdentity { boot: 1, seq: entry.seq }),
                attributes: &[],
                payload: &entry.payload,
            };
            self.log.append(now, *stream, &record)?;
        }
        self.until_durable(self.log.end())
    }

    /// Prepares the segments that it keeps in reserve.
    fn settle(&mut self) -> Result<()> {
        while let Some(request) = self.log.poll_disk(Instant::now()) {
            let reply = request.perform(&self.disk);
            self.log.handle_disk(Instant::now(), reply);
        }
        Ok(())
    }

    fn count(&mut self) -> Result<u64> {
        Ok(self.log.status().streams.iter().map(|stream| stream.records).sum())
    }

    /// The readers have read everything; the segments are given back by and by.
    fn forget(&mut self) -> Result<()> {
        for ((stream, _, _), reader) in self.streams.iter().zip(&self.readers) {
            self.log.advance(Instant::now(), *reader, self.log.durable_seq(*stream));
        }
        let (mut segments, mut unchanged) = (usize::MAX, 0);
        while unchanged < TRIMS_AT_REST {
            self.log.trim(Instant::now(), WallClock::Trusted(unix_ms()?));
            self.settle()?;
            self.until_durable(self.log.end())?;
            let now = self.log.status().segments;
            unchanged = if now == segments { unchanged + 1 } else { 0 };
            segments = now;
            std::thread::sleep(TRIM_PAUSE);
        }
        Ok(())
    }
}
