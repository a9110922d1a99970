//! PUBACK, PUBREC, PUBREL and PUBCOMP, both ways.

use crate::packet::Version;
use crate::packet::fault::Fault;
use crate::packet::properties::{self, Block, REASON_STRING, USER_PROPERTY};
use crate::packet::wire::{Reader, put_variable};

pub(crate) const PUBACK: u8 = 0x40;
pub(crate) const PUBREC: u8 = 0x50;
pub(crate) const PUBREL: u8 = 0x62;
pub(crate) const PUBCOMP: u8 = 0x70;

/// Accepted, but nobody subscribes.
pub(crate) const NO_SUBSCRIBERS: u8 = 0x10;
pub(crate) const ID_NOT_FOUND: u8 = 0x92;

/// What a client answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) id: u16,
    pub(crate) reason: u8,
}

impl Ack {
    /// Reason codes from 0x80 on say that it failed.
    pub(crate) const fn is_failure(self) -> bool {
        self.reason >= 0x80
    }
}

/// Parses the body of the packet whose first byte is `first`.
pub(crate) fn decode(version: Version, first: u8, body: &[u8]) -> Result<Ack, Fault> {
    if let [high, low] = body
        && let id @ 1.. = u16::from_be_bytes([*high, *low])
    {
        return Ok(Ack { id, reason: 0 });
    }
    let mut reader = Reader::new(body);
    let id = reader.u16()?;
    let mut reason = 0;
    if version == Version::V3_1_1 && !reader.is_empty() {
        return Err(Fault::malformed("an acknowledgement has more than two bytes"));
    }
    if !reader.is_empty() {
        reason = reader.u8()?;
        if !reader.is_empty() {
            properties::read(&mut reader, &[REASON_STRING, USER_PROPERTY], |_, _| Ok(()))?;
        }
        if !reader.is_empty() {
            return Err(Fault::malformed("bytes after the end of an acknowledgement"));
        }
    }
    if id == 0 {
        return Err(Fault::protocol("packet identifier 0 in an acknowledgement"));
    }
    // [MQTT-3.4.2-1], [MQTT-3.5.2-1], [MQTT-3.6.2-1], [MQTT-3.7.2-1]
    let known: &[u8] = match first & 0xF0 {
        PUBACK | PUBREC => &[0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99],
        _ => &[0, ID_NOT_FOUND],
    };
    if !known.contains(&reason) {
        return Err(Fault::protocol("a reason code that this acknowledgement does not have"));
    }
    Ok(Ack { id, reason })
}

/// The packet with reason 0, as clients of both versions understand it.
pub(crate) fn success(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

/// Appends an MQTT 5 acknowledgement with a reason and, if it fits in `max_packet`, the text.
pub(crate) fn encode(
    out: &mut Vec<u8>,
    first: u8,
    id: u16,
    reason: u8,
    text: &str,
    max_packet: u32,
) {
    let [high, low] = id.to_be_bytes();
    let block = Block::reason(text);
    let length = 3 + block.len();
    if block.is_empty() || length + 5 > max_packet as usize {
        out.extend_from_slice(&[first, 3, high, low, reason]);
        return;
    }
    out.push(first);
    put_variable(out, length);
    out.extend_from_slice(&[high, low, reason]);
    block.put(out);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::fault::Reason;

    #[test]
    fn acknowledgements_are_parsed_strictly() {
        type Parsed = Result<(u16, u8), Reason>;
        let cases: &[(Version, u8, &[u8], Parsed)] = &[
            (Version::V3_1_1, PUBREC, &[0, 7], Ok((7, 0))),
            (Version::V3_1_1, PUBREC, &[0, 7, 0], Err(Reason::MalformedPacket)),
            (Version::V5, PUBACK, &[0, 7], Ok((7, 0))),
            (Version::V5, PUBACK, &[0, 7, 0x87], Ok((7, 0x87))),
            (Version::V5, PUBREL, &[0, 7, 0x92, 0], Ok((7, 0x92))),
            (Version::V5, PUBREL, &[0, 7, 0x80, 0], Err(Reason::ProtocolError)),
            (Version::V5, PUBREC, &[0, 7, 0x92], Err(Reason::ProtocolError)),
            (Version::V5, PUBREC, &[0, 7, 0, 0, 0], Err(Reason::MalformedPacket)),
            (Version::V5, PUBACK, &[0, 0], Err(Reason::ProtocolError)),
            (Version::V5, PUBACK, &[0], Err(Reason::MalformedPacket)),
            (Version::V5, PUBACK, &[0, 7, 0, 4, 0x1F, 0, 1, b'x'], Ok((7, 0))),
            (Version::V5, PUBACK, &[0, 7, 0, 4, 0x1F, 0, 1, 0xFF], Err(Reason::MalformedPacket)),
        ];
        for (version, first, body, expected) in cases {
            let got = decode(*version, *first, body);
            let got = got.map(|ack| (ack.id, ack.reason)).map_err(|fault| fault.reason);
            assert_eq!(got, *expected, "{first:02x} {body:02x?}");
        }
    }
}
