//! When a record is tried again, and where it waits until then.
//!
//! With strict ordering a record waits where it is, and its count of tries is noted. Otherwise
//! it goes to the retry lane, which are entries of the table of notes, and so do the records of
//! its key behind it: then their stream counts them as done.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidegate_stream::{Record, Transaction};

use crate::clock::Now;
use crate::function::FunctionRun;
use crate::gateway::{Gateway, PlantedBug};
use crate::notes::TryNote;
use crate::plan::Ordering;
use crate::progress::Progress;
use crate::queue::{InputRecord, Kept, Key};

/// First and longest wait before a record is tried again.
const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// Wait after a commit of notes for which there was no room.
const NO_ROOM_PAUSE: Duration = Duration::from_secs(1);

/// Most records in the retry lane of a function.
const MAX_LANE_RECORDS: usize = 1_024;
/// Most bytes of them, and one record: they are in memory, and in each checkpoint.
pub(crate) const MAX_LANE_BYTES: usize = 1 << 20;
/// What an entry costs beside its record.
const ENTRY_COST: usize = 128;

/// How full the retry lane is.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct LaneRoom {
    pub(crate) records: usize,
    /// Of the records alone.
    pub(crate) bytes: usize,
}

impl LaneRoom {
    pub(crate) fn has_room(self) -> bool {
        let bytes = self.bytes + self.records * ENTRY_COST;
        self.records < MAX_LANE_RECORDS && bytes < MAX_LANE_BYTES
    }

    pub(crate) fn add(&mut self, record: &InputRecord) {
        self.records += 1;
        self.bytes += record.bytes();
    }

    pub(crate) fn remove(&mut self, record: &InputRecord) {
        self.records = self.records.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(record.bytes());
    }
}

/// How a record goes into the table of notes.
struct Entry {
    /// Place in the queue.
    at: usize,
    kept: Kept,
}

impl FunctionRun {
    pub(crate) fn recount_lane(&mut self) {
        self.lane = LaneRoom::default();
        for one in self.queue.iter().filter(|one| one.is_kept()) {
            self.lane.add(one);
        }
    }

    /// Whether a record that fails once more is given up.
    pub(crate) fn is_last_try(&self, record: &InputRecord, now: Instant) -> bool {
        let failed = record.tries.failed.saturating_add(1);
        failed >= self.plan.attempts || record.tries.age(now) >= self.plan.retry_max_age
    }

    /// A try of these records has failed, and they are to be tried together again after a pause.
    pub(crate) fn delay(&self, now: Instant, records: &mut [InputRecord]) {
        let Some(first) = records.first() else { return };
        let seed = self.seed ^ first.seq.0 ^ u64::from(first.tries.failed) << 48;
        let failed = records.iter().map(|one| one.tries.failed).max().unwrap_or(0);
        let due = now + pause(failed, seed);
        for one in records {
            one.tries.failed = one.tries.failed.saturating_add(1);
            one.tries.since.get_or_insert(now);
            one.tries.due = Some(due);
        }
    }

    /// What of the queue is to be noted now, as much as one transaction takes.
    fn to_note(&self, max_bytes: usize) -> Vec<Entry> {
        let mut closed: BTreeSet<&Key> = BTreeSet::new();
        let (mut room, mut bytes) = (self.lane, 0);
        let mut entries = Vec::new();
        for (at, one) in self.queue.iter().enumerate() {
            // It would fit no transaction: it waits where it is, and so does its key.
            if one.bytes() > max_bytes && !one.is_kept() {
                continue;
            }
            let behind = self.plan.ordering == Ordering::PerKey && closed.contains(&one.key);
            let kept = match self.note_wanted(one, behind) {
                Some(Kept::Whole) if !one.is_kept() && !room.has_room() => return entries,
                wanted => wanted,
            };
            if one.is_kept() || kept == Some(Kept::Whole) {
                closed.insert(&one.key);
            }
            let Some(kept) = kept else { continue };
            let record = if kept == Kept::Whole { one.bytes() } else { 0 };
            bytes += record + ENTRY_COST;
            if bytes > max_bytes && !entries.is_empty() {
                return entries;
            }
            if kept == Kept::Whole && !one.is_kept() {
                room.add(one);
            }
            entries.push(Entry { at, kept });
        }
        entries
    }

    /// How a record is to be noted, if not as it is. `behind`: one of its key waits in the lane.
    fn note_wanted(&self, one: &InputRecord, behind: bool) -> Option<Kept> {
        let counts = one.tries.due.is_some() && one.tries.failed != one.tries.noted;
        match (one.tries.kept, self.plan.ordering) {
            (Kept::Whole, _) => counts.then_some(Kept::Whole),
            (Kept::Not | Kept::Count, Ordering::Strict) => counts.then_some(Kept::Count),
            (Kept::Not | Kept::Count, Ordering::PerKey | Ordering::None) => {
                (behind || one.tries.due.is_some()).then_some(Kept::Whole)
            }
        }
    }
}

impl Gateway {
    /// Notes what waits in the queue for its next try, or behind such a record. False when there
    /// is nothing to note, or no room: then it goes on waiting where it is.
    pub(crate) fn note_waiting(&mut self, now: Now, index: usize) -> bool {
        let run = &self.functions[index];
        let pauses = run.notes_not_before.is_some_and(|at| now.instant < at);
        if pauses || !run.changed || !run.queue.is_mixed() {
            return false;
        }
        let entries = run.to_note(self.notes.max_bytes());
        if entries.is_empty() {
            return false;
        }
        let mut transaction = Transaction::new();
        let mut places = entries.iter().peekable();
        let mut changes = Vec::new();
        for (at, one) in run.queue.iter().enumerate() {
            let Some(entry) = places.next_if(|entry| entry.at == at) else { continue };
            self.stage_note(now, run, one, entry.kept, &mut transaction);
            if entry.kept == Kept::Whole && !one.is_kept() {
                finish(run, one, &mut changes);
            }
        }
        self.stage_progress(run, &changes, &mut transaction);
        if let Err(error) = self.log.commit(now.instant, transaction) {
            let run = &mut self.functions[index];
            run.tally.last_failure = Some(error.to_string());
            run.notes_not_before = Some(now.instant + NO_ROOM_PAUSE);
            return false;
        }
        let run = &mut self.functions[index];
        run.install(changes);
        run.noted(&entries);
        true
    }

    /// Stages that these records are done: cursors, what is beyond them, and notes that are of
    /// no use any more. Answers how far the inputs then are.
    pub(crate) fn stage_done<'r>(
        &self,
        run: &FunctionRun,
        done: impl Iterator<Item = &'r InputRecord>,
        into: &mut Transaction,
    ) -> Vec<(usize, Progress)> {
        let mut changes: Vec<(usize, Progress)> = Vec::new();
        for one in done {
            match one.tries.kept {
                Kept::Not => {}
                Kept::Whole if self.planted == Some(PlantedBug::LaneNotCleared) => {}
                Kept::Count | Kept::Whole => {
                    let stream = run.intakes[one.source].stream;
                    self.notes.delete_try(&run.plan.name, (stream, one.seq), into);
                }
            }
            if !one.is_kept() {
                finish(run, one, &mut changes);
            }
        }
        self.stage_progress(run, &changes, into);
        changes
    }

    fn stage_progress(
        &self,
        run: &FunctionRun,
        changes: &[(usize, Progress)],
        into: &mut Transaction,
    ) {
        let notes = self.notes;
        for (source, progress) in changes {
            let (name, intake) = (run.plan.name.as_str(), &run.intakes[*source]);
            into.advance(intake.reader, progress.next());
            if self.planted == Some(PlantedBug::BeyondNotNoted) {
                continue;
            }
            if progress.has_beyond() {
                notes.put_progress(name, intake.stream, progress, into);
            } else if intake.noted {
                notes.delete_progress(name, intake.stream, into);
            }
            if intake.since_noted && intake.since_ms.is_none() {
                notes.put_since(name, intake.stream, None, into);
            }
        }
    }

    fn stage_note(
        &self,
        now: Now,
        run: &FunctionRun,
        one: &InputRecord,
        kept: Kept,
        into: &mut Transaction,
    ) {
        let record = match kept {
            Kept::Whole => Some(Record { publisher: None, ..one.record.clone() }),
            Kept::Not | Kept::Count => None,
        };
        let note = TryNote { failed: one.tries.failed, waited: one.tries.age(now.instant), record };
        let stream = run.intakes[one.source].stream;
        self.notes.put_try(&run.plan.name, (stream, one.seq), &note, into);
    }
}

impl FunctionRun {
    fn noted(&mut self, entries: &[Entry]) {
        let mut places = entries.iter().peekable();
        let lane = &mut self.lane;
        for (at, one) in self.queue.iter_mut().enumerate() {
            let Some(entry) = places.next_if(|entry| entry.at == at) else { continue };
            if entry.kept == Kept::Whole && !one.is_kept() {
                lane.add(one);
            }
            one.tries.kept = entry.kept;
            one.tries.noted = one.tries.failed;
        }
    }

    /// What was staged is committed.
    pub(crate) fn install(&mut self, changes: Vec<(usize, Progress)>) {
        for (source, progress) in changes {
            let intake = &mut self.intakes[source];
            intake.noted = progress.has_beyond();
            intake.since_noted &= intake.since_ms.is_some();
            intake.progress = progress;
        }
    }
}

/// Counts a record of a stream as done.
fn finish(run: &FunctionRun, one: &InputRecord, changes: &mut Vec<(usize, Progress)>) {
    let known = changes.iter().position(|(source, _)| *source == one.source);
    let at = known.unwrap_or_else(|| {
        changes.push((one.source, run.intakes[one.source].progress.clone()));
        changes.len() - 1
    });
    changes[at].1.finish(one.seq, one.seq.plus(1));
}

/// The pause before the next try when `failed` others have failed before this one: it doubles,
/// less up to half of it.
pub(crate) fn pause(failed: u16, seed: u64) -> Duration {
    let whole = RETRY_MIN.saturating_mul(1 << failed.min(16)).min(RETRY_MAX);
    // SplitMix64: one step, as good as any number that depends on all bits of the seed.
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let share = ((z ^ (z >> 31)) % 1_024) as u32;
    whole - whole / 2 * share / 1_024
}

/// Room in the log's tables for the retry lanes of so many functions.
pub(crate) fn lane_table_room(functions: usize) -> usize {
    functions * 2 * MAX_LANE_BYTES
}
