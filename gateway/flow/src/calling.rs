//! From records to a call, and from a call's end to what it is judged by.
//!
//! Invariant: a result counts once, and only for the call that the worker is at.

use tidegate_abi::{BatchWriter, FrameTooLarge, InputFlags, Kind, MessageRef, Qos, write_property};

use crate::call::{Call, CallId, CallResult, CallVerdict};
use crate::clock::Now;
use crate::control::Mode;
use crate::expiry::Expired;
use crate::function::Running;
use crate::gateway::{Gateway, Output};
use crate::origin::Origin;
use crate::queue::InputRecord;

/// While the emitted messages that wait for the disk take more than this, no call is started.
const MAX_UNDELIVERED_BYTES: usize = 4 << 20;

impl Gateway {
    /// Says that this function cannot run: its cursors stay where they are, its records wait.
    pub fn park_function(&mut self, index: usize, why: String) {
        if let Some(run) = self.functions.get_mut(index) {
            run.parked = true;
            run.tally.last_failure = Some(why);
        }
    }

    /// Does the next thing for this function: reads ahead, notes what waits, begins a call. False
    /// when there is nothing to do.
    pub(crate) fn step_function(&mut self, now: Now, index: usize) -> bool {
        // What another version has replaced must not move the cursor that is no longer its own.
        if !self.functions.contains(index) || self.functions[index].canary_of.is_some() {
            return false;
        }
        let run = &mut self.functions[index];
        if run.is_new {
            // An interval counts from here on.
            run.meet_clock(now);
        }
        // The disk has to catch up first: its next progress comes by here.
        if !run.is_ready(now.instant) || self.has_enough_undelivered() {
            return false;
        }
        let run = &self.functions[index];
        if run.unstarted && run.mode == Mode::Running && !run.parked {
            return self.tell_start(now, index);
        }
        match self.expire(now, index) {
            Expired::None => {}
            Expired::Some => return true,
            Expired::NoRoom => return false,
        }
        // Requests and timers that always wait must not keep records out.
        let run = &mut self.functions[index];
        if !std::mem::take(&mut run.requests.given_last) && self.take_up_request(now, index) {
            return true;
        }
        let run = &mut self.functions[index];
        if !std::mem::take(&mut run.timer_last) && self.fire(now, index) {
            return true;
        }
        let run = &mut self.functions[index];
        let filled = run.fill(&mut self.log, now.instant);
        if self.note_waiting(now, index) {
            return true;
        }
        if let Some((slot, batch)) = self.pick_batch(now, index) {
            self.start_call(now, (index, slot), batch);
            return true;
        }
        if self.take_up_request(now, index)
            || self.fire(now, index)
            || filled
            || self.end_drain(now, index)
        {
            return true;
        }
        self.functions[index].rest(now.instant);
        false
    }

    /// Whether no call is to begin before the disk has caught up.
    pub(crate) fn has_enough_undelivered(&self) -> bool {
        self.undelivered_bytes >= MAX_UNDELIVERED_BYTES
    }

    fn start_call(&mut self, now: Now, (index, slot): (usize, usize), batch: Vec<InputRecord>) {
        let events = self.functions[index].events;
        let frame = match input_frame(&batch, events) {
            Ok(frame) => frame,
            Err(error) => {
                self.functions[index].release(&batch);
                return self.failed(now, index, batch, error.to_string());
            }
        };
        self.begin_call_of(index, slot, Origin::Records(batch), frame);
    }

    /// Gives a free worker of the function something to do; its end is told by
    /// [`Gateway::handle_call`].
    pub(crate) fn begin_call(&mut self, index: usize, origin: Origin, frame: Vec<u8>) {
        self.begin_call_of(index, index, origin, frame);
    }

    /// The same, for a worker of the version in this slot.
    fn begin_call_of(&mut self, index: usize, slot: usize, origin: Origin, frame: Vec<u8>) {
        let Some(at) = self.functions[slot].free_worker() else {
            return self.functions[index].give_back(origin.into_records());
        };
        if let Some(canary) = self.functions[index].canary.as_mut().filter(|c| c.slot == slot) {
            canary.running += 1;
        }
        let run = &mut self.functions[slot];
        self.calls += 1;
        let (worker, serial) = (&mut run.workers[at], self.calls);
        worker.running = Some(Running { serial, origin });
        let call = Call {
            id: CallId { function: slot, worker: at, serial },
            frame,
            state: self.log.table_entries(run.table).clone(),
            fresh: std::mem::take(&mut worker.fresh),
        };
        self.emit(Output::Call(call));
    }

    /// Turns the end of a call into a commit, a smaller batch, a pause or a dead letter.
    pub(crate) fn take_call_result(&mut self, now: Now, id: CallId, result: CallResult) {
        if self.stopping {
            return;
        }
        let Some(run) = self.functions.get_mut(id.function) else { return };
        let Some(worker) = run.workers.get_mut(id.worker) else { return };
        let ended = worker.running.take_if(|running| running.serial == id.serial);
        let Some(Running { origin, .. }) = ended else { return };
        match result.verdict {
            CallVerdict::Failed(_) | CallVerdict::Late(_) => worker.fresh = true,
            CallVerdict::Done(_) | CallVerdict::RetryBatch | CallVerdict::DeadLetterBatch => {}
        }
        run.tally.called(&result);
        let (slot, index) = (id.function, run.canary_of.unwrap_or(id.function));
        let run = &mut self.functions[index];
        if let Some(canary) = run.canary.as_mut().filter(|canary| canary.slot == slot) {
            canary.running = canary.running.saturating_sub(1);
        }
        match origin {
            Origin::Void => run.wake(),
            Origin::Timer(fired) => {
                run.wake();
                self.judge_timer(now, index, fired, result.verdict);
            }
            Origin::Request(asked) => {
                run.wake();
                self.judge_request(now, id.function, *asked, result.verdict);
            }
            Origin::Records(batch) => {
                run.release(&batch);
                if slot == index {
                    self.judge(now, index, batch, result.verdict);
                } else {
                    self.judge_canary_call(now, (index, slot), batch, result.verdict);
                }
            }
        }
    }
}

/// A clock that is not set may say any year; nanoseconds end in 2262.
pub(crate) fn nanoseconds(unix_ms: i64) -> i64 {
    unix_ms.saturating_mul(1_000_000)
}

/// Where the index of an input is in a batch's id, so that those of two inputs differ.
const SOURCE_SHIFT: u32 = 56;
/// There for events; timers have `0x80`.
const EVENT_ID: u64 = 0x40 << SOURCE_SHIFT;

/// The batch as the guest reads it. Time and id are functions of the records, so that a replay
/// of the same records gives the same output.
///
/// What came by the intake `events` are events, which have no others beside them.
fn input_frame(batch: &[InputRecord], events: Option<usize>) -> Result<Vec<u8>, FrameTooLarge> {
    let is_event = |input: &InputRecord| events == Some(input.source);
    let kind = match batch.first().is_some_and(is_event) {
        true => Kind::Event,
        false => Kind::Messages,
    };
    let newest_ms = batch.iter().map(|input| input.record.unix_ms).max().unwrap_or(0);
    let source = |input: &InputRecord| if is_event(input) { 0 } else { input.source as u32 };
    let id = |input: &InputRecord| match is_event(input) {
        true => input.seq.0 | EVENT_ID,
        false => input.seq.0 | (input.source as u64) << SOURCE_SHIFT,
    };
    let batch_id = batch.first().map_or(0, id);
    let writer = BatchWriter::new(kind, nanoseconds(newest_ms), batch_id);
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
            attempt: input.tries.failed,
            source: source(input),
        })?;
    }
    Ok(writer.finish())
}
