//! Reading records back: from the frames that were just written, which stay in memory for a
//! while, or from the disk in pieces, verified on arrival. The number of reads under way and of
//! pieces kept is bounded; a reader that finds neither asks for a piece and comes back.
//!
//! The index gives the frame where a chunk of the stream begins; from there frames are followed
//! in order. Where a reader stopped is remembered, so that going on costs no search.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use bytes::Bytes;

use crate::compression::Body;
use crate::copied::Records;
use crate::disk::{DiskRequest, Request};
use crate::frame::{BLOCK, Broken, Frame, SECTOR, Seed};
use crate::ids::{Epoch, SegmentId, Seq, StreamId};
use crate::ledger::{Loss, LossReason};
use crate::log::Log;
use crate::record::{RecordRef, SectionReader};
use crate::segment::{Chunk, Place, segment_name};

/// Reads under way at a time.
const MAX_READS: usize = 2;
/// Memory that a frame in the cache costs besides its bytes.
const FRAME_COST: usize = 96;
/// Readers whose place is remembered.
const MAX_BOOKMARKS: usize = 32;

/// How much one [`Log::read`] gives at most; at least one record, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadLimit {
    /// Records.
    pub records: usize,
    /// Bytes of payload, attributes, topics and client ids.
    pub bytes: usize,
}

/// What [`Log::read`] came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Records were given; go on at `next`.
    Read {
        /// Behind the last record given.
        next: Seq,
    },
    /// A disk read was asked for, or it is not durable yet that the records are gone: read again
    /// after the next [`Log::handle_disk`].
    Fetching,
    /// Nothing durable there yet.
    End,
    /// The records before `next` are gone; the ledger says why.
    Lost {
        /// Where to go on.
        next: Seq,
    },
}

/// Which chunk it is: the frame that it begins in, and its first sequence. One frame may begin
/// several chunks of a stream, when it has new records and copies of old ones.
type ChunkStart = (Place, Seq);

/// Where a reader stopped.
#[derive(Debug)]
struct Bookmark {
    stream: StreamId,
    next: Seq,
    /// The chunk that it followed.
    chunk: ChunkStart,
    /// The frame to go on with.
    place: Place,
    /// In the middle of that frame's section.
    reader: Option<SectionReader>,
}

/// A piece of a segment, verified.
#[derive(Debug)]
struct Piece {
    segment: SegmentId,
    start: u32,
    /// Behind the last byte that is accounted for, by a frame or as damage.
    end: u32,
    /// Offsets of whole frames and their bytes.
    frames: Vec<(u32, Bytes)>,
}

#[derive(Debug)]
struct Fetch {
    id: u64,
    place: Place,
    len: u32,
    /// Where the segment's frames ended when it was asked for.
    limit: u32,
    /// No more than is needed: a failure is that of the frame at `place`.
    exact: bool,
}

/// What is in memory of the disk, and what is asked of it.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    recent: VecDeque<(Place, Bytes)>,
    recent_bytes: usize,
    pieces: VecDeque<Piece>,
    asked: VecDeque<DiskRequest>,
    fetches: Vec<Fetch>,
    next_id: u64,
    bookmarks: VecDeque<Bookmark>,
    /// The compressed section that was opened last, so that reading it in small pieces costs
    /// little: at most a frame's worth of memory.
    opened: Option<(Place, StreamId, Seq, Bytes)>,
}

/// What is known of a place.
enum Found {
    Frame(Bytes),
    /// Nothing valid before this offset.
    Damage(u32),
    /// Not in memory.
    Missing,
}

impl Reading {
    /// The next read to carry out.
    pub(crate) fn poll(&mut self) -> Option<DiskRequest> {
        self.asked.pop_front()
    }

    /// Keeps a durable frame for readers that are up to date.
    pub(crate) fn keep(&mut self, place: Place, bytes: Bytes, max: usize) {
        self.recent_bytes += bytes.len() + FRAME_COST;
        self.recent.push_back((place, bytes));
        while self.recent_bytes > max {
            let Some((_, old)) = self.recent.pop_front() else { return };
            self.recent_bytes -= old.len() + FRAME_COST;
        }
    }

    fn find(&self, place: Place) -> Found {
        if let Ok(index) = self.recent.binary_search_by_key(&place, |(place, _)| *place) {
            return Found::Frame(self.recent[index].1.clone());
        }
        let holds = |piece: &&Piece| {
            piece.segment == place.segment && (piece.start..piece.end).contains(&place.offset)
        };
        let Some(piece) = self.pieces.iter().find(holds) else { return Found::Missing };
        match piece.frames.binary_search_by_key(&place.offset, |(offset, _)| *offset) {
            Ok(index) => Found::Frame(piece.frames[index].1.clone()),
            Err(index) => {
                let next = piece.frames.get(index).map_or(piece.end, |(offset, _)| *offset);
                Found::Damage(next)
            }
        }
    }

    /// Asks for the piece that begins at `place`, if it is not on its way already.
    fn fetch(&mut self, place: Place, len: u32, limit: u32, exact: bool) {
        let asked = self.fetches.iter().any(|fetch| fetch.place == place);
        if asked || self.fetches.len() >= MAX_READS {
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        let len = len.next_multiple_of(SECTOR as u32).min(limit.saturating_sub(place.offset));
        self.fetches.push(Fetch { id, place, len, limit, exact });
        let name = segment_name(place.segment);
        let offset = u64::from(place.offset);
        let len = len as usize;
        self.asked.push_back(DiskRequest(Request::Read { id, name, offset, len }));
    }

    /// What is in a section of the frame at `place`.
    fn open<'a>(&mut self, place: Place, records: &Records<'a>) -> Option<Body<'a>> {
        let known = (place, records.stream, records.first);
        if let Some((place, stream, first, bytes)) = &self.opened
            && (*place, *stream, *first) == known
        {
            return Some(Body::Opened(bytes.clone()));
        }
        let body = records.open()?;
        if let Body::Opened(bytes) = &body {
            self.opened = Some((place, records.stream, records.first, bytes.clone()));
        }
        Some(body)
    }

    fn take_bookmark(&mut self, stream: StreamId, from: Seq) -> Option<Bookmark> {
        let here = |mark: &Bookmark| mark.stream == stream && mark.next == from;
        let index = self.bookmarks.iter().position(here)?;
        self.bookmarks.remove(index)
    }

    fn put_bookmark(&mut self, mark: Bookmark) {
        if self.bookmarks.len() >= MAX_BOOKMARKS {
            self.bookmarks.pop_front();
        }
        self.bookmarks.push_back(mark);
    }
}

/// Splits what was read into verified frames. Gives the frames, the end of what is accounted
/// for, and how many bytes are needed when not even one frame is whole.
fn verify_piece(
    bytes: &Bytes,
    start: u32,
    limit: u32,
    seed: Seed,
) -> (Vec<(u32, Bytes)>, u32, u32) {
    let mut frames = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        match Frame::verify(&bytes[at..], seed) {
            Ok(frame) => {
                let end = at + frame.padded;
                frames.push((start + at as u32, bytes.slice(at..at + frame.total)));
                at = end;
            }
            Err(Broken::Short(need)) if start as usize + at + need <= limit as usize => {
                return (frames, start + at as u32, need as u32);
            }
            Err(Broken::Short(_) | Broken::NotAFrame | Broken::Corrupt(_)) => at += SECTOR,
        }
    }
    (frames, (start as usize + at).min(limit as usize) as u32, 0)
}

/// A read in progress.
pub(crate) struct Visit<'v, 'f> {
    stream: StreamId,
    next: Seq,
    records: usize,
    bytes: usize,
    given: usize,
    visit: &'v mut (dyn FnMut(Seq, Epoch, RecordRef<'_>) + 'f),
}

impl<'v, 'f> Visit<'v, 'f> {
    pub(crate) fn new(
        stream: StreamId,
        next: Seq,
        records: usize,
        bytes: usize,
        visit: &'v mut (dyn FnMut(Seq, Epoch, RecordRef<'_>) + 'f),
    ) -> Visit<'v, 'f> {
        let (records, bytes) = (records.max(1), bytes.max(1));
        Visit { stream, next, records, bytes, given: 0, visit }
    }

    fn is_full(&self) -> bool {
        self.given > 0 && (self.records == 0 || self.bytes == 0)
    }

    fn bookmark(&self, chunk: &Chunk, place: Place, reader: Option<SectionReader>) -> Bookmark {
        let (stream, next) = (self.stream, self.next);
        Bookmark { stream, next, chunk: start_of(chunk), place, reader }
    }

    fn outcome(&self, nothing: ReadOutcome) -> ReadOutcome {
        if self.given > 0 { ReadOutcome::Read { next: self.next } } else { nothing }
    }

    /// Gives the records of a section from `next` on and before `end`, as far as the limit
    /// allows.
    fn give(&mut self, epoch: Epoch, body: &[u8], end: Seq, reader: &mut SectionReader) {
        while !self.is_full() && self.next < end {
            let before = reader.place();
            let Some((seq, record)) = reader.read(body) else { return };
            if seq < self.next {
                continue;
            }
            let size = record.payload.len()
                + record.attributes.len()
                + record.topic.len()
                + record.client.len();
            if self.given > 0 && size > self.bytes {
                reader.rewind(before);
                self.bytes = 0;
                return;
            }
            self.bytes = self.bytes.saturating_sub(size);
            self.records = self.records.saturating_sub(1);
            self.given += 1;
            self.next = seq.plus(1);
            (self.visit)(seq, epoch, record);
        }
    }
}

/// The section that has the next record of the visit. Without one: where the chunk goes on, if
/// this frame has what comes later.
fn records_at<'f>(
    frame: &Frame<'f>,
    visit: &Visit<'_, '_>,
    end: Seq,
) -> Result<Records<'f>, Option<Seq>> {
    let mut later = None;
    if visit.next >= end {
        return Err(None);
    }
    for section in frame.sections().filter(|section| section.id == visit.stream.0) {
        let Some(records) = Records::of(frame, &section) else { continue };
        if (records.first..records.end()).contains(&visit.next) {
            return Ok(records);
        }
        if records.first > visit.next && records.first < end {
            later = Some(later.map_or(records.first, |later: Seq| later.min(records.first)));
        }
    }
    Err(later)
}

fn start_of(chunk: &Chunk) -> ChunkStart {
    (chunk.place, chunk.first)
}

/// How following a chunk ended.
enum Step {
    /// All its records were given.
    ChunkDone,
    /// The limit was reached.
    Full,
    Fetching,
    /// Records from `next` of the visit up to here are damaged.
    Gap(Seq),
}

impl Log {
    /// Gives durable records of `stream` from `from` on, in order, with the epoch that each was
    /// appended in.
    pub fn read(
        &mut self,
        _now: Instant,
        stream: StreamId,
        from: Seq,
        limit: ReadLimit,
        visit: &mut dyn FnMut(Seq, Epoch, RecordRef<'_>),
    ) -> ReadOutcome {
        let Some(known) = self.state.stream(stream) else { return ReadOutcome::End };
        if from < known.first {
            let next = known.first;
            let told = self.is_told(stream);
            return if told { ReadOutcome::Lost { next } } else { ReadOutcome::Fetching };
        }
        if from >= known.durable {
            return ReadOutcome::End;
        }
        let mut visit = Visit::new(stream, from, limit.records, limit.bytes, visit);
        self.read_chunks(&mut visit)
    }

    pub(crate) fn read_chunks(&mut self, visit: &mut Visit<'_, '_>) -> ReadOutcome {
        loop {
            let Some(stream) = self.state.stream(visit.stream) else { return ReadOutcome::End };
            if visit.next >= stream.durable {
                return visit.outcome(ReadOutcome::End);
            }
            let behind = stream.chunks.partition_point(|chunk| chunk.first <= visit.next);
            let inside = behind.checked_sub(1).map(|index| stream.chunks[index]);
            let Some(chunk) = inside.filter(|chunk| visit.next < chunk.end()) else {
                let next = stream.chunks.get(behind).map_or(stream.durable, |chunk| chunk.first);
                return visit.outcome(ReadOutcome::Lost { next });
            };
            match self.follow(&chunk, visit) {
                Step::ChunkDone => {}
                Step::Full => return visit.outcome(ReadOutcome::End),
                Step::Fetching => return visit.outcome(ReadOutcome::Fetching),
                Step::Gap(next) if visit.given > 0 => {
                    // The gap is found again, and told, when the next read begins there.
                    let _ = next;
                    return visit.outcome(ReadOutcome::End);
                }
                Step::Gap(next) => {
                    self.enter_damage(&chunk, visit.next, next);
                    return if self.is_told(visit.stream) {
                        ReadOutcome::Lost { next }
                    } else {
                        ReadOutcome::Fetching
                    };
                }
            }
        }
    }

    /// Whether what is gone of the stream is durably gone. A power cut could still bring the rest
    /// back (a disk that dies fails reads before it is silent): who had gone on behind them, and
    /// told others, would never come back for them.
    fn is_told(&self, stream: StreamId) -> bool {
        self.only_looked_at
            || self.state.stream(stream).is_none_or(|stream| stream.gone_at <= self.durable)
    }

    fn follow(&mut self, chunk: &Chunk, visit: &mut Visit<'_, '_>) -> Step {
        let mark = self.reading.take_bookmark(visit.stream, visit.next);
        // Another chunk may lie in front of where this reader was, though it is read after it.
        let useful = |mark: &Bookmark| mark.chunk == start_of(chunk);
        let mut mark = mark.filter(useful);
        let mut place = mark.as_ref().map_or(chunk.place, |mark| mark.place);
        loop {
            let end = self.segments.get(&place.segment).map_or(0, |info| info.end);
            if place.offset >= end {
                return Step::Gap(chunk.end());
            }
            let bytes = match self.reading.find(place) {
                Found::Frame(bytes) => bytes,
                Found::Damage(next) => {
                    place.offset = next;
                    mark = None;
                    continue;
                }
                Found::Missing => {
                    let len = self.options.read_bytes as u32;
                    self.reading.fetch(place, len, end, false);
                    // So far nothing of use: the search goes on here when the piece is there.
                    let (stream, next) = (visit.stream, visit.next);
                    let reader = mark.and_then(|mark| mark.reader);
                    let chunk = start_of(chunk);
                    self.reading.put_bookmark(Bookmark { stream, next, chunk, place, reader });
                    return Step::Fetching;
                }
            };
            let Some(frame) = Frame::trusted(&bytes) else { return Step::Gap(chunk.end()) };
            let reader = mark.take().and_then(|mark| mark.reader);
            if let Some(step) = self.read_frame(&frame, place, chunk, reader, visit) {
                return step;
            }
            place.offset += frame.padded as u32;
            if visit.next >= chunk.end() || visit.is_full() {
                self.reading.put_bookmark(visit.bookmark(chunk, place, None));
                return if visit.is_full() { Step::Full } else { Step::ChunkDone };
            }
        }
    }

    /// Gives what the frame has of the chunk; `None` when the next frame is to be looked at. It
    /// may have several sections of the stream, and copies among them are in no order.
    fn read_frame(
        &mut self,
        frame: &Frame<'_>,
        place: Place,
        chunk: &Chunk,
        mut reader: Option<SectionReader>,
        visit: &mut Visit<'_, '_>,
    ) -> Option<Step> {
        loop {
            let records = match records_at(frame, visit, chunk.end()) {
                Ok(records) => records,
                Err(later) => return later.map(Step::Gap),
            };
            if visit.is_full() {
                self.reading.put_bookmark(visit.bookmark(chunk, place, None));
                return Some(Step::Full);
            }
            let end = records.end().min(chunk.end());
            let mut reader = reader.take().unwrap_or_else(|| records.reader());
            let Some(body) = self.reading.open(place, &records) else {
                return Some(Step::Gap(end));
            };
            visit.give(records.epoch, body.bytes(), end, &mut reader);
            if visit.next < end && visit.is_full() {
                self.reading.put_bookmark(visit.bookmark(chunk, place, Some(reader)));
                return Some(Step::Full);
            }
            if visit.next < end {
                // A section that ends before its count is one that a mistaken program wrote.
                return Some(Step::Gap(end));
            }
        }
    }

    /// Enters records that cannot be read into the ledger, once.
    fn enter_damage(&mut self, chunk: &Chunk, first: Seq, next: Seq) {
        if let Some(segment) = self.segments.get_mut(&chunk.place.segment) {
            segment.damaged = true;
        }
        for (first, next) in self.state.ledger.untold(chunk.stream, first, next) {
            self.enter_untold(chunk, first, next);
        }
    }

    fn enter_untold(&mut self, chunk: &Chunk, first: Seq, next: Seq) {
        let records = next.0 - first.0;
        let loss = Loss {
            stream: chunk.stream,
            first,
            last: Seq(next.0 - 1),
            records,
            bytes: u64::from(chunk.bytes) * records / u64::from(chunk.records.max(1)),
            reason: LossReason::Damaged,
            unix_ms: self.unix_ms,
        };
        self.end.0 += 1;
        self.open.push_loss(loss);
        self.open.end = self.end;
        self.chores.defined = true;
        self.state.enter_loss(loss, &self.options);
        // A reader waits for it.
        self.flush_through = Some(self.open.id);
        if let Some(stream) = self.state.stream_mut(chunk.stream) {
            stream.gone_at = self.end;
        }
    }

    pub(crate) fn read_arrived(&mut self, id: u64, result: io::Result<Bytes>) {
        let Some(index) = self.reading.fetches.iter().position(|fetch| fetch.id == id) else {
            return;
        };
        let fetch = self.reading.fetches.swap_remove(index);
        let Place { segment, offset } = fetch.place;
        if !self.segments.contains_key(&segment) {
            return;
        }
        let end = offset + fetch.len;
        let piece = match result {
            Ok(bytes) => {
                let seed = self.seed(segment);
                let (frames, verified, need) = verify_piece(&bytes, offset, fetch.limit, seed);
                let short = frames.is_empty() && verified == offset;
                if short && need > fetch.len && bytes.len() as u32 == fetch.len {
                    self.reading.fetch(fetch.place, need, fetch.limit, true);
                    return;
                }
                // A file that is shorter than it was: the rest is damage.
                let cut = (bytes.len() as u32) < fetch.len && (need == 0 || frames.is_empty());
                Piece { segment, start: offset, end: if cut { end } else { verified }, frames }
            }
            Err(error) => {
                self.counters.failures += 1;
                let name = segment_name(segment);
                self.counters.last_error =
                    Some(format!("cannot read {} bytes at {offset} of {name}: {error}", fetch.len));
                if !fetch.exact {
                    // One bad sector must not cost what is beside it.
                    self.reading.fetch(fetch.place, BLOCK as u32, fetch.limit, true);
                    return;
                }
                let end = offset + SECTOR as u32;
                Piece { segment, start: offset, end, frames: Vec::new() }
            }
        };
        self.reading.pieces.push_back(piece);
        while self.reading.pieces.len() > self.options.read_buffers.max(1) {
            self.reading.pieces.pop_front();
        }
    }
}
