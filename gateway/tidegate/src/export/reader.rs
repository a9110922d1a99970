//! A file back to items, whichever of the two formats it has.

use std::io::{BufRead, Read};

use super::{CarriedRecord, End, Header, Item, MAX_ID, MAX_ITEM, VERSION, cbor, ndjson};

/// Why a file is not read any further. Everything before that record is as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// The first item.
    #[error("the header: {0}")]
    Header(String),
    /// Written by a newer gateway.
    #[error("the header: version {0} is newer than {VERSION}, the one known here")]
    Newer(u32),
    /// A record, or the end, that is not one.
    #[error("record {number}: {why}")]
    Record {
        /// Counted from 1.
        number: u64,
        /// What is wrong.
        why: String,
    },
    /// There is no end.
    #[error("the file ends after record {0} without its end: it was cut short")]
    CutShort(u64),
    /// The end does not fit what is before it.
    #[error("the end counts {expected} records, {found} are there")]
    Count {
        /// What the end says.
        expected: u64,
        /// What was read.
        found: u64,
    },
}

/// Reads a file item by item.
#[derive(Debug)]
pub struct ItemReader<R> {
    from: R,
    is_json: bool,
    /// The header has a checksum: then every item must have one, or a damaged length could hide
    /// it. A file that another program wrote may have none at all.
    is_checked: bool,
    header: Header,
    records: u64,
}

impl<R: BufRead> ItemReader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// The file is no export, or one of a newer version.
    pub fn open(mut from: R) -> Result<ItemReader<R>, ItemError> {
        let start = from.fill_buf().map_err(|error| ItemError::Header(error.to_string()))?;
        let is_json = start.first() == Some(&b'{');
        if let Some(byte) = start.first()
            && !is_json
            && !cbor::may_begin_with(*byte)
        {
            let text = format!("neither JSON nor CBOR begins with the byte {byte:#04x}");
            return Err(ItemError::Header(text));
        }
        let Some((item, is_checked)) = next_item(&mut from, is_json).map_err(ItemError::Header)?
        else {
            return Err(ItemError::Header("the file is empty".to_owned()));
        };
        match item {
            Item::Header(header) if header.version > VERSION => {
                Err(ItemError::Newer(header.version))
            }
            Item::Header(header) if !(1..=MAX_ID).contains(&header.id.len()) => {
                let len = header.id.len();
                Err(ItemError::Header(format!("an id of {len} bytes, 1 to {MAX_ID} are allowed")))
            }
            Item::Header(header) => {
                Ok(ItemReader { from, is_json, is_checked, header, records: 0 })
            }
            Item::Record(_) | Item::End(_) => {
                Err(ItemError::Header("the first item is another".to_owned()))
            }
        }
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Number of records read.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// The next record; `None` behind the last one.
    ///
    /// # Errors
    /// The file is damaged or cut short.
    pub fn next_record(&mut self) -> Result<Option<CarriedRecord>, ItemError> {
        let wrong = |why| ItemError::Record { number: self.records + 1, why };
        let Some((item, is_checked)) = next_item(&mut self.from, self.is_json).map_err(wrong)?
        else {
            return Err(ItemError::CutShort(self.records));
        };
        if is_checked != self.is_checked {
            return Err(wrong("some items have a checksum and some have none".to_owned()));
        }
        match item {
            Item::Record(record) => {
                self.records += 1;
                Ok(Some(*record))
            }
            Item::Header(_) => Err(wrong("another header".to_owned())),
            Item::End(End { records, .. }) if records != self.records => {
                Err(ItemError::Count { expected: records, found: self.records })
            }
            Item::End(_) => Ok(None),
        }
    }
}

/// The next item, and whether it has a checksum.
fn next_item(from: &mut impl BufRead, is_json: bool) -> Result<Option<(Item, bool)>, String> {
    if !is_json {
        return cbor::read(from);
    }
    let mut line = Vec::new();
    let mut limited = from.take(MAX_ITEM as u64 + 1);
    limited.read_until(b'\n', &mut line).map_err(|error| format!("cannot be read: {error}"))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() > MAX_ITEM {
        return Err(format!("longer than {MAX_ITEM} bytes"));
    }
    if line.last() != Some(&b'\n') {
        return Err("the file ends in the middle of it".to_owned());
    }
    line.pop();
    ndjson::decode(&line).map(Some)
}
