//! The log as a whole, against the crashable disk, in simulated time.

mod compressed;
mod copies;
mod crashes;
mod damage;
mod epochs;
mod every_byte;
mod full_disk;
mod golden;
mod golden_v2;
mod keeping;
mod marks;
mod ordinary;
mod policies;
mod restored;
mod speed;
mod trouble;
mod verify;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::crash::CrashDisk;
use crate::*;

/// The epoch that a store made by [`Rig`] starts with.
const EPOCH: u32 = 1_800_000_000;
const START_MS: i64 = EPOCH as i64 * 1000;

fn small() -> LogOptions {
    LogOptions {
        segment_bytes: 64 << 10,
        max_frame_bytes: 8 << 10,
        group_bytes: 4 << 10,
        max_pending_bytes: 64 << 10,
        cache_bytes: 8 << 10,
        reserve_segments: 1,
        read_bytes: 8 << 10,
        ..LogOptions::default()
    }
}

fn keep_all() -> StreamConfig {
    StreamConfig { max_bytes: 1 << 40, retain: Duration::MAX, ..StreamConfig::default() }
}

fn config(max_bytes: u64, overflow: Overflow) -> StreamConfig {
    StreamConfig { max_bytes, overflow, ..StreamConfig::default() }
}

#[expect(clippy::disallowed_methods, reason = "a test has to begin somewhere")]
fn any_instant() -> Instant {
    Instant::now()
}

/// A log and its disk, moved on by hand.
struct Rig {
    disk: CrashDisk,
    log: Log,
    now: Instant,
    ms: i64,
    recovery: Recovery,
}

impl Rig {
    fn new(options: LogOptions) -> Rig {
        Rig::on(CrashDisk::new(), options)
    }

    fn on(disk: CrashDisk, options: LogOptions) -> Rig {
        let now = any_instant();
        let (log, recovery) =
            Log::open(&disk, options, now, START_MS, 0xfeed).expect("a store opens");
        Rig { disk, log, now, ms: START_MS, recovery }
    }

    /// As after the end of the process.
    fn reopen(&self) -> Rig {
        Rig::on(self.disk.after_kill(), self.log.options.clone())
    }

    /// As after a power cut.
    fn crash(&self, seed: u64) -> Rig {
        Rig::on(self.disk.crash(seed), self.log.options.clone())
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.ms += time.as_millis() as i64;
    }

    /// Does what the log asks of the disk, without letting time pass.
    fn step(&mut self) {
        let mut requests = 0;
        while let Some(request) = self.log.poll_disk(self.now) {
            let reply = request.perform(&self.disk);
            self.log.handle_disk(self.now, reply);
            requests += 1;
            assert!(requests < 100_000, "the log never comes to rest");
            if self.disk.has_crashed() {
                return;
            }
        }
    }

    /// Lets the time pass that the log asks for, until everything is durable.
    fn settle(&mut self) {
        for _ in 0..1_000 {
            self.step();
            if self.log.durable() == self.log.end() && self.log.is_idle() {
                return;
            }
            if self.disk.has_crashed() {
                return;
            }
            let at = self.log.poll_timeout().expect("a log with work says when");
            assert!(at > self.now, "a log with work does it");
            self.pass(at - self.now);
        }
        panic!("the log never gets done: {:?}", self.log.status());
    }

    fn stream(&mut self, name: &str, config: StreamConfig) -> StreamId {
        self.log.stream(name, config).expect("a stream")
    }

    fn append(&mut self, stream: StreamId, payload: &[u8]) -> Result<Appended, AppendError> {
        let record = record(self.ms, payload);
        self.log.append(self.now, stream, &record.as_ref())
    }

    fn read_from(&mut self, stream: StreamId, from: Seq, records: usize) -> Vec<(Seq, Record)> {
        let mut all = Vec::new();
        let mut next = from;
        let limit = ReadLimit { records, bytes: 3_000 };
        for _ in 0..1_000_000 {
            let mut visit = |seq, _, record: RecordRef<'_>| all.push((seq, record.to_record()));
            match self.log.read(self.now, stream, next, limit, &mut visit) {
                ReadOutcome::Read { next: n } | ReadOutcome::Lost { next: n } => {
                    assert!(n > next, "reading goes on");
                    next = n;
                }
                ReadOutcome::Fetching => self.step(),
                ReadOutcome::End => return all,
            }
        }
        panic!("reading never ends");
    }

    fn read_all(&mut self, stream: StreamId) -> Vec<(Seq, Record)> {
        self.read_from(stream, Seq(1), 7)
    }

    fn payloads(&mut self, stream: StreamId) -> BTreeMap<u64, Vec<u8>> {
        self.read_all(stream).into_iter().map(|(seq, r)| (seq.0, r.payload)).collect()
    }
}

fn record(ms: i64, payload: &[u8]) -> Record {
    Record {
        unix_ms: ms,
        topic: "sensors/kitchen/telemetry".into(),
        client: "kitchen".into(),
        publisher: None,
        attributes: vec![1, 2],
        payload: payload.to_vec(),
    }
}

/// A payload that names itself and can be checked.
fn numbered(n: u64, len: usize) -> Vec<u8> {
    let mut payload = n.to_le_bytes().to_vec();
    payload.resize(len.max(8), (n % 251) as u8);
    payload
}
