//! A sequence of CBOR maps (RFC 8742). The last pair of each is `"crc"`: CRC-32C, an integer of
//! four bytes, of the item's bytes in front of that pair.

use std::io::{self, BufRead, Read};

use super::{Item, MAX_ITEM, WRONG_CHECKSUM};

/// The text "crc" and the head of an integer of four bytes.
const PAIR: [u8; 5] = [0x63, b'c', b'r', b'c', 0x1a];
/// Most pairs that the head of a map counts in its first byte.
const MAX_PAIRS: u8 = 23;
const MAP: u8 = 0xa0;

/// The bytes of an item.
pub(super) fn encode(item: &Item) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    ciborium::into_writer(item, &mut bytes).map_err(|error| error.to_string())?;
    // One pair more than the item itself has.
    match bytes.first_mut() {
        Some(head) if (MAP..MAP + MAX_PAIRS).contains(head) => *head += 1,
        Some(_) | None => return Err("an item with too many members".to_owned()),
    }
    let crc = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&PAIR);
    bytes.extend_from_slice(&crc.to_be_bytes());
    Ok(bytes)
}

/// Whether an item may begin with this byte: with the head of a map.
pub(super) fn may_begin_with(byte: u8) -> bool {
    (MAP..MAP + 0x20).contains(&byte)
}

/// The next item and whether it has a checksum; `None` at the end.
pub(super) fn read(from: &mut impl BufRead) -> Result<Option<(Item, bool)>, String> {
    match from.fill_buf() {
        Ok([]) => return Ok(None),
        Ok(_) => {}
        Err(error) => return Err(format!("cannot be read: {error}")),
    }
    let mut taken = Taken { from, bytes: Vec::new() };
    let item = ciborium::from_reader(&mut taken);
    let checksum = checksum(&taken.bytes);
    if let Some((covered, crc)) = checksum
        && crc32c::crc32c(covered) != crc
    {
        return Err(WRONG_CHECKSUM.to_owned());
    }
    match item {
        Ok(item) => Ok(Some((item, checksum.is_some()))),
        Err(ciborium::de::Error::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err("the file ends in the middle of it".to_owned())
        }
        Err(error) => Err(format!("not an item of an export: {error}")),
    }
}

fn checksum(item: &[u8]) -> Option<(&[u8], u32)> {
    let (rest, crc) = item.split_last_chunk::<4>()?;
    Some((rest.strip_suffix(&PAIR)?, u32::from_be_bytes(*crc)))
}

/// Keeps what is read, and refuses to read more than the largest item.
struct Taken<'r, R> {
    from: &'r mut R,
    bytes: Vec<u8>,
}

impl<R: Read> Read for Taken<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes.len() + buffer.len() > MAX_ITEM {
            let text = format!("longer than {MAX_ITEM} bytes");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let read = self.from.read(buffer)?;
        self.bytes.extend_from_slice(&buffer[..read]);
        Ok(read)
    }
}
