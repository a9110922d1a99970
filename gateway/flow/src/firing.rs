//! From a timer that is due to a call, and from the call's end to what is committed.
//!
//! A timer, of the function or of a schedule, is given in a call of its own. Its effects, and when it is due next, are one commit. A
//! call that fails is made again as for a record; with no tries left the timer is passed and
//! counted, and is given again when it is due next.

use std::time::{Duration, Instant};

use tidegate_abi::{BatchWriter, FrameTooLarge, InputFlags, Kind, MessageRef, Qos, write_property};
use tidegate_stream::{AppendError, CommitError, Record};

use crate::attributes::Attributes;
use crate::call::CallVerdict;
use crate::clock::Now;
use crate::control::Mode;
use crate::effects::Effects;
use crate::function::{FunctionRun, NO_ROOM_PAUSE};
use crate::gateway::{Gateway, Notice, Output};
use crate::origin::Origin;
use crate::queue::InputRecord;
use crate::retry::pause;
use crate::timers::{Fired, Whose};

/// Wait when not even that a timer is passed can be committed.
const NOT_PASSED_PAUSE: Duration = Duration::from_secs(1);

/// In a batch's id: of a timer, not of a record. Records have their input there.
const TIMER_ID: u64 = 0x80 << 56;

impl Gateway {
    /// Begins the call of a timer of this function, when one is due and a worker is free.
    pub(crate) fn fire(&mut self, now: Now, index: usize) -> bool {
        let run = &mut self.functions[index];
        let runs = !run.parked && run.mode == Mode::Running && run.has_started();
        if !runs || !run.may_begin() {
            return false;
        }
        let Some(fired) = run.take_timer(now) else { return false };
        match timer_frame(&fired) {
            Ok(frame) => self.begin_call(index, Origin::Timer(fired), frame),
            Err(error) => self.timer_failed(now, index, fired, error.to_string()),
        }
        true
    }

    /// The functions look at the clock.
    pub(crate) fn meet_clock(&mut self, now: Now) {
        self.functions.iter_mut().for_each(|run| run.meet_clock(now));
    }

    /// Decides what the end of a timer's call means.
    pub(crate) fn judge_timer(
        &mut self,
        now: Now,
        index: usize,
        fired: Fired,
        verdict: CallVerdict,
    ) {
        match verdict {
            CallVerdict::Done(frame) => {
                let entry = [stand_in(&fired)];
                match self.effects(now, index, &entry, &frame) {
                    Ok(effects) => self.apply_timer(now, index, fired, effects),
                    Err(failure) => self.timer_failed(now, index, fired, failure),
                }
            }
            CallVerdict::Failed(failure) | CallVerdict::Late(failure) => {
                self.timer_failed(now, index, fired, failure);
            }
            CallVerdict::RetryBatch => self.timer_again(now, index, fired),
            CallVerdict::DeadLetterBatch => self.pass_timer(now, index, fired),
        }
    }

    fn apply_timer(&mut self, now: Now, index: usize, fired: Fired, mut effects: Effects) {
        let given_up = !std::mem::take(&mut effects.dead).is_empty();
        if !given_up && !effects.retry.is_empty() {
            return self.timer_again(now, index, fired);
        }
        effects.retry.clear();
        effects.fired = Some(fired);
        if given_up {
            self.functions[index].tally.timers_passed += 1;
        }
        self.commit(now, index, Vec::new(), effects);
    }

    fn timer_failed(&mut self, now: Now, index: usize, fired: Fired, failure: String) {
        let run = &mut self.functions[index];
        run.tally.failures += 1;
        run.tally.last_failure = Some(failure.clone());
        let function = run.plan.name.clone();
        self.emit(Output::Notice(Notice::CallFailed { function, records: 1, failure }));
        self.timer_again(now, index, fired);
    }

    /// Another try after a pause, if one is left.
    fn timer_again(&mut self, now: Now, index: usize, fired: Fired) {
        let run = &mut self.functions[index];
        let failed = fired.attempt.saturating_add(1);
        if failed >= run.plan.attempts {
            return self.pass_timer(now, index, fired);
        }
        run.tally.retries += 1;
        let at = now.instant + pause(fired.attempt, run.seed ^ fired.seq);
        run.give_again(&fired, at, failed);
        run.changed = true;
    }

    /// The timer is done without effects.
    fn pass_timer(&mut self, now: Now, index: usize, fired: Fired) {
        self.functions[index].tally.timers_passed += 1;
        let effects = Effects { fired: Some(fired), ..Effects::default() };
        self.commit(now, index, Vec::new(), effects);
    }

    /// What a timer's call did could not be committed.
    pub(crate) fn timer_not_committed(
        &mut self,
        now: Now,
        index: usize,
        effects: Effects,
        error: &CommitError,
    ) {
        let does_something =
            !(effects.emits.is_empty() && effects.state.is_empty() && effects.timers.is_empty());
        let Some(fired) = effects.fired else { return };
        let pause = match error {
            CommitError::Append(
                AppendError::StreamFull { .. } | AppendError::Busy { .. } | AppendError::DiskFull,
            ) => NO_ROOM_PAUSE,
            CommitError::Append(AppendError::TooLarge { .. } | AppendError::UnknownStream(_))
            | CommitError::TablesFull { .. }
            | CommitError::UnknownReader(_)
            | CommitError::UnknownTable(_) => {
                if does_something {
                    return self.timer_failed(now, index, fired, error.to_string());
                }
                NOT_PASSED_PAUSE
            }
        };
        let run = &mut self.functions[index];
        run.tally.last_failure = Some(error.to_string());
        let attempt = fired.attempt;
        run.give_again(&fired, now.instant + pause, attempt);
        run.changed = true;
    }
}

impl FunctionRun {
    /// Takes up the timer that has been due longest, of its own or of a schedule.
    fn take_timer(&mut self, now: Now) -> Option<Fired> {
        let (timer, schedule) = (self.timers.next(), self.schedules.next());
        let due = schedule.filter(|at| *at <= now.instant && timer.is_none_or(|timer| *at < timer));
        let fired = due.and_then(|_| self.schedules.take_due(now, self.timers.next_seq()));
        let fired = fired.or_else(|| self.timers.take_due(now));
        self.timer_last = fired.is_some();
        fired
    }

    fn give_again(&mut self, fired: &Fired, at: Instant, attempt: u16) {
        match fired.whose {
            Whose::Set { .. } => self.timers.give_again(fired, at, attempt),
            Whose::Schedule { .. } => self.schedules.give_again(fired, at, attempt),
        }
    }
}

/// The entry of a timer's frame, as far as effects refer to it.
fn stand_in(fired: &Fired) -> InputRecord {
    let record = Record {
        unix_ms: fired.due_ms,
        topic: fired.name.clone(),
        client: String::new(),
        publisher: None,
        attributes: Vec::new(),
        payload: Vec::new(),
    };
    InputRecord::new(0, tidegate_stream::Seq(fired.seq), record, Attributes::default())
}

fn timer_frame(fired: &Fired) -> Result<Vec<u8>, FrameTooLarge> {
    let time = fired.due_ms.saturating_mul(1_000_000);
    let mut props = Vec::new();
    if fired.missed > 0 {
        write_property(&mut props, "missed", &fired.missed.to_string())?;
    }
    let writer = BatchWriter::new(Kind::Timer, time, fired.seq | TIMER_ID);
    let mut writer = writer.with_flags(InputFlags::CAUSES);
    writer.push(&MessageRef {
        seq: fired.seq,
        ts_ns: time,
        topic: &fired.name,
        payload: &[],
        props: &props,
        qos: Qos::default(),
        retain: false,
        attempt: fired.attempt,
        source: 0,
    })?;
    Ok(writer.finish())
}
