//! Where the records of a stream are: chunks, in order of their sequences, each sequence in one.
//!
//! Records may be on the disk twice, when they were copied forward. What was written later counts,
//! and the older chunk is cut to what it alone has.

use crate::ids::{SegmentId, Seq};
use crate::log::Log;
use crate::segment::Chunk;
use crate::wall_clock;

impl Chunk {
    /// Its records before `end`.
    fn before(&self, end: Seq) -> Chunk {
        let records = end.0.saturating_sub(self.first.0) as u32;
        Chunk { records, bytes: self.share(records), ..*self }
    }

    /// Its records from `first` on.
    fn from(&self, first: Seq) -> Chunk {
        let records = self.end().0.saturating_sub(first.0) as u32;
        Chunk { first, records, bytes: self.share(records), ..*self }
    }

    /// Its newest time, where these chunks had records of it before. In them a time that could not be right was
    /// replaced, so theirs counts; of records that none of them has, which a copy shares an entry with after a
    /// restart, its own does.
    fn newest_among(&self, old: &[Chunk]) -> i64 {
        let (first, end) = (self.first, self.end());
        let shared = |old: &Chunk| old.end().min(end).0.saturating_sub(old.first.max(first).0);
        let known: u64 = old.iter().map(shared).sum();
        let theirs = old.iter().map(|old| old.newest_ms).max();
        match theirs {
            Some(theirs) if known >= u64::from(self.records) => theirs,
            Some(theirs) => wall_clock::newest(theirs, self.newest_ms),
            None => self.newest_ms,
        }
    }

    fn share(&self, records: u32) -> u32 {
        (u64::from(self.bytes) * u64::from(records) / u64::from(self.records.max(1))) as u32
    }
}

impl Log {
    /// Puts a chunk into the index of its stream. `joins`: its segment's index has made it one
    /// with the chunk before it.
    pub(crate) fn place(&mut self, chunk: Chunk, joins: bool) {
        let Some(stream) = self.state.stream_mut(chunk.stream) else { return };
        if chunk.end() <= stream.first || chunk.records == 0 {
            return;
        }
        let chunks = &mut stream.chunks;
        let from = chunks.partition_point(|old| old.end() <= chunk.first);
        let to = chunks.partition_point(|old| old.first < chunk.end());
        let old: Vec<Chunk> = chunks.range(from..to.max(from)).copied().collect();
        let mut entry = chunk;
        entry.newest_ms = chunk.newest_among(&old);
        let ahead = old.first().filter(|old| old.first < chunk.first);
        let ahead = ahead.map(|old| old.before(chunk.first)).filter(|c| c.end() > stream.first);
        let behind = old.last().filter(|old| old.end() > chunk.end());
        let behind = behind.map(|old| old.from(chunk.end()));
        let before = from.checked_sub(1).and_then(|index| chunks.get_mut(index));
        let joined = before.filter(|before| {
            joins
                && ahead.is_none()
                && before.place.segment == chunk.place.segment
                && before.end() == chunk.first
        });
        let is_joined = joined.is_some();
        if let Some(before) = joined {
            before.records += entry.records;
            before.bytes += entry.bytes;
            before.newest_ms = wall_clock::newest(before.newest_ms, entry.newest_ms);
        }
        let new = [ahead, (!is_joined).then_some(entry), behind];
        if old.is_empty() && from == chunks.len() {
            chunks.extend(new.into_iter().flatten());
        } else {
            let mut rest = chunks.split_off(from);
            chunks.extend(new.into_iter().flatten());
            chunks.extend(rest.drain(old.len()..));
        }
        for gone in &old {
            stream.bytes -= u64::from(gone.bytes);
        }
        let kept = [ahead, Some(entry), behind];
        stream.bytes += kept.iter().flatten().map(|kept| u64::from(kept.bytes)).sum::<u64>();
        for gone in &old {
            self.release(gone.place.segment, gone.bytes, 1);
        }
        for (index, kept) in kept.into_iter().enumerate() {
            let Some(kept) = kept else { continue };
            let adds = u32::from(index != 1 || !is_joined);
            if let Some(info) = self.segments.get_mut(&kept.place.segment) {
                info.live += adds;
                info.live_bytes += u64::from(kept.bytes);
            }
        }
    }

    /// A segment has this much less that is kept.
    pub(crate) fn release(&mut self, segment: SegmentId, bytes: u32, chunks: u32) {
        if let Some(info) = self.segments.get_mut(&segment) {
            info.live = info.live.saturating_sub(chunks);
            info.live_bytes = info.live_bytes.saturating_sub(u64::from(bytes));
        }
    }
}
