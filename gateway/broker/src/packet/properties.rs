//! Properties of MQTT 5 as all packets but PUBLISH have them: read through one table that says
//! which value belongs to which identifier.

use crate::packet::Version;
use crate::packet::fault::Fault;
use crate::packet::wire::{Reader, put_binary, put_variable, variable_len};

pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
pub(crate) const CONTENT_TYPE: u8 = 0x03;
pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
pub(crate) const CORRELATION_DATA: u8 = 0x09;
pub(crate) const SUBSCRIPTION_ID: u8 = 0x0B;
pub(crate) const SESSION_EXPIRY: u8 = 0x11;
pub(crate) const ASSIGNED_CLIENT: u8 = 0x12;
pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
pub(crate) const REQUEST_PROBLEM_INFO: u8 = 0x17;
pub(crate) const WILL_DELAY: u8 = 0x18;
pub(crate) const REQUEST_RESPONSE_INFO: u8 = 0x19;
pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
pub(crate) const REASON_STRING: u8 = 0x1F;
pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
pub(crate) const TOPIC_ALIAS: u8 = 0x23;
pub(crate) const USER_PROPERTY: u8 = 0x26;
pub(crate) const MAXIMUM_PACKET: u8 = 0x27;

/// The value of one property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// One, two, four or a variable number of bytes.
    Number(u32),
    Text(&'a str),
    Binary(&'a [u8]),
    Pair(&'a str, &'a str),
}

/// Reads a property block, its length included. `packet` has the identifiers in `allowed`; any
/// other makes it malformed (section 2.2.2.2). Each but the user property may come once.
pub(crate) fn read<'a>(
    reader: &mut Reader<'a>,
    allowed: &[u8],
    mut visit: impl FnMut(u8, Value<'a>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let length = reader.variable()?;
    let mut block = Reader::new(reader.take(length as usize)?);
    let mut seen = 0u64;
    while !block.is_empty() {
        // Identifiers are variable length numbers; all that exist take one byte.
        let id = block.u8()?;
        if !allowed.contains(&id) {
            return Err(Fault::malformed("a property that this packet does not have"));
        }
        if id != USER_PROPERTY && seen & 1 << id != 0 {
            return Err(Fault::protocol("a property is given twice"));
        }
        seen |= 1 << id;
        visit(id, value(id, &mut block)?)?;
    }
    Ok(())
}

fn value<'a>(id: u8, block: &mut Reader<'a>) -> Result<Value<'a>, Fault> {
    Ok(match id {
        PAYLOAD_FORMAT | REQUEST_PROBLEM_INFO | REQUEST_RESPONSE_INFO => {
            let byte = block.u8()?;
            if byte > 1 {
                return Err(Fault::protocol("a property that is neither 0 nor 1"));
            }
            Value::Number(byte.into())
        }
        RECEIVE_MAXIMUM | TOPIC_ALIAS_MAXIMUM | TOPIC_ALIAS => Value::Number(block.u16()?.into()),
        MESSAGE_EXPIRY | SESSION_EXPIRY | WILL_DELAY | MAXIMUM_PACKET => {
            Value::Number(block.u32()?)
        }
        SUBSCRIPTION_ID => Value::Number(block.variable()?),
        CORRELATION_DATA | AUTHENTICATION_DATA => Value::Binary(block.binary()?),
        USER_PROPERTY => Value::Pair(block.text()?, block.text()?),
        _ => Value::Text(block.text()?),
    })
}

/// Properties to be sent.
#[derive(Debug, Default)]
pub(crate) struct Block(Vec<u8>);

impl Block {
    /// A block that says why, if there is anything to say.
    pub(crate) fn reason(text: &str) -> Block {
        let mut block = Block::default();
        if !text.is_empty() {
            block.text(REASON_STRING, text);
        }
        block
    }

    pub(crate) fn u16(&mut self, id: u8, value: u16) {
        self.0.push(id);
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, id: u8, value: u32) {
        self.0.push(id);
        self.0.extend_from_slice(&value.to_be_bytes());
    }

    /// A text of more than 65,535 bytes is left out.
    pub(crate) fn text(&mut self, id: u8, value: &str) {
        if value.len() <= usize::from(u16::MAX) {
            self.0.push(id);
            put_binary(&mut self.0, value.as_bytes());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes with the length in front.
    pub(crate) fn len(&self) -> usize {
        variable_len(self.0.len()) + self.0.len()
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_variable(out, self.0.len());
        out.extend_from_slice(&self.0);
    }
}

/// A packet of `head`, a property block where the version has one, and `tail`.
pub(crate) fn packet(
    version: Version,
    first: u8,
    head: &[u8],
    block: &Block,
    tail: &[u8],
) -> Vec<u8> {
    let block = (version == Version::V5).then_some(block);
    let length = head.len() + block.map_or(0, Block::len) + tail.len();
    let mut out = Vec::with_capacity(5 + length);
    out.push(first);
    put_variable(&mut out, length);
    out.extend_from_slice(head);
    if let Some(block) = block {
        block.put(&mut out);
    }
    out.extend_from_slice(tail);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::fault::Reason;

    fn ids(bytes: &[u8], allowed: &[u8]) -> Result<Vec<u8>, Reason> {
        let mut found = Vec::new();
        let mut reader = Reader::new(bytes);
        read(&mut reader, allowed, |id, _| {
            found.push(id);
            Ok(())
        })
        .map(|()| found)
        .map_err(|fault| fault.reason)
    }

    #[test]
    fn a_block_is_read_whole_or_refused() {
        type Found = Result<Vec<u8>, Reason>;
        let cases: &[(&[u8], Found)] = &[
            (&[0], Ok(vec![])),
            (&[5, 0x11, 0, 0, 0, 1], Ok(vec![0x11])),
            (&[3, 0x21, 0, 1], Ok(vec![0x21])),
            (&[14, 0x26, 0, 1, b'a', 0, 1, b'b', 0x26, 0, 1, b'a', 0, 1, b'b'], Ok(vec![0x26; 2])),
            (&[6, 0x21, 0, 1, 0x21, 0, 1], Err(Reason::ProtocolError)),
            (&[2, 0x17, 2], Err(Reason::ProtocolError)),
            (&[3, 0x23, 0, 1], Err(Reason::MalformedPacket)), // not in this packet
            (&[2, 0x7F, 1], Err(Reason::MalformedPacket)),    // in none
            (&[4, 0x11, 0, 0, 0], Err(Reason::MalformedPacket)),
            (&[9], Err(Reason::MalformedPacket)),
            (&[7, 0x26, 0, 1, 0, 0, 1, b'b'], Err(Reason::MalformedPacket)), // U+0000
            (&[0x80, 0x80, 0x80, 0x80, 0], Err(Reason::MalformedPacket)),
        ];
        for (bytes, expected) in cases {
            assert_eq!(ids(bytes, &[0x11, 0x17, 0x21, 0x26]), *expected, "{bytes:02x?}");
        }
    }
}
