//! What of the loss ledger has been told already, as the table `losses` of the log remembers it:
//! disjoint pieces of sequences by stream and reason. Table format: `docs/formats/loss.md`.
//!
//! Invariant: a sequence is told once for each reason, however the ledger joins its entries and
//! in whatever order they are looked at.
//!
//! At most as many pieces are kept as the ledger has entries, about 100 bytes each: a piece whose
//! entry the ledger has forgotten is forgotten too.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_stream::{Loss, LossReason, Seq, StreamId};

/// Which stream and why, and the first sequence of the piece.
pub(crate) type PieceKey = (StreamId, LossReason, Seq);

/// What is known of a piece besides its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Its last sequence.
    pub(crate) last: Seq,
    /// What was told of its bytes.
    pub(crate) bytes: u64,
}

/// A part of a ledger entry that was not told yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Untold {
    pub(crate) first: Seq,
    pub(crate) last: Seq,
    pub(crate) bytes: u64,
    /// It goes on where something told ends: the entry has grown.
    pub(crate) grown: bool,
}

impl Untold {
    pub(crate) fn records(&self) -> u64 {
        (self.last.0 - self.first.0).saturating_add(1)
    }
}

/// All pieces.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Told {
    pieces: BTreeMap<PieceKey, Piece>,
}

impl Told {
    /// Reads the table; an entry that nobody wrote like this is left out.
    pub(crate) fn read<'t>(entries: impl IntoIterator<Item = (&'t Vec<u8>, &'t Vec<u8>)>) -> Told {
        let pieces = entries.into_iter().filter_map(|(key, value)| {
            Some((decode_key(key)?, Piece { last: seq(value, 0)?, bytes: seq(value, 8)?.0 }))
        });
        Told { pieces: pieces.filter(|(key, piece)| key.2 <= piece.last).collect() }
    }

    /// The parts of a ledger entry that are still to be told, in order.
    pub(crate) fn untold(&self, loss: &Loss) -> Vec<Untold> {
        if loss.last < loss.first {
            return Vec::new();
        }
        let mut told_bytes = 0_u64;
        let mut parts = Vec::new();
        let mut from = loss.first;
        for ((_, _, first), piece) in self.overlapping(loss) {
            told_bytes = told_bytes.saturating_add(piece.bytes);
            if *first > from {
                parts.push((from, Seq(first.0 - 1)));
            }
            from = from.max(piece.last.plus(1));
        }
        if from <= loss.last {
            parts.push((from, loss.last));
        }
        let records = |(first, last): &(Seq, Seq)| u128::from(last.0 - first.0) + 1;
        let all: u128 = parts.iter().map(records).sum();
        let bytes = u128::from(loss.bytes.saturating_sub(told_bytes));
        let untold = |part: &(Seq, Seq)| Untold {
            first: part.0,
            last: part.1,
            bytes: (bytes * records(part) / all.max(1)) as u64,
            grown: self.ends_before(loss, part.0).is_some(),
        };
        parts.iter().map(untold).collect()
    }

    /// Remembers that a part of `loss` was told; answers what the table has to say.
    pub(crate) fn note(&mut self, loss: &Loss, part: &Untold) -> (PieceKey, Piece) {
        // A piece of another entry is not made longer, or the bytes told of either would be wrong.
        let before = self.ends_before(loss, part.first).filter(|(key, _)| key.2 >= loss.first);
        let (key, bytes) = match before {
            Some((key, piece)) => (key, piece.bytes.saturating_add(part.bytes)),
            None => ((loss.stream, loss.reason, part.first), part.bytes),
        };
        let piece = Piece { last: part.last, bytes };
        self.pieces.insert(key, piece);
        (key, piece)
    }

    /// Drops the pieces that no entry of the ledger is about any more, at most `max`.
    pub(crate) fn forget<'l>(
        &mut self,
        ledger: impl Iterator<Item = &'l Loss>,
        max: usize,
    ) -> Vec<PieceKey> {
        let mut needed = BTreeSet::new();
        for loss in ledger {
            needed.extend(self.overlapping(loss).map(|(key, _)| *key));
        }
        let unneeded = self.pieces.keys().filter(|key| !needed.contains(*key));
        let unneeded: Vec<PieceKey> = unneeded.take(max).copied().collect();
        for key in &unneeded {
            self.pieces.remove(key);
        }
        unneeded
    }

    /// The pieces that have something of the entry, in order.
    fn overlapping(&self, loss: &Loss) -> impl Iterator<Item = (&PieceKey, &Piece)> {
        let of = |first| (loss.stream, loss.reason, first);
        let first = self
            .pieces
            .range(of(Seq(0))..=of(loss.first))
            .next_back()
            .filter(|(_, piece)| piece.last >= loss.first)
            .map_or(loss.first, |(key, _)| key.2);
        let end = loss.last.max(first);
        self.pieces.range(of(first)..=of(end))
    }

    /// The piece that ends right before `first`.
    fn ends_before(&self, loss: &Loss, first: Seq) -> Option<(PieceKey, Piece)> {
        let of = |first| (loss.stream, loss.reason, first);
        let (key, piece) = self.pieces.range(of(Seq(0))..of(first)).next_back()?;
        (piece.last.plus(1) == first).then_some((*key, *piece))
    }
}

/// `stream u16, code of the reason u8, first u64`, big-endian so that the table's order is that
/// of the pieces.
pub(crate) fn encode_key((stream, reason, first): PieceKey) -> Vec<u8> {
    let mut key = stream.0.to_be_bytes().to_vec();
    key.push(reason.code());
    key.extend_from_slice(&first.0.to_be_bytes());
    key
}

/// `last u64, bytes u64`, big-endian.
pub(crate) fn encode_piece(piece: Piece) -> Vec<u8> {
    [piece.last.0.to_be_bytes(), piece.bytes.to_be_bytes()].concat()
}

fn decode_key(key: &[u8]) -> Option<PieceKey> {
    let stream = StreamId(u16::from_be_bytes(*key.first_chunk::<2>()?));
    Some((stream, LossReason::from_code(*key.get(2)?)?, seq(key, 3)?))
}

fn seq(bytes: &[u8], at: usize) -> Option<Seq> {
    Some(Seq(u64::from_be_bytes(*bytes.get(at..)?.first_chunk::<8>()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loss(first: u64, last: u64, bytes: u64) -> Loss {
        Loss {
            stream: StreamId(3),
            first: Seq(first),
            last: Seq(last),
            records: last - first + 1,
            bytes,
            reason: LossReason::Quota,
            unix_ms: 5,
        }
    }

    /// Tells what is untold of an entry; answers first, last and bytes of each part.
    fn tell(told: &mut Told, loss: &Loss) -> Vec<(u64, u64, u64)> {
        let parts = told.untold(loss);
        for part in &parts {
            told.note(loss, part);
        }
        parts.iter().map(|part| (part.first.0, part.last.0, part.bytes)).collect()
    }

    #[test]
    fn an_entry_that_grows_is_told_in_parts_that_add_up() {
        let mut told = Told::default();
        assert_eq!(tell(&mut told, &loss(1, 10, 100)), [(1, 10, 100)]);
        assert_eq!(tell(&mut told, &loss(1, 10, 100)), []);
        assert!(told.untold(&loss(1, 15, 170))[0].grown);
        assert_eq!(tell(&mut told, &loss(1, 15, 170)), [(11, 15, 70)]);
        assert_eq!(told.pieces.len(), 1);
    }

    #[test]
    fn other_streams_and_reasons_are_told_by_themselves() {
        let mut told = Told::default();
        tell(&mut told, &loss(1, 10, 100));
        let other = Loss { stream: StreamId(4), ..loss(1, 10, 100) };
        assert_eq!(tell(&mut told, &other), [(1, 10, 100)]);
        let other = Loss { reason: LossReason::Refused, ..loss(5, 5, 9) };
        assert_eq!(tell(&mut told, &other), [(5, 5, 9)]);
    }

    #[test]
    fn two_entries_of_the_ledger_that_touch_keep_their_bytes_apart() {
        let mut told = Told::default();
        tell(&mut told, &loss(1, 10, 100));
        // Too many others came between: the ledger began a new entry.
        assert_eq!(tell(&mut told, &loss(11, 12, 20)), [(11, 12, 20)]);
        assert_eq!(tell(&mut told, &loss(11, 14, 44)), [(13, 14, 24)]);
        assert_eq!(told.pieces.len(), 2);
    }

    #[test]
    fn what_the_ledger_has_forgotten_is_forgotten() {
        let mut told = Told::default();
        let all = [loss(1, 10, 100), loss(20, 30, 1), loss(40, 40, 1)];
        all.iter().for_each(|loss| drop(tell(&mut told, loss)));
        let gone = told.forget(all[1..].iter(), 10);
        assert_eq!(gone, [(StreamId(3), LossReason::Quota, Seq(1))]);
        assert_eq!(told.forget(all[1..].iter(), 10), []);
        assert_eq!(told.pieces.len(), 2);
    }

    #[test]
    fn the_table_gives_back_what_was_noted_and_nothing_else() {
        let mut told = Told::default();
        let mut table = BTreeMap::new();
        for loss in [loss(1, 10, 100), loss(20, u64::MAX, u64::MAX)] {
            for part in told.untold(&loss) {
                let (key, piece) = told.note(&loss, &part);
                table.insert(encode_key(key), encode_piece(piece));
            }
        }
        table.insert(b"short".to_vec(), Vec::new());
        table.insert(vec![0, 3, 99, 0, 0, 0, 0, 0, 0, 0, 1], vec![0; 16]);
        assert_eq!(Told::read(&table), told);
    }

    /// Every sequence of every entry is told once, whatever overlaps.
    #[test]
    fn each_sequence_is_told_once_for_a_reason() {
        let mut seed = 7_u64;
        let mut random = |end: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % end
        };
        for _ in 0..200 {
            let mut told = Told::default();
            let mut times = [0; 64];
            let mut due = [false; 64];
            for _ in 0..12 {
                let first = 1 + random(40);
                let last = first + random(12);
                due[first as usize..=last as usize].fill(true);
                for (from, to, _) in tell(&mut told, &loss(first, last, 1000)) {
                    times[from as usize..=to as usize].iter_mut().for_each(|n| *n += 1);
                }
            }
            assert_eq!(times.map(|n| n == 1), due);
        }
    }
}
