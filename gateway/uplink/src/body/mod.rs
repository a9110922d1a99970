//! The body in which a batch of records leaves the gateway for sinks that take many records at
//! once: HTTPS and S3. The document is `docs/formats/batch.md`.
//!
//! Invariant: the same records have the same bytes, so that a batch that is sent again overwrites
//! itself.
//!
//! Not here: compression and headers (the drivers), single messages (the envelope).

mod cbor;
mod ndjson;

use crate::batch::Batch;

/// Version of both formats.
pub const BODY_VERSION: u64 = 1;

/// How the records of a batch are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyFormat {
    /// One CBOR item with the whole batch: compact, payloads unchanged.
    Cbor,
    /// One JSON object a line, each complete in itself: for people and for tools that query files.
    Ndjson,
}

impl BodyFormat {
    /// The bytes of this batch from `gateway`.
    #[must_use]
    pub fn encode(self, gateway: &str, batch: &Batch) -> Vec<u8> {
        match self {
            BodyFormat::Cbor => cbor::encode(gateway, batch),
            BodyFormat::Ndjson => ndjson::encode(gateway, batch),
        }
    }

    /// Its media type.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            BodyFormat::Cbor => "application/cbor",
            BodyFormat::Ndjson => "application/x-ndjson",
        }
    }

    /// The ending of a file's name.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            BodyFormat::Cbor => "cbor",
            BodyFormat::Ndjson => "ndjson",
        }
    }
}

/// Room for a batch: what its records hold, and `around` for the names and numbers of each.
fn capacity(batch: &Batch, around: usize) -> usize {
    batch.records.iter().map(|record| record.len_bytes() + around).sum::<usize>() + around
}
