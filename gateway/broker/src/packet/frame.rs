//! The fixed header: where one packet ends and what may stand in front of it.

use crate::packet::Version;
use crate::packet::fault::{Fault, Reason};
use crate::packet::wire::{PADDED, variable_len};

pub(crate) const CONNECT: u8 = 1;
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const PUBREC: u8 = 5;
pub(crate) const PUBREL: u8 = 6;
pub(crate) const PUBCOMP: u8 = 7;
pub(crate) const SUBSCRIBE: u8 = 8;
pub(crate) const UNSUBSCRIBE: u8 = 10;
pub(crate) const PINGREQ: u8 = 12;
pub(crate) const DISCONNECT: u8 = 14;
pub(crate) const AUTH: u8 = 15;

/// PINGRESP, complete.
pub(crate) const PINGRESP: [u8; 2] = [0xD0, 0];

/// One packet at the start of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// The packet type, the upper half of the first byte.
    pub(crate) kind: u8,
    /// The lower half.
    pub(crate) flags: u8,
    /// What follows the fixed header.
    pub(crate) body: &'a [u8],
    /// Bytes of the whole packet.
    pub(crate) bytes: usize,
}

impl Frame<'_> {
    /// MQTT 5 wants the remaining length in as few bytes as can say it [MQTT-1.5.5-1]; some
    /// clients of 3.1.1 always send four, which nothing forbids them.
    pub(crate) fn check_minimal(&self, version: Version) -> Result<(), Fault> {
        let header = self.bytes - self.body.len();
        if version == Version::V5 && header > 1 + variable_len(self.body.len()) {
            return Err(PADDED);
        }
        Ok(())
    }
}

/// Takes the first packet of `bytes`. `None`: not all of it is there yet. A packet above
/// `max_packet` bytes is refused as soon as its header is known.
pub(crate) fn first(bytes: &[u8], max_packet: u32) -> Result<Option<Frame<'_>>, Fault> {
    let Some(&head) = bytes.first() else { return Ok(None) };
    let (kind, flags) = (head >> 4, head & 0x0F);
    check_flags(kind, flags)?;
    let Some((length, header)) = remaining_length(&bytes[1..])? else { return Ok(None) };
    let total = 1 + header + length;
    if total > max_packet as usize {
        return Err(Fault::new(Reason::PacketTooLarge, "the packet is larger than allowed"));
    }
    Ok(bytes.get(1 + header..total).map(|body| Frame { kind, flags, body, bytes: total }))
}

/// [MQTT-2.1.3-1] (5), [MQTT-2.2.2-2] (3.1.1): reserved bits have fixed values.
fn check_flags(kind: u8, flags: u8) -> Result<(), Fault> {
    let expected = match kind {
        0 => return Err(Fault::malformed("packet type 0 is forbidden")),
        PUBLISH => return Ok(()),
        PUBREL | SUBSCRIBE | UNSUBSCRIBE => 0b0010,
        _ => 0,
    };
    if flags == expected {
        Ok(())
    } else {
        Err(Fault::malformed("reserved bits of the fixed header are wrong"))
    }
}

/// The remaining length and how many bytes it took; `None` when it is not complete.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, Fault> {
    let mut length = 0;
    for (i, byte) in bytes.iter().take(4).enumerate() {
        length |= usize::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            return Ok(Some((length, i + 1)));
        }
    }
    if bytes.len() >= 4 {
        return Err(Fault::malformed("the remaining length has more than four bytes"));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_judged_before_the_body_arrives() {
        type Judged = Result<Option<usize>, Reason>;
        let cases: &[(&[u8], Judged)] = &[
            (&[], Ok(None)),
            (&[0x30], Ok(None)),
            (&[0x30, 2, 1], Ok(None)),
            (&[0x30, 2, 1, 1, 9], Ok(Some(4))),
            (&[0x30, 0x80], Ok(None)),
            (&[0xC0, 0], Ok(Some(2))),
            (&[0xC0, 0x80, 0], Ok(Some(3))),
            (&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], Err(Reason::PacketTooLarge)),
            (&[0x30, 99], Err(Reason::PacketTooLarge)),
            (&[0x30, 0x80, 0x80, 0x80, 0x80], Err(Reason::MalformedPacket)),
            (&[0x00], Err(Reason::MalformedPacket)),
            (&[0xC1], Err(Reason::MalformedPacket)),
            (&[0x80], Err(Reason::MalformedPacket)), // SUBSCRIBE without its 0010
        ];
        for (bytes, expected) in cases {
            let got = first(bytes, 100).map(|f| f.map(|f| f.bytes)).map_err(|fault| fault.reason);
            assert_eq!(got, *expected, "{bytes:02x?}");
        }
    }
}
