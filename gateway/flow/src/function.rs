//! One function at its cursor: reads durable records of its stream, emits a call, and turns the
//! result into one commit.
//!
//! Ordering is strict: one batch at a time, in sequence. A batch that fails is not skipped but
//! made smaller, by half each time, until the record that breaks it stands alone; that one is
//! tried [`FunctionPlan::attempts`] times and then goes to the dead-letter stream, in the same
//! commit that moves the cursor past it.

use std::time::{Duration, Instant};

use tidegate_abi::{BatchWriter, FrameTooLarge, InputFlags, Kind, MessageRef, Qos, write_property};
use tidegate_stream::{Log, ReadLimit, ReadOutcome, ReaderId, Record, Seq, StreamId, TableId};

use crate::attributes::Attributes;
use crate::call::{Call, CallResult};
use crate::clock::Now;
use crate::gateway::{BuildError, Gateway, Output};
use crate::latency::Latency;
use crate::plan::FunctionPlan;
use crate::route::Routes;

/// First and longest wait before a record is tried again.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// While the emitted messages that wait for the disk take more than this, no call is started.
const MAX_UNDELIVERED_BYTES: usize = 4 << 20;

/// A function and how far it is.
pub(crate) struct FunctionRun {
    pub(crate) plan: FunctionPlan,
    pub(crate) stream: StreamId,
    pub(crate) reader: ReaderId,
    pub(crate) table: TableId,
    pub(crate) phase: Phase,
    /// Records of the next batch: halved by failures, doubled by success.
    pub(crate) batch_limit: usize,
    /// Tries of the batch at the cursor that have ended.
    pub(crate) attempts: u16,
    /// The instance must be made anew.
    pub(crate) fresh: bool,
    pub(crate) state_bytes: usize,
    pub(crate) tally: Tally,
    not_before: Option<Instant>,
}

/// What a function is doing.
pub(crate) enum Phase {
    /// Nothing known to read.
    Asleep,
    /// There may be something to read.
    Awake,
    /// It cannot run; its records wait, under the stream's quota.
    Parked,
    /// A call is under way with these records; the cursor moves to `next` when it succeeds.
    Running { batch: Vec<InputRecord>, next: Seq },
}

/// A record that a call is about.
#[derive(Debug, Clone)]
pub(crate) struct InputRecord {
    pub(crate) seq: Seq,
    pub(crate) record: Record,
    pub(crate) attributes: Attributes,
}

/// Counters since the daemon started.
#[derive(Debug, Default, Clone)]
pub(crate) struct Tally {
    pub(crate) calls: u64,
    pub(crate) records: u64,
    pub(crate) emitted: u64,
    pub(crate) failures: u64,
    pub(crate) retries: u64,
    pub(crate) dead_letters: u64,
    pub(crate) dropped: u64,
    pub(crate) traces_dropped: u64,
    pub(crate) fuel: u64,
    pub(crate) busy: Duration,
    pub(crate) memory_bytes: u64,
    pub(crate) last_failure: Option<String>,
    /// From receipt of a record to the end of its handling.
    pub(crate) latency: Latency,
}

impl FunctionRun {
    pub(crate) fn define(
        log: &mut Log,
        routes: &Routes,
        plan: &FunctionPlan,
    ) -> Result<FunctionRun, BuildError> {
        let stream = routes.required(&plan.input, &format!("function \"{}\"", plan.name))?;
        let reader = log.reader(stream, &format!("fn/{}", plan.name))?;
        let table = log.table(&format!("fn/{}", plan.name))?;
        let state = log.table_entries(table).iter();
        let state_bytes = state.map(|(key, value)| key.len() + value.len()).sum();
        Ok(FunctionRun {
            stream,
            reader,
            table,
            phase: Phase::Awake,
            batch_limit: plan.batch_records,
            attempts: 0,
            fresh: false,
            state_bytes,
            tally: Tally::default(),
            not_before: None,
            plan: plan.clone(),
        })
    }

    /// There may be something to read.
    pub(crate) fn wake(&mut self) {
        if matches!(self.phase, Phase::Asleep) {
            self.phase = Phase::Awake;
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.not_before
    }

    /// The batch at the cursor goes again after a pause that doubles with each try.
    pub(crate) fn retry_later(&mut self, now: Now) {
        let doubling = u32::from(self.attempts.saturating_sub(1)).min(16);
        let pause = RETRY_MIN.saturating_mul(1 << doubling).min(RETRY_MAX);
        self.not_before = Some(now.instant + pause);
        self.tally.retries += 1;
        self.phase = Phase::Awake;
    }

    /// The batch at the cursor is done; batches may grow again.
    pub(crate) fn move_on(&mut self) {
        self.attempts = 0;
        self.batch_limit = (self.batch_limit * 2).min(self.plan.batch_records);
        self.phase = Phase::Awake;
    }

    /// The batch at the cursor goes again with so many records.
    pub(crate) fn shrink_to(&mut self, records: usize) {
        self.batch_limit = records.max(1);
        self.attempts = 0;
        self.tally.retries += 1;
        self.phase = Phase::Awake;
    }
}

impl Gateway {
    /// Says that this function cannot run: its cursor stays where it is and its records wait.
    pub fn park_function(&mut self, index: usize, why: String) {
        if let Some(run) = self.functions.get_mut(index) {
            run.phase = Phase::Parked;
            run.not_before = None;
            run.tally.last_failure = Some(why);
        }
    }

    /// Starts a call if this function is free and has something to read.
    pub(crate) fn step_function(&mut self, now: Now, index: usize) -> bool {
        let run = &mut self.functions[index];
        if !matches!(run.phase, Phase::Awake) {
            return false;
        }
        if run.not_before.is_some_and(|at| now.instant < at) {
            return false;
        }
        // The disk has to catch up first: its next progress comes by here.
        if self.undelivered_bytes >= MAX_UNDELIVERED_BYTES {
            return false;
        }
        run.not_before = None;
        let from = self.log.cursor(run.reader);
        let limit = ReadLimit { records: run.batch_limit, bytes: run.plan.batch_bytes };
        let mut batch = Vec::new();
        let outcome = self.log.read(now.instant, run.stream, from, limit, &mut |seq, _, record| {
            // Attributes are ours; what cannot be read is damage that the checksums missed, and
            // the record is still worth more with defaults than lost.
            let attributes = Attributes::decode(record.attributes).unwrap_or_default();
            batch.push(InputRecord { seq, record: record.to_record(), attributes });
        });
        match outcome {
            ReadOutcome::Read { next } => self.start_call(now, index, batch, next),
            ReadOutcome::Lost { next } => self.log.advance(now.instant, run.reader, next),
            ReadOutcome::Fetching | ReadOutcome::End => {
                run.phase = Phase::Asleep;
                return false;
            }
        }
        true
    }

    fn start_call(&mut self, now: Now, index: usize, batch: Vec<InputRecord>, next: Seq) {
        let run = &mut self.functions[index];
        let frame = match input_frame(&batch, run.attempts) {
            Ok(frame) => frame,
            Err(error) => return self.failed(now, index, batch, next, error.to_string()),
        };
        run.phase = Phase::Running { batch, next };
        let call = Call {
            function: index,
            frame,
            state: self.log.table_entries(run.table).clone(),
            fresh: std::mem::take(&mut run.fresh),
        };
        self.emit(Output::Call(call));
    }

    /// Turns the end of a call into a commit, a smaller batch, a pause or a dead letter.
    pub(crate) fn take_call_result(&mut self, now: Now, index: usize, result: CallResult) {
        if self.stopping {
            return;
        }
        let Some(run) = self.functions.get_mut(index) else { return };
        let phase = std::mem::replace(&mut run.phase, Phase::Awake);
        let Phase::Running { batch, next } = phase else {
            run.phase = phase;
            return;
        };
        run.tally.calls += 1;
        run.tally.fuel += result.fuel;
        run.tally.busy += result.elapsed;
        run.tally.memory_bytes = result.memory_bytes;
        self.judge(now, index, batch, next, result.verdict);
    }
}

/// A clock that is not set may say any year; nanoseconds end in 2262.
fn nanoseconds(unix_ms: i64) -> i64 {
    unix_ms.saturating_mul(1_000_000)
}

/// The batch as the guest reads it. Time and id are functions of the records, so that a replay
/// of the same records gives the same output.
fn input_frame(batch: &[InputRecord], attempts: u16) -> Result<Vec<u8>, FrameTooLarge> {
    let newest_ms = batch.iter().map(|input| input.record.unix_ms).max().unwrap_or(0);
    let batch_id = batch.first().map_or(0, |input| input.seq.0);
    let writer = BatchWriter::new(Kind::Messages, nanoseconds(newest_ms), batch_id);
    let mut writer = writer.with_flags(InputFlags::CAUSES);
    let mut props = Vec::new();
    for input in batch {
        props.clear();
        for (key, value) in &input.attributes.user {
            write_property(&mut props, key, value)?;
        }
        writer.push(&MessageRef {
            seq: input.seq.0,
            ts_ns: nanoseconds(input.record.unix_ms),
            topic: &input.record.topic,
            payload: &input.record.payload,
            props: &props,
            qos: Qos::from_code(input.attributes.qos).unwrap_or_default(),
            retain: input.attributes.retain,
            attempt: attempts + 1,
            source: 0,
        })?;
    }
    Ok(writer.finish())
}
