//! The loss ledger: which records are gone, when and why. Nothing disappears without an entry.

use std::collections::{BTreeMap, VecDeque};

use crate::ids::{Seq, StreamId};
use crate::varint;

/// Why records are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LossReason {
    /// Dropped, oldest first, to stay below the stream's quota.
    Quota,
    /// Older than they were allowed to become.
    Expired,
    /// What the disk gave back is not what was written.
    Damaged,
    /// Refused for good by what should have handled them, and moved to the dead letters.
    DeadLetter,
    /// Discarded by the operator.
    Discarded,
    /// Refused for good by an upstream.
    Refused,
    /// An upstream acknowledged them, and did not have them any more when it was asked; by then
    /// they were not kept here either.
    LostUpstream,
}

impl LossReason {
    /// Every reason, in the order of their codes.
    pub const ALL: [LossReason; 7] = [
        LossReason::Quota,
        LossReason::Expired,
        LossReason::Damaged,
        LossReason::DeadLetter,
        LossReason::Discarded,
        LossReason::Refused,
        LossReason::LostUpstream,
    ];

    /// The number that stores have for it; it never changes.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            LossReason::Quota => 1,
            LossReason::Expired => 2,
            LossReason::Damaged => 3,
            LossReason::DeadLetter => 4,
            LossReason::Discarded => 5,
            LossReason::Refused => 6,
            LossReason::LostUpstream => 7,
        }
    }

    /// The reason with this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<LossReason> {
        LossReason::ALL.into_iter().find(|reason| reason.code() == code)
    }

    /// The word that commands, metrics and loss records use; it never changes.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            LossReason::Quota => "quota",
            LossReason::Expired => "expired",
            LossReason::Damaged => "damaged",
            LossReason::DeadLetter => "dead-letter",
            LossReason::Discarded => "discarded",
            LossReason::Refused => "refused",
            LossReason::LostUpstream => "lost-upstream",
        }
    }
}

/// What one stream lost for one reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LostTotal {
    /// Why.
    pub reason: LossReason,
    /// How many records.
    pub records: u64,
    /// How many bytes they took.
    pub bytes: u64,
}

/// Records of one stream that are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// The stream.
    pub stream: StreamId,
    /// First sequence lost.
    pub first: Seq,
    /// Last sequence lost.
    pub last: Seq,
    /// How many records.
    pub records: u64,
    /// How many bytes they took; an estimate where they could not be read.
    pub bytes: u64,
    /// Why.
    pub reason: LossReason,
    /// When, milliseconds since 1970 by the gateway's clock.
    pub unix_ms: i64,
}

impl Loss {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, u64::from(self.stream.0));
        out.push(self.reason.code());
        varint::put(out, self.first.0);
        varint::put(out, self.last.0);
        varint::put(out, self.records);
        varint::put(out, self.bytes);
        varint::put_signed(out, self.unix_ms);
    }

    pub(crate) fn decode(bytes: &[u8], at: &mut usize) -> Option<Loss> {
        let stream = StreamId(u16::try_from(varint::get(bytes, at)?).ok()?);
        let reason = LossReason::from_code(*bytes.get(*at)?)?;
        *at += 1;
        Some(Loss {
            stream,
            reason,
            first: Seq(varint::get(bytes, at)?),
            last: Seq(varint::get(bytes, at)?),
            records: varint::get(bytes, at)?,
            bytes: varint::get(bytes, at)?,
            unix_ms: varint::get_signed(bytes, at)?,
        })
    }

    /// Takes in `next` when it goes on where this one ends.
    pub(crate) fn absorb(&mut self, next: &Loss) -> bool {
        let adjacent = self.stream == next.stream
            && self.reason == next.reason
            && self.last.plus(1) == next.first;
        if adjacent {
            self.last = next.last;
            self.records = self.records.saturating_add(next.records);
            self.bytes = self.bytes.saturating_add(next.bytes);
            self.unix_ms = next.unix_ms;
        }
        adjacent
    }
}

/// The newest losses, bounded; neighbours are kept as one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    entries: VecDeque<Loss>,
    /// Records and bytes of all that was entered since the log was opened, what the store named
    /// then included; so it never falls while the log is open.
    totals: BTreeMap<(StreamId, LossReason), (u64, u64)>,
    /// How often something was entered.
    entered: u64,
}

/// How far back a new loss looks for the one that it continues.
const MERGE_DEPTH: usize = 32;

impl Ledger {
    pub(crate) fn add(&mut self, loss: Loss, max_entries: usize) {
        self.entered += 1;
        let (records, bytes) = self.totals.entry((loss.stream, loss.reason)).or_default();
        *records = records.saturating_add(loss.records);
        *bytes = bytes.saturating_add(loss.bytes);
        let merged = self.entries.iter_mut().rev().take(MERGE_DEPTH).any(|e| e.absorb(&loss));
        if merged {
            return;
        }
        self.entries.push_back(loss);
        while self.entries.len() > max_entries {
            self.entries.pop_front();
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Loss> {
        self.entries.iter()
    }

    /// How often something was entered: the entries are the same as long as this is.
    pub(crate) fn entered(&self) -> u64 {
        self.entered
    }

    /// What a stream lost, by reason.
    pub(crate) fn totals(&self, stream: StreamId) -> impl Iterator<Item = LostTotal> {
        let own = self.totals.iter().filter(move |((id, _), _)| *id == stream);
        own.map(|((_, reason), (records, bytes))| LostTotal {
            reason: *reason,
            records: *records,
            bytes: *bytes,
        })
    }

    /// The parts of `first` to `end` (not included) that no entry says are gone, in order.
    pub(crate) fn untold(&self, stream: StreamId, first: Seq, end: Seq) -> Vec<(Seq, Seq)> {
        let own = self.entries.iter().filter(|loss| loss.stream == stream);
        let mut told: Vec<_> = own.map(|loss| (loss.first, loss.last.plus(1))).collect();
        told.sort_unstable();
        let mut untold = Vec::new();
        let mut from = first;
        for (told_from, told_to) in told {
            if told_from > from && from < end {
                untold.push((from, told_from.min(end)));
            }
            from = from.max(told_to);
        }
        if from < end {
            untold.push((from, end));
        }
        untold
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    fn loss(stream: u16, first: u64, last: u64) -> Loss {
        Loss {
            stream: StreamId(stream),
            first: Seq(first),
            last: Seq(last),
            records: last - first + 1,
            bytes: 10,
            reason: LossReason::Quota,
            unix_ms: 5,
        }
    }

    #[test]
    fn neighbouring_losses_become_one_entry() {
        let mut ledger = Ledger::default();
        for add in [loss(1, 1, 3), loss(2, 1, 1), loss(1, 4, 9), loss(1, 11, 11)] {
            ledger.add(add, 10);
        }
        let spans: Vec<_> = ledger.iter().map(|l| (l.stream.0, l.first.0, l.last.0)).collect();
        assert_eq!(spans, [(1, 1, 9), (2, 1, 1), (1, 11, 11)]);
        assert_eq!(ledger.iter().next().map(|l| (l.records, l.bytes)), Some((9, 20)));
    }

    #[test]
    fn the_totals_go_by_stream_and_reason_and_never_forget() {
        let mut ledger = Ledger::default();
        for n in 0..100 {
            ledger.add(loss(1, n * 10 + 1, n * 10 + 2), 7);
        }
        ledger.add(Loss { reason: LossReason::Refused, ..loss(1, 5, 5) }, 7);
        ledger.add(loss(2, 1, 4), 7);
        let of = |id| ledger.totals(StreamId(id)).collect::<Vec<_>>();
        let total = |reason, records, bytes| LostTotal { reason, records, bytes };
        assert_eq!(of(1), [total(LossReason::Quota, 200, 1000), total(LossReason::Refused, 1, 10)]);
        assert_eq!(of(2), [total(LossReason::Quota, 4, 10)]);
        assert_eq!((of(0).len(), of(3).len(), ledger.entered()), (0, 0, 102));
    }

    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let names: BTreeSet<_> = LossReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), LossReason::ALL.len());
    }

    #[test]
    fn the_ledger_keeps_the_newest_entries_only() {
        let mut ledger = Ledger::default();
        for n in 0..100 {
            ledger.add(loss(1, n * 10 + 1, n * 10 + 2), 7);
        }
        assert_eq!(ledger.iter().count(), 7);
        assert_eq!(ledger.untold(StreamId(1), Seq(991), Seq(993)), []);
        assert_eq!(ledger.untold(StreamId(1), Seq(1), Seq(3)), [(Seq(1), Seq(3))]);
    }

    proptest! {
        #[test]
        fn what_the_ledger_does_not_tell_is_found(
            told in proptest::collection::vec((0u16..2, 1u64..40, 0u64..9), 0..12), first in 1u64..40, len in 0u64..20,
        ) {
            let mut ledger = Ledger::default();
            told.iter().for_each(|(stream, from, more)| ledger.add(loss(*stream, *from, from + more), 100));
            let end = first + len;
            let names = |seq: &u64| told.iter().any(|(s, from, more)| *s == 1 && (*from..=from + more).contains(seq));
            let expected: Vec<u64> = (first..end).filter(|seq| !names(seq)).collect();
            let untold = ledger.untold(StreamId(1), Seq(first), Seq(end));
            let found: Vec<u64> = untold.iter().flat_map(|(from, to)| from.0..to.0).collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn every_loss_comes_back(
            stream: u16, first: u64, last: u64, records: u64, bytes: u64, unix_ms: i64, reason in 0usize..7,
        ) {
            let loss = Loss {
                stream: StreamId(stream), first: Seq(first), last: Seq(last), records, bytes, unix_ms,
                reason: LossReason::ALL[reason],
            };
            let mut out = Vec::new();
            loss.encode(&mut out);
            let mut at = 0;
            prop_assert_eq!(Loss::decode(&out, &mut at), Some(loss));
            prop_assert_eq!(at, out.len());
        }
    }
}
