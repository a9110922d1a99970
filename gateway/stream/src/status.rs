//! What the log reports about itself.

use crate::ids::{Epoch, ReaderId, Seq, StreamId};
use crate::ledger::LostTotal;
use crate::log::Log;

/// The whole log at one moment. Counters count since it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogStatus {
    /// Random number that the store got when it was made.
    pub store: u64,
    /// Epoch of new records.
    pub epoch: Epoch,
    /// Streams in order of their ids.
    pub streams: Vec<StreamStatus>,
    /// Segments that hold data.
    pub segments: usize,
    /// Prepared segments.
    pub spare_segments: usize,
    /// Bytes of all these files.
    pub disk_bytes: u64,
    /// Groups written and synced.
    pub groups: u64,
    /// Bytes written to files, headers, padding and preparation included.
    pub bytes_written: u64,
    /// Of those, bytes of old records that were copied forward.
    pub copied_bytes: u64,
    /// Payload bytes appended.
    pub payload_bytes: u64,
    /// Bytes that wait for the disk.
    pub pending_bytes: usize,
    /// Bytes of all tables, as counted against the limit.
    pub table_bytes: usize,
    /// Reads, writes and syncs that failed.
    pub failures: u64,
    /// The last of them, in words.
    pub last_error: Option<String>,
    /// Whether appends are refused for want of room on the disk.
    pub disk_full: bool,
    /// Whether a frame could not be written yet and will be tried again.
    pub retrying: bool,
}

/// One stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamStatus {
    /// Its id.
    pub id: StreamId,
    /// Its name.
    pub name: String,
    /// Oldest record kept.
    pub first_seq: Seq,
    /// What the next record gets.
    pub next_seq: Seq,
    /// First that is not durable.
    pub durable_seq: Seq,
    /// Records kept, those that wait for the disk included.
    pub records: u64,
    /// Bytes kept, as counted against the quota.
    pub bytes: u64,
    /// The quota.
    pub max_bytes: u64,
    /// Records appended since the log was opened.
    pub appended: u64,
    /// Records lost since the stream was made.
    pub lost_records: u64,
    /// Their bytes.
    pub lost_bytes: u64,
    /// The same by reason: what the ledger named when the log was opened, and all since.
    pub lost_by_reason: Vec<LostTotal>,
    /// Its readers.
    pub readers: Vec<ReaderStatus>,
}

/// One reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderStatus {
    /// Its id.
    pub id: ReaderId,
    /// Its name.
    pub name: String,
    /// First sequence not yet done.
    pub next_seq: Seq,
    /// Records between it and the end of the stream.
    pub lag: u64,
}

impl Log {
    /// A time, in milliseconds since 1970, by which this record was received, as the index knows
    /// it; `None` for one that is not on the disk.
    #[must_use]
    pub fn received_by(&self, stream: StreamId, seq: Seq) -> Option<i64> {
        let chunks = &self.state.stream(stream)?.chunks;
        let at = chunks.partition_point(|chunk| chunk.end() <= seq);
        chunks.get(at).map(|chunk| chunk.newest_ms)
    }

    /// See [`LogStatus`].
    #[must_use]
    pub fn status(&self) -> LogStatus {
        let spare = self.chores.spares.len();
        let data: u64 = self.segments.values().map(|info| u64::from(info.len)).sum();
        LogStatus {
            store: self.store,
            epoch: self.epoch,
            streams: (0..self.state.streams.len()).map(|id| self.stream_status(id)).collect(),
            segments: self.segments.len(),
            spare_segments: spare,
            disk_bytes: data + spare as u64 * u64::from(self.options.segment_bytes),
            groups: self.counters.groups,
            bytes_written: self.counters.bytes_written,
            copied_bytes: self.copying.copied_bytes,
            payload_bytes: self.counters.payload_bytes,
            pending_bytes: self.pending_bytes(),
            table_bytes: self.state.table_bytes,
            failures: self.counters.failures,
            last_error: self.counters.last_error.clone(),
            disk_full: self.disk_full,
            retrying: self.retry.is_some(),
        }
    }

    fn stream_status(&self, index: usize) -> StreamStatus {
        let stream = &self.state.streams[index];
        let reader = |id: &ReaderId| {
            let reader = self.state.reader(*id)?;
            let lag = stream.next.0.saturating_sub(reader.next.0);
            Some(ReaderStatus { id: *id, name: reader.name.clone(), next_seq: reader.next, lag })
        };
        StreamStatus {
            id: StreamId(index as u16),
            name: stream.name.clone(),
            first_seq: stream.first,
            next_seq: stream.next,
            durable_seq: stream.durable,
            records: stream.next.0.saturating_sub(stream.first.0),
            bytes: stream.bytes + stream.pending,
            max_bytes: stream.config.max_bytes,
            appended: stream.appended,
            lost_records: stream.lost_records,
            lost_bytes: stream.lost_bytes,
            lost_by_reason: self.state.ledger.totals(StreamId(index as u16)).collect(),
            readers: stream.readers.iter().filter_map(reader).collect(),
        }
    }
}
