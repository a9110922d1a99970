//! One stream on its way up: which of its records are in flight, acknowledged out of order,
//! held back after a refusal, and where its cursor may stand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use tidegate_stream::{Epoch, Seq};

use crate::batch::SeqRange;
use crate::boundaries::Boundaries;
use crate::options::MAX_WINDOW;

/// Where a lane begins, and how it stands to the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStart {
    /// Name upstream: the stream's.
    pub stream: Arc<str>,
    /// The cursor: first record that is not upstream.
    pub cursor: Seq,
    /// As long as a lane of a higher priority has something to send, it goes first; lanes of the
    /// same priority take turns.
    pub priority: u8,
    /// Batches whose boundaries are persisted ([`Action::Seal`](crate::Action::Seal)), ascending.
    pub sealed: Vec<SeqRange>,
}

impl From<Seq> for LaneStart {
    /// A lane without a name and of priority 0, for tests.
    fn from(cursor: Seq) -> LaneStart {
        LaneStart { stream: Arc::from(""), cursor, priority: 0, sealed: Vec::new() }
    }
}

/// A record between "first sent" and "cursor has passed it".
#[derive(Clone, Copy, Debug)]
struct Slot {
    seq: Seq,
    progress: Progress,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    InFlight,
    /// Refused; to be asked for again at this time.
    Held {
        until: Instant,
    },
    /// Refused, and the time has come.
    Due,
    /// Acknowledged, rejected or gone; waits for the records before it.
    Done,
}

impl Progress {
    fn is_trouble(self) -> bool {
        match self {
            Progress::Held { .. } | Progress::Due => true,
            Progress::InFlight | Progress::Done => false,
        }
    }
}

/// See the module. Slots ascend by `seq` and end below `next`; the first is never `Done`.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) stream: Arc<str>,
    pub(crate) priority: u8,
    pub(crate) boundaries: Boundaries,
    /// Up to here the server says that it has everything: this epoch's records up to this
    /// sequence, and all of older epochs.
    held: Option<(Epoch, Seq)>,
    /// Records below it were there when the connection came about.
    backlog_end: Seq,
    /// First record never offered on this session.
    next: Seq,
    /// At most `MAX_WINDOW`.
    slots: VecDeque<Slot>,
    /// How many of them are `Held` or `Due`: usually none, and then nobody looks for them.
    troubled: usize,
    /// A batch was refused, and its records go one by one before any new one: order is kept.
    splitting: bool,
    /// What flow was last told.
    reported: Seq,
    /// The log had nothing to read, or not yet.
    exhausted: bool,
    /// Times the server called a record unacceptable. Outlives the session; at most as many
    /// entries as slots, emptied as the cursor passes.
    objections: BTreeMap<Seq, u32>,
    /// Records given up that the cursor has not passed yet, so that a new session does not send
    /// and give up the same again. Bounded like the objections.
    given_up: BTreeSet<Seq>,
}

impl Lane {
    pub(crate) fn new(start: LaneStart) -> Lane {
        let first = start.cursor;
        Lane {
            stream: start.stream,
            priority: start.priority,
            boundaries: Boundaries::new(start.sealed, first),
            held: None,
            backlog_end: first,
            next: first,
            slots: VecDeque::new(),
            troubled: 0,
            splitting: false,
            reported: first,
            exhausted: false,
            objections: BTreeMap::new(),
            given_up: BTreeSet::new(),
        }
    }

    /// First record that is not done.
    pub(crate) fn cursor(&self) -> Seq {
        self.slots.front().map_or(self.next, |slot| slot.seq)
    }

    /// First record never offered on this session.
    pub(crate) fn next(&self) -> Seq {
        self.next
    }

    /// What to read next, and how many records at most; `None` when there is nothing to read or
    /// no room.
    pub(crate) fn wanted(&self, window: usize) -> Option<(Seq, usize)> {
        if self.exhausted {
            return None;
        }
        let from = self.wanted_now();
        if from < self.next {
            return Some((from, 1));
        }
        if self.splitting && self.troubled > 0 {
            return None;
        }
        let span = usize::try_from(self.next.0 - self.cursor().0).unwrap_or(usize::MAX);
        let room = window.saturating_sub(self.slots.len()).min(MAX_WINDOW.saturating_sub(span));
        (room > 0).then_some((self.next, room))
    }

    /// The first record that is due again, else the next one.
    fn wanted_now(&self) -> Seq {
        if self.troubled == 0 {
            return self.next;
        }
        let due = self.slots.iter().find(|slot| slot.progress == Progress::Due);
        due.map_or(self.next, |slot| slot.seq)
    }

    /// Takes a record that was asked for; false when it is not the one.
    pub(crate) fn offer(&mut self, seq: Seq) -> bool {
        if let Some(slot) = self.slot(seq) {
            if slot.progress != Progress::Due {
                return false;
            }
            slot.progress = Progress::InFlight;
            self.troubled -= 1;
            self.splitting &= self.troubled > 0;
            return true;
        }
        if seq != self.next || self.slots.len() >= MAX_WINDOW {
            return false;
        }
        self.slots.push_back(Slot { seq, progress: Progress::InFlight });
        self.next = Seq(seq.0 + 1);
        self.pass_given_up();
        true
    }

    /// The log said that from the record wanted up to `next` all are gone. Held records before
    /// the one wanted are not meant: damage in the middle spares what comes before it.
    pub(crate) fn skip(&mut self, next: Seq) {
        let wanted = self.wanted_now();
        for slot in self.slots.iter_mut().filter(|slot| (wanted..next).contains(&slot.seq)) {
            if slot.progress.is_trouble() {
                slot.progress = Progress::Done;
                self.troubled -= 1;
            }
        }
        self.next = self.next.max(next);
        self.exhausted = false;
        self.pass_given_up();
        self.settle();
    }

    pub(crate) fn exhausted(&mut self) {
        self.exhausted = true;
    }

    pub(crate) fn wake(&mut self) {
        self.exhausted = false;
    }

    /// The record is given up, or was upstream already.
    pub(crate) fn finish(&mut self, seq: Seq) {
        self.finish_range(SeqRange { first: seq, last: seq });
    }

    /// Those of these that are in flight are done upstream.
    pub(crate) fn finish_range(&mut self, range: SeqRange) {
        self.put(range, Progress::InFlight, Progress::Done);
        self.settle();
    }

    /// The record is reported as rejected: done, and never sent again.
    pub(crate) fn give_up(&mut self, seq: Seq) {
        self.given_up.insert(seq);
        if let Some(slot) = self.slot(seq) {
            let before = std::mem::replace(&mut slot.progress, Progress::Done);
            self.troubled -= usize::from(before.is_trouble());
        }
        self.settle();
    }

    /// Refused: ask for each of these records that are in flight again at `until`, one by one. A
    /// record that was given up between them stays so.
    pub(crate) fn hold(&mut self, range: SeqRange, until: Instant) {
        let mut until = until;
        if range.first < range.last {
            // None of them before those that were refused before them.
            self.splitting = true;
            until = self.last_held().map_or(until, |last| last.max(until));
        }
        self.put(range, Progress::InFlight, Progress::Held { until });
    }

    /// From the first to the last of these that are in flight.
    pub(crate) fn in_flight(&self, range: SeqRange) -> Option<SeqRange> {
        let start = self.slots.partition_point(|slot| slot.seq < range.first);
        let these = self.slots.iter().skip(start).take_while(|slot| slot.seq <= range.last);
        let mut open = these.filter(|slot| slot.progress == Progress::InFlight);
        let first = open.next()?.seq;
        Some(SeqRange { first, last: open.last().map_or(first, |slot| slot.seq) })
    }

    fn last_held(&self) -> Option<Instant> {
        let held = self.slots.iter().filter_map(|slot| match slot.progress {
            Progress::Held { until } => Some(until),
            Progress::InFlight | Progress::Due | Progress::Done => None,
        });
        held.max()
    }

    /// What the server says that it has, at the beginning of a session.
    pub(crate) fn set_held(&mut self, held: Option<(Epoch, Seq)>) {
        self.held = held;
    }

    pub(crate) fn is_held(&self, epoch: Epoch, seq: Seq) -> bool {
        self.held.is_some_and(|held| (epoch, seq) <= held)
    }

    /// The server lost what it had acknowledged: records from `to` on are sent again.
    pub(crate) fn go_back(&mut self, to: Seq) {
        if to < self.cursor() {
            self.slots.clear();
            (self.next, self.reported) = (to, to);
            self.rewind();
        }
    }

    /// Whether the server said that it has records of this lane.
    pub(crate) fn is_known(&self) -> bool {
        self.held.is_some()
    }

    /// At the beginning of a session: what is below `end` is backlog.
    pub(crate) fn set_backlog(&mut self, end: Seq) {
        self.backlog_end = end;
    }

    /// Whether the next record was there before the connection.
    pub(crate) fn is_behind(&self) -> bool {
        self.next < self.backlog_end
    }

    /// Whether this record was offered before and is to be sent again.
    pub(crate) fn is_due(&self, seq: Seq) -> bool {
        let place = self.slots.binary_search_by_key(&seq, |slot| slot.seq);
        place.is_ok_and(|place| self.slots[place].progress == Progress::Due)
    }

    /// Counts that the server called this record unacceptable; returns how often it has.
    pub(crate) fn object(&mut self, seq: Seq) -> u32 {
        let count = self.objections.entry(seq).or_insert(0);
        *count = count.saturating_add(1);
        *count
    }

    /// Makes held records due whose time has come.
    pub(crate) fn release_held(&mut self, now: Instant) {
        if self.troubled == 0 {
            return;
        }
        for slot in &mut self.slots {
            if let Progress::Held { until } = slot.progress
                && until <= now
            {
                slot.progress = Progress::Due;
                self.exhausted = false;
            }
        }
    }

    /// When the next held record becomes due.
    pub(crate) fn held_until(&self) -> Option<Instant> {
        if self.troubled == 0 {
            return None;
        }
        let held = self.slots.iter().filter_map(|slot| match slot.progress {
            Progress::Held { until } => Some(until),
            Progress::InFlight | Progress::Due | Progress::Done => None,
        });
        held.min()
    }

    /// The connection is gone: everything from the cursor on is sent again.
    pub(crate) fn rewind(&mut self) {
        self.next = self.cursor();
        self.slots.clear();
        self.troubled = 0;
        self.splitting = false;
        self.exhausted = false;
        self.pass_given_up();
        self.settle();
    }

    /// The new cursor, once each time it has moved.
    pub(crate) fn take_advance(&mut self) -> Option<Seq> {
        let cursor = self.cursor();
        (cursor > self.reported).then(|| {
            self.reported = cursor;
            cursor
        })
    }

    /// Records given up on an earlier session count as sent and done.
    fn pass_given_up(&mut self) {
        while self.given_up.contains(&self.next) {
            self.slots.push_back(Slot { seq: self.next, progress: Progress::Done });
            self.next = Seq(self.next.0 + 1);
        }
    }

    fn put(&mut self, range: SeqRange, from: Progress, to: Progress) {
        let start = self.slots.partition_point(|slot| slot.seq < range.first);
        let these = self.slots.iter_mut().skip(start).take_while(|slot| slot.seq <= range.last);
        for slot in these.filter(|slot| slot.progress == from) {
            slot.progress = to;
            self.troubled += usize::from(to.is_trouble());
            self.troubled -= usize::from(from.is_trouble());
        }
    }

    fn slot(&mut self, seq: Seq) -> Option<&mut Slot> {
        let at = self.slots.binary_search_by_key(&seq, |slot| slot.seq).ok()?;
        self.slots.get_mut(at)
    }

    fn settle(&mut self) {
        while self.slots.front().is_some_and(|slot| slot.progress == Progress::Done) {
            self.slots.pop_front();
        }
        let cursor = self.cursor();
        while self.objections.first_key_value().is_some_and(|(seq, _)| *seq < cursor) {
            self.objections.pop_first();
        }
        while self.given_up.first().is_some_and(|seq| *seq < cursor) {
            self.given_up.pop_first();
        }
        self.boundaries.pass(cursor);
    }
}
