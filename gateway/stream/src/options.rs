//! What the owner of a log decides: sizes, delays, limits.

use std::time::Duration;

use crate::planted::PlantedBug;

/// Most streams in one log; each costs a few hundred bytes of memory.
pub const MAX_STREAMS: usize = 1024;
/// Most readers in one log.
pub const MAX_READERS: usize = 4096;
/// Most tables in one log.
pub const MAX_TABLES: usize = 1024;
/// Longest name of a stream, reader or table, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// Most attribute bytes in one record.
pub const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024;
/// Longest topic and longest client id, in bytes: what MQTT can carry.
pub const MAX_ORIGIN_BYTES: usize = 65_535;

/// Options of a log. All memory that the log may use follows from these: pending groups
/// (`max_pending_bytes` and one frame in flight), `cache_bytes`, `read_buffers` times
/// `read_bytes`, the tables, and the index (32 bytes for each 64 KiB on disk).
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// Size of a segment file in bytes; default 8 MiB. Raised to at least twice the largest frame.
    /// Existing segments keep the size they have.
    pub segment_bytes: u32,
    /// Longest wait of an append for its group to start; default 10 ms. Longer waits write
    /// fewer, larger groups: this is the wear of the flash against the latency of an
    /// acknowledgement.
    pub max_ack_delay: Duration,
    /// A group starts once nothing was appended for this long; default 500 us.
    pub quiet: Duration,
    /// A group starts at once when it holds this many bytes; default 64 KiB.
    pub group_bytes: usize,
    /// Largest group and largest transaction, in bytes; default 1 MiB.
    pub max_frame_bytes: usize,
    /// Bytes that may wait for the disk; default 4 MiB. Beyond it an append is answered `Busy`.
    pub max_pending_bytes: usize,
    /// Recent frames kept in memory for readers that are up to date; default 1 MiB.
    pub cache_bytes: usize,
    /// Longest wait of changes that nobody waits for (cursors, tables, losses) for a group to
    /// ride in; default 1 s.
    pub cursor_delay: Duration,
    /// Pause without records after which a frame of its own proves the end of the log; default
    /// 10 s. Until then damage to the last frame passes for a torn write. It costs one block a
    /// pause.
    pub mark_after: Duration,
    /// Bytes of old records copied forward in one round of [`crate::Log::trim`] at most, where
    /// little of a segment is kept; default 1 MiB, 0 for none.
    pub copy_bytes: usize,
    /// Prepared segments kept back, so that cursors and trims work while the disk is full;
    /// default 2.
    pub reserve_segments: usize,
    /// Most prepared segments kept for re-use; more are given back to the file system;
    /// default 16.
    pub max_spare_segments: usize,
    /// Most entries in the loss ledger; the oldest go first, their totals stay; default 1024.
    pub max_ledger_entries: usize,
    /// Most bytes (keys, values, 32 for each entry) in all tables together; default 16 MiB.
    pub max_table_bytes: usize,
    /// Most publishers remembered, least recently heard forgotten first; default 10,000, about
    /// 100 bytes each.
    pub max_publishers: usize,
    /// Bytes of one disk read; default 128 KiB.
    pub read_bytes: usize,
    /// Disk reads kept in memory for readers that lag; default 4.
    pub read_buffers: usize,
    /// Files with damage that are kept aside for inspection; default 4.
    pub max_damaged_files: usize,
    /// The store is a copy of one that may have gone on: numbers that are behind its end may be in
    /// use, so it begins a new epoch whatever its end looks like. Default not.
    pub is_copy: bool,
    /// A deliberate mistake, for the simulator to find.
    #[cfg(any(test, feature = "planted-bugs"))]
    pub planted: Option<PlantedBug>,
    /// Where to note what is appended, for a judge.
    #[cfg(any(test, feature = "simulation"))]
    pub trace: Option<crate::trace::Trace>,
}

impl Default for LogOptions {
    fn default() -> LogOptions {
        LogOptions {
            segment_bytes: 8 << 20,
            max_ack_delay: Duration::from_millis(10),
            quiet: Duration::from_micros(500),
            group_bytes: 64 << 10,
            max_frame_bytes: 1 << 20,
            max_pending_bytes: 4 << 20,
            cache_bytes: 1 << 20,
            cursor_delay: Duration::from_secs(1),
            mark_after: Duration::from_secs(10),
            copy_bytes: 1 << 20,
            reserve_segments: 2,
            max_spare_segments: 16,
            max_ledger_entries: 1024,
            max_table_bytes: 16 << 20,
            max_publishers: 10_000,
            read_bytes: 128 << 10,
            read_buffers: 4,
            max_damaged_files: 4,
            is_copy: false,
            #[cfg(any(test, feature = "planted-bugs"))]
            planted: None,
            #[cfg(any(test, feature = "simulation"))]
            trace: None,
        }
    }
}

impl LogOptions {
    /// Whether groups are acknowledged without a sync (only ever by a planted bug).
    pub(crate) fn acks_before_sync(&self) -> bool {
        self.plants(PlantedBug::AckBeforeSync)
    }

    /// Whether stale frames pass for live ones (only ever by a planted bug).
    pub(crate) fn trusts_stale_frames(&self) -> bool {
        self.plants(PlantedBug::CrcWithoutSegment)
    }
}

/// How one stream is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamConfig {
    /// The quota: bytes on disk, the stream's share of headers and padding included; default
    /// 256 MiB.
    pub max_bytes: u64,
    /// The quota in records; default none.
    pub max_records: Option<u64>,
    /// What happens at a quota; the default drops the oldest.
    pub overflow: Overflow,
    /// How long records stay, by their own time stamp, after every reader has passed them;
    /// default zero. In a stream without readers nobody has passed them: they stay until
    /// another limit is reached.
    pub retain: Duration,
    /// How long records stay at most, by their own time stamp, whoever has not read them;
    /// default none, at least a millisecond. What goes unread is a loss.
    pub max_age: Option<Duration>,
    /// Whether large groups of its records are compressed; default not.
    pub compression: Compression,
}

impl Default for StreamConfig {
    fn default() -> StreamConfig {
        StreamConfig {
            max_bytes: 256 << 20,
            max_records: None,
            overflow: Overflow::DropOldest,
            retain: Duration::ZERO,
            max_age: None,
            compression: Compression::None,
        }
    }
}

/// How groups of records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// In the LZ4 block format, where that saves an eighth.
    Lz4,
}

/// What happens when a stream is at its quota. Records that every reader has passed go first,
/// whatever the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overflow {
    /// The oldest records go, and the ledger says so.
    DropOldest,
    /// The append is refused; the publisher is told.
    Reject,
    /// The append is refused; the owner stops reading the publisher until there is room.
    Block,
}
