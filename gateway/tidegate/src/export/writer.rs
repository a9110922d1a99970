//! Items to bytes.

use super::{Item, cbor, ndjson};

/// How items are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One JSON object a line.
    Ndjson,
    /// A sequence of CBOR maps.
    Cbor,
}

/// The bytes of an item.
///
/// # Errors
/// It has no such form; that would be a mistake of this program.
pub fn encode(format: Format, item: &Item) -> anyhow::Result<Vec<u8>> {
    match format {
        Format::Ndjson => Ok(ndjson::encode(item)?),
        Format::Cbor => cbor::encode(item).map_err(anyhow::Error::msg),
    }
}
