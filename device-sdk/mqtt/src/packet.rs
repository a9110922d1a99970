//! The forms of MQTT 5: numbers, texts, properties. What is read is a server's, and checked; what is
//! written is this side's.

use crate::client::Why;

pub(crate) const CONNECT: u8 = 0x10;
pub(crate) const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const SUBSCRIBE: u8 = 0x82;
pub(crate) const SUBACK: u8 = 0x90;
pub(crate) const PINGREQ: u8 = 0xc0;
pub(crate) const PINGRESP: u8 = 0xd0;
pub(crate) const DISCONNECT: u8 = 0xe0;

/// Identifiers of the properties that have a meaning here.
pub(crate) mod property {
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const USER: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
}

pub(crate) const fn is_publish(first: u8) -> bool {
    first & 0xf0 == PUBLISH
}

/// The first byte of a PUBLISH.
pub(crate) const fn publish(qos: u8, retain: bool) -> u8 {
    PUBLISH | qos << 1 | retain as u8
}

/// Bytes that the length `length` itself takes.
pub(crate) const fn length_bytes(length: usize) -> usize {
    match length {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

/// Fills a buffer; what does not fit is noticed at the end.
pub(crate) struct Out<'a> {
    bytes: &'a mut [u8],
    at: usize,
}

impl<'a> Out<'a> {
    pub(crate) fn new(bytes: &'a mut [u8]) -> Out<'a> {
        Out { bytes, at: 0 }
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.raw(&[byte]);
    }

    pub(crate) fn short(&mut self, number: u16) {
        self.raw(&number.to_be_bytes());
    }

    /// Bytes behind their length; the caller has checked that it fits 16 bits.
    pub(crate) fn text(&mut self, bytes: &[u8]) {
        self.short(bytes.len() as u16);
        self.raw(bytes);
    }

    /// A length of at most 268,435,455.
    pub(crate) fn length(&mut self, mut length: usize) {
        while length > 0x7f {
            self.byte(length as u8 | 0x80);
            length >>= 7;
        }
        self.byte(length as u8);
    }

    /// How many bytes there are; `None` when they did not fit.
    pub(crate) fn end(self) -> Option<usize> {
        (self.at <= self.bytes.len()).then_some(self.at)
    }
}

/// Takes apart what has come in.
#[derive(Clone, Copy)]
pub(crate) struct In<'a>(pub(crate) &'a [u8]);

impl<'a> In<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Why> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Why::Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Why> {
        self.take(1).map(|bytes| bytes.first().copied().unwrap_or(0))
    }

    pub(crate) fn short(&mut self) -> Result<u16, Why> {
        self.take(2).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u16::from(*byte)))
    }

    pub(crate) fn long(&mut self) -> Result<u32, Why> {
        self.take(4).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | u32::from(*byte)))
    }

    pub(crate) fn text(&mut self) -> Result<&'a [u8], Why> {
        let length = self.short()?;
        self.take(length.into())
    }

    /// A length; `None` as long as it is not all there.
    pub(crate) fn length(&mut self) -> Result<Option<usize>, Why> {
        let mut length = 0;
        for place in 0..4 {
            let Some((byte, rest)) = self.0.split_first() else { return Ok(None) };
            self.0 = rest;
            length |= usize::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return Ok(Some(length));
            }
        }
        Err(Why::Malformed)
    }

    /// Hands over each property and its value.
    pub(crate) fn properties(
        &mut self,
        mut each: impl FnMut(u8, In<'a>) -> Result<(), Why>,
    ) -> Result<(), Why> {
        let length = self.length()?.ok_or(Why::Malformed)?;
        let mut rest = In(self.take(length)?);
        while !rest.0.is_empty() {
            let id = rest.byte()?;
            let before = rest;
            match id {
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => rest.take(1),
                0x13 | 0x21..=0x23 => rest.take(2),
                0x02 | 0x11 | 0x18 | 0x27 => rest.take(4),
                0x03 | 0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1a | 0x1c | 0x1f => rest.text(),
                0x26 => rest.text().and_then(|_| rest.text()),
                0x0b => rest.length()?.map(|_| &[][..]).ok_or(Why::Malformed),
                _ => Err(Why::Malformed),
            }?;
            each(id, before)?;
        }
        Ok(())
    }
}
