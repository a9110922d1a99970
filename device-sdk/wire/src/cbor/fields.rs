//! Maps with numbers for keys that later versions may add to.
//!
//! Keys ascend, none comes twice. A key from 0 that is not in the format's table is passed over; one
//! below 0 is *critical*: who does not know it must refuse the whole. This version knows no critical key.
//!
//! Formats are tables ([`Field`]), which one function walks through: code of its own for each key
//! took devices three times the flash.

use core::fmt;

use core::ops::RangeInclusive;

use super::{CborError, Reader};

/// Deepest nesting of a value that is passed over: bounds the stack.
const MAX_DEPTH: usize = 4;
/// Deepest nesting of a value that has a table of its own: it is in a list at most, and what its
/// table does not know is passed over as above.
const MAX_ITEM_DEPTH: usize = MAX_DEPTH + 2;

/// A row of a format's table: a key, and what its value has to be.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    key: u8,
    shape: Shape,
    is_required: bool,
    /// Bounds of a number, or of a length.
    least: u8,
    most: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// A number of at most 32 bits.
    Number,
    /// A number of at most 64 bits, without an upper bound.
    Long,
    Bytes,
    Text,
    /// Read by who knows its form.
    Item,
}

impl Field {
    /// A number in a range. It begins below 256.
    #[must_use]
    pub const fn number(key: u64, range: RangeInclusive<u32>) -> Field {
        Field::new(key, Shape::Number, *range.start() as u8, *range.end())
    }

    /// A number of up to 64 bits, from `least` on.
    #[must_use]
    pub const fn long(key: u64, least: u8) -> Field {
        Field::new(key, Shape::Long, least, 0)
    }

    /// Bytes, so many.
    #[must_use]
    pub const fn bytes(key: u64, lengths: RangeInclusive<u32>) -> Field {
        Field::new(key, Shape::Bytes, *lengths.start() as u8, *lengths.end())
    }

    /// Text of at most so many bytes.
    #[must_use]
    pub const fn text(key: u64, most: usize) -> Field {
        Field::new(key, Shape::Text, 0, most as u32)
    }

    /// Something that is read by its own table.
    #[must_use]
    pub const fn item(key: u64) -> Field {
        Field::new(key, Shape::Item, 0, 0)
    }

    /// The key has to be there.
    #[must_use]
    pub const fn required(self) -> Field {
        Field { is_required: true, ..self }
    }

    const fn new(key: u64, shape: Shape, least: u8, most: u32) -> Field {
        Field { key: key as u8, shape, is_required: false, least, most }
    }

    fn key(&self) -> u64 {
        self.key.into()
    }
}

/// What was found for a row of a table, within its bounds.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// The key was not there.
    Absent,
    /// A number.
    Number(u64),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Text.
    Text(&'a str),
    /// Something, to be read from there.
    Item(Reader<'a>),
}

impl<'a> Value<'a> {
    /// Whether the key was there.
    #[must_use]
    pub fn is_there(&self) -> bool {
        !matches!(self, Value::Absent)
    }

    /// The number, if the key was there.
    #[must_use]
    pub fn found(&self) -> Option<u64> {
        match self {
            Value::Number(number) => Some(*number),
            Value::Absent | Value::Bytes(_) | Value::Text(_) | Value::Item(_) => None,
        }
    }

    /// The number; 0 without one.
    #[must_use]
    pub fn long(&self) -> u64 {
        self.found().unwrap_or(0)
    }

    /// The number of a row of at most 32 bits; 0 without one.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.long() as u32
    }

    /// The number of a row of at most 8 bits; 0 without one.
    #[must_use]
    pub fn byte(&self) -> u8 {
        self.long() as u8
    }

    /// The bytes, if the key was there.
    #[must_use]
    pub fn bytes(&self) -> Option<&'a [u8]> {
        match self {
            Value::Bytes(bytes) => Some(bytes),
            Value::Absent | Value::Number(_) | Value::Text(_) | Value::Item(_) => None,
        }
    }

    /// The bytes of a row of exactly this length; zeros without them.
    #[must_use]
    pub fn array<const N: usize>(&self) -> [u8; N] {
        let mut array = [0; N];
        let bytes = self.bytes().unwrap_or_default();
        array.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        array
    }

    /// The text; empty without one.
    #[must_use]
    pub fn text(&self) -> &'a str {
        match self {
            Value::Text(text) => text,
            Value::Absent | Value::Number(_) | Value::Bytes(_) | Value::Item(_) => "",
        }
    }

    /// Where to read something, if the key was there.
    #[must_use]
    pub fn item(&self) -> Option<Reader<'a>> {
        match self {
            Value::Item(reader) => Some(reader.clone()),
            Value::Absent | Value::Number(_) | Value::Bytes(_) | Value::Text(_) => None,
        }
    }
}

/// Walks over the pairs of one map.
#[derive(Debug)]
pub struct Fields<'r, 'a> {
    reader: &'r mut Reader<'a>,
    left: usize,
    last: Option<u64>,
}

/// Why a map is refused. Keys are the numbers in the format's table; those that no table has, and that do
/// not fit, are shown as the greatest, or least, that does. One word, as [`CborError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormError {
    /// It is not deterministic CBOR.
    Encoding(CborError),
    /// A key that must be understood, and is not.
    Critical {
        /// The key, below 0.
        key: i16,
    },
    /// A key comes twice, or behind a greater one.
    Order {
        /// The key.
        key: u16,
    },
    /// A key that has to be there is not.
    Missing {
        /// The key.
        key: u16,
    },
    /// A value that the table does not allow.
    Range {
        /// The key.
        key: u16,
    },
}

impl FormError {
    /// A value that the table does not allow.
    #[must_use]
    pub const fn range(key: u64) -> FormError {
        FormError::Range { key: shown(key) }
    }

    /// A key that has to be there is not.
    #[must_use]
    pub const fn missing(key: u64) -> FormError {
        FormError::Missing { key: shown(key) }
    }
}

const fn shown(key: u64) -> u16 {
    if key > u16::MAX as u64 { u16::MAX } else { key as u16 }
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

    /// Reads a whole map by its table; values in the order of the rows.
    ///
    /// # Errors
    /// It is no map, or not as the table says.
    pub fn read<const N: usize>(
        reader: &'r mut Reader<'a>,
        table: &[Field; N],
    ) -> Result<[Value<'a>; N], FormError> {
        Fields::of(reader)?.rest(table)
    }

    /// Reads what is left of a map by its table; values in the order of the rows.
    ///
    /// # Errors
    /// It is not as the table says.
    pub fn rest<const N: usize>(
        &mut self,
        table: &[Field; N],
    ) -> Result<[Value<'a>; N], FormError> {
        let mut values = [const { Value::Absent }; N];
        self.fill(table, &mut values)?;
        Ok(values)
    }

    /// The number of the first key, which has to be 0: what the rest of the map is.
    ///
    /// # Errors
    /// It is missing, or no number.
    pub fn kind(&mut self) -> Result<u64, FormError> {
        if self.next_key()? != Some(0) {
            return Err(FormError::Missing { key: 0 });
        }
        Ok(self.reader.uint()?)
    }

    fn fill(&mut self, table: &[Field], values: &mut [Value<'a>]) -> Result<(), FormError> {
        while let Some(key) = self.next_key()? {
            let mut rows = table.iter().zip(values.iter_mut());
            match rows.find(|(field, _)| field.key() == key) {
                Some((field, value)) => *value = self.by_table(field)?,
                None => self.skip()?,
            }
        }
        let mut rows = table.iter().zip(values);
        match rows.find(|(field, value)| field.is_required && !value.is_there()) {
            Some((field, _)) => Err(FormError::missing(field.key())),
            None => Ok(()),
        }
    }

    /// The next key; its value has to be read, or passed over. `None` at the end of the map.
    ///
    /// # Errors
    /// A critical key, or one in the wrong place.
    pub fn next_key(&mut self) -> Result<Option<u64>, FormError> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        let key = self.reader.int()?;
        let Ok(key) = u64::try_from(key) else {
            return Err(FormError::Critical { key: i16::try_from(key).unwrap_or(i16::MIN) });
        };
        if self.last.is_some_and(|last| key <= last) {
            return Err(FormError::Order { key: shown(key) });
        }
        self.last = Some(key);
        Ok(Some(key))
    }

    fn by_table(&mut self, field: &Field) -> Result<Value<'a>, FormError> {
        let (value, size) = match field.shape {
            Shape::Number | Shape::Long => {
                let number = self.reader.uint()?;
                (Value::Number(number), number)
            }
            Shape::Bytes => {
                let bytes = self.reader.bytes()?;
                (Value::Bytes(bytes), bytes.len() as u64)
            }
            Shape::Text => {
                let text = self.reader.text()?;
                (Value::Text(text), text.len() as u64)
            }
            Shape::Item => {
                let item = self.reader.clone();
                self.reader.skip(MAX_ITEM_DEPTH)?;
                (Value::Item(item), 0)
            }
        };
        let most = if field.shape == Shape::Long { u64::MAX } else { field.most.into() };
        if (field.least.into()..=most).contains(&size) {
            Ok(value)
        } else {
            Err(FormError::range(field.key()))
        }
    }
}

/// For who reads key by key: formats that no device reads.
impl<'a> Fields<'_, 'a> {
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
        range: RangeInclusive<T>,
    ) -> Result<T, FormError> {
        let key = self.last.unwrap_or(0);
        let number = T::try_from(self.reader.uint()?).map_err(|_| FormError::range(key))?;
        if range.contains(&number) { Ok(number) } else { Err(FormError::range(key)) }
    }

    /// Bytes of exactly this length.
    ///
    /// # Errors
    /// They have another one.
    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], FormError> {
        let key = self.last.unwrap_or(0);
        self.reader.bytes()?.try_into().map_err(|_| FormError::range(key))
    }

    /// Text of so many bytes.
    ///
    /// # Errors
    /// It is longer, or no text.
    pub fn text(&mut self, max: usize) -> Result<&'a str, FormError> {
        let key = self.last.unwrap_or(0);
        let text = self.reader.text()?;
        if text.len() <= max { Ok(text) } else { Err(FormError::range(key)) }
    }
}

/// The value of a key that has to be there.
///
/// # Errors
/// It was not.
pub fn required<T>(value: Option<T>, key: u64) -> Result<T, FormError> {
    value.ok_or(FormError::missing(key))
}
