//! What a server says: one packet at a time out of its bytes. A packet's length is looked at
//! before its body has arrived, and nothing is copied.

use super::broken::{Broken, Malformed};
use super::connect::Version;
use super::wire::{Fields, length};

/// Longest part of a server's own words that is kept.
const MAX_SAID: usize = 200;

/// A packet from a server, as far as it matters to a client that only publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ServerPacket {
    ConnAck(ConnAck),
    PubAck {
        id: u16,
        code: u8,
    },
    /// Of a subscription that the server made by itself.
    Publish(Delivery),
    PubRel {
        id: u16,
    },
    PingResp,
    Disconnect {
        code: u8,
        said: String,
    },
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ConnAck {
    pub(super) code: u8,
    pub(super) said: String,
    pub(super) receive_maximum: Option<u16>,
    pub(super) maximum_qos: Option<u8>,
    pub(super) maximum_packet_size: Option<u32>,
    pub(super) server_keep_alive: Option<u16>,
}

/// How a PUBLISH from the server wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    Unanswered,
    ToAcknowledge(u16),
    ToReceive(u16),
}

/// The packet at the beginning of `bytes` and its length; `None` until all of it is there.
pub(super) fn packet(
    version: Version,
    max: u32,
    bytes: &[u8],
) -> Result<Option<(ServerPacket, usize)>, Broken> {
    let Some((first, rest)) = bytes.split_first() else { return Ok(None) };
    // By far the most frequent packet, in its usual form.
    if let [0x40, 2, high, low, ..] = bytes
        && [*high, *low] != [0, 0]
    {
        let id = u16::from_be_bytes([*high, *low]);
        return Ok(Some((ServerPacket::PubAck { id, code: 0 }, 4)));
    }
    let packet = name(*first);
    let malformed = |why| Broken::Malformed { packet, why };
    check_first(version, *first).map_err(malformed)?;
    let Some((body, digits)) = length(rest).map_err(malformed)? else { return Ok(None) };
    let total = 1 + digits + body;
    if total as u64 > u64::from(max) {
        return Err(Broken::TooLarge { bytes: total as u64, max });
    }
    let Some(body) = bytes.get(1 + digits..total) else { return Ok(None) };
    match read(version, *first, Fields::new(body)).map_err(malformed)? {
        Some(packet) => Ok(Some((packet, total))),
        None => Err(Broken::Unexpected(packet)),
    }
}

fn name(first: u8) -> &'static str {
    match first >> 4 {
        2 => "a CONNACK",
        3 => "a PUBLISH",
        4 => "a PUBACK",
        5 => "a PUBREC",
        6 => "a PUBREL",
        7 => "a PUBCOMP",
        9 => "a SUBACK",
        11 => "an UNSUBACK",
        13 => "a PINGRESP",
        14 => "a DISCONNECT",
        15 => "an AUTH",
        _ => "a packet",
    }
}

/// Type and flags: whoever does not speak MQTT at all mostly fails here.
fn check_first(version: Version, first: u8) -> Result<(), Malformed> {
    match (first >> 4, first & 0x0f) {
        (2 | 4 | 5 | 7 | 9 | 11 | 13, 0) | (6, 2) => Ok(()),
        // QoS 3 does not exist.
        (3, flags) if flags & 0x06 != 0x06 => Ok(()),
        (14 | 15, 0) if version == Version::V5 => Ok(()),
        (2..=7 | 9 | 11 | 13, _) => Err(Malformed::Flags),
        (14 | 15, _) if version == Version::V5 => Err(Malformed::Flags),
        (kind, _) => Err(Malformed::Type(kind)),
    }
}

/// `None`: a packet that answers what we never ask.
fn read(
    version: Version,
    first: u8,
    mut fields: Fields<'_>,
) -> Result<Option<ServerPacket>, Malformed> {
    Ok(Some(match first >> 4 {
        2 => ServerPacket::ConnAck(connack(version, fields)?),
        3 => ServerPacket::Publish(publish(first, fields)?),
        4 => {
            let id = fields.packet_id()?;
            let (code, _) = reason(version, fields)?;
            ServerPacket::PubAck { id, code }
        }
        6 => {
            let id = fields.packet_id()?;
            reason(version, fields)?;
            ServerPacket::PubRel { id }
        }
        13 => {
            fields.end()?;
            ServerPacket::PingResp
        }
        14 => {
            let (code, said) = reason(version, fields)?;
            ServerPacket::Disconnect { code, said }
        }
        _ => return Ok(None),
    }))
}

fn connack(version: Version, mut fields: Fields<'_>) -> Result<ConnAck, Malformed> {
    // Whether a session is there does not matter after a clean start.
    if fields.byte()? > 1 {
        return Err(Malformed::Flags);
    }
    let mut connack = ConnAck { code: fields.byte()?, ..ConnAck::default() };
    if version == Version::V5 {
        properties(&mut fields, |id, value| match (id, value) {
            (0x1f, Value::Text(text)) => connack.said = said(text),
            (0x21, Value::Two(most)) => connack.receive_maximum = Some(most),
            (0x24, Value::Byte(qos)) => connack.maximum_qos = Some(qos),
            (0x27, Value::Four(bytes)) => connack.maximum_packet_size = Some(bytes),
            (0x13, Value::Two(seconds)) => connack.server_keep_alive = Some(seconds),
            (
                _,
                Value::Text(_) | Value::Two(_) | Value::Byte(_) | Value::Four(_) | Value::Other,
            ) => {}
        })?;
    }
    fields.end()?;
    Ok(connack)
}

/// Only what an answer needs.
fn publish(first: u8, mut fields: Fields<'_>) -> Result<Delivery, Malformed> {
    fields.text()?;
    Ok(match first & 0x06 {
        0 => Delivery::Unanswered,
        2 => Delivery::ToAcknowledge(fields.packet_id()?),
        _ => Delivery::ToReceive(fields.packet_id()?),
    })
}

/// A reason code and properties, both of which may be missing at the end of a packet of MQTT 5.
fn reason(version: Version, mut fields: Fields<'_>) -> Result<(u8, String), Malformed> {
    let (mut code, mut why) = (0, String::new());
    if version == Version::V5 && !fields.is_empty() {
        code = fields.byte()?;
        if !fields.is_empty() {
            properties(&mut fields, |id, value| match (id, value) {
                (0x1f, Value::Text(text)) => why = said(text),
                (
                    _,
                    Value::Text(_) | Value::Two(_) | Value::Byte(_) | Value::Four(_) | Value::Other,
                ) => {}
            })?;
        }
    }
    fields.end()?;
    Ok((code, why))
}

fn said(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}

#[derive(Clone, Copy, Debug)]
enum Value<'a> {
    Byte(u8),
    Two(u16),
    Four(u32),
    Text(&'a str),
    Other,
}

/// Each property of a packet of MQTT 5 (table 2-4).
fn properties<'a>(
    fields: &mut Fields<'a>,
    mut take: impl FnMut(u8, Value<'a>),
) -> Result<(), Malformed> {
    let count = fields.length()?;
    let mut inside = Fields::new(fields.bytes(count)?);
    while !inside.is_empty() {
        let id = inside.byte()?;
        let value = match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2a => Value::Byte(inside.byte()?),
            0x13 | 0x21..=0x23 => Value::Two(inside.two()?),
            0x02 | 0x11 | 0x18 | 0x27 => Value::Four(inside.four()?),
            0x03 | 0x08 | 0x12 | 0x15 | 0x1a | 0x1c | 0x1f => Value::Text(inside.text()?),
            0x09 | 0x16 => {
                inside.binary()?;
                Value::Other
            }
            0x0b => {
                inside.length()?;
                Value::Other
            }
            0x26 => {
                inside.text()?;
                inside.text()?;
                Value::Other
            }
            _ => return Err(Malformed::Property(id)),
        };
        take(id, value);
    }
    Ok(())
}
