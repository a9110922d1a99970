//! Property lists: repeated `u16 klen, u16 vlen, key, value`.

use crate::field::{bytes_at, u16_at};
use crate::frame_error::FrameError;
#[cfg(feature = "alloc")]
use crate::frame_error::FrameTooLarge;
use core::str::from_utf8;

/// Checks the whole of a property list and returns its pairs, in their order.
///
/// # Errors
/// [`FrameError::Property`] with the place where the lengths stop adding up, or where a key or
/// a value is not UTF-8.
pub fn properties(list: &[u8]) -> Result<Properties<'_>, FrameError> {
    let mut rest = Properties { list, at: 0 };
    while rest.at < list.len() {
        let offset = rest.at;
        rest.next().ok_or(FrameError::Property { offset })?;
    }
    Ok(Properties { list, at: 0 })
}

/// The pairs of a checked property list.
#[derive(Debug, Clone)]
pub struct Properties<'a> {
    list: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Properties<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<Self::Item> {
        let key_len = usize::from(u16_at(self.list, self.at)?);
        let value_len = usize::from(u16_at(self.list, self.at + 2)?);
        let key = bytes_at(self.list, self.at + 4, key_len)?;
        let value = bytes_at(self.list, self.at + 4 + key_len, value_len)?;
        let pair = (from_utf8(key).ok()?, from_utf8(value).ok()?);
        self.at += 4 + key_len + value_len;
        Some(pair)
    }
}

/// Appends a pair to a property list.
///
/// # Errors
/// When key or value has more than 65,535 bytes; the list is then unchanged.
#[cfg(feature = "alloc")]
pub fn write_property(
    list: &mut alloc::vec::Vec<u8>,
    key: &str,
    value: &str,
) -> Result<(), FrameTooLarge> {
    let max = usize::from(u16::MAX);
    let len = |text: &str| {
        u16::try_from(text.len()).map_err(|_| FrameTooLarge { bytes: text.len(), max })
    };
    let (key_len, value_len) = (len(key)?, len(value)?);
    list.extend_from_slice(&key_len.to_le_bytes());
    list.extend_from_slice(&value_len.to_le_bytes());
    list.extend_from_slice(key.as_bytes());
    list.extend_from_slice(value.as_bytes());
    Ok(())
}
