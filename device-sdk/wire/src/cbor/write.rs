//! Writes items one by one into a buffer of the caller.

use core::fmt;

use super::{MAX_HEAD, major, simple};

/// A buffer that is filled with CBOR.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

/// The buffer is too small.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the buffer is too small")
    }
}

impl core::error::Error for Full {}

impl<'a> Writer<'a> {
    /// At the beginning of a buffer.
    pub fn new(out: &'a mut [u8]) -> Writer<'a> {
        Writer { out, at: 0 }
    }

    /// How many bytes have been written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.at
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.at == 0
    }

    /// A number from 0.
    ///
    /// # Errors
    /// The buffer is too small; the same holds for all that follow.
    pub fn uint(&mut self, number: u64) -> Result<(), Full> {
        self.head(major::UINT, number)
    }

    /// A number of either sign.
    ///
    /// # Errors
    /// See [`Writer::uint`].
    pub fn int(&mut self, number: i64) -> Result<(), Full> {
        match u64::try_from(number) {
            Ok(number) => self.head(major::UINT, number),
            Err(_) => self.head(major::NEGATIVE, !number.cast_unsigned()),
        }
    }

    /// Bytes.
    ///
    /// # Errors
    /// See [`Writer::uint`].
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.head(major::BYTES, bytes.len() as u64)?;
        self.raw(bytes)
    }

    /// Text.
    ///
    /// # Errors
    /// See [`Writer::uint`].
    pub fn text(&mut self, text: &str) -> Result<(), Full> {
        self.head(major::TEXT, text.len() as u64)?;
        self.raw(text.as_bytes())
    }

    /// The head of a list of so many items.
    ///
    /// # Errors
    /// See [`Writer::uint`].
    pub fn array(&mut self, items: usize) -> Result<(), Full> {
        self.head(major::ARRAY, items as u64)
    }

    /// The head of a map of so many pairs.
    ///
    /// # Errors
    /// See [`Writer::uint`].
    pub fn map(&mut self, pairs: usize) -> Result<(), Full> {
        self.head(major::MAP, pairs as u64)
    }

    /// A tag for the next item.
    ///
    /// # Errors
    /// See [`Writer::uint`].
    pub fn tag(&mut self, tag: u64) -> Result<(), Full> {
        self.head(major::TAG, tag)
    }

    /// True or false.
    ///
    /// # Errors
    /// See [`Writer::uint`].
    pub fn bool(&mut self, value: bool) -> Result<(), Full> {
        self.raw(&[if value { simple::TRUE } else { simple::FALSE }])
    }

    /// Nothing.
    ///
    /// # Errors
    /// See [`Writer::uint`].
    pub fn null(&mut self) -> Result<(), Full> {
        self.raw(&[simple::NULL])
    }

    /// Bytes that are items already, or what follows a head.
    ///
    /// # Errors
    /// See [`Writer::uint`].
    pub fn raw(&mut self, bytes: &[u8]) -> Result<(), Full> {
        let end = self.at.checked_add(bytes.len()).ok_or(Full)?;
        self.out.get_mut(self.at..end).ok_or(Full)?.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }

    /// The head of bytes of this length, which follow by [`Writer::raw`] or from elsewhere.
    ///
    /// # Errors
    /// See [`Writer::uint`].
    pub fn bytes_head(&mut self, length: usize) -> Result<(), Full> {
        self.head(major::BYTES, length as u64)
    }

    fn head(&mut self, major: u8, number: u64) -> Result<(), Full> {
        let (head, length) = head(major, number);
        self.raw(head.get(..length).unwrap_or_default())
    }
}

/// How many bytes the head of an item with this number or length takes.
#[must_use]
pub const fn head_bytes(number: u64) -> usize {
    match number {
        0..24 => 1,
        24..0x100 => 2,
        0x100..0x1_0000 => 3,
        0x1_0000..0x1_0000_0000 => 5,
        _ => MAX_HEAD,
    }
}

fn head(major: u8, number: u64) -> ([u8; MAX_HEAD], usize) {
    let mut head = [0; MAX_HEAD];
    let length = head_bytes(number);
    let big_endian = number.to_be_bytes();
    let low = match length {
        1 => big_endian[7],
        2 => 24,
        3 => 25,
        5 => 26,
        _ => 27,
    };
    head[0] = major << 5 | low;
    head[1..length].copy_from_slice(&big_endian[MAX_HEAD - length..]);
    (head, length)
}
