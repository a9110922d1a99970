//! Where the batches of a lane begin and end, for sinks that must get the same batch again: drawn
//! once, and durable before the batch is sent.

use std::collections::VecDeque;

use tidegate_stream::Seq;

use crate::batch::SeqRange;

/// Boundaries above the lane's cursor, ascending; at most one pair for each record of the window.
#[derive(Clone, Debug)]
pub(crate) struct Boundaries(VecDeque<(SeqRange, Written)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    Durable,
    /// On its way to the disk, with the request of this number.
    Asked(u64),
}

impl Boundaries {
    /// Those that an earlier life persisted, as far as they are of use.
    pub(crate) fn new(durable: Vec<SeqRange>, cursor: Seq) -> Boundaries {
        let open = durable.into_iter().filter(|range| range.last >= cursor);
        Boundaries(open.map(|range| (range, Written::Durable)).collect())
    }

    /// Those of the batch with this record.
    pub(crate) fn around(&self, seq: Seq) -> Option<SeqRange> {
        self.0.iter().map(|(range, _)| *range).find(|range| range.contains(seq))
    }

    /// Draws the boundaries of a batch, if they are not there yet. `None` when they are durable,
    /// else all that are to be persisted, by the request of this number.
    pub(crate) fn draw(&mut self, range: SeqRange, request: u64) -> Option<Vec<SeqRange>> {
        match self.0.iter_mut().find(|(known, _)| *known == range) {
            Some((_, Written::Durable)) => return None,
            Some((_, written)) => *written = Written::Asked(request),
            None => {
                let place = self.0.partition_point(|(known, _)| known.first < range.first);
                self.0.insert(place, (range, Written::Asked(request)));
            }
        }
        // What this leaves out is gone from the disk: batches behind this one may be on their way.
        Some(self.0.iter().map(|(range, _)| *range).collect())
    }

    /// The server does not take a batch of that size: its records are to be cut anew.
    pub(crate) fn withdraw(&mut self, range: SeqRange) {
        self.0.retain(|(known, _)| *known != range);
    }

    /// The request of this number is durable, and so are those before it.
    pub(crate) fn persisted(&mut self, request: u64) {
        for (_, written) in &mut self.0 {
            if matches!(written, Written::Asked(asked) if *asked <= request) {
                *written = Written::Durable;
            }
        }
    }

    pub(crate) fn is_durable(&self, range: SeqRange) -> bool {
        self.0.contains(&(range, Written::Durable))
    }

    /// The cursor is there now.
    pub(crate) fn pass(&mut self, cursor: Seq) {
        while self.0.front().is_some_and(|(range, _)| range.last < cursor) {
            self.0.pop_front();
        }
    }
}
