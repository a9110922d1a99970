//! What may go, and when: quotas, retention, and giving segments back.
//!
//! A record goes when every reader has durably passed it and it is older than its stream retains,
//! or when it is older than the stream allows, or when a quota needs its room. The last two are a
//! loss when some reader had not passed it, or when nobody reads the stream, and are entered into
//! the ledger. What goes by time is in expiry.rs. The unit is a chunk of the index, but a quota of
//! records is kept to the record. A segment goes once no chunk in it is kept, and no loss that
//! freed one is still on its way to the disk, and the newest checkpoint begins behind it.

use std::time::Instant;

use crate::chores::FreeSegment;
use crate::ids::{SegmentId, Seq, StreamId};
use crate::ledger::{Loss, LossReason};
use crate::log::{AppendError, Log, Quota};
use crate::options::Overflow;
use crate::planted::PlantedBug;
use crate::segment::Chunk;
use crate::state::Stream;
use crate::wall_clock::WallClock;

/// Room that records to come want in a stream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Need {
    pub(crate) bytes: u64,
    pub(crate) records: u64,
}

impl Stream {
    fn held_bytes(&self) -> u64 {
        self.bytes + self.pending
    }

    fn held_records(&self) -> u64 {
        self.next.0.saturating_sub(self.first.0)
    }

    /// Records that must go for `need` more to be within the quota of records.
    fn surplus_records(&self, need: Need) -> u64 {
        let max = self.config.max_records.unwrap_or(u64::MAX);
        (self.held_records() + need.records).saturating_sub(max)
    }

    /// Bytes that must go, likewise.
    fn surplus_bytes(&self, need: Need) -> u64 {
        (self.held_bytes() + need.bytes).saturating_sub(self.config.max_bytes)
    }

    fn has_room(&self, need: Need) -> bool {
        self.surplus_bytes(need) == 0 && self.surplus_records(need) == 0
    }
}

impl Log {
    /// Whether a stream takes what is needed more, with what its overflow rule allows.
    pub(crate) fn check_room(&self, id: StreamId, need: Need) -> Result<(), AppendError> {
        let stream = self.state.stream(id).ok_or(AppendError::UnknownStream(id))?;
        let config = &stream.config;
        if stream.has_room(need) || config.overflow == Overflow::DropOldest {
            return Ok(());
        }
        let floor = self.state.durable_floor(stream).unwrap_or(Seq(0));
        let passed = stream.chunks.iter().take_while(|chunk| chunk.end() <= floor);
        let free: u64 = passed.map(|chunk| u64::from(chunk.bytes)).sum();
        let full = |held, max, quota| {
            Err(AppendError::StreamFull { stream: stream.name.clone(), held, max, quota })
        };
        if stream.surplus_bytes(need) > free {
            return full(stream.held_bytes(), config.max_bytes, Quota::Bytes);
        }
        if stream.surplus_records(need) > floor.0.saturating_sub(stream.first.0) {
            let max = config.max_records.unwrap_or(u64::MAX);
            return full(stream.held_records(), max, Quota::Records);
        }
        Ok(())
    }

    /// Makes the room that is needed in a stream.
    #[inline]
    pub(crate) fn make_room(&mut self, id: StreamId, need: Need) -> Result<(), AppendError> {
        let stream = self.state.stream(id).ok_or(AppendError::UnknownStream(id))?;
        if stream.has_room(need) {
            return Ok(());
        }
        self.check_room(id, need)?;
        self.shrink(id, need);
        Ok(())
    }

    /// Drops the oldest until the stream and what is needed are within the quotas, as far as
    /// its overflow rule allows.
    fn shrink(&mut self, id: StreamId, need: Need) {
        while let Some(stream) = self.state.stream(id) {
            let Some(oldest) = stream.chunks.front() else { return };
            if stream.has_room(need) {
                return;
            }
            let drops = stream.config.overflow == Overflow::DropOldest;
            let to = stream.first.plus(stream.surplus_records(need));
            if stream.surplus_bytes(need) == 0 && to < oldest.end() {
                let floor = self.state.durable_floor(stream).unwrap_or(Seq(0));
                self.drop_front(id, if drops { to } else { to.min(floor) });
                return;
            }
            if self.state.has_passed(stream, oldest.end()) {
                self.free_oldest(id);
            } else if drops {
                self.drop_oldest(id, LossReason::Quota);
            } else {
                return;
            }
        }
    }

    /// Lets go of the records before `to` in the oldest chunk, which stays.
    fn drop_front(&mut self, id: StreamId, to: Seq) {
        let Some(stream) = self.state.stream_mut(id) else { return };
        let Some(chunk) = stream.chunks.front().copied() else { return };
        let before = stream.first.max(chunk.first);
        if to <= stream.first {
            return;
        }
        stream.first = to;
        self.enter_trim(id, to);
        let stream = self.state.stream(id);
        let floor = stream.and_then(|stream| self.state.durable_floor(stream)).unwrap_or(before);
        self.enter_dropped(id, &chunk, floor.max(before), to, LossReason::Quota);
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
    pub(crate) fn free_oldest(&mut self, id: StreamId) -> Option<Chunk> {
        let chunk = self.take_oldest(id)?;
        let first = self.first_seq(id);
        self.enter_trim(id, first);
        let early = self.options.plants(PlantedBug::RecycleBeforeTrim);
        let safe_at = if early { self.durable } else { self.end };
        self.releases.push_back((safe_at, chunk));
        if early {
            self.release_durable();
        }
        Some(chunk)
    }

    fn enter_trim(&mut self, id: StreamId, first: Seq) {
        self.end.0 += 1;
        self.open.end = self.end;
        let at = self.end;
        if let Some(stream) = self.state.stream_mut(id) {
            stream.gone_at = at;
        }
        self.open.push_trim(id, first);
        self.chores.defined = true;
    }

    /// Drops a chunk that somebody might have wanted.
    pub(crate) fn drop_oldest(&mut self, id: StreamId, reason: LossReason) {
        let Some(stream) = self.state.stream(id) else { return };
        // What all readers had passed is not a loss, nor is what went before: of the oldest
        // chunk a part may be gone already.
        let floor = self.state.durable_floor(stream).unwrap_or(stream.first).max(stream.first);
        let Some(chunk) = self.free_oldest(id) else { return };
        self.enter_dropped(id, &chunk, floor, chunk.end(), reason);
    }

    /// Enters the records of a chunk from `floor` on and before `end` into the ledger.
    fn enter_dropped(
        &mut self,
        id: StreamId,
        chunk: &Chunk,
        floor: Seq,
        end: Seq,
        reason: LossReason,
    ) {
        let first = chunk.first.max(floor).min(end);
        let records = end.0 - first.0;
        if records > 0 {
            let loss = Loss {
                stream: id,
                first,
                last: Seq(end.0 - 1),
                records,
                bytes: u64::from(chunk.bytes) * records / u64::from(chunk.records.max(1)),
                reason,
                unix_ms: self.unix_ms,
            };
            let by_age = reason == LossReason::Expired;
            let bug = [PlantedBug::DropWithoutLedger, PlantedBug::AgeWithoutLedger];
            if !self.options.plants(bug[usize::from(by_age)]) {
                self.open.push_loss(loss);
                self.state.enter_loss(loss, &self.options);
            }
        }
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
        while let Some((position, chunk)) = self.releases.front().copied() {
            if position > self.durable {
                return;
            }
            self.releases.pop_front();
            self.release(chunk.place.segment, chunk.bytes, 1);
        }
    }

    /// Housekeeping, about once a second: retention, quotas, recycling, checkpoints. While
    /// `clock` is not trusted nothing goes by time.
    pub fn trim(&mut self, now: Instant, clock: WallClock) {
        self.unix_ms = clock.unix_ms();
        let before = self.end;
        for index in 0..self.state.streams.len() {
            let id = StreamId(index as u16);
            self.expire(id, clock);
            self.shrink(id, Need::default());
        }
        if self.end != before {
            self.settle(now, false);
        }
        self.recycle();
        self.checkpoint_when_due();
        self.checkpoint_when_it_frees();
        self.allow_copying();
    }

    /// Gives back segments that nobody needs: they are in front of the last checkpoint but one,
    /// or, when space is short, of the last.
    pub(crate) fn recycle(&mut self) {
        let Some(needed) = self.free_before() else { return };
        let active = self.active.as_ref().map(|active| active.id);
        let unneeded: Vec<_> = self
            .segments
            .range(..needed)
            .filter(|(id, info)| info.live == 0 && Some(**id) != active)
            .map(|(id, info)| FreeSegment { id: *id, len: info.len, damaged: info.damaged })
            .collect();
        for segment in unneeded {
            self.segments.remove(&segment.id);
            self.chores.free.push_back(segment);
        }
    }

    /// Segments before this one are given back once nothing in them is kept.
    pub(crate) fn free_before(&self) -> Option<SegmentId> {
        let needed = if self.is_short() { self.checkpoint } else { self.checkpoint_before };
        Some(needed?.segment)
    }

    fn is_short(&self) -> bool {
        self.disk_full || self.chores.spares.is_empty()
    }

    /// When space is short, a checkpoint before its time frees the segments in front of it.
    fn checkpoint_when_it_frees(&mut self) {
        let from = self.checkpoint.map(|place| place.segment);
        let active = self.active.as_ref().map(|active| active.id);
        let held = self
            .segments
            .iter()
            .any(|(id, info)| info.live == 0 && Some(*id) >= from && Some(*id) != active);
        if self.is_short() && held && self.checkpointing.is_none() {
            self.begin_checkpoint(false);
        }
    }
}
