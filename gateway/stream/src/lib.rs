//! Durable segmented log: append, group commit, cursors, retention, recovery.
mod checkpoint;
mod chores;
#[cfg(any(test, feature = "simulation"))]
pub mod crash;
mod disk;
mod frame;
mod group;
mod ids;
mod ledger;
mod log;
mod options;
mod publishers;
mod reading;
mod record;
mod recovery;
mod retention;
mod scan;
mod segment;
mod state;
mod status;
mod transaction;
mod varint;
mod writing;

#[cfg(test)]
mod tests;

pub use disk::{Disk, DiskReply, DiskRequest};
pub use ids::{Epoch, Position, ReaderId, SegmentId, Seq, StreamId, TableId};
pub use ledger::{Loss, LossReason};
pub use log::{AppendError, Appended, CommitError, Committed, DefineError, Log};
#[cfg(any(test, feature = "planted-bugs"))]
pub use options::PlantedBug;
pub use options::{
    LogOptions, MAX_ATTRIBUTE_BYTES, MAX_NAME_BYTES, MAX_ORIGIN_BYTES, MAX_READERS, MAX_STREAMS,
    MAX_TABLES, Overflow, StreamConfig,
};
pub use reading::{ReadLimit, ReadOutcome};
pub use record::{PublisherIdentity, Record, RecordRef};
pub use recovery::{OpenError, Recovery};
pub use status::{LogStatus, ReaderStatus, StreamStatus};
pub use transaction::Transaction;
