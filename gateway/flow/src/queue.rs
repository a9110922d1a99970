//! Records that a function has read and not done, in the order in which they came, and which of
//! them a call may take now.
//!
//! Invariants: the queue is in order of the tickets, which a record keeps when it comes back from
//! a call; what is in a call is not in the queue.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidegate_stream::{Record, Seq};

use crate::attributes::Attributes;
use crate::canary::Split;
use crate::plan::Ordering;

/// The partition key of a record; those without one share a lane.
pub(crate) type Key = Option<Arc<str>>;

/// A record that a call is about.
#[derive(Debug)]
pub(crate) struct InputRecord {
    /// Which of the function's inputs it came by.
    pub(crate) source: usize,
    pub(crate) seq: Seq,
    pub(crate) record: Record,
    pub(crate) attributes: Attributes,
    /// Read only where the ordering asks for it.
    pub(crate) key: Key,
    pub(crate) tries: Tries,
    ticket: u64,
}

/// What has been tried with a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tries {
    /// Most records of a call that it is in: halved by failures.
    pub(crate) company: usize,
    /// Tries that have failed and count.
    pub(crate) failed: u16,
    /// When the first of them in this life of the gateway ended.
    pub(crate) since: Option<Instant>,
    /// Time between the first and the last in earlier lives.
    pub(crate) before: Duration,
    /// Not to be tried again before.
    pub(crate) due: Option<Instant>,
    pub(crate) kept: Kept,
    /// What the table of notes has of `failed`.
    pub(crate) noted: u16,
    /// A canary gave it up: the version that runs gets it.
    pub(crate) handed_back: bool,
}

/// What the table of notes has of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// Nothing.
    Not,
    /// Its count of tries; the record is in its stream.
    Count,
    /// All of it: its stream needs it no more.
    Whole,
}

impl Tries {
    /// Never tried.
    pub(crate) const NONE: Tries = Tries {
        company: usize::MAX,
        failed: 0,
        since: None,
        before: Duration::ZERO,
        due: None,
        kept: Kept::Not,
        noted: 0,
        handed_back: false,
    };

    /// How long it has been tried, while the gateway ran.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        let here = self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.before.saturating_add(here)
    }
}

impl InputRecord {
    pub(crate) fn new(source: usize, seq: Seq, record: Record, attributes: Attributes) -> Self {
        let (key, tries) = (None, Tries::NONE);
        InputRecord { source, seq, record, attributes, key, tries, ticket: 0 }
    }

    /// Whether the retry lane has it, so that its stream need not.
    pub(crate) fn is_kept(&self) -> bool {
        self.tries.kept == Kept::Whole
    }

    /// As [`ReadLimit`](tidegate_stream::ReadLimit) counts.
    pub(crate) fn bytes(&self) -> usize {
        let record = &self.record;
        record.payload.len() + record.attributes.len() + record.topic.len() + record.client.len()
    }
}

/// Lanes that nothing may be taken from.
#[derive(Debug)]
struct Lanes<'a> {
    ordering: Ordering,
    busy: &'a BTreeSet<Key>,
    passed: BTreeSet<Key>,
}

impl Lanes<'_> {
    fn is_closed(&self, key: &Key) -> bool {
        match self.ordering {
            Ordering::Strict | Ordering::None => false,
            Ordering::PerKey => self.busy.contains(key) || self.passed.contains(key),
        }
    }

    /// A record stays behind: what is behind it in its lane stays too.
    fn close(&mut self, key: &Key) {
        if self.ordering == Ordering::PerKey && !self.passed.contains(key) {
            self.passed.insert(key.clone());
        }
    }
}

/// What a call may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Want<'a> {
    pub(crate) now: Instant,
    pub(crate) ordering: Ordering,
    /// Keys that are in calls.
    pub(crate) busy: &'a BTreeSet<Key>,
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    /// Nothing but what the retry lane has.
    pub(crate) kept_only: bool,
    /// Nothing but what came by this input.
    pub(crate) only: Option<usize>,
    /// What came by this input is in no call with others.
    pub(crate) apart: Option<usize>,
    /// For each input, the sequence to stop at, if there is one.
    pub(crate) ends: &'a [Option<Seq>],
    /// With a canary: for which of the two versions.
    pub(crate) split: Option<Split<'a>>,
}

impl Want<'_> {
    fn allows(&self, record: &InputRecord) -> bool {
        let waits = record.tries.due.is_some_and(|due| self.now < due);
        let here = self.split.is_none_or(|split| split.has(record));
        !waits && here && (!self.kept_only || record.is_kept())
    }

    fn is_apart(&self, one: &InputRecord, other: &InputRecord) -> bool {
        let by = |record: &InputRecord| self.apart == Some(record.source);
        by(one) != by(other)
    }

    fn is_beyond(&self, record: &InputRecord) -> bool {
        let end = self.ends.get(record.source).copied().flatten();
        end.is_some_and(|end| record.seq >= end)
    }
}

/// What a call takes.
#[derive(Debug, Default)]
pub(crate) struct Picked {
    pub(crate) batch: Vec<InputRecord>,
    pub(crate) bytes: usize,
    /// No more would have been taken, though there might be more.
    pub(crate) full: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    records: VecDeque<InputRecord>,
    bytes: usize,
    tickets: u64,
    /// Some have been in a call before.
    mixed: bool,
}

impl Queue {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether some of it may have been in a call, or in the retry lane.
    pub(crate) fn is_mixed(&self) -> bool {
        self.mixed
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &InputRecord> {
        self.records.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut InputRecord> {
        self.records.iter_mut()
    }

    /// When the first of those that wait for their time may be tried again.
    pub(crate) fn next_due(&self, now: Instant) -> Option<Instant> {
        let records = self.records.iter().take(if self.mixed { usize::MAX } else { 0 });
        records.filter_map(|record| record.tries.due).filter(|due| *due > now).min()
    }

    /// One more, behind all.
    pub(crate) fn push(&mut self, mut record: InputRecord) {
        self.mixed |= record.tries.kept != Kept::Not;
        record.ticket = self.tickets;
        self.tickets += 1;
        self.bytes += record.bytes();
        self.records.push_back(record);
    }

    /// What calls give back stands where it stood.
    pub(crate) fn put_back(&mut self, mut back: Vec<InputRecord>) {
        self.mixed = true;
        back.sort_unstable_by_key(|one| one.ticket);
        self.bytes += back.iter().map(InputRecord::bytes).sum::<usize>();
        let (Some(last), first) = (back.last(), self.records.front()) else { return };
        if first.is_none_or(|first| last.ticket < first.ticket) {
            for record in back.into_iter().rev() {
                self.records.push_front(record);
            }
            return;
        }
        let mut merged = VecDeque::with_capacity(self.records.len() + back.len());
        let mut back = back.into_iter().peekable();
        for record in self.records.drain(..) {
            while let Some(before) = back.next_if(|one| one.ticket < record.ticket) {
                merged.push_back(before);
            }
            merged.push_back(record);
        }
        merged.extend(back);
        self.records = merged;
    }

    /// Only those stay.
    pub(crate) fn retain(&mut self, stays: impl FnMut(&InputRecord) -> bool) {
        self.records.retain(stays);
        self.bytes = self.records.iter().map(InputRecord::bytes).sum();
    }

    /// Takes what a call may have now, in order.
    pub(crate) fn pick(&mut self, want: &Want<'_>) -> Picked {
        self.mixed &= !self.is_empty();
        if !self.mixed && self.fits(want) {
            return self.take_all(want);
        }
        let passed = BTreeSet::new();
        let mut lanes = Lanes { ordering: want.ordering, busy: want.busy, passed };
        let mut picked = Picked::default();
        let mut stays: Vec<InputRecord> = Vec::new();
        let mut company = want.records;
        while let Some(record) = self.records.pop_front() {
            if want.is_beyond(&record) || want.only.is_some_and(|only| only != record.source) {
                stays.push(record);
                continue;
            }
            if !want.allows(&record) || lanes.is_closed(&record.key) {
                lanes.close(&record.key);
                stays.push(record);
                match want.ordering {
                    Ordering::Strict => break,
                    Ordering::PerKey | Ordering::None => continue,
                }
            }
            let (with, bytes) = (company.min(record.tries.company), record.bytes());
            let apart = picked.batch.first().is_some_and(|first| want.is_apart(first, &record));
            let crowded = picked.batch.len() >= with || picked.bytes + bytes > want.bytes || apart;
            if crowded && !picked.batch.is_empty() {
                picked.full = true;
                stays.push(record);
                break;
            }
            company = with;
            picked.bytes += bytes;
            picked.batch.push(record);
        }
        picked.full |= picked.batch.len() >= company || picked.bytes >= want.bytes;
        for record in stays.into_iter().rev() {
            self.records.push_front(record);
        }
        self.bytes -= picked.bytes;
        picked
    }

    /// Whether nothing can keep a part of the queue out of the call.
    fn fits(&self, want: &Want<'_>) -> bool {
        let free = !want.kept_only && want.busy.is_empty() && want.ends.iter().all(Option::is_none);
        free && want.apart.is_none()
            && want.split.is_none()
            && self.records.len() <= want.records
            && self.bytes <= want.bytes
    }

    /// The usual case: what was read is one batch, and moves nowhere. The next one is likely to be as
    /// large: it finds the room, where it would grow and be copied many times.
    fn take_all(&mut self, want: &Want<'_>) -> Picked {
        let room = VecDeque::with_capacity(self.records.len());
        let batch = Vec::from(std::mem::replace(&mut self.records, room));
        let bytes = std::mem::take(&mut self.bytes);
        let full = batch.len() >= want.records || bytes >= want.bytes;
        Picked { batch, bytes, full }
    }
}
