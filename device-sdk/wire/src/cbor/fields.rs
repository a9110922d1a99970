//! Maps with numbers for keys that later versions may add to.
//!
//! Keys ascend, none comes twice. A key from 0 that the reader does not know is passed over
//! ([`Fields::skip`]); one below 0 is *critical*: who does not know it must refuse the whole. This
//! version knows no critical key.

use core::fmt;

use super::{CborError, Reader};

/// Deepest nesting of a value that is passed over: bounds the stack.
const MAX_DEPTH: usize = 4;

/// Walks over the pairs of one map.
#[derive(Debug)]
pub struct Fields<'r, 'a> {
    reader: &'r mut Reader<'a>,
    left: usize,
    last: Option<u64>,
}

/// Why a map is refused. Keys are the numbers in the format's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormError {
    /// It is not deterministic CBOR.
    Encoding(CborError),
    /// A key that must be understood, and is not.
    Critical {
        /// The key, below 0.
        key: i64,
    },
    /// A key comes twice, or behind a greater one.
    Order {
        /// The key.
        key: u64,
    },
    /// A key that has to be there is not.
    Missing {
        /// The key.
        key: u64,
    },
    /// A value that the table does not allow.
    Range {
        /// The key.
        key: u64,
    },
}

impl From<CborError> for FormError {
    fn from(error: CborError) -> FormError {
        FormError::Encoding(error)
    }
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormError::Encoding(error) => error.fmt(f),
            FormError::Critical { key } => {
                write!(f, "the critical key {key} is not known to this version; use a newer one")
            }
            FormError::Order { key } => write!(f, "the key {key} is not in its place"),
            FormError::Missing { key } => write!(f, "the key {key} is missing"),
            FormError::Range { key } => write!(f, "the value of key {key} is not allowed"),
        }
    }
}

impl core::error::Error for FormError {}

impl<'r, 'a> Fields<'r, 'a> {
    /// At the head of a map.
    ///
    /// # Errors
    /// No map begins here.
    pub fn of(reader: &'r mut Reader<'a>) -> Result<Fields<'r, 'a>, FormError> {
        let left = reader.map()?;
        Ok(Fields { reader, left, last: None })
    }

    /// The next key; its value has to be read, or passed over. `None` at the end of the map.
    ///
    /// # Errors
    /// A critical key, or one in the wrong place.
    pub fn next_key(&mut self) -> Result<Option<u64>, FormError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let key = self.reader.int()?;
        let key = u64::try_from(key).map_err(|_| FormError::Critical { key })?;
        if self.last.is_some_and(|last| key <= last) {
            return Err(FormError::Order { key });
        }
        self.last = Some(key);
        Ok(Some(key))
    }

    /// Where the value is read.
    pub fn value(&mut self) -> &mut Reader<'a> {
        self.reader
    }

    /// Passes over the value.
    ///
    /// # Errors
    /// It is not deterministic CBOR, or nested deeper than 4.
    pub fn skip(&mut self) -> Result<(), FormError> {
        Ok(self.reader.skip(MAX_DEPTH)?)
    }

    /// A number that has to fit a smaller type, and be in a range of the table.
    ///
    /// # Errors
    /// It does not.
    pub fn number<T: TryFrom<u64> + PartialOrd>(
        &mut self,
        range: core::ops::RangeInclusive<T>,
    ) -> Result<T, FormError> {
        let key = self.last.unwrap_or(0);
        let number = T::try_from(self.reader.uint()?).map_err(|_| FormError::Range { key })?;
        if range.contains(&number) { Ok(number) } else { Err(FormError::Range { key }) }
    }

    /// Bytes of exactly this length.
    ///
    /// # Errors
    /// They have another one.
    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], FormError> {
        let key = self.last.unwrap_or(0);
        self.reader.bytes()?.try_into().map_err(|_| FormError::Range { key })
    }

    /// Text of so many bytes.
    ///
    /// # Errors
    /// It is longer, or no text.
    pub fn text(&mut self, max: usize) -> Result<&'a str, FormError> {
        let key = self.last.unwrap_or(0);
        let text = self.reader.text()?;
        if text.len() <= max { Ok(text) } else { Err(FormError::Range { key }) }
    }
}

/// The value of a key that has to be there.
///
/// # Errors
/// It was not.
pub fn required<T>(value: Option<T>, key: u64) -> Result<T, FormError> {
    value.ok_or(FormError::Missing { key })
}
