//! Numbers, texts and binary values of the wire.

use crate::packet::fault::Fault;

/// What is left of a packet body.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

const SHORT: Fault = Fault::malformed("the packet ends in the middle of a field");

/// [MQTT-1.5.5-1]
pub(crate) const PADDED: Fault =
    Fault::malformed("a variable length number takes more bytes than it needs");

impl<'a> Reader<'a> {
    pub(crate) fn new(body: &'a [u8]) -> Reader<'a> {
        Reader { rest: body }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, Fault> {
        let (byte, rest) = self.rest.split_first().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, Fault> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(u16::from_be_bytes(*bytes))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Fault> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(u32::from_be_bytes(*bytes))
    }

    /// A length of two bytes and that many bytes.
    pub(crate) fn binary(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.u16()?;
        self.take(usize::from(length))
    }

    /// [MQTT-1.5.4-1], [MQTT-1.5.4-2]: well-formed UTF-8 without U+0000.
    pub(crate) fn text(&mut self) -> Result<&'a str, Fault> {
        text(self.binary()?)
    }

    /// A number of one to four bytes, none of them in vain [MQTT-1.5.5-1].
    pub(crate) fn variable(&mut self) -> Result<u32, Fault> {
        let mut value = 0;
        for i in 0..4 {
            let byte = self.u8()?;
            value |= u32::from(byte & 0x7F) << (7 * i);
            if byte & 0x80 == 0 {
                return if i > 0 && byte == 0 { Err(PADDED) } else { Ok(value) };
            }
        }
        Err(Fault::malformed("a variable length number has more than four bytes"))
    }
}

/// [MQTT-1.5.4-1], [MQTT-1.5.4-2]: well-formed UTF-8 without U+0000.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Fault::malformed("a text is not well-formed UTF-8"))?;
    if text.bytes().any(|byte| byte == 0) {
        return Err(Fault::malformed("a text contains the character U+0000"));
    }
    Ok(text)
}

/// The largest number a variable length number can say, hence the largest remaining length.
pub(crate) const MAX_VARIABLE: usize = 268_435_455;

/// Bytes that `value` takes as a variable length number.
pub(crate) fn variable_len(value: usize) -> usize {
    match value {
        0..=0x7F => 1,
        0x80..=0x3FFF => 2,
        0x4000..=0x1F_FFFF => 3,
        _ => 4,
    }
}

/// Appends `value`, at most [`MAX_VARIABLE`].
pub(crate) fn put_variable(out: &mut Vec<u8>, mut value: usize) {
    debug_assert!(value <= MAX_VARIABLE);
    while value > 0x7F {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a text or binary value of at most 65,535 bytes with its length.
pub(crate) fn put_binary(out: &mut Vec<u8>, bytes: &[u8]) {
    debug_assert!(bytes.len() <= usize::from(u16::MAX));
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}
