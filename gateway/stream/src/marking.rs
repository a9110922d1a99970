//! The mark at the end of a log that has become quiet.
//!
//! A valid frame proves that the one before it was synced. The last frame has none behind it, so
//! damage to it looks like a write that power cut short, and nobody knows which sequences were in
//! it. So, after a pause, a frame without records follows it, which says how far the sequences go
//! of all streams that had records since the last mark. What is missing before it is damage, with
//! its range.
//!
//! A mark costs a block and a sync. There is one a pause at most, and none when the cursors of
//! readers that have kept up say the same.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::disk::DiskRequest;
use crate::frame::Kind;
use crate::group::{Sealed, SealedRecords};
use crate::ids::StreamId;
use crate::log::Log;
use crate::state::encode_stream_state;

/// The most bytes that a stream takes in a mark.
const STREAM_BYTES: usize = 64;

/// What the next mark is for.
#[derive(Debug, Default)]
pub(crate) struct Marking {
    /// Streams with records since the last mark.
    streams: BTreeSet<StreamId>,
    /// The newest frame has records.
    records_are_last: bool,
    due: Option<Instant>,
}

impl Log {
    /// A frame is durable.
    pub(crate) fn note_for_mark(&mut self, now: Instant, sealed: &Sealed) {
        self.note_records_for_mark(now, sealed.records.iter().map(SealedRecords::stream));
    }

    /// The same, by the streams that it has records of.
    pub(crate) fn note_records_for_mark(
        &mut self,
        now: Instant,
        streams: impl Iterator<Item = StreamId>,
    ) {
        let marking = &mut self.marking;
        let mut streams = streams.peekable();
        marking.records_are_last = streams.peek().is_some();
        if marking.records_are_last {
            marking.streams.extend(streams);
            marking.due = now.checked_add(self.options.mark_after);
        }
    }

    /// When a mark is to be written, if nothing else happens.
    pub(crate) fn mark_at(&self) -> Option<Instant> {
        let due = self.marking.due?;
        let rests = self.open.is_empty() && self.closed.is_empty() && self.retry.is_none();
        let busy = self.shutting_down || self.disk_full || self.checkpointing.is_some();
        (rests && !busy).then_some(due)
    }

    pub(crate) fn start_mark(&mut self, now: Instant) -> Option<DiskRequest> {
        self.mark_at().filter(|at| *at <= now)?;
        self.marking.due = None;
        let told = |id: &StreamId| {
            self.state.stream(*id).is_none_or(|stream| {
                stream.readers.iter().any(|id| {
                    self.state.reader(*id).is_some_and(|reader| reader.durable >= stream.durable)
                })
            })
        };
        if !self.marking.records_are_last && self.marking.streams.iter().all(told) {
            self.marking.streams.clear();
            return None;
        }
        let room = (self.options.max_frame_bytes / STREAM_BYTES).saturating_sub(STREAM_BYTES / 8);
        for _ in 0..room {
            let Some(id) = self.marking.streams.pop_first() else { break };
            let Some(stream) = self.state.stream(id) else { continue };
            let (next, state) = (stream.next, encode_stream_state(stream));
            self.open.push_def(Kind::StreamState, id.0, 1, next, state);
        }
        self.start_group()
    }
}
