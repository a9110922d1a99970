//! One entry of an input frame, read field by field: a guest pays for what it looks at.

use crate::batch::{ENTRY_BYTES, Qos};
use crate::field::{bytes_at, i64_at, u16_at, u32_at, u64_at};
use core::str::from_utf8;

/// An entry whose fields are checked when they are read. `None` from one of them says that the frame
/// is malformed, which the gateway has looked at before.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    pub(crate) frame: &'a [u8],
    pub(crate) row: &'a [u8; ENTRY_BYTES],
}

impl<'a> Entry<'a> {
    /// Sequence number in its stream.
    pub fn seq(&self) -> Option<u64> {
        u64_at(self.row, 0)
    }

    /// Time of receipt, nanoseconds since 1970.
    pub fn ts_ns(&self) -> Option<i64> {
        i64_at(self.row, 8)
    }

    /// The topic it was published to.
    pub fn topic(&self) -> Option<&'a str> {
        from_utf8(self.topic_bytes()?).ok()
    }

    /// The bytes of the topic: for those who read a part of it.
    pub fn topic_bytes(&self) -> Option<&'a [u8]> {
        self.span(16)
    }

    /// The bytes as published.
    pub fn payload(&self) -> Option<&'a [u8]> {
        self.span(24)
    }

    /// Property list, for [`properties`](crate::properties()).
    pub fn props(&self) -> Option<&'a [u8]> {
        self.span(32)
    }

    /// Quality of service it was published with.
    pub fn qos(&self) -> Option<Qos> {
        Qos::from_code(self.row[40])
    }

    /// Whether it was published as a retained message.
    pub fn retain(&self) -> Option<bool> {
        match self.row[41] {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// How many tries of it have failed and count.
    pub fn attempt(&self) -> Option<u16> {
        u16_at(self.row, 42)
    }

    /// Which of the function's inputs it came by.
    pub fn source(&self) -> Option<u32> {
        u32_at(self.row, 44)
    }

    /// The bytes that an offset and a length in the row speak of.
    fn span(&self, at: usize) -> Option<&'a [u8]> {
        let (offset, len) = (u32_at(self.row, at)?, u32_at(self.row, at + 4)?);
        bytes_at(self.frame, offset as usize, len as usize)
    }
}
