//! The output frame `TGO1`: one header, then operations, each at a multiple of 8 bytes.

#[cfg(feature = "alloc")]
use crate::MAX_FRAME_BYTES;
use crate::batch::Qos;
use crate::field::{bytes_at, u16_at, u32_at, u64_at};
use crate::frame_error::FrameError;
#[cfg(feature = "alloc")]
use crate::frame_error::FrameTooLarge;
use crate::properties::properties;
use core::num::NonZeroU16;
use core::str::from_utf8;

/// The first four bytes of an output frame.
pub const OUTPUT_MAGIC: [u8; 4] = *b"TGO1";
/// Bytes of the output frame's header.
pub const OUTPUT_HEADER_BYTES: usize = 16;
/// Bytes before the body of an operation: code, flags, length.
const OPERATION_HEADER_BYTES: usize = 8;
/// Bytes before the topic of an EMIT.
#[cfg(feature = "alloc")]
const EMIT_START_BYTES: usize = OPERATION_HEADER_BYTES + 16;

const EMIT: u16 = 1;
const NACK: u16 = 2;
const KV_PUT: u16 = 3;
const KV_DEL: u16 = 4;
const METRIC: u16 = 5;
const LOG: u16 = 6;
const RESPOND: u16 = 7;
const TIMER_SET: u16 = 8;

/// One effect that a function asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Operation<'a> {
    /// Publish a message.
    Emit {
        /// Where to.
        topic: &'a str,
        /// What.
        payload: &'a [u8],
        /// Quality of service.
        qos: Qos,
        /// Whether the broker keeps it for later subscribers.
        retain: bool,
        /// Property list, for [`properties`](crate::properties()).
        props: &'a [u8],
        /// The entry that it comes from, counted from 1. To be named only where the input frame
        /// has the flag [`InputFlags::CAUSES`](crate::InputFlags::CAUSES).
        cause: Option<NonZeroU16>,
    },
    /// This entry of the batch was not handled.
    Nack {
        /// Which entry, from 0.
        index: u32,
        /// What is to become of it.
        class: NackClass,
        /// A number of the author's choice, for statistics.
        code: u32,
        /// Why, for the operator.
        text: &'a str,
    },
    /// Set a key of the function's state.
    KvPut {
        /// The key.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
        /// Milliseconds after which the key goes by itself; 0 = never.
        ttl_ms: u64,
    },
    /// Remove a key of the function's state; no error when it is not there.
    KvDel {
        /// The key.
        key: &'a [u8],
    },
    /// Report a figure.
    Metric {
        /// Its name.
        name: &'a str,
        /// What `value` means.
        kind: MetricKind,
        /// The figure.
        value: f64,
    },
    /// A line for the function's log that appears only if the batch commits.
    Log {
        /// How bad it is.
        level: Level,
        /// The line.
        text: &'a str,
    },
    /// Answer to a request (frames of kind 3).
    Respond {
        /// HTTP status.
        status: u16,
        /// Media type of the body; empty = none.
        content_type: &'a str,
        /// The body.
        body: &'a [u8],
    },
    /// Start, change or stop a timer.
    TimerSet {
        /// The timer's name, which its input frame carries as topic.
        name: &'a str,
        /// Milliseconds until it fires first.
        delay_ms: u64,
        /// Milliseconds from then on; 0 = once. Delay and period 0: the timer is cancelled.
        period_ms: u64,
    },
}

/// What is to become of an entry that was not handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum NackClass {
    /// Give it again later.
    Retry = 1,
    /// Forget it. The loss ledger counts it.
    Drop = 2,
    /// Put it among the dead letters, with the reason.
    Dead = 3,
}

/// What a metric's value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum MetricKind {
    /// Add it to what there is.
    Counter = 1,
    /// It replaces what there is.
    Gauge = 2,
}

/// How bad a line of the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Level {
    /// Something did not work.
    Error = 1,
    /// Something is odd.
    Warn = 2,
    /// Good to know.
    Info = 3,
    /// For the author.
    Debug = 4,
}

impl Level {
    /// From its number; `None` outside of 1 to 4.
    pub const fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Error),
            2 => Some(Self::Warn),
            3 => Some(Self::Info),
            4 => Some(Self::Debug),
            _ => None,
        }
    }
}

/// A checked output frame.
#[derive(Debug, Clone, Copy)]
pub struct OutputReader<'a> {
    frame: &'a [u8],
    count: u32,
}

impl<'a> OutputReader<'a> {
    /// Checks the whole frame. An empty one is no frame: `tg_handle` returns 0 instead.
    ///
    /// # Errors
    /// Says what is wrong and where.
    pub fn parse(frame: &'a [u8]) -> Result<Self, FrameError> {
        let short = FrameError::Short { have: frame.len(), need: OUTPUT_HEADER_BYTES };
        let header = |at| u32_at(frame, at).ok_or(short);
        let found = header(0)?.to_le_bytes();
        let (count, declared, flags) = (header(4)?, header(8)?, header(12)?);
        if found != OUTPUT_MAGIC {
            return Err(FrameError::Magic { found, expected: OUTPUT_MAGIC });
        }
        if usize::try_from(declared) != Ok(frame.len()) {
            return Err(FrameError::Total { declared, have: frame.len() });
        }
        if flags != 0 {
            return Err(FrameError::Reserved { index: 0, field: "the flags of the header" });
        }
        let mut at = OUTPUT_HEADER_BYTES;
        for index in 0..count {
            (_, at) = operation_at(frame, at, index)?;
        }
        if at != frame.len() {
            return Err(FrameError::Trailing { offset: at, total: frame.len() });
        }
        Ok(Self { frame, count })
    }

    /// Operations in the frame.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The operations, in their order.
    pub fn iter(&self) -> Operations<'a> {
        Operations { frame: self.frame, at: OUTPUT_HEADER_BYTES, next: 0, count: self.count }
    }
}

/// The operations of a checked output frame.
#[derive(Debug, Clone)]
pub struct Operations<'a> {
    frame: &'a [u8],
    at: usize,
    next: u32,
    count: u32,
}

impl<'a> Iterator for Operations<'a> {
    type Item = Operation<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.count {
            return None;
        }
        // `parse` has read each operation once, so this never fails.
        let (operation, at) = operation_at(self.frame, self.at, self.next).ok()?;
        self.at = at;
        self.next += 1;
        Some(operation)
    }
}

/// Reads the operation at `at` and says where the next one starts.
fn operation_at(frame: &[u8], at: usize, index: u32) -> Result<(Operation<'_>, usize), FrameError> {
    let cut = FrameError::Cut { index, offset: at, total: frame.len() };
    let header = bytes_at(frame, at, OPERATION_HEADER_BYTES).ok_or(cut)?;
    let code = u16_at(header, 0).ok_or(cut)?;
    let len = u32_at(header, 4).ok_or(cut)? as usize;
    if u16_at(header, 2) != Some(0) {
        return Err(FrameError::Reserved { index, field: "the flags of the operation" });
    }
    let start = at + OPERATION_HEADER_BYTES;
    let body = bytes_at(frame, start, len).ok_or(cut)?;
    let padding = bytes_at(frame, start + len, padding_after(len)).ok_or(cut)?;
    if padding.iter().any(|&byte| byte != 0) {
        return Err(FrameError::Reserved { index, field: "the padding" });
    }
    let operation = Body { bytes: body, index, code }.read()?;
    Ok((operation, start + len + padding.len()))
}

/// Zero bytes that follow a body, so that the next operation starts at a multiple of 8.
fn padding_after(len: usize) -> usize {
    len.wrapping_neg() % 8
}

struct Body<'a> {
    bytes: &'a [u8],
    index: u32,
    code: u16,
}

impl<'a> Body<'a> {
    fn read(&self) -> Result<Operation<'a>, FrameError> {
        match self.code {
            EMIT => self.emit(),
            NACK => self.nack(),
            KV_PUT => {
                let [key, value] = self.tail(16, [self.u32(0)?, self.u32(4)?])?;
                Ok(Operation::KvPut { key, value, ttl_ms: self.u64(8)? })
            }
            KV_DEL => {
                self.zero(4)?;
                let [key] = self.tail(8, [self.u32(0)?])?;
                Ok(Operation::KvDel { key })
            }
            METRIC => {
                let kind = match self.u16(4)? {
                    1 => MetricKind::Counter,
                    2 => MetricKind::Gauge,
                    found => return Err(self.value("metric kind", found.into())),
                };
                self.zero_u16(6)?;
                let [name] = self.tail(16, [self.u32(0)?])?;
                let value = f64::from_bits(self.u64(8)?);
                Ok(Operation::Metric { name: self.text(name, "metric name")?, kind, value })
            }
            LOG => {
                let code = self.u16(4)?;
                let level =
                    Level::from_code(code).ok_or_else(|| self.value("log level", code.into()))?;
                self.zero_u16(6)?;
                let [text] = self.tail(8, [self.u32(0)?])?;
                Ok(Operation::Log { level, text: self.text(text, "log text")? })
            }
            RESPOND => {
                let [content_type, body] = self.tail(16, [self.u32(0)?, self.u32(4)?])?;
                let status = self.u16(8)?;
                self.zero_u16(10)?;
                self.zero(12)?;
                let content_type = self.text(content_type, "content type")?;
                Ok(Operation::Respond { status, content_type, body })
            }
            TIMER_SET => {
                self.zero(4)?;
                let [name] = self.tail(24, [self.u32(0)?])?;
                let name = self.text(name, "timer name")?;
                Ok(Operation::TimerSet { name, delay_ms: self.u64(8)?, period_ms: self.u64(16)? })
            }
            code => Err(FrameError::Operation { index: self.index, code }),
        }
    }

    fn emit(&self) -> Result<Operation<'a>, FrameError> {
        let [topic, payload, props] = self.tail(16, [self.u32(0)?, self.u32(4)?, self.u32(8)?])?;
        let flags = self.u16(12)?.to_le_bytes();
        let cause = NonZeroU16::new(self.u16(14)?);
        let qos = Qos::from_code(flags[0])
            .ok_or_else(|| self.value("quality of service", flags[0].into()))?;
        let retain = match flags[1] {
            0 => false,
            1 => true,
            found => return Err(self.value("retain flag", found.into())),
        };
        properties(props)?;
        let topic = self.text(topic, "topic")?;
        Ok(Operation::Emit { topic, payload, qos, retain, props, cause })
    }

    fn nack(&self) -> Result<Operation<'a>, FrameError> {
        let class = match self.u16(12)? {
            1 => NackClass::Retry,
            2 => NackClass::Drop,
            3 => NackClass::Dead,
            found => return Err(self.value("nack class", found.into())),
        };
        self.zero_u16(14)?;
        let [text] = self.tail(16, [self.u32(8)?])?;
        let text = self.text(text, "nack text")?;
        Ok(Operation::Nack { index: self.u32(0)?, class, code: self.u32(4)?, text })
    }

    /// Splits what follows the fixed part into pieces, which must use it up exactly.
    fn tail<const N: usize>(
        &self,
        fixed: usize,
        lengths: [u32; N],
    ) -> Result<[&'a [u8]; N], FrameError> {
        let mut at = fixed;
        let mut pieces = [&[][..]; N];
        for (piece, len) in pieces.iter_mut().zip(lengths) {
            *piece = bytes_at(self.bytes, at, len as usize).ok_or(self.wrong_length())?;
            at += piece.len();
        }
        if at == self.bytes.len() { Ok(pieces) } else { Err(self.wrong_length()) }
    }

    fn text(&self, bytes: &'a [u8], field: &'static str) -> Result<&'a str, FrameError> {
        from_utf8(bytes).map_err(|_| FrameError::NotUtf8 { index: self.index, field })
    }

    fn u16(&self, at: usize) -> Result<u16, FrameError> {
        u16_at(self.bytes, at).ok_or(self.wrong_length())
    }

    fn u32(&self, at: usize) -> Result<u32, FrameError> {
        u32_at(self.bytes, at).ok_or(self.wrong_length())
    }

    fn u64(&self, at: usize) -> Result<u64, FrameError> {
        u64_at(self.bytes, at).ok_or(self.wrong_length())
    }

    fn zero(&self, at: usize) -> Result<(), FrameError> {
        if self.u32(at)? == 0 { Ok(()) } else { Err(self.reserved()) }
    }

    fn zero_u16(&self, at: usize) -> Result<(), FrameError> {
        if self.u16(at)? == 0 { Ok(()) } else { Err(self.reserved()) }
    }

    fn reserved(&self) -> FrameError {
        FrameError::Reserved { index: self.index, field: "the reserved bytes of the body" }
    }

    fn value(&self, field: &'static str, found: u32) -> FrameError {
        FrameError::Value { index: self.index, field, found }
    }

    fn wrong_length(&self) -> FrameError {
        FrameError::Body { index: self.index, code: self.code, len: self.bytes.len() }
    }
}

/// Builds an output frame.
#[cfg(feature = "alloc")]
#[derive(Debug, Clone)]
pub struct OutputWriter {
    frame: alloc::vec::Vec<u8>,
    count: u32,
}

#[cfg(feature = "alloc")]
impl Default for OutputWriter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "alloc")]
impl OutputWriter {
    /// A frame without operations.
    pub fn new() -> Self {
        Self { frame: alloc::vec::Vec::new(), count: 0 }
    }

    /// The same in the room of a frame that is done with.
    pub fn reuse(mut spent: alloc::vec::Vec<u8>) -> Self {
        spent.clear();
        Self { frame: spent, count: 0 }
    }

    /// Adds an operation.
    ///
    /// # Errors
    /// When the frame would exceed [`MAX_FRAME_BYTES`]; it is then unchanged.
    // Inlined: then a guest that never sends a kind of operation has no code for it.
    #[inline(always)]
    pub fn push(&mut self, operation: &Operation<'_>) -> Result<(), FrameTooLarge> {
        let Layout { code, fixed, pieces } = layout(operation);
        self.append(code, fixed.words.get(..fixed.count).unwrap_or(&[]), &pieces)
    }

    /// Adds an EMIT without properties whose topic and payload are written straight into the frame.
    ///
    /// # Errors
    /// When the frame would exceed [`MAX_FRAME_BYTES`]; it is then unchanged.
    #[inline(always)] // The two writers are the caller's own.
    pub fn emit(
        &mut self,
        qos: Qos,
        retain: bool,
        cause: Option<NonZeroU16>,
        topic: impl FnOnce(&mut alloc::vec::Vec<u8>),
        payload: impl FnOnce(&mut alloc::vec::Vec<u8>),
    ) -> Result<(), FrameTooLarge> {
        let start = self.begin();
        topic(&mut self.frame);
        let middle = self.frame.len();
        payload(&mut self.frame);
        self.end_emit(start, middle, emit_flags(qos, retain, cause))
    }

    /// Makes room for the header and the fixed part of an EMIT, and says where.
    #[inline(never)]
    fn begin(&mut self) -> usize {
        self.frame.reserve(OUTPUT_HEADER_BYTES + EMIT_START_BYTES);
        self.put_header();
        let start = self.frame.len();
        self.frame.extend_from_slice(&[0; EMIT_START_BYTES]);
        start
    }

    #[inline(never)]
    fn end_emit(&mut self, start: usize, middle: usize, flags: u32) -> Result<(), FrameTooLarge> {
        let bytes = self.frame.len();
        let (topic, payload) = (middle - start - EMIT_START_BYTES, bytes - middle);
        let len = EMIT_START_BYTES - OPERATION_HEADER_BYTES + topic + payload;
        if bytes > MAX_FRAME_BYTES - 7 {
            self.frame.truncate(if self.count == 0 { 0 } else { start });
            return Err(FrameTooLarge { bytes, max: MAX_FRAME_BYTES });
        }
        self.pad(len);
        let words =
            [pair(EMIT.into(), len as u32), pair(topic as u32, payload as u32), pair(0, flags)];
        if let Some(place) = self.frame.get_mut(start..start + EMIT_START_BYTES) {
            place.copy_from_slice(words.map(u64::to_le_bytes).as_flattened());
        }
        self.count += 1;
        Ok(())
    }

    fn put_header(&mut self) {
        if self.frame.is_empty() {
            self.frame.extend_from_slice(&OUTPUT_MAGIC);
            self.frame.extend_from_slice(&[0; OUTPUT_HEADER_BYTES - OUTPUT_MAGIC.len()]);
        }
    }

    fn pad(&mut self, len: usize) {
        self.frame.extend_from_slice([0; 8].get(..padding_after(len)).unwrap_or(&[]));
    }

    #[inline(never)]
    fn append(
        &mut self,
        code: u16,
        fixed: &[u64],
        pieces: &[&[u8]; 3],
    ) -> Result<(), FrameTooLarge> {
        let len = pieces.iter().fold(fixed.len() * 8, |sum, piece| sum.saturating_add(piece.len()));
        let bytes = self.len_bytes().saturating_add(len).saturating_add(OPERATION_HEADER_BYTES + 7);
        if bytes > MAX_FRAME_BYTES {
            return Err(FrameTooLarge { bytes, max: MAX_FRAME_BYTES });
        }
        // For all pieces at once: each that outgrows the frame would copy it.
        self.frame.reserve(OUTPUT_HEADER_BYTES + OPERATION_HEADER_BYTES + len + 7);
        self.put_header();
        self.put(pair(code.into(), len as u32));
        for &word in fixed {
            self.put(word);
        }
        for piece in pieces {
            self.frame.extend_from_slice(piece);
        }
        self.pad(len);
        self.count += 1;
        Ok(())
    }

    fn put(&mut self, word: u64) {
        self.frame.extend_from_slice(&word.to_le_bytes());
    }

    /// Operations so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes that the frame has by now; 0 without operations.
    pub fn len_bytes(&self) -> usize {
        self.frame.len()
    }

    /// The frame; without operations an empty vector, for which `tg_handle` returns 0.
    pub fn finish(mut self) -> alloc::vec::Vec<u8> {
        let total = self.frame.len() as u32;
        // No header in an empty one.
        if let Some(header) = self.frame.first_chunk_mut::<OUTPUT_HEADER_BYTES>() {
            header[4..8].copy_from_slice(&self.count.to_le_bytes());
            header[8..12].copy_from_slice(&total.to_le_bytes());
        }
        self.frame
    }
}

#[cfg(feature = "alloc")]
fn emit_flags(qos: Qos, retain: bool, cause: Option<NonZeroU16>) -> u32 {
    let cause = cause.map_or(0, NonZeroU16::get);
    u32::from(qos as u8) | u32::from(retain) << 8 | u32::from(cause) << 16
}

/// How an operation is written: a fixed part of little-endian words, then the pieces.
#[cfg(feature = "alloc")]
struct Layout<'a> {
    code: u16,
    fixed: Fixed,
    pieces: [&'a [u8]; 3],
}

/// One to three words of 8 bytes.
#[cfg(feature = "alloc")]
struct Fixed {
    words: [u64; 3],
    count: usize,
}

/// Two fields of 4 bytes, in the order of their offsets.
#[cfg(feature = "alloc")]
fn pair(first: u32, second: u32) -> u64 {
    u64::from(second) << 32 | u64::from(first)
}

#[cfg(feature = "alloc")]
#[inline(always)]
fn layout<'a>(operation: &Operation<'a>) -> Layout<'a> {
    // `push` refuses what exceeds a frame before any of these lengths is written.
    let len = |piece: &[u8]| piece.len() as u32;
    let none: &[u8] = &[];
    let one = |word| Fixed { words: [word, 0, 0], count: 1 };
    let two = |first, second| Fixed { words: [first, second, 0], count: 2 };
    let (code, fixed, pieces) = match *operation {
        Operation::Emit { topic, payload, qos, retain, props, cause } => {
            let flags = emit_flags(qos, retain, cause);
            let fixed = two(pair(len(topic.as_bytes()), len(payload)), pair(len(props), flags));
            (EMIT, fixed, [topic.as_bytes(), payload, props])
        }
        Operation::Nack { index, class, code, text } => {
            let fixed = two(pair(index, code), pair(len(text.as_bytes()), u32::from(class as u16)));
            (NACK, fixed, [text.as_bytes(), none, none])
        }
        Operation::KvPut { key, value, ttl_ms } => {
            (KV_PUT, two(pair(len(key), len(value)), ttl_ms), [key, value, none])
        }
        Operation::KvDel { key } => (KV_DEL, one(pair(len(key), 0)), [key, none, none]),
        Operation::Metric { name, kind, value } => {
            let first = pair(len(name.as_bytes()), u32::from(kind as u16));
            (METRIC, two(first, value.to_bits()), [name.as_bytes(), none, none])
        }
        Operation::Log { level, text } => {
            let fixed = one(pair(len(text.as_bytes()), u32::from(level as u16)));
            (LOG, fixed, [text.as_bytes(), none, none])
        }
        Operation::Respond { status, content_type, body } => {
            let first = pair(len(content_type.as_bytes()), len(body));
            (RESPOND, two(first, status.into()), [content_type.as_bytes(), body, none])
        }
        Operation::TimerSet { name, delay_ms, period_ms } => {
            let words = [pair(len(name.as_bytes()), 0), delay_ms, period_ms];
            (TIMER_SET, Fixed { words, count: 3 }, [name.as_bytes(), none, none])
        }
    };
    Layout { code, fixed, pieces }
}
