//! Reads items one by one, each in its only form.

use super::{CborError, Kind, major, simple};

/// A place in bytes that should be deterministic CBOR.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// At the beginning.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// How many bytes have been read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// What the next item is; `None` at the end.
    #[must_use]
    pub fn next_kind(&self) -> Option<Kind> {
        self.first().map(Kind::of)
    }

    /// A number from 0.
    ///
    /// # Errors
    /// See [`CborError`]; the same holds for all that follow.
    pub fn uint(&mut self) -> Result<u64, CborError> {
        self.head(major::UINT, Kind::Uint)
    }

    /// A number of either sign.
    ///
    /// # Errors
    /// Also when it does not fit an `i64`.
    pub fn int(&mut self) -> Result<i64, CborError> {
        let at = self.place();
        let fits = |number: u64| i64::try_from(number).map_err(|_| CborError::TooLarge { at });
        match self.next_kind() {
            Some(Kind::Negative) => {
                let number = self.head(major::NEGATIVE, Kind::Negative)?;
                Ok(-1 - fits(number)?)
            }
            Some(_) | None => fits(self.uint()?),
        }
    }

    /// Bytes.
    ///
    /// # Errors
    /// See [`Reader::uint`].
    pub fn bytes(&mut self) -> Result<&'a [u8], CborError> {
        self.string(major::BYTES, Kind::Bytes)
    }

    /// Text.
    ///
    /// # Errors
    /// Also when it is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str, CborError> {
        let at = self.place();
        let bytes = self.string(major::TEXT, Kind::Text)?;
        core::str::from_utf8(bytes).map_err(|_| CborError::NotText { at })
    }

    /// The number of items of the list that begins here.
    ///
    /// # Errors
    /// Also when there are not even so many bytes left: the number may be trusted as a bound.
    pub fn array(&mut self) -> Result<usize, CborError> {
        self.count(major::ARRAY, Kind::Array, 1)
    }

    /// The number of pairs of the map that begins here.
    ///
    /// # Errors
    /// As [`Reader::array`].
    pub fn map(&mut self) -> Result<usize, CborError> {
        self.count(major::MAP, Kind::Map, 2)
    }

    /// The number of the tag in front of the next item.
    ///
    /// # Errors
    /// See [`Reader::uint`].
    pub fn tag(&mut self) -> Result<u64, CborError> {
        self.head(major::TAG, Kind::Tag)
    }

    /// True or false.
    ///
    /// # Errors
    /// See [`Reader::uint`].
    pub fn bool(&mut self) -> Result<bool, CborError> {
        let value = self.simple(Kind::Bool)?;
        Ok(value == simple::TRUE)
    }

    /// Nothing.
    ///
    /// # Errors
    /// See [`Reader::uint`].
    pub fn null(&mut self) -> Result<(), CborError> {
        self.simple(Kind::Null).map(drop)
    }

    /// Passes over one item of any shape.
    ///
    /// # Errors
    /// Also when it is nested deeper than `depth` lists, maps and tags.
    pub fn skip(&mut self, depth: usize) -> Result<(), CborError> {
        let at = self.place();
        let kind = self.next_kind().ok_or(CborError::Short { at })?;
        let items = match kind {
            Kind::Uint => self.uint().map(|_| 0)?,
            Kind::Negative => self.head(major::NEGATIVE, Kind::Negative).map(|_| 0)?,
            Kind::Bytes => self.bytes().map(|_| 0)?,
            Kind::Text => self.text().map(|_| 0)?,
            Kind::Array => self.array()?,
            Kind::Map => self.map()? * 2,
            Kind::Tag => self.tag().map(|_| 1)?,
            Kind::Bool | Kind::Null | Kind::Other => self.skip_simple().map(|()| 0)?,
        };
        let deeper = depth.checked_sub(1);
        for _ in 0..items {
            self.skip(deeper.ok_or(CborError::TooDeep { at })?)?;
        }
        Ok(())
    }

    /// A simple value or a float of 16, 32 or 64 bits.
    fn skip_simple(&mut self) -> Result<(), CborError> {
        let at = self.place();
        let first = self.first().ok_or(CborError::Short { at })?;
        let size = match first & 0x1f {
            0..=23 => 1,
            25 => 3,
            26 => 5,
            27 => 9,
            31 => return Err(CborError::Indefinite { at }),
            _ => {
                let (wanted, found) = (Kind::Null, Kind::Other);
                return Err(CborError::Unexpected { at, wanted, found });
            }
        };
        self.bytes.get(self.at..self.at + size).ok_or(CborError::Short { at })?;
        self.at += size;
        Ok(())
    }

    /// Nothing may follow.
    ///
    /// # Errors
    /// When something does.
    pub fn end(&self) -> Result<(), CborError> {
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(CborError::Trailing { at: self.place() })
        }
    }

    fn simple(&mut self, wanted: Kind) -> Result<u8, CborError> {
        let at = self.place();
        let first = self.first().ok_or(CborError::Short { at })?;
        let found = Kind::of(first);
        if found != wanted {
            return Err(CborError::Unexpected { at, wanted, found });
        }
        self.at += 1;
        Ok(first)
    }

    fn count(&mut self, wanted: u8, kind: Kind, least: usize) -> Result<usize, CborError> {
        let at = self.place();
        let count = self.head(wanted, kind)?;
        let room = (self.bytes.len() - self.at) / least;
        match usize::try_from(count) {
            Ok(count) if count <= room => Ok(count),
            Ok(_) | Err(_) => Err(CborError::Short { at }),
        }
    }

    fn string(&mut self, wanted: u8, kind: Kind) -> Result<&'a [u8], CborError> {
        let at = self.place();
        let length = self.head(wanted, kind)?;
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let found = end.and_then(|end| self.bytes.get(self.at..end));
        let found = found.ok_or(CborError::Short { at })?;
        self.at += found.len();
        Ok(found)
    }

    fn first(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// The offset, as errors tell it.
    fn place(&self) -> u16 {
        u16::try_from(self.at).unwrap_or(u16::MAX)
    }

    /// The number in an item's head, which must be of this kind.
    fn head(&mut self, wanted: u8, kind: Kind) -> Result<u64, CborError> {
        let at = self.place();
        let (&first, rest) = self.rest().split_first().ok_or(CborError::Short { at })?;
        if first >> 5 != wanted {
            return Err(CborError::Unexpected { at, wanted: kind, found: Kind::of(first) });
        }
        let short = CborError::Short { at };
        let (number, size, least) = match first & 0x1f {
            direct @ 0..24 => (u64::from(direct), 0, 0),
            24 => (u64::from(*rest.first().ok_or(short)?), 1, 24),
            25 => (u16::from_be_bytes(*rest.first_chunk().ok_or(short)?).into(), 2, 1 << 8),
            26 => (u32::from_be_bytes(*rest.first_chunk().ok_or(short)?).into(), 4, 1 << 16),
            27 => (u64::from_be_bytes(*rest.first_chunk().ok_or(short)?), 8, 1 << 32),
            31 => return Err(CborError::Indefinite { at }),
            _ => return Err(CborError::Unexpected { at, wanted: kind, found: Kind::Other }),
        };
        if number < least {
            return Err(CborError::NotShortest { at });
        }
        self.at += 1 + size;
        Ok(number)
    }
}
