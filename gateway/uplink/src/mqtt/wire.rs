//! The data types of MQTT (1.5 of the standard), written and read.

use super::broken::Malformed;

/// Largest packet that MQTT can express: four bytes of seven bits, and what comes before.
pub const MAX_PACKET: u32 = 268_435_455;
/// Texts have a 16-bit length.
pub const MAX_TEXT: usize = 65_535;

/// How many bytes a variable length takes.
pub(super) fn length_bytes(length: usize) -> usize {
    match length {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    }
}

/// Appends a variable length; lengths above [`MAX_PACKET`] are refused before.
pub(super) fn put_length(out: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    loop {
        let digit = (rest % 128) as u8;
        rest /= 128;
        if rest == 0 {
            out.push(digit);
            return;
        }
        out.push(digit | 0x80);
    }
}

/// Appends a text of at most [`MAX_TEXT`] bytes; a longer one would be cut there.
pub(super) fn put_text(out: &mut Vec<u8>, text: &str) {
    let bytes = &text.as_bytes()[..text.len().min(MAX_TEXT)];
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// A variable length at the beginning of `bytes`, and how many bytes it takes; `None` until all of
/// them are there.
pub(super) fn length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Malformed> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            // 1.5.5: the shortest encoding.
            let shortest = length_bytes(value) == at + 1;
            return if shortest { Ok(Some((value, at + 1))) } else { Err(Malformed::Length) };
        }
    }
    if bytes.len() >= 4 { Err(Malformed::Length) } else { Ok(None) }
}

/// The body of a packet, field by field.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Fields<'a> {
        Fields { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Short)?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn two(&mut self) -> Result<u16, Malformed> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn four(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn length(&mut self) -> Result<usize, Malformed> {
        let (value, bytes) = length(self.rest)?.ok_or(Malformed::Short)?;
        self.rest = self.rest.get(bytes..).unwrap_or_default();
        Ok(value)
    }

    pub(super) fn binary(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.two()?;
        self.bytes(usize::from(count))
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Malformed> {
        let text = str::from_utf8(self.binary()?).map_err(|_| Malformed::Text)?;
        // 1.5.4: U+0000 must not be in a text.
        if text.contains('\0') { Err(Malformed::Text) } else { Ok(text) }
    }

    /// A packet identifier, which is never 0 (2.2.1).
    pub(super) fn packet_id(&mut self) -> Result<u16, Malformed> {
        match self.two()? {
            0 => Err(Malformed::PacketId),
            id => Ok(id),
        }
    }

    /// That nothing follows.
    pub(super) fn end(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed::Long) }
    }
}
