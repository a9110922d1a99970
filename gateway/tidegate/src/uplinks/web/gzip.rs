//! Compression of bodies.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

/// Gzip at its fastest: sensor data shrinks to a fraction already then. The same bytes give the
/// same bytes: neither time nor name goes into the header.
pub(in crate::uplinks) fn gzip(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 4), Compression::fast());
    encoder.write_all(plain)?;
    encoder.finish()
}
