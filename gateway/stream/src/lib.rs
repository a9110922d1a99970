//! A durable log for many streams: append, group commit, cursors, tables, retention, recovery.
//!
//! The log decides and never acts: it has no threads, files, clock or randomness. Its owner
//! carries out its disk requests, wherever it likes, and hands the replies back. A commit is
//! durable when [`Log::durable`] has reached its position, and not before.
//!
//! ```
//! # #[cfg(feature = "simulation")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::{Duration, Instant};
//! use tidegate_stream::{Log, LogOptions, Overflow, ReadLimit, ReadOutcome, Record, Seq, StreamConfig};
//! # use tidegate_stream::crash::CrashDisk;
//! # #[allow(clippy::disallowed_methods)]
//! # let now = Instant::now();
//! # let disk = CrashDisk::new();
//! let (mut log, _recovery) = Log::open(&disk, LogOptions::default(), now, 1_700_000_000_000, 42)?;
//! let config = StreamConfig {
//!     max_bytes: 64 << 20,
//!     overflow: Overflow::DropOldest,
//!     retain: Duration::from_secs(3600),
//!     ..StreamConfig::default()
//! };
//! let telemetry = log.stream("telemetry", config)?;
//! let record = Record { topic: "sensors/1".into(), payload: b"21.5".to_vec(), ..Record::default() };
//! let appended = log.append(now, telemetry, &record.as_ref())?;
//!
//! log.flush(now);
//! while let Some(request) = log.poll_disk(now) {
//!     let reply = request.perform(&disk); // on the disk thread
//!     log.handle_disk(now, reply);
//! }
//! assert!(log.durable() >= appended.position); // now the acknowledgement may go out
//!
//! let limit = ReadLimit { records: 100, bytes: 64 << 10 };
//! let outcome = log.read(now, telemetry, Seq(1), limit, &mut |seq, _epoch, record| {
//!     assert_eq!((seq, record.payload), (Seq(1), &b"21.5"[..]));
//! });
//! assert_eq!(outcome, ReadOutcome::Read { next: Seq(2) });
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "simulation"))]
//! # fn main() {}
//! ```
//!
//! After every call that changes the log, ask [`Log::poll_disk`] until it has nothing more, then
//! sleep until [`Log::poll_timeout`] or the next reply.
//!
//! Invariants:
//! - only the reply to a successful sync moves `durable`;
//! - a transaction is one frame, and a frame is there as a whole or not at all;
//! - what was appended and is gone is in the ledger, unless there are readers, every one had
//!   passed it, and it was older than its stream retains;
//! - after a failed sync nothing is written to that segment any more, and nothing read back
//!   from it decides what is durable;
//! - opening never fails because of damage.
//!
//! The files are drawn byte by byte in docs/formats/log.md.

mod checkpoint;
mod chores;
mod compression;
mod copied;
mod copying;
#[cfg(any(test, feature = "simulation"))]
pub mod crash;
mod disk;
mod epochs;
mod expiry;
mod frame;
mod group;
mod ids;
mod ledger;
mod log;
mod marking;
mod memory;
mod open_end;
mod options;
mod placing;
mod planted;
mod publishers;
mod read_only;
mod reading;
mod record;
mod recovery;
mod replay;
mod retention;
mod scan;
mod segment;
mod state;
mod status;
mod taking_up;
#[cfg(any(test, feature = "simulation"))]
pub mod trace;
mod transaction;
mod varint;
pub mod verify;
mod wall_clock;
mod writing;

#[cfg(test)]
mod tests;

pub use disk::{Disk, DiskReply, DiskRequest};
pub use ids::{Epoch, Position, ReaderId, SegmentId, Seq, StreamId, TableId};
pub use ledger::{Loss, LossReason, LostTotal};
pub use log::{AppendError, Appended, CommitError, Committed, DefineError, Log, Quota};
pub use memory::MemoryDisk;
pub use open_end::{SegmentEnd, is_segment, newer_format, segment_end};
pub use options::{
    Compression, LogOptions, MAX_ATTRIBUTE_BYTES, MAX_NAME_BYTES, MAX_ORIGIN_BYTES, MAX_READERS,
    MAX_STREAMS, MAX_TABLES, Overflow, StreamConfig,
};
#[cfg(any(test, feature = "planted-bugs"))]
pub use planted::PlantedBug;
pub use read_only::ReadOnlyDisk;
pub use reading::{ReadLimit, ReadOutcome};
pub use record::{PublisherIdentity, Record, RecordRef};
pub use recovery::{OpenError, Recovery};
pub use status::{LogStatus, ReaderStatus, StreamStatus};
pub use transaction::Transaction;
pub use wall_clock::WallClock;
