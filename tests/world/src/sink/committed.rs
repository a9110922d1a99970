//! A server that commits records together with (epoch, sequence) of the last of each stream, and
//! takes nothing that is not above it. It needs no window and no memory of single records.

use std::collections::BTreeMap;

use super::Key;

#[derive(Debug, Default, Clone)]
pub(super) struct Committed {
    streams: BTreeMap<String, (u32, u64)>,
}

impl Committed {
    /// Whether the record takes effect.
    pub(super) fn is_new(&mut self, (stream, epoch, seq): &Key) -> bool {
        let last = self.streams.entry(stream.clone()).or_default();
        let new = (*epoch, *seq) > *last;
        *last = (*last).max((*epoch, *seq));
        new
    }

    pub(super) fn last(&self, stream: &str) -> Option<(u32, u64)> {
        self.streams.get(stream).copied()
    }
}
