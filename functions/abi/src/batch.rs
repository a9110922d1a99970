//! The input frame `TGB1`: one header, a table of entries, then their bytes.

use crate::MAX_FRAME_BYTES;
use crate::entry::Entry;
use crate::field::{bytes_at, i64_at, u16_at, u32_at, u64_at};
use crate::frame_error::FrameError;
#[cfg(feature = "alloc")]
use crate::frame_error::FrameTooLarge;
use crate::properties::properties;

/// The first four bytes of an input frame.
pub const INPUT_MAGIC: [u8; 4] = *b"TGB1";
/// Bytes of the input frame's header.
pub const HEADER_BYTES: usize = 32;
/// Bytes of one entry in the table that follows the header.
pub const ENTRY_BYTES: usize = 48;

/// What the entries of an input frame are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// Records of a stream.
    Messages = 1,
    /// Timers that fired; the topic is the timer's name.
    Timer = 2,
    /// Requests that wait for an answer; the topic is the route.
    Request = 3,
    /// Lifecycle events; the topic is the event's name.
    Event = 4,
}

impl Kind {
    fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Messages),
            2 => Some(Self::Timer),
            3 => Some(Self::Request),
            4 => Some(Self::Event),
            _ => None,
        }
    }
}

/// MQTT's quality of service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Qos {
    /// 0
    #[default]
    AtMostOnce = 0,
    /// 1
    AtLeastOnce = 1,
    /// 2
    ExactlyOnce = 2,
}

impl Qos {
    /// From MQTT's number; `None` above 2.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

/// The fixed part of an input frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// What the entries are.
    pub kind: Kind,
    /// How many entries there are.
    pub count: u32,
    /// Time of the batch, nanoseconds since 1970; what `tg1.now` returns.
    pub now_ns: i64,
    /// Identifies the batch; a retry of the same records has the same id. Seeds `tg1.random`.
    pub batch_id: u64,
    /// Hints of the gateway.
    pub flags: InputFlags,
}

/// Hints in the header of an input frame. Unknown ones are nobody's concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InputFlags(u16);

impl InputFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// The gateway takes the cause of an EMIT. One that does not say so refuses it.
    pub const CAUSES: Self = Self(1);

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One entry of an input frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MessageRef<'a> {
    /// Sequence number in its stream.
    pub seq: u64,
    /// Time of receipt, nanoseconds since 1970.
    pub ts_ns: i64,
    /// The topic it was published to.
    pub topic: &'a str,
    /// The bytes as published.
    pub payload: &'a [u8],
    /// Property list, for [`properties`](crate::properties()).
    pub props: &'a [u8],
    /// Quality of service it was published with.
    pub qos: Qos,
    /// Whether it was published as a retained message.
    pub retain: bool,
    /// How many tries of it have failed and count: 0 at first.
    pub attempt: u16,
    /// Which of the function's inputs it came by.
    pub source: u32,
}

/// A checked input frame.
#[derive(Debug, Clone, Copy)]
pub struct BatchReader<'a> {
    frame: &'a [u8],
    header: BatchHeader,
}

impl<'a> BatchReader<'a> {
    /// Checks the whole frame. Any flags in the header are right: they are hints.
    ///
    /// # Errors
    /// Says what is wrong and where.
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        let reader = Self::open(frame)?;
        for index in 0..reader.header.count {
            let Some(message) = reader.entry(index) else { return Err(reader.mistake(index)) };
            properties(message.props)?;
        }
        Ok(reader)
    }

    /// Checks the header alone: for guests, whose frames the gateway has checked. Entries are read
    /// with [`entries`](Self::entries), or with [`entry`](Self::entry), which checks all of one but
    /// its properties.
    ///
    /// # Errors
    /// Says what is wrong and where.
    pub fn open(frame: &'a [u8]) -> Result<Self, FrameError> {
        let header = Self::header_of(frame)
            .ok_or(FrameError::Short { have: frame.len(), need: HEADER_BYTES })??;
        let total = frame.len();
        let table = (total - HEADER_BYTES) / ENTRY_BYTES;
        if usize::try_from(header.count).map_or(true, |count| count > table) {
            return Err(FrameError::Count { declared: header.count, total });
        }
        Ok(Self { frame, header })
    }

    /// The bytes of the whole frame.
    pub fn frame(&self) -> &'a [u8] {
        self.frame
    }

    /// The fixed part.
    pub fn header(&self) -> BatchHeader {
        self.header
    }

    /// The entries, in their order.
    pub fn iter(&self) -> Messages<'a> {
        Messages { reader: *self, next: 0 }
    }

    /// The entries, unchecked, in their order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = Entry<'a>> + use<'a> {
        let frame = self.frame;
        let (rows, _) = frame.get(HEADER_BYTES..).unwrap_or(&[]).as_chunks();
        let rows = rows.get(..self.header.count as usize).unwrap_or(rows);
        rows.iter().map(move |row| Entry { frame, row })
    }

    /// `None` for fewer bytes than a header.
    fn header_of(frame: &[u8]) -> Option<Result<BatchHeader, FrameError>> {
        let found = bytes_at(frame, 0, 4)?.try_into().ok()?;
        let kind = u16_at(frame, 4)?;
        let flags = InputFlags(u16_at(frame, 6)?);
        let declared = u32_at(frame, 12)?;
        let count = u32_at(frame, 8)?;
        let now_ns = i64_at(frame, 16)?;
        let batch_id = u64_at(frame, 24)?;
        if found != INPUT_MAGIC {
            return Some(Err(FrameError::Magic { found, expected: INPUT_MAGIC }));
        }
        let Some(kind) = Kind::from_code(kind) else {
            return Some(Err(FrameError::Kind { found: kind }));
        };
        let have = frame.len();
        if have > MAX_FRAME_BYTES || usize::try_from(declared) != Ok(have) {
            return Some(Err(FrameError::Total { declared, have }));
        }
        Some(Ok(BatchHeader { kind, count, now_ns, batch_id, flags }))
    }

    /// One entry, its properties unchecked; `None` where there is none, or where it is malformed.
    pub fn entry(&self, index: u32) -> Option<MessageRef<'a>> {
        if index >= self.header.count {
            return None;
        }
        let entry = self.row(index)?;
        let span = |at: usize| self.span(entry, at);
        let [qos, retain] = u16_at(entry, 40)?.to_le_bytes();
        if retain > 1 {
            return None;
        }
        Some(MessageRef {
            seq: u64_at(entry, 0)?,
            ts_ns: i64_at(entry, 8)?,
            topic: core::str::from_utf8(span(16)?).ok()?,
            payload: span(24)?,
            props: span(32)?,
            qos: Qos::from_code(qos)?,
            retain: retain == 1,
            attempt: u16_at(entry, 42)?,
            source: u32_at(entry, 44)?,
        })
    }

    /// The bytes of an entry in the table.
    fn row(&self, index: u32) -> Option<&'a [u8]> {
        bytes_at(self.frame, HEADER_BYTES + index as usize * ENTRY_BYTES, ENTRY_BYTES)
    }

    /// The bytes that an offset and a length in an entry speak of.
    fn span(&self, entry: &[u8], at: usize) -> Option<&'a [u8]> {
        let (offset, len) = (u32_at(entry, at)? as usize, u32_at(entry, at + 4)? as usize);
        let data_start = HEADER_BYTES + self.header.count as usize * ENTRY_BYTES;
        if offset < data_start && len != 0 {
            return None;
        }
        bytes_at(self.frame, offset, len)
    }

    /// What is wrong with an entry that [`entry`](Self::entry) does not read. Apart from it, so that
    /// guests have no code for it.
    fn mistake(&self, index: u32) -> FrameError {
        let total = self.frame.len();
        let Some(entry) = self.row(index) else {
            return FrameError::Count { declared: self.header.count, total };
        };
        for (at, field) in [(16, "topic"), (24, "payload"), (32, "properties")] {
            if self.span(entry, at).is_none() {
                let (offset, len) = (u32_at(entry, at), u32_at(entry, at + 4));
                let (offset, len) = (offset.unwrap_or(0), len.unwrap_or(0));
                return FrameError::OutOfFrame { index, field, offset, len, total };
            }
        }
        let [qos, retain] = u16_at(entry, 40).unwrap_or(0).to_le_bytes();
        if Qos::from_code(qos).is_none() {
            return FrameError::Value { index, field: "quality of service", found: qos.into() };
        }
        if retain > 1 {
            return FrameError::Value { index, field: "retain flag", found: retain.into() };
        }
        FrameError::NotUtf8 { index, field: "topic" }
    }
}

/// The entries of a checked input frame.
#[derive(Debug, Clone)]
pub struct Messages<'a> {
    reader: BatchReader<'a>,
    next: u32,
}

impl<'a> Iterator for Messages<'a> {
    type Item = MessageRef<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.reader.header.count {
            return None;
        }
        // `parse` has read each entry once, so this never fails.
        let message = self.reader.entry(self.next)?;
        self.next += 1;
        Some(message)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.reader.header.count - self.next) as usize;
        (left, Some(left))
    }
}

impl ExactSizeIterator for Messages<'_> {}

/// Builds an input frame.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone)]
pub struct BatchWriter {
    kind: Kind,
    now_ns: i64,
    batch_id: u64,
    flags: InputFlags,
    count: u32,
    /// Entries whose offsets count from the start of `data`.
    table: alloc::vec::Vec<u8>,
    data: alloc::vec::Vec<u8>,
}

#[cfg(feature = "alloc")]
impl BatchWriter {
    /// A frame without entries. `now_ns` is the time of the batch in nanoseconds since 1970.
    pub fn new(kind: Kind, now_ns: i64, batch_id: u64) -> Self {
        use alloc::vec::Vec;
        let (table, data) = (Vec::new(), Vec::new());
        Self { kind, now_ns, batch_id, flags: InputFlags::NONE, count: 0, table, data }
    }

    /// The frame with these hints.
    #[must_use]
    pub fn with_flags(self, flags: InputFlags) -> Self {
        Self { flags, ..self }
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// When the frame would exceed [`MAX_FRAME_BYTES`]; it is then unchanged.
    pub fn push(&mut self, message: &MessageRef<'_>) -> Result<(), FrameTooLarge> {
        let fields = [message.topic.as_bytes(), message.payload, message.props];
        let added = fields.iter().fold(ENTRY_BYTES, |sum, bytes| sum.saturating_add(bytes.len()));
        let bytes = self.len_bytes().saturating_add(added);
        if bytes > MAX_FRAME_BYTES {
            return Err(FrameTooLarge { bytes, max: MAX_FRAME_BYTES });
        }
        self.table.extend_from_slice(&message.seq.to_le_bytes());
        self.table.extend_from_slice(&message.ts_ns.to_le_bytes());
        for field in fields {
            self.table.extend_from_slice(&(self.data.len() as u32).to_le_bytes());
            self.table.extend_from_slice(&(field.len() as u32).to_le_bytes());
            self.data.extend_from_slice(field);
        }
        self.table.extend_from_slice(&[message.qos as u8, u8::from(message.retain)]);
        self.table.extend_from_slice(&message.attempt.to_le_bytes());
        self.table.extend_from_slice(&message.source.to_le_bytes());
        self.count += 1;
        Ok(())
    }

    /// Entries so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes that the frame has by now.
    pub fn len_bytes(&self) -> usize {
        HEADER_BYTES + self.table.len() + self.data.len()
    }

    /// The frame.
    pub fn finish(self) -> alloc::vec::Vec<u8> {
        let total = self.len_bytes();
        let data_start = (HEADER_BYTES + self.table.len()) as u32;
        let mut frame = alloc::vec::Vec::with_capacity(total);
        frame.extend_from_slice(&INPUT_MAGIC);
        frame.extend_from_slice(&(self.kind as u16).to_le_bytes());
        frame.extend_from_slice(&self.flags.0.to_le_bytes());
        frame.extend_from_slice(&self.count.to_le_bytes());
        frame.extend_from_slice(&(total as u32).to_le_bytes());
        frame.extend_from_slice(&self.now_ns.to_le_bytes());
        frame.extend_from_slice(&self.batch_id.to_le_bytes());
        for entry in self.table.chunks_exact(ENTRY_BYTES) {
            let start = frame.len();
            frame.extend_from_slice(entry);
            for at in [16, 24, 32] {
                let offset = u32_at(entry, at).unwrap_or(0) + data_start;
                frame[start + at..start + at + 4].copy_from_slice(&offset.to_le_bytes());
            }
        }
        frame.extend_from_slice(&self.data);
        frame
    }
}
