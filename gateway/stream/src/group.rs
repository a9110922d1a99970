//! What waits for the disk: groups of commits, each of which becomes one frame.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::compression::{self, Coding};
use crate::copied::CopiedSection;
use crate::frame::{FrameWriter, Kind, SECTION_HEADER, UnsealedFrame};
use crate::ids::{Epoch, Position, ReaderId, Seq, StreamId, TableId};
use crate::ledger::Loss;
use crate::options::{Compression, LogOptions};
use crate::record::{RecordRef, RecordSection};
use crate::segment::Chunk;
use crate::state::encode_change;

/// A group that is still open, or waits for the one before it.
#[derive(Debug)]
pub(crate) struct Group {
    /// Counts groups; a checkpoint is the state before a certain group.
    pub(crate) id: u64,
    base_ms: Option<i64>,
    records: Vec<RecordSection>,
    copies: Vec<CopiedSection>,
    /// Bytes of `copies`: they wait for a group to ride in, and make none due.
    copied_bytes: usize,
    /// Index in `records` plus one, by stream; 0: none.
    by_stream: Vec<u16>,
    /// Definitions, in order: kind, id, count, first, payload.
    defs: Vec<(Kind, u16, u32, Seq, Vec<u8>)>,
    tables: BTreeMap<TableId, (u32, Vec<u8>)>,
    cursors: BTreeMap<ReaderId, Seq>,
    losses: Vec<Loss>,
    /// Oldest records that streams still keep.
    trims: BTreeMap<StreamId, Seq>,
    /// Encoded bytes so far, headers of sections included.
    pub(crate) bytes: usize,
    /// Bytes of records only.
    pub(crate) record_bytes: usize,
    /// The newest commit in it.
    pub(crate) end: Position,
    /// Since when somebody waits for it.
    pub(crate) urgent_since: Option<Instant>,
    /// Since when it holds something that nobody waits for.
    pub(crate) lazy_since: Option<Instant>,
    pub(crate) last_append: Option<Instant>,
}

/// What a frame changes once it is durable.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) frame: UnsealedFrame,
    pub(crate) commit: u64,
    pub(crate) end: Position,
    pub(crate) records: Vec<SealedRecords>,
    /// Records copied forward.
    pub(crate) copies: Vec<SealedRecords>,
    pub(crate) cursors: Vec<(ReaderId, Seq)>,
    /// The checkpoint's number and that of its part in it.
    pub(crate) part: Option<(u64, usize)>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct SealedRecords {
    pub(crate) stream: StreamId,
    pub(crate) first: Seq,
    pub(crate) count: u32,
    /// Bytes of the section's payload.
    pub(crate) bytes: u32,
    /// What the stream counts for them until they are durable.
    pub(crate) pending: u32,
    pub(crate) newest_ms: i64,
}

impl SealedRecords {
    pub(crate) fn stream(&self) -> StreamId {
        self.stream
    }

    /// Those of a frame that is written again.
    pub(crate) fn of(chunk: &Chunk) -> SealedRecords {
        SealedRecords {
            stream: chunk.stream,
            first: chunk.first,
            count: chunk.records,
            bytes: chunk.bytes,
            pending: chunk.bytes,
            newest_ms: chunk.newest_ms,
        }
    }
}

/// A checkpoint part that rides in a frame.
#[derive(Debug)]
pub(crate) struct Part {
    /// Of the checkpoint.
    pub(crate) number: u64,
    pub(crate) index: usize,
    pub(crate) of: usize,
    pub(crate) bytes: Vec<u8>,
    /// Nothing follows: the store is closed with this frame.
    pub(crate) clean: bool,
}

impl Group {
    pub(crate) fn new(id: u64, end: Position) -> Group {
        Group {
            id,
            base_ms: None,
            records: Vec::new(),
            copies: Vec::new(),
            copied_bytes: 0,
            by_stream: Vec::new(),
            defs: Vec::new(),
            tables: BTreeMap::new(),
            cursors: BTreeMap::new(),
            losses: Vec::new(),
            trims: BTreeMap::new(),
            bytes: 0,
            record_bytes: 0,
            end,
            urgent_since: None,
            lazy_since: None,
            last_append: None,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds a record; `spare` gives emptied sections to use again. Gives the bytes it took.
    #[inline]
    pub(crate) fn push_record(
        &mut self,
        stream: StreamId,
        seq: Seq,
        record: &RecordRef<'_>,
        spare: &mut Vec<RecordSection>,
    ) -> usize {
        let slot = usize::from(stream.0);
        if self.by_stream.len() <= slot {
            self.by_stream.resize(slot + 1, 0);
        }
        if self.by_stream[slot] == 0 {
            let base = *self.base_ms.get_or_insert(record.unix_ms);
            let section = match spare.pop() {
                Some(mut section) => {
                    section.reset(stream, seq, base);
                    section
                }
                None => RecordSection::new(stream, seq, base),
            };
            self.records.push(section);
            self.by_stream[slot] = self.records.len() as u16;
            self.bytes += SECTION_HEADER;
        }
        let took = self.records[usize::from(self.by_stream[slot]) - 1].push(record);
        self.bytes += took;
        self.record_bytes += took;
        took
    }

    pub(crate) fn push_copied(&mut self, copied: CopiedSection) {
        let took = SECTION_HEADER + copied.len();
        self.bytes += took;
        self.copied_bytes += took;
        self.copies.push(copied);
    }

    pub(crate) fn push_def(&mut self, kind: Kind, id: u16, count: u32, at: Seq, payload: Vec<u8>) {
        self.bytes += SECTION_HEADER + payload.len();
        self.defs.push((kind, id, count, at, payload));
    }

    pub(crate) fn push_change(&mut self, table: TableId, key: &[u8], value: Option<&[u8]>) {
        let (count, bytes) = self.tables.entry(table).or_insert_with(|| {
            self.bytes += SECTION_HEADER;
            (0, Vec::new())
        });
        let before = bytes.len();
        encode_change(bytes, key, value);
        *count += 1;
        self.bytes += bytes.len() - before;
    }

    pub(crate) fn push_cursor(&mut self, reader: ReaderId, next: Seq) {
        const ENTRY: usize = 13;
        if self.cursors.insert(reader, next).is_none() {
            self.bytes += ENTRY + if self.cursors.len() == 1 { SECTION_HEADER } else { 0 };
        }
    }

    pub(crate) fn push_loss(&mut self, loss: Loss) {
        const ENTRY: usize = 54;
        if self.losses.last_mut().is_some_and(|last| last.absorb(&loss)) {
            return;
        }
        self.losses.push(loss);
        self.bytes += ENTRY + if self.losses.len() == 1 { SECTION_HEADER } else { 0 };
    }

    pub(crate) fn push_trim(&mut self, stream: StreamId, first: Seq) {
        const ENTRY: usize = 13;
        if self.trims.insert(stream, first).is_none() {
            self.bytes += ENTRY + if self.trims.len() == 1 { SECTION_HEADER } else { 0 };
        }
    }

    /// A reader that is gone has no cursor.
    pub(crate) fn drop_cursor(&mut self, reader: ReaderId) {
        self.cursors.remove(&reader);
    }

    /// Makes the frame. Emptied sections go to `spare`.
    pub(crate) fn seal(
        mut self,
        store: u64,
        commit: u64,
        epoch: Epoch,
        part: Option<Part>,
        compression: &dyn Fn(StreamId) -> Compression,
        spare: &mut Vec<RecordSection>,
    ) -> Sealed {
        let room = self.bytes + part.as_ref().map_or(0, |part| part.bytes.len()) + 128;
        let base_ms = self.base_ms.unwrap_or(0);
        let mut frame = FrameWriter::new(store, commit, epoch, base_ms, room);
        for (kind, id, count, at, payload) in &self.defs {
            frame.section(*kind, *id, *count, *at, payload);
        }
        let mut records = Vec::with_capacity(self.records.len());
        for section in self.records.drain(..) {
            let (stream, first, count) = (section.stream, section.first, section.count);
            let packed = packed(&section, compression);
            let body = match &packed {
                Some(packed) => (Coding::Lz4, packed.as_slice()),
                None => (Coding::Plain, section.bytes.as_slice()),
            };
            frame.records(Kind::Records, stream, count, first, body);
            let (bytes, newest_ms) = (body.1.len() as u32, section.newest_ms);
            let pending = section.bytes.len() as u32;
            records.push(SealedRecords { stream, first, count, bytes, pending, newest_ms });
            if spare.len() < MAX_SPARE_SECTIONS && section.bytes.capacity() <= MAX_SPARE_BYTES {
                spare.push(section);
            }
        }
        let copies = self.seal_copies(&mut frame, compression);
        for (table, (count, bytes)) in &self.tables {
            frame.section(Kind::Table, table.0, *count, Seq(0), bytes);
        }
        self.seal_cursors_and_losses(&mut frame);
        if let Some(part) = &part {
            let (index, of) = (Seq(part.index as u64), part.of as u32);
            frame.section(Kind::Checkpoint, 0, of, index, &part.bytes);
            if part.clean {
                frame.section(Kind::Clean, 0, 0, Seq(0), &[]);
            }
        }
        Sealed {
            frame: frame.finish(),
            commit,
            end: self.end,
            records,
            copies,
            cursors: self.cursors.into_iter().collect(),
            part: part.map(|part| (part.number, part.index)),
        }
    }

    fn seal_copies(
        &self,
        frame: &mut FrameWriter,
        compression: &dyn Fn(StreamId) -> Compression,
    ) -> Vec<SealedRecords> {
        let seal = |copied: &CopiedSection| {
            let section = &copied.section;
            let (stream, first, count) = (section.stream, section.first, section.count);
            let packed = packed(section, compression);
            let (coding, payload) = copied.payload(packed.as_deref());
            frame.records(Kind::Copied, stream, count, first, (coding, &payload));
            let (bytes, newest_ms) = (payload.len() as u32, section.newest_ms);
            SealedRecords { stream, first, count, bytes, pending: 0, newest_ms }
        };
        self.copies.iter().map(seal).collect()
    }

    fn seal_cursors_and_losses(&self, frame: &mut FrameWriter) {
        if !self.cursors.is_empty() {
            let mut bytes = Vec::new();
            for (reader, next) in &self.cursors {
                crate::varint::put(&mut bytes, u64::from(reader.0));
                crate::varint::put(&mut bytes, next.0);
            }
            frame.section(Kind::Cursors, 0, self.cursors.len() as u32, Seq(0), &bytes);
        }
        if !self.trims.is_empty() {
            let mut bytes = Vec::new();
            for (stream, first) in &self.trims {
                crate::varint::put(&mut bytes, u64::from(stream.0));
                crate::varint::put(&mut bytes, first.0);
            }
            frame.section(Kind::Trims, 0, self.trims.len() as u32, Seq(0), &bytes);
        }
        if !self.losses.is_empty() {
            let mut bytes = Vec::new();
            self.losses.iter().for_each(|loss| loss.encode(&mut bytes));
            frame.section(Kind::Losses, 0, self.losses.len() as u32, Seq(0), &bytes);
        }
    }

    /// When it should be written.
    pub(crate) fn due(&self, options: &LogOptions) -> Due {
        if self.bytes - self.copied_bytes >= options.group_bytes {
            return Due::Now;
        }
        let quiet = self.last_append.map(|at| at + options.quiet);
        let patience = self.urgent_since.map(|at| at + options.max_ack_delay);
        let lazy = self.lazy_since.map(|at| at + options.cursor_delay);
        let urgent = match (quiet, patience) {
            (Some(quiet), Some(patience)) => Some(quiet.min(patience)),
            (quiet, patience) => quiet.or(patience),
        };
        match (urgent, lazy) {
            (None, None) => Due::Never,
            (Some(at), None) | (None, Some(at)) => Due::At(at),
            (Some(urgent), Some(lazy)) => Due::At(urgent.min(lazy)),
        }
    }
}

/// The section's records compressed, if its stream wants that and it pays.
fn packed(
    section: &RecordSection,
    compression: &dyn Fn(StreamId) -> Compression,
) -> Option<Vec<u8>> {
    match compression(section.stream) {
        Compression::None => None,
        Compression::Lz4 => compression::compress(&section.bytes),
    }
}

/// Emptied sections kept for use again, and the most bytes each may hold on to.
const MAX_SPARE_SECTIONS: usize = 8;
const MAX_SPARE_BYTES: usize = 128 << 10;

/// When a group should be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Never,
    At(Instant),
    Now,
}
