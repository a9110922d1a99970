//! The log as its owner sees it: definitions, appends, transactions, cursors.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::checkpoint::Checkpointing;
use crate::copying::Copying;
use crate::disk::DiskRequest;
use crate::frame::{BLOCK, Kind, SECTION_HEADER};
use crate::group::{Due, Group, Sealed};
use crate::ids::{Epoch, Position, ReaderId, SegmentId, Seq, StreamId, TableId};
use crate::ledger::Loss;
use crate::marking::Marking;
use crate::options::{
    LogOptions, MAX_ATTRIBUTE_BYTES, MAX_NAME_BYTES, MAX_ORIGIN_BYTES, MAX_READERS, MAX_STREAMS,
    MAX_TABLES, StreamConfig,
};
use crate::reading::Reading;
use crate::record::{PublisherIdentity, RecordRef, RecordSection};
use crate::retention::Need;
use crate::segment::{Chunk, Place, SegmentIndex};
use crate::state::{State, encode_reader_def, encode_stream_def};
use crate::transaction::Transaction;
use crate::varint;
use crate::writing::Job;

/// A durable, shared, segmented log. See the crate's documentation for how to drive it.
#[derive(Debug)]
pub struct Log {
    pub(crate) options: LogOptions,
    pub(crate) store: u64,
    pub(crate) epoch: Epoch,
    pub(crate) state: State,
    pub(crate) unix_ms: i64,

    // What is appended and not yet durable.
    pub(crate) open: Group,
    pub(crate) closed: VecDeque<Group>,
    /// Bytes in `closed`.
    pub(crate) closed_bytes: usize,
    /// Bytes of the frame that is being written, or written again.
    pub(crate) flight_bytes: usize,
    pub(crate) retry: Option<Sealed>,
    pub(crate) retry_at: Option<Instant>,
    pub(crate) backoff: Duration,
    pub(crate) flush_through: Option<u64>,
    pub(crate) end: Position,
    pub(crate) durable: Position,
    pub(crate) next_commit: u64,
    pub(crate) spare_sections: Vec<RecordSection>,

    // Where it goes.
    pub(crate) job: Option<Job>,
    pub(crate) segments: BTreeMap<SegmentId, SegmentInfo>,
    pub(crate) active: Option<Active>,
    pub(crate) log_end: Option<Place>,
    pub(crate) next_file: u64,
    pub(crate) chores: crate::chores::Chores,
    pub(crate) checkpointing: Option<Checkpointing>,
    pub(crate) checkpoint: Option<Place>,
    /// The one before: it still serves when the newest is damaged.
    pub(crate) checkpoint_before: Option<Place>,
    pub(crate) checkpoint_bytes: u64,
    pub(crate) bytes_since_checkpoint: u64,
    /// Definitions are written that no checkpoint holds a second time.
    pub(crate) definitions_once: bool,
    /// Segments that lose a chunk once the position is durable.
    pub(crate) releases: VecDeque<(Position, Chunk)>,
    pub(crate) disk_full: bool,
    pub(crate) shutting_down: bool,
    /// Nothing that it writes comes true.
    pub(crate) only_looked_at: bool,
    pub(crate) marking: Marking,
    pub(crate) copying: Copying,

    pub(crate) reading: Reading,
    pub(crate) counters: Counters,
}

/// What is known of a segment with data.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SegmentInfo {
    /// Length of the file.
    pub(crate) len: u32,
    /// Where its durable frames end.
    pub(crate) end: u32,
    /// Chunks in it that are kept.
    pub(crate) live: u32,
    /// Their bytes.
    pub(crate) live_bytes: u64,
    pub(crate) damaged: bool,
}

/// The segment that is written to.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) id: SegmentId,
    pub(crate) len: u32,
    /// End of what is durable; the next frame goes there.
    pub(crate) offset: u32,
    pub(crate) index: SegmentIndex,
    pub(crate) first_commit: u64,
    pub(crate) last_commit: u64,
    /// A write to it failed, or its end is in doubt: nothing is written to it any more.
    pub(crate) closed: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) groups: u64,
    pub(crate) bytes_written: u64,
    pub(crate) payload_bytes: u64,
    pub(crate) failures: u64,
    pub(crate) last_error: Option<String>,
}

/// What an append gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Durable once [`Log::durable`] has reached it.
    pub position: Position,
    /// The record's sequence in its stream.
    pub seq: Seq,
}

/// What a transaction gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// Durable once [`Log::durable`] has reached it.
    pub position: Position,
    /// Streams and sequences of its records, in order.
    pub seqs: Vec<(StreamId, Seq)>,
}

/// Why a record was not appended. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AppendError {
    /// The stream is at one of its quotas and does not drop.
    #[error(
        "stream \"{stream}\" is full ({held} of {max} {quota}): wait for its readers, raise max_{quota} or set overflow = \"drop-oldest\""
    )]
    StreamFull {
        /// The stream's name.
        stream: String,
        /// Bytes or records kept.
        held: u64,
        /// The quota.
        max: u64,
        /// Which quota it is.
        quota: Quota,
    },
    /// Too much waits for the disk: append again once something is durable.
    #[error("{pending} bytes wait for the disk, {max} may: try again once it has caught up")]
    Busy {
        /// Bytes that wait.
        pending: usize,
        /// The limit.
        max: usize,
    },
    /// It can never be appended.
    #[error("the record or transaction takes {bytes} bytes, {max} are allowed")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit that it breaks.
        max: usize,
    },
    /// The disk is full. The log goes on by itself when there is room again.
    #[error("the disk is full: free some space, or lower the quotas of the streams")]
    DiskFull,
    /// No such stream.
    #[error("stream {0} is not defined")]
    UnknownStream(StreamId),
}

/// What a stream has too much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quota {
    /// [`StreamConfig::max_bytes`]
    Bytes,
    /// [`StreamConfig::max_records`]
    Records,
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Quota::Bytes => "bytes",
            Quota::Records => "records",
        })
    }
}

/// Why a transaction was not committed. Nothing changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CommitError {
    /// One of its records cannot be appended, or it is too large.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The tables would become too large.
    #[error("the tables would take {bytes} bytes, {max} are allowed")]
    TablesFull {
        /// Their size with the change.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// No such reader.
    #[error("reader {0} is not defined")]
    UnknownReader(ReaderId),
    /// No such table.
    #[error("table {0} is not defined")]
    UnknownTable(TableId),
}

impl CommitError {
    /// Whether the same may be taken in a moment: too much waits for the disk.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(self, CommitError::Append(AppendError::Busy { .. }))
    }
}

/// Why a stream, reader or table was not defined.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DefineError {
    /// A name is 1 to 255 bytes.
    #[error("a name of {bytes} bytes: 1 to {max} are allowed")]
    NameLength {
        /// Its length.
        bytes: usize,
        /// The limit.
        max: usize,
    },
    /// There are as many as there can be.
    #[error("no more than {max} {what} can be defined")]
    TooMany {
        /// Streams, readers or tables.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// No such stream.
    #[error("stream {0} is not defined")]
    UnknownStream(StreamId),
}

/// Headers and the like that a frame has besides what is counted.
const FRAME_ROOM: usize = 256;

impl Log {
    /// Defines a stream, or gives it another configuration. It keeps its id for ever.
    ///
    /// # Errors
    /// For a bad name, or too many streams.
    pub fn stream(&mut self, name: &str, config: StreamConfig) -> Result<StreamId, DefineError> {
        check_name(name)?;
        let known = self.state.streams.iter().position(|stream| stream.name == name);
        let index = known.unwrap_or(self.state.streams.len());
        if index >= MAX_STREAMS {
            return Err(DefineError::TooMany { what: "streams", max: MAX_STREAMS });
        }
        let id = StreamId(index as u16);
        if self.state.stream(id).is_none_or(|stream| stream.config != config) {
            self.state.define_stream(id, name.to_owned(), config);
            let def = encode_stream_def(name, &config);
            self.define(Kind::StreamDef, id.0, 1, Seq(0), def);
        }
        Ok(id)
    }

    /// Defines a reader: a cursor that holds records back until it has passed them. A new one
    /// starts at the oldest record kept.
    ///
    /// # Errors
    /// For a bad name, an unknown stream, or too many readers.
    pub fn reader(&mut self, stream: StreamId, name: &str) -> Result<ReaderId, DefineError> {
        check_name(name)?;
        let first = self.state.stream(stream).ok_or(DefineError::UnknownStream(stream))?.first;
        let same = |(_, reader): &(ReaderId, &crate::state::Reader)| {
            reader.stream == stream && reader.name == name
        };
        if let Some((id, _)) = self.each_reader().find(same) {
            return Ok(id);
        }
        let free = self.state.readers.iter().position(Option::is_none);
        let index = free.unwrap_or(self.state.readers.len());
        if index >= MAX_READERS {
            return Err(DefineError::TooMany { what: "readers", max: MAX_READERS });
        }
        let id = ReaderId(index as u16);
        self.state.define_reader(id, stream, name.to_owned(), first);
        self.define(Kind::ReaderDef, id.0, 1, first, encode_reader_def(stream, name));
        Ok(id)
    }

    /// Forgets a reader: it holds nothing back any more.
    pub fn drop_reader(&mut self, reader: ReaderId) {
        if self.state.reader(reader).is_none() {
            return;
        }
        self.state.drop_reader(reader);
        self.open.drop_cursor(reader);
        self.define(Kind::ReaderDef, reader.0, 0, Seq(0), Vec::new());
    }

    /// Defines a table: keyed state that is kept in memory, logged and checkpointed.
    ///
    /// # Errors
    /// For a bad name, or too many tables.
    pub fn table(&mut self, name: &str) -> Result<TableId, DefineError> {
        check_name(name)?;
        if let Some(index) = self.state.tables.iter().position(|table| table.name == name) {
            return Ok(TableId(index as u16));
        }
        let index = self.state.tables.len();
        if index >= MAX_TABLES {
            return Err(DefineError::TooMany { what: "tables", max: MAX_TABLES });
        }
        let id = TableId(index as u16);
        self.state.define_table(id, name.to_owned());
        let mut def = Vec::new();
        varint::put_bytes(&mut def, name.as_bytes());
        self.define(Kind::TableDef, id.0, 1, Seq(0), def);
        Ok(id)
    }

    /// Whether a table of this name was defined, now or in an earlier life of the store.
    #[must_use]
    pub fn has_table(&self, name: &str) -> bool {
        self.state.tables.iter().any(|table| table.name == name)
    }

    /// All streams: id and name.
    pub fn streams(&self) -> impl Iterator<Item = (StreamId, &str)> {
        let named = |(id, stream): (usize, _)| {
            let stream: &crate::state::Stream = stream;
            (StreamId(id as u16), stream.name.as_str())
        };
        self.state.streams.iter().enumerate().map(named)
    }

    /// All readers: id, stream and name.
    pub fn readers(&self) -> impl Iterator<Item = (ReaderId, StreamId, &str)> {
        self.each_reader().map(|(id, reader)| (id, reader.stream, reader.name.as_str()))
    }

    fn each_reader(&self) -> impl Iterator<Item = (ReaderId, &crate::state::Reader)> {
        let present =
            |(id, reader): (usize, &'_ Option<_>)| (ReaderId(id as u16), reader.is_some());
        self.state
            .readers
            .iter()
            .enumerate()
            .map(present)
            .filter_map(|(id, _)| Some((id, self.state.reader(id)?)))
    }

    /// A definition goes ahead of all records that rely on it, because groups keep their order.
    fn define(&mut self, kind: Kind, id: u16, count: u32, at: Seq, payload: Vec<u8>) {
        if self.open.bytes + payload.len() + FRAME_ROOM > self.options.max_frame_bytes {
            self.close_group();
        }
        self.open.push_def(kind, id, count, at, payload);
        // Written with the next append, or after `cursor_delay` from the next call with a time.
        self.chores.defined = true;
        self.definitions_once = true;
    }

    /// Appends a record.
    ///
    /// # Errors
    /// See [`AppendError`].
    #[inline]
    pub fn append(
        &mut self,
        now: Instant,
        stream: StreamId,
        record: &RecordRef<'_>,
    ) -> Result<Appended, AppendError> {
        let bound = check_record(record)?;
        self.admit(bound)?;
        self.unix_ms = record.unix_ms;
        self.make_room(stream, Need { bytes: bound as u64, records: 1 })?;
        self.fit(bound);
        self.end.0 += 1;
        let seq = self.push_record(stream, record)?;
        self.settle(now, true);
        Ok(Appended { position: self.end, seq })
    }

    /// Commits a transaction: all of it, in one frame. One without records waits for a group
    /// to ride in, at most [`LogOptions::cursor_delay`], unless it is told to
    /// [`hurry`](Transaction::hurry).
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn commit(&mut self, now: Instant, tx: Transaction) -> Result<Committed, CommitError> {
        let bound = tx.bound();
        self.check_transaction(&tx, bound)?;
        for (stream, need) in needs(&tx) {
            self.make_room(stream, need)?;
        }
        self.fit(bound);
        self.end.0 += 1;
        let mut seqs = Vec::with_capacity(tx.records.len());
        for (stream, record) in &tx.records {
            seqs.push((*stream, self.push_record(*stream, &record.as_ref())?));
        }
        let urgent = tx.hurried || !seqs.is_empty();
        for change in tx.tables {
            self.open.push_change(change.table, &change.key, change.value.as_deref());
            self.state.change_table(change.table, change.key, change.value);
        }
        for (reader, next) in tx.cursors {
            self.move_cursor(reader, next);
        }
        for loss in tx.losses {
            self.open.push_loss(loss);
            self.state.enter_loss(loss, &self.options);
        }
        self.settle(now, urgent);
        Ok(Committed { position: self.end, seqs })
    }

    fn check_transaction(&self, tx: &Transaction, bound: usize) -> Result<(), CommitError> {
        for (_, record) in &tx.records {
            check_record(&record.as_ref())?;
        }
        if tx.records.is_empty() && tx.tables.is_empty() {
            self.check_size(bound)?;
        } else {
            self.admit(bound)?;
        }
        if let Some((reader, _)) = tx.cursors.iter().find(|c| self.state.reader(c.0).is_none()) {
            return Err(CommitError::UnknownReader(*reader));
        }
        if let Some(c) = tx.tables.iter().find(|c| self.state.table(c.table).is_none()) {
            return Err(CommitError::UnknownTable(c.table));
        }
        let (bytes, max) = (self.state.table_bytes_after(&tx.tables), self.options.max_table_bytes);
        if bytes > max && bytes > self.state.table_bytes {
            return Err(CommitError::TablesFull { bytes, max });
        }
        for (stream, need) in needs(tx) {
            self.check_room(stream, need)?;
        }
        Ok(())
    }

    /// Moves a cursor, in no hurry: this rides in the next group, or goes alone after
    /// [`LogOptions::cursor_delay`]. `next` is the first sequence not yet done; below the oldest
    /// record kept it counts as that one, behind the stream's end as the end.
    pub fn advance(&mut self, now: Instant, reader: ReaderId, next: Seq) {
        let next = self.within_stream(reader, next);
        if self.state.reader(reader).is_none_or(|reader| reader.next == next) {
            return;
        }
        self.fit(FRAME_ROOM);
        self.move_cursor(reader, next);
        self.settle(now, false);
    }

    /// No cursor is below what its stream keeps, or above what it has: recovery takes a cursor
    /// for a proof that the records before it were there.
    fn within_stream(&self, reader: ReaderId, next: Seq) -> Seq {
        let stream = self.state.reader(reader).and_then(|reader| self.state.stream(reader.stream));
        stream.map_or(next, |stream| next.min(stream.next).max(stream.first))
    }

    /// Enters a loss into the ledger, in no hurry.
    pub fn record_loss(&mut self, now: Instant, loss: Loss) {
        self.fit(FRAME_ROOM);
        self.end.0 += 1;
        self.open.push_loss(loss);
        self.state.enter_loss(loss, &self.options);
        self.settle(now, false);
    }

    fn move_cursor(&mut self, id: ReaderId, next: Seq) {
        let next = self.within_stream(id, next);
        if let Some(reader) = self.state.reader_mut(id) {
            reader.next = next;
            self.open.push_cursor(id, next);
        }
    }

    #[inline]
    fn push_record(&mut self, id: StreamId, record: &RecordRef<'_>) -> Result<Seq, AppendError> {
        let stream = self.state.stream_mut(id).ok_or(AppendError::UnknownStream(id))?;
        let seq = stream.next;
        let took = self.open.push_record(id, seq, record, &mut self.spare_sections);
        stream.next = seq.plus(1);
        stream.pending += took as u64;
        stream.appended += 1;
        #[cfg(any(test, feature = "simulation"))]
        if let Some(trace) = &self.options.trace {
            let (epoch, record) = (self.epoch, record.to_record());
            trace.note(crate::trace::Traced { stream: id, epoch, seq, record });
        }
        self.counters.payload_bytes += record.payload.len() as u64;
        if let Some(identity) = record.publisher {
            self.state.publishers.note(record.client, identity, self.options.max_publishers);
        }
        Ok(seq)
    }

    /// Makes sure that the open group takes `bound` more bytes.
    #[inline]
    pub(crate) fn fit(&mut self, bound: usize) {
        if self.open.bytes + bound + FRAME_ROOM > self.options.max_frame_bytes {
            self.close_group();
        }
    }

    pub(crate) fn close_group(&mut self) {
        if self.open.is_empty() {
            return;
        }
        let next = Group::new(self.open.id + 1, self.end);
        let group = std::mem::replace(&mut self.open, next);
        self.closed_bytes += group.bytes;
        self.closed.push_back(group);
    }

    #[inline]
    pub(crate) fn settle(&mut self, now: Instant, urgent: bool) {
        self.open.end = self.end;
        if urgent {
            self.open.last_append = Some(now);
            self.open.urgent_since.get_or_insert(now);
        } else {
            self.open.lazy_since.get_or_insert(now);
        }
    }

    fn check_size(&self, bound: usize) -> Result<(), AppendError> {
        let bytes = bound + SECTION_HEADER + FRAME_ROOM;
        let max = self.options.max_frame_bytes;
        if bytes > max { Err(AppendError::TooLarge { bytes, max }) } else { Ok(()) }
    }

    /// Whether data may come in: it must fit a frame, the memory, and what is left of the disk.
    #[inline]
    fn admit(&self, bound: usize) -> Result<(), AppendError> {
        self.check_size(bound)?;
        let pending = self.pending_bytes();
        if self.disk_full && !self.has_disk_room(pending + bound) {
            return Err(AppendError::DiskFull);
        }
        let max = self.options.max_pending_bytes;
        if pending + bound > max {
            return Err(AppendError::Busy { pending, max });
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn pending_bytes(&self) -> usize {
        self.open.bytes + self.closed_bytes + self.flight_bytes
    }

    /// Whether `bytes` fit what is left without the reserve; only asked when no more can be had.
    fn has_disk_room(&self, bytes: usize) -> bool {
        let active = self.active.as_ref().filter(|active| !active.closed);
        let left = active.map_or(0, |active| i64::from(active.len - active.offset));
        let spares = self.chores.spares.len() as i64 - self.options.reserve_segments as i64;
        left + spares * i64::from(self.options.segment_bytes) > 2 * (bytes + BLOCK) as i64
    }

    /// What the gateway already holds from this publisher.
    #[must_use]
    pub fn publisher_last(&self, client: &str) -> Option<PublisherIdentity> {
        self.state.publishers.last(client)
    }

    /// The newest commit.
    #[must_use]
    pub fn end(&self) -> Position {
        self.end
    }

    /// Everything up to here is on flash: its acknowledgements may be released.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.durable
    }

    /// Epoch of records appended now.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether records of this epoch may be of this store. False for certain: another store made
    /// them. True of one that is older than the list of epochs goes back
    /// (docs/formats/log.md, kind 14).
    #[must_use]
    pub fn has_had(&self, epoch: Epoch) -> bool {
        self.state.epochs.includes(epoch)
    }

    /// Whether the store had, or may have had, an epoch before this one.
    #[must_use]
    pub fn had_before(&self, epoch: Epoch) -> bool {
        self.state.epochs.has_before(epoch)
    }

    /// The parts of `first` to `end` (not included) that the ledger does not name, in order.
    #[must_use]
    pub fn not_in_ledger(&self, stream: StreamId, first: Seq, end: Seq) -> Vec<(Seq, Seq)> {
        self.state.ledger.untold(stream, first, end)
    }

    /// Sequence that the stream's next record gets.
    #[must_use]
    pub fn next_seq(&self, stream: StreamId) -> Seq {
        self.state.stream(stream).map_or(Seq(1), |stream| stream.next)
    }

    /// Oldest record of the stream that is kept.
    #[must_use]
    pub fn first_seq(&self, stream: StreamId) -> Seq {
        self.state.stream(stream).map_or(Seq(1), |stream| stream.first)
    }

    /// First sequence of the stream that is not yet durable.
    #[must_use]
    pub fn durable_seq(&self, stream: StreamId) -> Seq {
        self.state.stream(stream).map_or(Seq(1), |stream| stream.durable)
    }

    /// A sequence at or in front of the first record that is kept of those received at or after
    /// `unix_ms`: where the piece of the index begins that has it, some 64 KiB of records. That
    /// of the next record when all are older.
    #[must_use]
    pub fn seq_before(&self, stream: StreamId, unix_ms: i64) -> Seq {
        let Some(stream) = self.state.stream(stream) else { return Seq(0) };
        let found = stream.chunks.iter().find(|chunk| chunk.newest_ms >= unix_ms);
        found.map_or(stream.durable.max(stream.first), |chunk| chunk.first.max(stream.first))
    }

    /// First sequence that the reader has not yet done; 1 for an unknown reader.
    #[must_use]
    pub fn cursor(&self, reader: ReaderId) -> Seq {
        self.state.reader(reader).map_or(Seq(1), |reader| reader.next)
    }

    /// The table as of the newest commit; empty for an unknown table.
    #[must_use]
    pub fn table_entries(&self, table: TableId) -> &Arc<BTreeMap<Vec<u8>, Vec<u8>>> {
        self.state.table(table).map_or(&self.state.no_entries, |table| &table.entries)
    }

    /// The losses that the ledger still names, oldest first.
    pub fn losses(&self) -> impl Iterator<Item = &Loss> {
        self.state.ledger.iter()
    }

    /// How often something was entered into the ledger since the log was opened, what was read
    /// then included: as long as this is the same, so is [`Log::losses`].
    #[must_use]
    pub fn losses_entered(&self) -> u64 {
        self.state.ledger.entered()
    }

    /// Only the log's reads are carried out, as on a [`ReadOnlyDisk`](crate::ReadOnlyDisk):
    /// reading does not wait until what is gone is durably so.
    pub fn only_look(&mut self) {
        self.only_looked_at = true;
    }

    /// All tables together may take so many bytes from now on. What they hold beyond stays.
    pub fn set_table_room(&mut self, bytes: usize) {
        self.options.max_table_bytes = bytes;
    }

    /// Starts what is pending at the next [`Log::poll_disk`], without waiting for quiet.
    pub fn flush(&mut self, _now: Instant) {
        self.flush_through = Some(self.open.id);
    }

    /// Queues a last checkpoint and the mark of a clean end. The log is closed once
    /// [`Log::is_idle`]; what is appended later is kept too, but is not part of a clean end.
    pub fn shut_down(&mut self, now: Instant) {
        self.flush(now);
        self.shutting_down = true;
        self.begin_checkpoint(true);
    }

    /// Whether nothing waits for the disk and nothing is under way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.job.is_none()
            && self.retry.is_none()
            && self.open.is_empty()
            && self.closed.is_empty()
            && self.checkpointing.is_none()
    }

    /// The next thing for a disk thread to do, if any. Every request must be carried out and
    /// its reply handed to [`Log::handle_disk`]; writes in the order given.
    pub fn poll_disk(&mut self, now: Instant) -> Option<DiskRequest> {
        self.copy_forward(now);
        if let Some(request) = self.reading.poll() {
            return Some(request);
        }
        if self.job.is_some() {
            return None;
        }
        if self.chores.defined {
            self.chores.defined = false;
            self.settle(now, false);
        }
        match self.due() {
            Due::Now if !self.chore_is_pressing() => self.start_group(),
            Due::At(at) if at <= now && !self.chore_is_pressing() => self.start_group(),
            Due::Now | Due::At(_) | Due::Never => {
                self.start_mark(now).or_else(|| self.start_chore(now))
            }
        }
    }

    fn due(&self) -> Due {
        if self.retry.is_some() {
            return self.retry_at.map_or(Due::Now, Due::At);
        }
        let part = self.checkpointing.as_ref().is_some_and(Checkpointing::has_parts);
        let flush = self.flush_through.is_some_and(|group| group >= self.open.id);
        if !self.closed.is_empty() || part || (flush && !self.open.is_empty()) {
            return Due::Now;
        }
        if self.open.is_empty() { Due::Never } else { self.open.due(&self.options) }
    }

    /// When [`Log::poll_disk`] may have something to do although nothing else happened.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.job.is_some() {
            return None;
        }
        let group = match self.due() {
            Due::At(at) => Some(at),
            Due::Now | Due::Never => None,
        };
        [group, self.chore_timeout(), self.mark_at()].into_iter().flatten().min()
    }
}

fn check_name(name: &str) -> Result<(), DefineError> {
    let (bytes, max) = (name.len(), MAX_NAME_BYTES);
    if (1..=max).contains(&bytes) { Ok(()) } else { Err(DefineError::NameLength { bytes, max }) }
}

/// Gives the most bytes that the record can take.
#[inline]
fn check_record(record: &RecordRef<'_>) -> Result<usize, AppendError> {
    let limits = [
        (record.attributes.len(), MAX_ATTRIBUTE_BYTES),
        (record.topic.len(), MAX_ORIGIN_BYTES),
        (record.client.len(), MAX_ORIGIN_BYTES),
    ];
    match limits.into_iter().find(|(bytes, max)| bytes > max) {
        Some((bytes, max)) => Err(AppendError::TooLarge { bytes, max }),
        None => Ok(record.bound()),
    }
}

/// The most that a transaction adds to each stream.
fn needs(tx: &Transaction) -> BTreeMap<StreamId, Need> {
    let mut needs: BTreeMap<_, Need> = BTreeMap::new();
    for (stream, record) in &tx.records {
        let need = needs.entry(*stream).or_default();
        need.bytes += record.as_ref().bound() as u64;
        need.records += 1;
    }
    needs
}
