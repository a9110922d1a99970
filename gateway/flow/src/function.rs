//! One function: what it has read, what is in its calls, and when the next call begins.
//!
//! Records are read ahead into a queue. A call takes from its front what the function's ordering
//! allows, and ends in one commit ([`verdict`](crate::verdict)). A batch that fails is not
//! skipped but divided: each of its records remembers how many may stand beside it, half as many
//! with each failure, until the one that breaks it stands alone. That one is tried
//! [`FunctionPlan::attempts`] times and then goes to the dead-letter stream, in the same commit
//! that counts it as done.
//!
//! Invariants:
//! - a record is in the queue, in one call, or done;
//! - with strict ordering one call is under way; with per-key no key is in two calls.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidegate_stream::{Log, ReadLimit, Seq, TableId};

use crate::answers::Answers;
use crate::attributes::Attributes;
use crate::canary::{Beside, Side, Split};
use crate::clock::Now;
use crate::control::Mode;
use crate::expiry::Expiries;
use crate::gateway::BuildError;
use crate::intake::{Filled, Intake};
use crate::notes::Notes;
use crate::origin::Origin;
use crate::plan::{EventKind, FunctionPlan, MAX_WORKERS, Ordering};
use crate::queue::{InputRecord, Kept, Key, Queue, Tries, Want};
use crate::request::Requests;
use crate::retry::LaneRoom;
use crate::route::Routes;
use crate::schedules::Schedules;
use crate::tally::Tally;
use crate::timers::Timers;

/// Records that are read ahead of the calls, beside what one call takes.
const MAX_QUEUED_RECORDS: usize = 16_384;
/// The same in bytes.
const MAX_QUEUED_BYTES: usize = 4 << 20;

/// A function and how far it is.
pub(crate) struct FunctionRun {
    pub(crate) plan: FunctionPlan,
    pub(crate) intakes: Vec<Intake>,
    pub(crate) table: TableId,
    pub(crate) queue: Queue,
    pub(crate) workers: Vec<Worker>,
    /// Keys that are in calls; empty unless the ordering is per key.
    busy: BTreeSet<Key>,
    pub(crate) lane: LaneRoom,
    pub(crate) mode: Mode,
    /// Where to stop in each input; while draining.
    ends: Vec<Option<Seq>>,
    /// It cannot run; its records wait, under the stream's quota.
    pub(crate) parked: bool,
    /// As the quota counts them.
    pub(crate) state_bytes: usize,
    pub(crate) expiries: Expiries,
    pub(crate) timers: Timers,
    pub(crate) schedules: Schedules,
    /// The intake of events, behind those of its streams.
    pub(crate) events: Option<usize>,
    /// Nothing was done for it since it is there.
    pub(crate) is_new: bool,
    /// It is still to be told that it begins.
    pub(crate) unstarted: bool,
    /// The event that it is given before anything else.
    pub(crate) first: Option<Seq>,
    /// The event that it is given last in this life of the gateway.
    pub(crate) last: Option<Seq>,
    /// The last call was a timer's: records have their turn.
    pub(crate) timer_last: bool,
    pub(crate) requests: Requests,
    pub(crate) answers: Answers,
    pub(crate) tally: Tally,
    /// For the jitter of its pauses.
    pub(crate) seed: u64,
    /// There may be something to do.
    awake: bool,
    /// What a call may take is not what it was when it was last looked at.
    pub(crate) changed: bool,
    /// The log had no room for a commit.
    pub(crate) not_before: Option<Instant>,
    /// The table of notes had no room.
    pub(crate) notes_not_before: Option<Instant>,
    /// When the next record, or a batch that fills, has waited long enough.
    next_due: Option<Instant>,
    /// Since when there is something for a batch that is not full.
    filling_since: Option<Instant>,
    /// The input that is read first.
    turn: usize,
    /// The version that is tried beside this one.
    pub(crate) canary: Option<Beside>,
    /// It is itself one: the slot of the version that it is tried beside, which reads for both.
    pub(crate) canary_of: Option<usize>,
}

/// One of the instances of a function, and what it is doing.
#[derive(Debug, Default)]
pub(crate) struct Worker {
    /// The instance must be made anew.
    pub(crate) fresh: bool,
    pub(crate) running: Option<Running>,
}

/// A call under way.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) serial: u64,
    pub(crate) origin: Origin,
}

impl FunctionRun {
    pub(crate) fn define(
        log: &mut Log,
        routes: &Routes,
        notes: Notes,
        plan: &FunctionPlan,
        now: Instant,
        seed: u64,
    ) -> Result<FunctionRun, BuildError> {
        let intake = |input| Intake::define(log, routes, notes, plan, input);
        let mut intakes = plan.inputs.iter().map(intake).collect::<Result<Vec<_>, _>>()?;
        let events = Intake::define_events(log, now, routes, notes, plan)?;
        let events = events.map(|intake| {
            intakes.push(intake);
            intakes.len() - 1
        });
        let table = log.table(&format!("fn/{}", plan.name))?;
        let state = log.table_entries(table).iter();
        let state_bytes = state.map(|(key, value)| key.len() + value.len()).sum::<usize>();
        let expiries = Expiries::define(log, &plan.name)?;
        let timers = Timers::define(log, plan)?;
        let schedules = Schedules::define(log, plan)?;
        let (answers, requests) = Answers::define(log, &plan.name)?;
        let workers = match plan.ordering {
            Ordering::Strict => 1,
            Ordering::PerKey | Ordering::None => plan.workers.clamp(1, MAX_WORKERS),
        };
        let mut run = FunctionRun {
            ends: vec![None; intakes.len()],
            intakes,
            table,
            queue: Queue::default(),
            workers: (0..workers).map(|_| Worker::default()).collect(),
            busy: BTreeSet::new(),
            lane: LaneRoom::default(),
            mode: Mode::Running,
            parked: false,
            state_bytes: state_bytes + expiries.bytes(),
            expiries,
            timers,
            schedules,
            events,
            is_new: true,
            unstarted: plan.events.contains(&EventKind::Start),
            first: None,
            last: None,
            timer_last: false,
            requests: Requests::behind(requests),
            answers,
            tally: Tally::default(),
            seed,
            awake: true,
            changed: true,
            not_before: None,
            notes_not_before: None,
            next_due: None,
            filling_since: None,
            turn: 0,
            canary: None,
            canary_of: None,
            plan: plan.clone(),
        };
        run.take_up_waiting(log, notes);
        run.set_mode(notes.mode(log, &plan.name));
        Ok(run)
    }

    /// What an earlier life of the gateway left in the retry lane stands first again.
    fn take_up_waiting(&mut self, log: &Log, notes: Notes) {
        for (stream, seq, note) in notes.tries(log, &self.plan.name) {
            let source = self.intakes.iter().position(|intake| intake.stream == stream);
            let Some(source) = source else { continue };
            let kept = if note.record.is_some() { Kept::Whole } else { Kept::Count };
            let company = if note.failed > 0 { 1 } else { usize::MAX };
            let (failed, noted, before) = (note.failed, note.failed, note.waited);
            let tries = Tries { company, failed, noted, before, kept, ..Tries::NONE };
            match note.record {
                Some(record) => {
                    let attributes = Attributes::decode(&record.attributes).unwrap_or_default();
                    let mut input = InputRecord::new(source, seq, record, attributes);
                    input.key = self.intakes[source].key_of(&input);
                    input.tries = tries;
                    self.queue.push(input);
                }
                None => {
                    self.intakes[source].tried.insert(seq, tries);
                }
            }
        }
        self.recount_lane();
    }

    pub(crate) fn set_mode(&mut self, mode: Mode) {
        self.ends = match &mode {
            Mode::Running | Mode::Paused => vec![None; self.intakes.len()],
            Mode::Draining(ends) => {
                // An input that is new since has nothing to drain.
                let end = |intake: &Intake| {
                    let known = ends.iter().find(|(stream, _)| *stream == intake.stream);
                    Some(known.map_or(Seq(0), |(_, end)| *end))
                };
                self.intakes.iter().map(end).collect()
            }
        };
        self.mode = mode;
        self.wake();
    }

    /// Whether a draining function has done what there was.
    pub(crate) fn is_drained(&self) -> bool {
        let Mode::Draining(_) = self.mode else { return false };
        let ended = |(intake, end): (&Intake, &Option<Seq>)| {
            end.is_none_or(|end| intake.head.max(intake.progress.next()) >= end)
        };
        let waits = |one: &InputRecord| self.ends[one.source].is_none_or(|end| one.seq < end);
        self.is_idle()
            && self.intakes.iter().zip(&self.ends).all(ended)
            && !self.queue.iter().any(waits)
    }

    /// Whether no call is under way.
    pub(crate) fn is_idle(&self) -> bool {
        let canary_is_idle = self.canary.is_none_or(|canary| canary.running == 0);
        canary_is_idle && self.workers.iter().all(|worker| worker.running.is_none())
    }

    /// Whether no call can begin before another has ended.
    fn is_full(&self) -> bool {
        self.canary.is_none() && self.free_worker().is_none()
    }

    /// There may be something to read, or to begin.
    pub(crate) fn wake(&mut self) {
        self.awake = true;
        self.changed = true;
        for intake in &mut self.intakes {
            intake.awake = true;
        }
    }

    /// Durable records may have come.
    pub(crate) fn wake_to_read(&mut self) {
        self.awake = true;
        for intake in &mut self.intakes {
            intake.awake = true;
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let asleep = self.canary_of.is_some() || self.parked || self.mode == Mode::Paused;
        if asleep || self.is_full() {
            return None;
        }
        // One that is due and may not be given yet comes with what it waits for.
        let waits = self.is_held_back() || !self.may_begin();
        let timer = match self.mode {
            Mode::Running if !waits => self.next_timer(),
            Mode::Running | Mode::Draining(_) | Mode::Paused => None,
        };
        self.not_before.or(self.next_due.into_iter().chain(timer).min())
    }

    /// When a timer, of its own or of a schedule, may be given.
    fn next_timer(&self) -> Option<Instant> {
        self.timers.next().into_iter().chain(self.schedules.next()).min()
    }

    /// Whether it makes a pause that has not ended.
    pub(crate) fn is_backing_off(&self, now: Instant) -> bool {
        let pause = self.not_before.or(self.next_due).filter(|_| self.poll_timeout().is_some());
        pause.is_some_and(|at| at > now) && self.filling_since.is_none()
    }

    /// Whether a call may begin beside those under way; with strict ordering also not beside one
    /// of the canary.
    pub(crate) fn may_begin(&self) -> bool {
        match self.plan.ordering {
            Ordering::Strict => self.is_idle(),
            Ordering::PerKey | Ordering::None => self.free_worker().is_some(),
        }
    }

    pub(crate) fn free_worker(&self) -> Option<usize> {
        self.workers.iter().position(|worker| worker.running.is_none())
    }

    /// Timers of the last life learn when they are due, as soon as the clock can tell; schedules
    /// look at it.
    pub(crate) fn meet_clock(&mut self, now: Now) {
        self.is_new = false;
        self.timers.meet_clock(now);
        self.schedules.meet_clock(now);
    }

    /// Whether there is anything to look at.
    pub(crate) fn is_ready(&mut self, now: Instant) -> bool {
        if self.not_before.is_some_and(|at| now < at) || self.is_full() {
            return false;
        }
        if self.next_due.is_some_and(|at| at <= now) {
            self.next_due = None;
            self.changed = true;
        }
        self.awake |= self.next_timer().is_some_and(|at| at <= now);
        self.awake |= !self.requests.is_empty();
        self.awake |= self.not_before.take().is_some() || self.changed;
        self.awake
    }

    /// Nothing can be done until something happens, or a time comes.
    pub(crate) fn rest(&mut self, now: Instant) {
        self.awake = false;
        self.changed = false;
        let full = self.filling_since.map(|since| since + self.plan.batch_window);
        self.next_due = self.queue.next_due(now).into_iter().chain(full).min();
    }

    /// Reads ahead. False when there is nothing to read, or no room for it.
    pub(crate) fn fill(&mut self, log: &mut Log, now: Instant) -> bool {
        let (goal, inputs) = (self.goal(), self.intakes.len());
        let mut moved = false;
        let only = self.only();
        for source in (self.turn..inputs).chain(0..self.turn) {
            if only.is_some_and(|only| only != source) {
                continue;
            }
            // What the retry lane has takes no room from what is new.
            let (kept, kept_bytes) = (self.lane.records, self.lane.bytes);
            let records = (goal.records + kept).saturating_sub(self.queue.len());
            let bytes = (goal.bytes + kept_bytes).saturating_sub(self.queue.bytes());
            let limit = match only {
                // What is in the queue waits for this, so it takes no room from it.
                Some(_) => ReadLimit { records: 1, bytes: self.plan.batch_bytes },
                None => ReadLimit {
                    records: records.min(self.plan.batch_records),
                    bytes: bytes.min(self.plan.batch_bytes),
                },
            };
            if limit.records == 0 || limit.bytes == 0 {
                break;
            }
            let intake = &mut self.intakes[source];
            let ended = self.ends[source].is_some_and(|end| intake.head >= end);
            if intake.awake && !ended {
                let filled = intake.fill(log, now, source, limit, &mut self.queue);
                moved |= filled == Filled::Moved;
            }
        }
        self.turn = (self.turn + 1) % inputs.max(1);
        self.changed |= moved;
        moved
    }

    /// The one intake that it takes something from while it is to be told that it begins, or that
    /// it ends.
    fn only(&mut self) -> Option<usize> {
        let events = self.events?;
        if self.last.is_some() {
            return Some(events);
        }
        let first = self.first?;
        // One of the retry lane counts as done in its stream.
        if self.is_under_way(events, first) || self.intakes[events].progress.next() <= first {
            return Some(events);
        }
        self.first = None;
        self.wake();
        None
    }

    /// Whether it has handled, or given up, the event that is its last; also when there is none.
    pub(crate) fn has_ended(&self) -> bool {
        let (Some(last), Some(events)) = (self.last, self.events) else { return true };
        !self.is_under_way(events, last) && self.intakes[events].progress.next() > last
    }

    /// Whether a record is in the queue or in a call.
    fn is_under_way(&self, source: usize, seq: Seq) -> bool {
        let running = self.workers.iter().filter_map(|worker| worker.running.as_ref());
        let in_calls = running.flat_map(|running| running.origin.records());
        self.queue.iter().chain(in_calls).any(|one| one.source == source && one.seq == seq)
    }

    /// Whether it may be given nothing but events as long as nothing happens.
    fn is_held_back(&self) -> bool {
        self.unstarted || self.first.is_some() || self.last.is_some()
    }

    /// Whether it may be given something that is no event.
    pub(crate) fn has_started(&mut self) -> bool {
        !self.unstarted && self.only().is_none()
    }

    /// How full the queue is to be: with one call at a time, one batch; with several, as much
    /// more, so that a free worker finds what it may take.
    fn goal(&self) -> ReadLimit {
        let (records, bytes) = (self.plan.batch_records, self.plan.batch_bytes);
        match self.plan.ordering {
            Ordering::Strict => ReadLimit { records, bytes },
            Ordering::PerKey | Ordering::None => {
                let batches = self.workers.len() + 1;
                ReadLimit {
                    records: (records * batches).min(MAX_QUEUED_RECORDS),
                    bytes: (bytes * batches).min(MAX_QUEUED_BYTES).max(bytes),
                }
            }
        }
    }

    /// Whether a call may begin, and something has changed since none did.
    pub(crate) fn takes_work(&mut self) -> bool {
        !self.parked && self.mode != Mode::Paused && std::mem::take(&mut self.changed)
    }

    /// The records of the next call, when one may begin; with a canary, for one of the versions.
    pub(crate) fn pick(&mut self, now: Instant, side: Option<Side>) -> Option<Vec<InputRecord>> {
        let only = self.only();
        let split = self.canary.zip(side).map(|(canary, side)| Split {
            share: canary.share,
            intakes: &self.intakes,
            events: self.events,
            side,
        });
        let want = Want {
            now,
            only,
            apart: self.events,
            ordering: self.plan.ordering,
            busy: &self.busy,
            records: self.plan.batch_records,
            bytes: self.plan.batch_bytes,
            kept_only: self.plan.ordering != Ordering::Strict && !self.lane.has_room(),
            ends: &self.ends,
            split,
        };
        let picked = self.queue.pick(&want);
        let batch = picked.batch;
        if batch.is_empty() {
            self.filling_since = None;
            return None;
        }
        // A window for each side would be two batches that fill.
        let window = if split.is_some() { Duration::ZERO } else { self.plan.batch_window };
        // Nor does an event wait for company.
        let events = self.events;
        let waits =
            |one: &InputRecord| one.tries.company == usize::MAX && events != Some(one.source);
        if !window.is_zero() && !picked.full && batch.iter().all(waits) {
            let since = *self.filling_since.get_or_insert(now);
            if now < since + window {
                self.queue.put_back(batch);
                return None;
            }
        }
        self.filling_since = None;
        if self.plan.ordering == Ordering::PerKey {
            self.busy.extend(batch.iter().map(|one| one.key.clone()));
        }
        // More may be there for the next worker.
        self.changed = true;
        Some(batch)
    }

    /// A call with these records has ended; none of them is in a call any more.
    pub(crate) fn release(&mut self, batch: &[InputRecord]) {
        if self.plan.ordering == Ordering::PerKey {
            for one in batch {
                self.busy.remove(&one.key);
            }
        }
        self.changed = true;
    }

    /// Records that are not done stand where they stood.
    pub(crate) fn give_back(&mut self, back: Vec<InputRecord>) {
        self.queue.put_back(back);
        self.changed = true;
    }

    /// Time of receipt of the oldest record that is known and not done, in milliseconds.
    pub(crate) fn oldest_ms(&self) -> Option<i64> {
        let running = self.workers.iter().filter_map(|worker| worker.running.as_ref());
        let in_calls = running.flat_map(|running| running.origin.records());
        self.queue.iter().chain(in_calls).map(|one| one.record.unix_ms).min()
    }
}

/// Wait after a commit for which the log had no room.
pub(crate) const NO_ROOM_PAUSE: Duration = Duration::from_millis(50);
