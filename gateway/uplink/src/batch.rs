//! Batches: consecutive records of one lane that are sent and answered as one.

use std::sync::Arc;
use std::time::Instant;

use tidegate_stream::{Epoch, Seq};

use crate::action::LaneId;
use crate::record::OutboundRecord;

/// The first and the last sequence of a batch, both part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqRange {
    /// First.
    pub first: Seq,
    /// Last.
    pub last: Seq,
}

impl SeqRange {
    /// Whether `seq` is one of them.
    #[must_use]
    pub fn contains(&self, seq: Seq) -> bool {
        (self.first..=self.last).contains(&seq)
    }
}

/// What a driver sends as one unit. All records have the epoch and the stream of the batch,
/// ascend by sequence, and there is at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The lane.
    pub lane: LaneId,
    /// Its name upstream: the stream's.
    pub stream: Arc<str>,
    /// Epoch of the records.
    pub epoch: Epoch,
    /// What the batch covers. A record in it that is missing from `records` is lost; for a sink
    /// whose batches are sealed the range stays the same however often the batch is sent.
    pub range: SeqRange,
    /// The records.
    pub records: Vec<OutboundRecord>,
}

/// Records of a batch that went in a message of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// From the first to the last of them.
    pub range: SeqRange,
    /// How many.
    pub records: usize,
    /// Their bytes, in the measure of the window.
    pub bytes: usize,
}

impl Part {
    /// All of this batch.
    pub(crate) fn of(batch: &Batch) -> Part {
        let bytes = batch.records.iter().map(OutboundRecord::len_bytes).sum();
        Part { range: batch.range, records: batch.records.len(), bytes }
    }
}

/// A batch that is not closed yet.
#[derive(Clone, Debug)]
pub(crate) struct Collecting {
    pub(crate) epoch: Epoch,
    pub(crate) records: Vec<OutboundRecord>,
    pub(crate) bytes: usize,
    pub(crate) since: Instant,
    /// The boundaries that were persisted for it before.
    pub(crate) sealed: Option<SeqRange>,
}

impl Collecting {
    /// A batch of at most `most` records.
    pub(crate) fn new(
        now: Instant,
        epoch: Epoch,
        sealed: Option<SeqRange>,
        most: usize,
    ) -> Collecting {
        // A list that grows begins with room for four: for one record by itself that is a kilobyte
        // to ask for and to give back.
        let records = if most == 1 { Vec::with_capacity(1) } else { Vec::new() };
        Collecting { epoch, records, bytes: 0, since: now, sealed }
    }

    pub(crate) fn push(&mut self, record: OutboundRecord) {
        self.bytes += record.len_bytes();
        self.records.push(record);
    }

    /// From the first to the last record, or what was persisted.
    pub(crate) fn range(&self) -> Option<SeqRange> {
        let own = SeqRange { first: self.records.first()?.seq, last: self.records.last()?.seq };
        Some(self.sealed.unwrap_or(own))
    }

    /// Whether nothing more belongs to it because its boundary is reached.
    pub(crate) fn is_sealed_full(&self) -> bool {
        let last = self.records.last().map(|record| record.seq);
        self.sealed.is_some_and(|range| last >= Some(range.last))
    }
}
