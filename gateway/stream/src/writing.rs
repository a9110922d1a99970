//! From group to frame to disk. One write is under way at a time; what arrives meanwhile forms
//! the next group. Only the reply to a successful sync makes anything durable.
//!
//! After a failed write or sync nobody knows what the segment holds behind its durable end, and
//! reading it would not tell (the pages in memory may never have reached the disk). So nothing
//! more is written to it: the frame, still in memory, goes to a new segment, whose header says
//! where the log ended before it.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::chores::FreeSegment;
use crate::disk::{DiskReply, DiskRequest, Failure, Reply, Request, Step};
use crate::frame::{BLOCK, FORMAT_VERSION, SECTION_HEADER, Seed};
use crate::group::{Sealed, SealedRecords};
use crate::ids::SegmentId;
use crate::log::{Active, Log, SegmentInfo};
use crate::planted::PlantedBug;
use crate::segment::{
    Chunk, FIRST_FRAME, Footer, Place, SegmentHeader, SegmentIndex, segment_name, spare_name,
    unfinished_name,
};

/// First and longest wait before a failed write is tried again.
const MIN_BACKOFF: Duration = Duration::from_millis(20);
const MAX_BACKOFF: Duration = Duration::from_secs(2);

/// The write that is under way.
#[derive(Debug)]
pub(crate) enum Job {
    Group(Box<Flight>),
    Chore(crate::chores::Chore),
}

/// A frame on its way to the disk.
#[derive(Debug)]
pub(crate) struct Flight {
    sealed: Sealed,
    bytes: Bytes,
    place: Place,
    /// The segment is made for this frame, of the file with this name.
    fresh: Option<String>,
    len: u32,
}

impl Log {
    /// Where checksums of a segment start.
    pub(crate) fn seed(&self, segment: SegmentId) -> Seed {
        if self.options.trusts_stale_frames() {
            Seed::without_segment(self.store)
        } else {
            Seed::new(self.store, segment)
        }
    }

    /// Sends the next group, or the one that failed, to the disk.
    pub(crate) fn start_group(&mut self) -> Option<DiskRequest> {
        let mut sealed = match self.retry.take() {
            Some(sealed) => sealed,
            None => self.seal_next()?,
        };
        self.chores.group_was_last = true;
        let mut steps = Vec::with_capacity(8);
        let (place, len, fresh) = match self.room_in_active(&sealed) {
            Some((place, len)) => (place, len, None),
            None => {
                let (place, from) = self.fresh_segment(&mut steps);
                (place, self.options.segment_bytes, Some(from))
            }
        };
        let frame = Bytes::from(sealed.frame.seal(self.seed(place.segment), place.offset));
        let (offset, bytes) = match &fresh {
            None => (place.offset, frame.clone()),
            Some(_) => (0, self.with_header(place.segment, sealed.commit, &frame)),
        };
        self.counters.bytes_written += bytes.len() as u64;
        let name = segment_name(place.segment);
        steps.push(Step::Write { name: name.clone(), offset: u64::from(offset), bytes });
        if !self.options.acks_before_sync() {
            steps.push(Step::Sync(name));
        }
        self.job = Some(Job::Group(Box::new(Flight { sealed, bytes: frame, place, fresh, len })));
        Some(DiskRequest(Request::Write { steps }))
    }

    fn seal_next(&mut self) -> Option<Sealed> {
        if self.closed.is_empty() {
            if self.open.is_empty() && self.checkpointing.is_none() {
                return None;
            }
            let next = crate::group::Group::new(self.open.id + 1, self.end);
            let group = std::mem::replace(&mut self.open, next);
            self.closed_bytes += group.bytes;
            self.closed.push_back(group);
        }
        let group = self.closed.pop_front()?;
        self.closed_bytes -= group.bytes;
        self.flight_bytes = group.bytes;
        let part = self.next_part(group.id);
        let commit = self.next_commit;
        self.next_commit += 1;
        let state = &self.state;
        let compression =
            |id| state.stream(id).map_or_else(Default::default, |s| s.config.compression);
        let spare = &mut self.spare_sections;
        Some(group.seal(self.store, commit, self.epoch, part, &compression, spare))
    }

    /// The place for the frame in the active segment, with room for a footer behind it.
    fn room_in_active(&self, sealed: &Sealed) -> Option<(Place, u32)> {
        let active = self.active.as_ref().filter(|active| !active.closed)?;
        let chunks = active.index.chunks.len() + sealed.records.len() + sealed.copies.len();
        let end = active.offset as usize + sealed.frame.padded_len(active.offset);
        let fits = end + Footer::len_for(chunks) as usize <= active.len as usize;
        fits.then_some((Place { segment: active.id, offset: active.offset }, active.len))
    }

    /// Seals the active segment and makes a new one, of a spare if there is one.
    fn fresh_segment(&mut self, steps: &mut Vec<Step>) -> (Place, String) {
        self.footer_steps(steps);
        let segment = SegmentId(self.take_file_number());
        let name = segment_name(segment);
        let from = match self.chores.spares.pop_front() {
            Some(spare) => spare_name(spare),
            None => {
                let from = unfinished_name(segment.0);
                let zeroed = u64::from(self.options.segment_bytes);
                steps.push(Step::NeedFree(zeroed));
                steps.push(Step::Create { name: from.clone(), zeroed });
                from
            }
        };
        steps.push(Step::Rename { from: from.clone(), to: name });
        if !self.options.plants(PlantedBug::DirectorySyncForgotten) {
            steps.push(Step::SyncDir);
        }
        (Place { segment, offset: FIRST_FRAME }, from)
    }

    /// A footer saves reading the segment at the next open; without one it is read.
    fn footer_steps(&mut self, steps: &mut Vec<Step>) {
        let Some(active) = self.active.as_ref().filter(|active| !active.closed) else { return };
        let len = Footer::len_for(active.index.chunks.len());
        if active.offset + len > active.len {
            return;
        }
        let footer = Footer {
            end: active.offset,
            first_commit: active.first_commit,
            last_commit: active.last_commit,
            chunks: active.index.chunks.clone(),
        };
        let bytes = Bytes::from(footer.encode(self.store, active.id, active.len));
        let name = segment_name(active.id);
        let offset = u64::from(active.len - len);
        self.counters.bytes_written += bytes.len() as u64;
        steps.push(Step::Write { name: name.clone(), offset, bytes }.may_fail());
        steps.push(Step::Sync(name).may_fail());
    }

    fn with_header(&self, segment: SegmentId, first_commit: u64, frame: &Bytes) -> Bytes {
        let header = SegmentHeader {
            version: FORMAT_VERSION,
            store: self.store,
            segment,
            epoch: self.epoch,
            bytes: self.options.segment_bytes,
            created_ms: self.unix_ms,
            first_commit,
            previous_end: self.log_end,
            checkpoint: self.checkpoint,
        };
        let mut bytes = header.encode();
        bytes.resize(BLOCK, 0);
        bytes.extend_from_slice(frame);
        Bytes::from(bytes)
    }

    pub(crate) fn take_file_number(&mut self) -> u64 {
        let number = self.next_file;
        self.next_file += 1;
        number
    }

    /// Takes what came of a request.
    pub fn handle_disk(&mut self, now: Instant, reply: DiskReply) {
        match reply.0 {
            Reply::Read { id, result } => self.read_arrived(id, result),
            Reply::Write { result } => match (self.job.take(), result) {
                (Some(Job::Group(flight)), Ok(())) => self.group_written(now, *flight),
                (Some(Job::Group(flight)), Err(failure)) if self.forgives(&failure) => {
                    self.group_written(now, *flight);
                }
                (Some(Job::Group(flight)), Err(failure)) => {
                    self.group_failed(now, *flight, &failure);
                }
                (Some(Job::Chore(chore)), result) => self.chore_done(now, chore, result),
                // A reply that nobody asked for.
                (None, _) => {}
            },
        }
    }

    fn group_written(&mut self, now: Instant, flight: Flight) {
        let Flight { sealed, bytes, place, fresh, len } = flight;
        if fresh.is_some() {
            self.enter_fresh_segment(place.segment, len, sealed.commit);
        }
        let padded = bytes.len() as u32;
        let rotated = fresh.is_some();
        if let Some(active) = &mut self.active {
            active.offset = place.offset + padded;
            active.last_commit = sealed.commit;
            self.log_end = Some(Place { segment: active.id, offset: active.offset });
            if let Some(info) = self.segments.get_mut(&active.id) {
                info.end = active.offset;
            }
        }
        self.index_frame(&sealed, place, padded);
        self.note_for_mark(now, &sealed);
        for (id, next) in &sealed.cursors {
            if let Some(reader) = self.state.reader_mut(*id) {
                reader.durable = *next;
            }
        }
        self.durable = sealed.end;
        self.flight_bytes = 0;
        self.backoff = MIN_BACKOFF;
        self.counters.groups += 1;
        self.disk_full &= self.chores.spares.len() <= self.options.reserve_segments;
        self.bytes_since_checkpoint += u64::from(padded);
        self.reading.keep(place, bytes, self.options.cache_bytes);
        self.release_durable();
        if let Some((number, index)) = sealed.part {
            self.part_written(number, index, place);
        }
        if rotated {
            self.recycle();
            self.checkpoint_when_due();
        }
    }

    fn enter_fresh_segment(&mut self, id: SegmentId, len: u32, first_commit: u64) {
        let info = SegmentInfo { len, end: FIRST_FRAME, live: 0, live_bytes: 0, damaged: false };
        self.segments.insert(id, info);
        self.active = Some(Active {
            id,
            len,
            offset: FIRST_FRAME,
            index: SegmentIndex::default(),
            first_commit,
            last_commit: first_commit,
            closed: false,
        });
    }

    fn index_frame(&mut self, sealed: &Sealed, place: Place, padded: u32) {
        let own = |sealed: &SealedRecords| u64::from(sealed.bytes) + SECTION_HEADER as u64;
        let total: u64 = sealed.records.iter().chain(&sealed.copies).map(own).sum();
        let chunk = |sealed: &SealedRecords| Chunk {
            stream: sealed.stream,
            place,
            first: sealed.first,
            records: sealed.count,
            bytes: (u64::from(padded) * own(sealed) / total.max(1)) as u32,
            newest_ms: sealed.newest_ms,
        };
        for records in &sealed.records {
            let chunk = chunk(records);
            self.index_records(chunk);
            if let Some(stream) = self.state.stream_mut(records.stream) {
                stream.pending = stream.pending.saturating_sub(u64::from(records.pending));
                stream.durable = chunk.end();
            }
        }
        for copied in &sealed.copies {
            self.index_records(chunk(copied));
            self.copy_written();
        }
    }

    fn index_records(&mut self, chunk: Chunk) {
        let Some(active) = &mut self.active else { return };
        let (_, new) = active.index.add(chunk);
        self.place(chunk, !new);
    }

    fn group_failed(&mut self, now: Instant, flight: Flight, failure: &Failure) {
        let Flight { mut sealed, bytes, place, fresh, len } = flight;
        sealed.frame.restore(Vec::from(bytes));
        self.retry = Some(sealed);
        if let Some(active) = &mut self.active {
            active.closed = true;
        }
        if let Some(from) = fresh {
            // How far it came is not known: whichever of the two names is there.
            let id = place.segment;
            self.chores.free.push_back(FreeSegment { id, len, damaged: false });
            self.chores.litter.push(from);
        }
        self.note_failure(failure);
        self.retry_at = Some(now + self.backoff);
        self.backoff = (self.backoff * 2).min(MAX_BACKOFF);
    }

    /// The mistake that [`PlantedBug::FailedSyncForgiven`] stands for.
    fn forgives(&self, failure: &Failure) -> bool {
        self.options.plants(PlantedBug::FailedSyncForgiven) && failure.what.starts_with("sync seg")
    }

    pub(crate) fn note_failure(&mut self, failure: &Failure) {
        self.counters.failures += 1;
        self.counters.last_error = Some(format!("cannot {}: {}", failure.what, failure.error));
        if failure.is_full() {
            self.disk_full = true;
        }
    }
}
