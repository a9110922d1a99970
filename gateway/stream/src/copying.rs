//! Copying forward what little lives in an old segment, so that a slow reader keeps its records
//! and not the disk around them.
//!
//! The records are read as any reader reads them and written again with their own sequences,
//! times and epoch, riding in groups like everything else. When the copy is durable the index
//! points there, and the old segment is free. A crash in between leaves both, and the later one
//! counts.
//!
//! It costs at most a quarter of what it frees, a bounded part of each second, one piece at a
//! time, and nothing while little would come of it. On a full disk it uses what the reserve has
//! beyond one segment, for a source that needs less than that. A damaged segment is left alone:
//! what cannot be read today may be readable tomorrow.

use std::collections::VecDeque;
use std::time::Instant;

use crate::copied::CopiedSection;
use crate::frame::{BLOCK, SECTION_HEADER};
use crate::ids::{SegmentId, Seq, StreamId};
use crate::log::{Log, SegmentInfo};
use crate::reading::{ReadOutcome, Visit};
use crate::record::RecordRef;

/// A segment is copied from when less than one part in this many of it is kept.
const KEPT_PARTS: u64 = 5;
/// Copying begins when the segments take more than twice what is kept, and so many more.
const SLACK_SEGMENTS: u64 = 4;

/// What is being copied.
#[derive(Debug, Default)]
pub(crate) struct Copying {
    source: Option<SegmentId>,
    /// Sequences of each stream in the source that are still to be copied: from, end.
    left: VecDeque<(StreamId, Seq, Seq)>,
    /// Bytes that may still be copied in this round.
    budget: usize,
    /// A piece is on its way to the disk.
    under_way: bool,
    /// Bytes copied since the log was opened.
    pub(crate) copied_bytes: u64,
}

impl Log {
    /// Another round of copying may begin.
    pub(crate) fn allow_copying(&mut self) {
        self.copying.budget = self.options.copy_bytes;
    }

    /// A piece is durable.
    pub(crate) fn copy_written(&mut self) {
        self.copying.under_way = false;
    }

    /// Brings the next piece into the open group, if there is one to be had now.
    pub(crate) fn copy_forward(&mut self, now: Instant) {
        let copying = &self.copying;
        let waits = copying.budget == 0 || copying.under_way;
        if waits || self.shutting_down || self.retry.is_some() {
            return;
        }
        let Some((stream, from, end)) = self.next_piece() else {
            // Not before the next round: finding a source costs a look at the whole index.
            self.copying.budget = 0;
            return;
        };
        let mut sections = Vec::new();
        let mut take = |seq: Seq, epoch, record: RecordRef<'_>| {
            CopiedSection::push(&mut sections, stream, seq, epoch, &record);
        };
        let records = usize::try_from(end.0 - from.0).unwrap_or(usize::MAX);
        let bytes = self.options.group_bytes.min(self.options.max_frame_bytes / 2);
        let mut visit = Visit::new(stream, from, records, bytes, &mut take);
        match self.read_chunks(&mut visit) {
            ReadOutcome::Read { next } => {
                if let Some(left) = self.copying.left.front_mut() {
                    left.1 = next;
                }
                self.push_copies(now, sections);
            }
            ReadOutcome::Fetching => {}
            ReadOutcome::End | ReadOutcome::Lost { .. } => self.give_up_source(),
        }
    }

    fn push_copies(&mut self, now: Instant, sections: Vec<CopiedSection>) {
        let bytes: usize = sections.iter().map(|copied| copied.len() + SECTION_HEADER).sum();
        self.fit(bytes);
        for copied in sections {
            self.open.push_copied(copied);
        }
        self.copying.under_way = true;
        self.copying.copied_bytes += bytes as u64;
        self.copying.budget = self.copying.budget.saturating_sub(bytes);
        self.settle(now, false);
    }

    fn give_up_source(&mut self) {
        self.copying.source = None;
        self.copying.left.clear();
    }

    /// Stream, first and end of the next records to copy: all in one chunk of the source.
    fn next_piece(&mut self) -> Option<(StreamId, Seq, Seq)> {
        loop {
            let Some((id, from, end)) = self.copying.left.front().copied() else {
                self.choose_source()?;
                continue;
            };
            let source = self.copying.source;
            let chunk = self.state.stream(id).and_then(|stream| {
                let from = from.max(stream.first);
                let index = stream.chunks.partition_point(|chunk| chunk.end() <= from);
                let chunk = stream.chunks.get(index).filter(|chunk| chunk.first < end)?;
                Some((from.max(chunk.first), chunk.end().min(end), chunk.place.segment))
            });
            match chunk {
                Some((first, end, segment)) if Some(segment) == source => {
                    return Some((id, first, end));
                }
                // It went meanwhile, or is elsewhere: the rest may still be there.
                Some((_, behind, _)) if behind < end => {
                    if let Some(left) = self.copying.left.front_mut() {
                        left.1 = behind;
                    }
                }
                Some(_) | None => {
                    self.copying.left.pop_front();
                }
            }
        }
    }

    /// Finds a segment to copy from, and what is kept of it.
    fn choose_source(&mut self) -> Option<()> {
        self.give_up_source();
        let disk: u64 = self.segments.values().map(|info| u64::from(info.len)).sum();
        let kept: u64 = self.segments.values().map(|info| info.live_bytes).sum();
        let slack = SLACK_SEGMENTS * u64::from(self.options.segment_bytes);
        let behind = self.free_before()?;
        if disk <= 2 * kept + slack {
            return None;
        }
        let room = self.room_for_copies();
        let active = self.active.as_ref().map(|active| active.id);
        let worth = |(id, info): &(&SegmentId, &SegmentInfo)| {
            info.live > 0
                && !info.damaged
                && Some(**id) != active
                && info.live_bytes * KEPT_PARTS < u64::from(info.len)
                && 2 * (info.live_bytes + BLOCK as u64) <= room
        };
        let (source, _) = self.segments.range(..behind).find(worth)?;
        let source = *source;
        let mut left = VecDeque::new();
        for (index, stream) in self.state.streams.iter().enumerate() {
            let id = StreamId(index as u16);
            let there = stream.chunks.iter().filter(|chunk| chunk.place.segment == source);
            left.extend(there.map(|chunk| (id, chunk.first, chunk.end())));
        }
        // Chunks whose trim is still on its way to the disk need no copy.
        if left.is_empty() {
            return None;
        }
        self.copying.source = Some(source);
        self.copying.left = left;
        Some(())
    }

    /// Bytes that copies may take: on a full disk one prepared segment is left for cursors and
    /// trims.
    fn room_for_copies(&self) -> u64 {
        if !self.disk_full {
            return u64::MAX;
        }
        let active = self.active.as_ref().filter(|active| !active.closed);
        let left = active.map_or(0, |active| u64::from(active.len - active.offset));
        let spares = self.chores.spares.len().saturating_sub(1) as u64;
        left + spares * u64::from(self.options.segment_bytes)
    }
}
