//! One property: a name and a value.

use super::{MAX_NAME, MAX_PROPERTIES, MAX_TEXT};
use crate::cbor::{FormError, Full, Kind, Reader, Writer};

/// Tag of a decimal fraction: exponent and mantissa (RFC 8949, 3.4.4).
const DECIMAL_FRACTION: u64 = 4;
/// Something is wrong with the properties.
const RANGE: FormError = FormError::Range { key: 2 };
/// Most digits behind the point.
const MAX_DIGITS: u8 = 9;

/// What a property is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// It was removed.
    Nothing,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number of so many times the power of ten `-digits`.
    Fixed {
        /// The number without its point.
        number: i64,
        /// Digits behind the point, 0 to 9.
        digits: u8,
    },
    /// Text of at most [`MAX_TEXT`] bytes.
    Text(&'a str),
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property<'a> {
    /// 1 to [`MAX_NAME`] bytes.
    pub name: &'a str,
    /// Since which version of the desired side it is so; 0 on the reported side.
    pub since: u64,
    /// What it is.
    pub value: Value<'a>,
}

impl<'a> Value<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Value<'a>, FormError> {
        Ok(match reader.next_kind() {
            Some(Kind::Null) | None => reader.null().map(|()| Value::Nothing)?,
            Some(Kind::Bool) => Value::Bool(reader.bool()?),
            Some(Kind::Uint | Kind::Negative) => Value::Int(reader.int()?),
            Some(Kind::Text) => match reader.text()? {
                text if text.len() <= MAX_TEXT => Value::Text(text),
                _ => return Err(RANGE),
            },
            Some(Kind::Tag) => {
                if reader.tag()? != DECIMAL_FRACTION || reader.array()? != 2 {
                    return Err(RANGE);
                }
                let digits = u8::try_from(reader.int()?.unsigned_abs()).map_err(|_| RANGE)?;
                let number = reader.int()?;
                if digits > MAX_DIGITS {
                    return Err(RANGE);
                }
                Value::Fixed { number, digits }
            }
            Some(Kind::Bytes | Kind::Array | Kind::Map | Kind::Other) => return Err(RANGE),
        })
    }

    pub(super) fn write(&self, out: &mut Writer<'_>) -> Result<(), Full> {
        match *self {
            Value::Nothing => out.null(),
            Value::Bool(value) => out.bool(value),
            Value::Int(number) => out.int(number),
            Value::Fixed { number, digits } => {
                out.tag(DECIMAL_FRACTION)?;
                out.array(2)?;
                out.int(-i64::from(digits))?;
                out.int(number)
            }
            Value::Text(text) => out.text(text),
        }
    }
}

/// The properties of one side, in the order in which they were written.
#[derive(Clone, Debug)]
pub struct Properties<'a> {
    reader: Reader<'a>,
    left: usize,
    /// Each has the version since which it is so in front of its value.
    versioned: bool,
}

impl<'a> Properties<'a> {
    pub(super) const NONE: Properties<'static> =
        Properties { reader: Reader::new(&[]), left: 0, versioned: false };

    /// Walks over all of them once, so that a second walk meets nothing wrong.
    pub(super) fn read(
        reader: &mut Reader<'a>,
        versioned: bool,
    ) -> Result<Properties<'a>, FormError> {
        let left = reader.map()?;
        if left > MAX_PROPERTIES {
            return Err(RANGE);
        }
        let properties = Properties { reader: reader.clone(), left, versioned };
        for _ in 0..left {
            one(reader, versioned)?;
        }
        Ok(properties)
    }

    /// How many are left.
    #[must_use]
    pub fn count_left(&self) -> usize {
        self.left
    }
}

impl<'a> Iterator for Properties<'a> {
    type Item = Property<'a>;

    fn next(&mut self) -> Option<Property<'a>> {
        self.left = self.left.checked_sub(1)?;
        // It was read before.
        one(&mut self.reader, self.versioned).ok()
    }
}

fn one<'a>(reader: &mut Reader<'a>, versioned: bool) -> Result<Property<'a>, FormError> {
    let name = reader.text()?;
    if !(1..=MAX_NAME).contains(&name.len()) {
        return Err(RANGE);
    }
    let mut since = 0;
    if versioned {
        if reader.array()? != 2 {
            return Err(RANGE);
        }
        since = reader.uint()?;
    }
    Ok(Property { name, since, value: Value::read(reader)? })
}
