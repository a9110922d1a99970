//! What can be wrong with a frame.

use core::fmt;

/// Why a frame was refused. Indexes count entries or operations from 0; offsets are bytes from
/// the start of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// Fewer bytes than the fixed header.
    Short {
        /// Bytes there.
        have: usize,
        /// Bytes of the header.
        need: usize,
    },
    /// The frame does not start with its magic.
    Magic {
        /// The first four bytes found.
        found: [u8; 4],
        /// The first four bytes of such a frame.
        expected: [u8; 4],
    },
    /// An input frame of a kind that this version does not know.
    Kind {
        /// The kind found.
        found: u16,
    },
    /// The header's `total` is not the number of bytes given.
    Total {
        /// `total` in the header.
        declared: u32,
        /// Bytes there.
        have: usize,
    },
    /// The header's `count` needs more bytes than the frame has.
    Count {
        /// `count` in the header.
        declared: u32,
        /// Bytes of the frame.
        total: usize,
    },
    /// Offset and length of a field point outside of the frame's data.
    OutOfFrame {
        /// Which entry.
        index: u32,
        /// Which field of it.
        field: &'static str,
        /// The field's offset.
        offset: u32,
        /// The field's length in bytes.
        len: u32,
        /// Bytes of the frame.
        total: usize,
    },
    /// A field that must be UTF-8 is not.
    NotUtf8 {
        /// Which entry or operation.
        index: u32,
        /// Which field of it.
        field: &'static str,
    },
    /// A field holds a value that the format does not define.
    Value {
        /// Which entry or operation.
        index: u32,
        /// Which field of it.
        field: &'static str,
        /// The value found.
        found: u32,
    },
    /// Bytes that must be zero are not.
    Reserved {
        /// Which entry or operation; the header of the frame is reported as operation 0.
        index: u32,
        /// Which field of it.
        field: &'static str,
    },
    /// An operation code that this version does not know.
    Operation {
        /// Which operation.
        index: u32,
        /// The code found.
        code: u16,
    },
    /// The header or the body of an operation goes beyond the end of the frame.
    Cut {
        /// Which operation.
        index: u32,
        /// Where the operation starts.
        offset: usize,
        /// Bytes of the frame.
        total: usize,
    },
    /// The lengths inside an operation's body do not add up to the body's length.
    Body {
        /// Which operation.
        index: u32,
        /// Its code.
        code: u16,
        /// Bytes of the body.
        len: usize,
    },
    /// Bytes after the last operation.
    Trailing {
        /// Where the last operation ends.
        offset: usize,
        /// Bytes of the frame.
        total: usize,
    },
    /// A property list whose lengths do not add up.
    Property {
        /// Where in the property list, in bytes.
        offset: usize,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Short { have, need } => {
                write!(f, "{have} bytes are no frame: its header alone has {need}")
            }
            Self::Magic { found, expected } => write!(
                f,
                "the frame starts with {:02x?}, not with \"{}\"",
                found,
                expected.escape_ascii()
            ),
            Self::Kind { found } => write!(f, "frame kind {found} is unknown (1 to 4 are defined)"),
            Self::Total { declared, have } => {
                write!(f, "the header says {declared} bytes in all, the frame has {have}")
            }
            Self::Count { declared, total } => {
                write!(f, "{declared} entries do not fit into a frame of {total} bytes")
            }
            Self::OutOfFrame { index, field, offset, len, total } => write!(
                f,
                "entry {index}: {field} at {offset} with {len} bytes is not inside the data of a frame of {total} bytes"
            ),
            Self::NotUtf8 { index, field } => write!(f, "number {index}: {field} is not UTF-8"),
            Self::Value { index, field, found } => {
                write!(f, "number {index}: {found} is no {field}")
            }
            Self::Reserved { index, field } => {
                write!(f, "number {index}: {field} must be zero")
            }
            Self::Operation { index, code } => {
                write!(f, "operation {index}: code {code} is unknown (1 to 8 are defined)")
            }
            Self::Cut { index, offset, total } => write!(
                f,
                "operation {index} at {offset} goes beyond the end of the frame at {total}"
            ),
            Self::Body { index, code, len } => write!(
                f,
                "operation {index} (code {code}): its lengths do not add up to its body of {len} bytes"
            ),
            Self::Trailing { offset, total } => {
                write!(f, "the last operation ends at {offset}, the frame at {total}")
            }
            Self::Property { offset } => {
                write!(f, "the property list is cut or not UTF-8 at its byte {offset}")
            }
        }
    }
}

impl core::error::Error for FrameError {}

/// Something that does not fit into a frame or one of its length fields; what was written
/// before it is untouched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameTooLarge {
    /// Bytes that the frame or the field would have.
    pub bytes: usize,
    /// The most it may have.
    pub max: usize,
}

impl fmt::Display for FrameTooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes do not fit: at most {} are allowed here", self.bytes, self.max)
    }
}

impl core::error::Error for FrameTooLarge {}
