//! The consumer of docs/formats/envelope.md, "Recognising a duplicate", word by word: the newest
//! epoch of a stream and the one before, and for each the highest number and which of the last
//! 1,000 it has seen.

use std::collections::{BTreeMap, BTreeSet};

use super::Key;

/// How many numbers back it remembers.
const REMEMBERED: u64 = 1_000;

#[derive(Debug, Default)]
pub(super) struct Consumer {
    streams: BTreeMap<String, Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The newest epoch and the one before it.
    epochs: BTreeMap<u32, Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    highest: u64,
    last: BTreeSet<u64>,
}

impl Consumer {
    /// Whether the record takes effect.
    pub(super) fn is_new(&mut self, (stream, epoch, seq): &Key) -> bool {
        let seen = self.streams.entry(stream.clone()).or_default();
        let full = seen.epochs.len() == 2;
        let oldest = seen.epochs.first_key_value().map(|(epoch, _)| *epoch);
        if full && oldest.is_some_and(|oldest| *epoch < oldest) {
            return false;
        }
        let new = seen.epochs.entry(*epoch).or_default().is_new(*seq);
        if seen.epochs.len() > 2 {
            seen.epochs.pop_first();
        }
        new
    }
}

impl Numbers {
    fn is_new(&mut self, seq: u64) -> bool {
        if seq + REMEMBERED <= self.highest {
            return false;
        }
        let new = self.last.insert(seq);
        self.highest = self.highest.max(seq);
        while self.last.first().is_some_and(|first| first + REMEMBERED <= self.highest) {
            self.last.pop_first();
        }
        new
    }
}
