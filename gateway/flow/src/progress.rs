//! What of a stream a function has done: everything before one sequence, and some beyond it.
//!
//! The sequence is the log's cursor. What is done beyond it is written to the table of
//! [`notes`](crate::notes) in the same commit, as a bitmap.
//!
//! Invariants: the ranges beyond ascend, do not touch, and lie behind the cursor.

use tidegate_stream::Seq;

/// How far calls may run ahead of the cursor, in records: the bitmap takes an eighth of it in
/// bytes (2 KiB), and the ranges in memory at most 16 bytes for each second record (128 KiB).
pub(crate) const MAX_AHEAD: u64 = 16_384;

/// Version of the encoding.
const VERSION: u8 = 1;

/// Sequences from the first up to, and without, the second.
type Range = (Seq, Seq);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    next: Seq,
    beyond: Vec<Range>,
}

impl Progress {
    /// Everything before `next` is done, and nothing beyond.
    pub(crate) fn new(next: Seq) -> Progress {
        Progress { next, beyond: Vec::new() }
    }

    /// The first sequence that is not done: where the cursor belongs.
    pub(crate) fn next(&self) -> Seq {
        self.next
    }

    /// Whether something beyond the cursor is done.
    pub(crate) fn has_beyond(&self) -> bool {
        !self.beyond.is_empty()
    }

    /// How many records beyond the cursor are done.
    pub(crate) fn beyond(&self) -> u64 {
        self.beyond.iter().map(|(first, end)| end.0 - first.0).sum()
    }

    /// The first sequence at or behind `from` that is not done, and how many follow each other
    /// from there before one that is.
    pub(crate) fn gap(&self, from: Seq) -> (Seq, u64) {
        let from = from.max(self.next);
        let at = self.beyond.partition_point(|(_, end)| *end <= from);
        let (from, at) = match self.beyond.get(at) {
            Some((first, end)) if *first <= from => (*end, at + 1),
            Some(_) | None => (from, at),
        };
        let until = self.beyond.get(at).map_or(u64::MAX, |(first, _)| first.0);
        (from, until - from.0)
    }

    /// The records from `from` up to, and without, `end` are done.
    pub(crate) fn finish(&mut self, from: Seq, end: Seq) {
        let from = from.max(self.next);
        if end <= from {
            return;
        }
        let first = self.beyond.partition_point(|(_, old)| *old < from);
        let after = self.beyond.partition_point(|(old, _)| *old <= end);
        let mut merged = (from, end);
        if let Some(touched) = self.beyond.get(first..after).filter(|old| !old.is_empty()) {
            merged.0 = from.min(touched[0].0);
            merged.1 = end.max(touched[touched.len() - 1].1);
        }
        if merged.0 == self.next {
            self.next = merged.1;
            self.beyond.drain(..after);
        } else {
            self.beyond.splice(first..after, [merged]);
        }
    }

    /// Nothing before `next` is of interest any more.
    pub(crate) fn raise(&mut self, next: Seq) {
        self.finish(self.next, next);
    }

    /// What is beyond the cursor (docs/formats/functions.md).
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.next.0.to_le_bytes());
        let head = bytes.len();
        for (first, end) in &self.beyond {
            for at in first.0 - self.next.0..end.0 - self.next.0 {
                let byte = head + (at / 8) as usize;
                bytes.resize(bytes.len().max(byte + 1), 0);
                bytes[byte] |= 1 << (at % 8);
            }
        }
        bytes
    }

    /// Reads it back. `None` for what no gateway of this version wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Progress> {
        let (version, rest) = bytes.split_first()?;
        let (next, bitmap) = rest.split_first_chunk::<8>()?;
        let next = u64::from_le_bytes(*next);
        if *version != VERSION || next.checked_add(8 * bitmap.len() as u64).is_none() {
            return None;
        }
        let mut progress = Progress::new(Seq(next));
        for (at, byte) in (0..).zip(bitmap) {
            for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                let seq = Seq(next + 8 * at + bit);
                progress.finish(seq, seq.plus(1));
            }
        }
        Some(progress)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_closes_the_gap_moves_the_cursor_over_all_that_follows() {
        let mut progress = Progress::new(Seq(10));
        progress.finish(Seq(12), Seq(15));
        progress.finish(Seq(20), Seq(21));
        assert_eq!((progress.next(), progress.gap(Seq(0))), (Seq(10), (Seq(10), 2)));
        assert_eq!(progress.gap(Seq(12)), (Seq(15), 5));
        progress.finish(Seq(10), Seq(12));
        assert_eq!((progress.next(), progress.has_beyond()), (Seq(15), true));
        progress.raise(Seq(20));
        assert_eq!((progress.next(), progress.has_beyond()), (Seq(21), false));
    }

    #[test]
    fn what_no_gateway_wrote_is_not_read() {
        for bytes in [&[][..], &[1, 0], &[2, 1, 0, 0, 0, 0, 0, 0, 0], &[1; 8]] {
            assert_eq!(Progress::decode(bytes), None, "{bytes:?}");
        }
        let full = [&[1][..], &[0xff; 9]].concat();
        assert_eq!(Progress::decode(&full), None, "a sequence beyond the last");
    }

    proptest! {
        #[test]
        fn records_done_in_any_order_are_done_and_no_others(
            order in prop::collection::vec((1..200_u64, 0..9_u64), 0..80),
            raised in 0..220_u64,
            restart in any::<bool>(),
        ) {
            let mut progress = Progress::new(Seq(1));
            let mut done = BTreeSet::new();
            for (from, records) in order {
                progress.finish(Seq(from), Seq(from + records));
                done.extend(from..from + records);
            }
            progress.raise(Seq(raised));
            done.extend(1..raised);
            if restart {
                progress = Progress::decode(&progress.encode()).unwrap();
            }
            let next = (1..).find(|seq| !done.contains(seq)).unwrap();
            prop_assert_eq!(progress.next(), Seq(next));
            for seq in 1..230 {
                let (gap, length) = progress.gap(Seq(seq));
                let found = (seq.max(next)..).find(|seq| !done.contains(seq)).unwrap();
                prop_assert_eq!(gap, Seq(found));
                let until = (found..230).find(|seq| done.contains(seq));
                prop_assert_eq!(length, until.map_or(u64::MAX - found, |until| until - found));
            }
        }
    }
}
