//! Records in files: what `tidegate stream export` writes and `tidegate stream import` reads.
//! Format: `docs/formats/export.md`.
//!
//! A file is a header, the records of one stream in order, and an end, each an item of its own
//! with a checksum; so a file of any size is read and written with one item in memory, and what
//! is damaged or cut short is refused at the item, while everything before it counts.

mod cbor;
mod ndjson;
mod reader;
mod record;
#[cfg(test)]
mod tests;
mod writer;

use serde::{Deserialize, Serialize};

pub use reader::{ItemError, ItemReader};
pub use record::{Blob, CarriedRecord, Origin, Publisher};
pub use writer::{Format, encode};

/// Version of the format.
pub const VERSION: u32 = 1;
/// Largest item, in bytes: the largest record, each of its bytes written as six.
pub const MAX_ITEM: usize = 8 << 20;

/// One line of an NDJSON file, one item of a CBOR file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "snake_case")]
pub enum Item {
    /// The first.
    Header(Header),
    /// All between.
    Record(Box<CarriedRecord>),
    /// The last: without it the file was cut short.
    End(End),
}

/// Where the records come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`] of the writer.
    pub version: u32,
    /// Names this export, so that an import that was broken off goes on where it ended, and a
    /// second import of the same file does nothing. Any text of at most [`MAX_ID`] bytes.
    pub id: String,
    /// The gateway's id.
    pub gateway: String,
    /// The stream.
    pub stream: String,
    /// When it was written, milliseconds since 1970.
    pub unix_ms: i64,
}

/// What was written in all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Number of records.
    pub records: u64,
    /// The sequence from which a later export goes on.
    pub next: u64,
}

const WRONG_CHECKSUM: &str = "its checksum is wrong: it was damaged or changed";

/// Longest [`Header::id`], in bytes.
pub const MAX_ID: usize = 64;
