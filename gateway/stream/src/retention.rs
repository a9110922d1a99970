//! What may go, and when: quotas, retention, and giving segments back.
//!
//! A record goes when every reader has durably passed it and it is older than its stream retains,
//! or when the quota needs its room. The second is a loss when some reader had not passed it, or
//! when nobody reads the stream, and is entered into the ledger. The unit is a chunk of the
//! index. A segment goes once no chunk in it is kept, and no loss that freed one is still on its
//! way to the disk, and the newest checkpoint begins behind it.

use std::time::Instant;

use crate::chores::FreeSegment;
use crate::ids::{Seq, StreamId};
use crate::ledger::{Loss, LossReason};
use crate::log::{AppendError, Log};
use crate::options::Overflow;
use crate::segment::Chunk;

impl Log {
    /// Whether a stream takes `need` more bytes, with what its overflow rule allows.
    pub(crate) fn check_room(&self, id: StreamId, need: u64) -> Result<(), AppendError> {
        let stream = self.state.stream(id).ok_or(AppendError::UnknownStream(id))?;
        let max_bytes = stream.config.max_bytes;
        let bytes = stream.bytes + stream.pending;
        if bytes + need <= max_bytes || stream.config.overflow == Overflow::DropOldest {
            return Ok(());
        }
        let floor = self.state.durable_floor(stream).unwrap_or(Seq(0));
        let passed = stream.chunks.iter().take_while(|chunk| chunk.end() <= floor);
        let free: u64 = passed.map(|chunk| u64::from(chunk.bytes)).sum();
        if bytes + need <= max_bytes + free {
            return Ok(());
        }
        Err(AppendError::StreamFull { stream: stream.name.clone(), bytes, max_bytes })
    }

    /// Makes room for `need` more bytes in a stream.
    #[inline]
    pub(crate) fn make_room(&mut self, id: StreamId, need: u64) -> Result<(), AppendError> {
        let stream = self.state.stream(id).ok_or(AppendError::UnknownStream(id))?;
        if stream.bytes + stream.pending + need <= stream.config.max_bytes {
            return Ok(());
        }
        self.check_room(id, need)?;
        self.shrink(id, need);
        Ok(())
    }

    /// Drops the oldest chunks until the stream and `need` bytes are within the quota, as far
    /// as its overflow rule allows.
    fn shrink(&mut self, id: StreamId, need: u64) {
        while let Some(stream) = self.state.stream(id) {
            let Some(oldest) = stream.chunks.front() else { return };
            if stream.bytes + stream.pending + need <= stream.config.max_bytes {
                return;
            }
            let floor = self.state.durable_floor(stream);
            let passed = floor.is_some_and(|floor| oldest.end() <= floor);
            if passed {
                self.free_oldest(id);
            } else if stream.config.overflow == Overflow::DropOldest {
                self.drop_oldest(id, LossReason::Quota);
            } else {
                return;
            }
        }
    }

    fn take_oldest(&mut self, id: StreamId) -> Option<Chunk> {
        let stream = self.state.stream_mut(id)?;
        let chunk = stream.chunks.pop_front()?;
        stream.bytes -= u64::from(chunk.bytes);
        let next = stream.chunks.front().map_or(stream.durable, |next| next.first);
        stream.first = stream.first.max(next);
        Some(chunk)
    }

    /// Lets go of a chunk that nobody needs. Its segment goes only when that is on the disk, or
    /// recovery would take the gap for damage.
    fn free_oldest(&mut self, id: StreamId) -> Option<Chunk> {
        let chunk = self.take_oldest(id)?;
        let first = self.first_seq(id);
        self.end.0 += 1;
        self.open.end = self.end;
        self.open.push_trim(id, first);
        self.chores.defined = true;
        self.releases.push_back((self.end, chunk.place.segment));
        Some(chunk)
    }

    /// Drops a chunk that somebody might have wanted.
    fn drop_oldest(&mut self, id: StreamId, reason: LossReason) {
        let Some(stream) = self.state.stream(id) else { return };
        // What all readers had passed is not a loss, nor is what went before: after a restart a
        // chunk may begin with records that were let go of.
        let floor = self.state.durable_floor(stream).unwrap_or(stream.first).max(stream.first);
        let Some(chunk) = self.free_oldest(id) else { return };
        let first = chunk.first.max(floor).min(chunk.end());
        let records = chunk.end().0 - first.0;
        let loss = Loss {
            stream: id,
            first,
            last: Seq(chunk.end().0 - 1),
            records,
            bytes: u64::from(chunk.bytes) * records / u64::from(chunk.records.max(1)),
            reason,
            unix_ms: self.unix_ms,
        };
        self.open.push_loss(loss);
        self.state.enter_loss(loss, &self.options);
        self.move_lagging_readers(id);
    }

    /// Nobody waits for records that are gone.
    fn move_lagging_readers(&mut self, id: StreamId) {
        let Some(stream) = self.state.stream(id) else { return };
        let (first, readers) = (stream.first, stream.readers.clone());
        for id in readers {
            if let Some(reader) = self.state.reader_mut(id).filter(|r| r.next < first) {
                reader.next = first;
                self.open.push_cursor(id, first);
            }
        }
    }

    /// Segments lose the chunks whose loss is on the disk now.
    pub(crate) fn release_durable(&mut self) {
        while let Some((position, segment)) = self.releases.front().copied() {
            if position > self.durable {
                return;
            }
            self.releases.pop_front();
            if let Some(info) = self.segments.get_mut(&segment) {
                info.live = info.live.saturating_sub(1);
            }
        }
    }

    /// Housekeeping, about once a second: retention, quotas, recycling, checkpoints.
    pub fn trim(&mut self, now: Instant, unix_ms: i64) {
        self.unix_ms = unix_ms;
        let before = self.end;
        for index in 0..self.state.streams.len() {
            let id = StreamId(index as u16);
            self.expire(id, unix_ms);
            self.shrink(id, 0);
        }
        if self.end != before {
            self.settle(now, false);
        }
        self.recycle();
        self.checkpoint_when_due();
        self.checkpoint_when_it_frees();
    }

    /// Lets go of what all readers have passed and what is older than the stream retains.
    fn expire(&mut self, id: StreamId, unix_ms: i64) {
        while let Some(stream) = self.state.stream(id) {
            let Some(oldest) = stream.chunks.front() else { return };
            let retain = i64::try_from(stream.config.retain.as_millis()).unwrap_or(i64::MAX);
            let old = oldest.newest_ms.saturating_add(retain) <= unix_ms;
            let floor = self.state.durable_floor(stream);
            if !old || floor.is_some_and(|floor| oldest.end() > floor) {
                return;
            }
            self.free_oldest(id);
        }
    }

    /// Gives back segments that nobody needs.
    pub(crate) fn recycle(&mut self) {
        let Some(checkpoint) = self.checkpoint else { return };
        let active = self.active.as_ref().map(|active| active.id);
        let unneeded: Vec<_> = self
            .segments
            .range(..checkpoint.segment)
            .filter(|(id, info)| info.live == 0 && Some(**id) != active)
            .map(|(id, info)| FreeSegment { id: *id, len: info.len, damaged: info.damaged })
            .collect();
        for segment in unneeded {
            self.segments.remove(&segment.id);
            self.chores.free.push_back(segment);
        }
    }

    /// When space is short, a checkpoint before its time frees the segments in front of it.
    fn checkpoint_when_it_frees(&mut self) {
        let short = self.disk_full || self.chores.spares.is_empty();
        let from = self.checkpoint.map(|place| place.segment);
        let active = self.active.as_ref().map(|active| active.id);
        let held = self
            .segments
            .iter()
            .any(|(id, info)| info.live == 0 && Some(*id) >= from && Some(*id) != active);
        if short && held && self.checkpointing.is_none() {
            self.begin_checkpoint(false);
        }
    }
}
