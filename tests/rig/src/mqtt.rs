//! Just enough of MQTT 3.1.1 and 5, written by hand, for publishers and consumers that need
//! exact control of what is sent again and what is acknowledged when. Encoding appends to a
//! buffer; decoding takes whole packets from a [`Decoder`]. No sockets here.
//!
//! Deliberately not a client library: the gateway is tested by code that shares no line with
//! the packets and clients that it uses itself.

use anyhow::{Context, Result, bail, ensure};

/// Largest packet that a [`Decoder`] accepts, in bytes.
pub const MAX_PACKET: usize = 4 * 1024 * 1024;

const CONTENT_TYPE: u8 = 0x03;
const USER_PROPERTY: u8 = 0x26;
const SESSION_EXPIRY: u8 = 0x11;
const RECEIVE_MAXIMUM: u8 = 0x21;

/// Protocol version of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// What a client says when it connects.
#[derive(Debug, Clone, Copy)]
pub struct Connect<'a> {
    /// Protocol version.
    pub version: Version,
    /// Client id.
    pub client: &'a str,
    /// Keep alive, in seconds; some brokers refuse 0.
    pub keep_alive: u16,
    /// Start without the session that the broker may still hold.
    pub clean: bool,
}

/// A QoS 1 message on its way out.
#[derive(Debug, Clone, Copy)]
pub struct Outbound<'a> {
    /// Topic name.
    pub topic: &'a str,
    /// Payload.
    pub payload: &'a [u8],
    /// Packet id, never 0.
    pub packet_id: u16,
    /// Sent before on an earlier connection.
    pub again: bool,
    /// User properties; ignored by 3.1.1.
    pub user: &'a [(&'a str, &'a str)],
}

/// A message as a broker delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inbound {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// Packet id; `None` at QoS 0.
    pub packet_id: Option<u16>,
    /// User properties, in order.
    pub user: Vec<(String, String)>,
    /// Content type (5).
    pub content_type: Option<String>,
}

/// A packet from the broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    /// The answer to CONNECT; a code other than 0 is a refusal.
    ConnAck {
        /// Return code (3.1.1) or reason code (5).
        code: u8,
    },
    /// A message.
    Publish(Inbound),
    /// A message of ours is acknowledged, or refused with a reason of 0x80 and above.
    PubAck {
        /// Which one.
        packet_id: u16,
        /// Reason code; 0 for 3.1.1.
        reason: u8,
    },
    /// The answer to SUBSCRIBE, one code for each filter.
    SubAck {
        /// Granted QoS, or 0x80 and above.
        codes: Vec<u8>,
    },
    /// The answer to PINGREQ.
    PingResp,
    /// The broker ends the connection (5).
    Disconnect {
        /// Reason code.
        reason: u8,
    },
    /// Anything else, by its first byte.
    Other(u8),
}

/// Appends CONNECT.
pub fn encode_connect(out: &mut Vec<u8>, connect: &Connect<'_>) {
    let mut body = Vec::with_capacity(64);
    put_string(&mut body, "MQTT");
    let (level, expiry) = match connect.version {
        Version::V311 => (4, false),
        Version::V5 => (5, true),
    };
    body.push(level);
    body.push(if connect.clean { 0x02 } else { 0 });
    body.extend_from_slice(&connect.keep_alive.to_be_bytes());
    if expiry {
        let mut properties = Vec::new();
        properties.push(SESSION_EXPIRY);
        let seconds: u32 = if connect.clean { 0 } else { 3600 };
        properties.extend_from_slice(&seconds.to_be_bytes());
        properties.push(RECEIVE_MAXIMUM);
        properties.extend_from_slice(&1000u16.to_be_bytes());
        put_length(&mut body, properties.len());
        body.extend_from_slice(&properties);
    }
    put_string(&mut body, connect.client);
    put_packet(out, 0x10, &body);
}

/// Appends PUBLISH at QoS 1.
pub fn encode_publish(out: &mut Vec<u8>, version: Version, message: &Outbound<'_>) {
    let mut body = Vec::with_capacity(message.topic.len() + message.payload.len() + 64);
    put_string(&mut body, message.topic);
    body.extend_from_slice(&message.packet_id.to_be_bytes());
    if version == Version::V5 {
        let mut properties = Vec::new();
        for (name, value) in message.user {
            properties.push(USER_PROPERTY);
            put_string(&mut properties, name);
            put_string(&mut properties, value);
        }
        put_length(&mut body, properties.len());
        body.extend_from_slice(&properties);
    }
    body.extend_from_slice(message.payload);
    put_packet(out, if message.again { 0x3A } else { 0x32 }, &body);
}

/// Appends PUBACK (success).
pub fn encode_puback(out: &mut Vec<u8>, packet_id: u16) {
    put_packet(out, 0x40, &packet_id.to_be_bytes());
}

/// Appends SUBSCRIBE for one filter at QoS 1, with packet id 1.
pub fn encode_subscribe(out: &mut Vec<u8>, version: Version, filter: &str) {
    let mut body = vec![0, 1];
    if version == Version::V5 {
        body.push(0);
    }
    put_string(&mut body, filter);
    body.push(1);
    put_packet(out, 0x82, &body);
}

/// Appends PINGREQ.
pub fn encode_ping(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xC0, 0]);
}

/// Appends DISCONNECT (normal).
pub fn encode_disconnect(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0xE0, 0]);
}

fn put_packet(out: &mut Vec<u8>, first: u8, body: &[u8]) {
    out.push(first);
    put_length(out, body.len());
    out.extend_from_slice(body);
}

fn put_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let byte = (length % 128) as u8;
        length /= 128;
        if length == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Splits what a socket delivers into packets.
#[derive(Debug)]
pub struct Decoder {
    version: Version,
    buffer: Vec<u8>,
    used: usize,
}

impl Decoder {
    /// A decoder for one connection.
    pub fn new(version: Version) -> Decoder {
        Decoder { version, buffer: Vec::new(), used: 0 }
    }

    /// Takes bytes from the socket.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.used);
        self.used = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole packet, or `None` until more bytes come.
    pub fn next_packet(&mut self) -> Result<Option<Packet>> {
        let bytes = &self.buffer[self.used..];
        let Some((length, header)) = remaining_length(bytes)? else { return Ok(None) };
        ensure!(length <= MAX_PACKET, "packet of {length} bytes, more than {MAX_PACKET}");
        let Some(body) = bytes.get(header..header + length) else { return Ok(None) };
        let packet = decode(self.version, bytes[0], body)?;
        self.used += header + length;
        Ok(Some(packet))
    }
}

/// Length of the body and of the fixed header, once all of the length has come.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>> {
    let mut length = 0;
    for at in 1..5 {
        let Some(byte) = bytes.get(at) else { return Ok(None) };
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Ok(Some((length, at + 1)));
        }
    }
    bail!("packet length is longer than four bytes")
}

fn decode(version: Version, first: u8, body: &[u8]) -> Result<Packet> {
    let mut reader = Reader { bytes: body };
    Ok(match first >> 4 {
        2 => {
            reader.u8()?;
            Packet::ConnAck { code: reader.u8()? }
        }
        3 => Packet::Publish(decode_publish(version, first, &mut reader)?),
        4 => {
            let packet_id = reader.u16()?;
            let reason = if reader.bytes.is_empty() { 0 } else { reader.u8()? };
            Packet::PubAck { packet_id, reason }
        }
        9 => {
            reader.u16()?;
            if version == Version::V5 {
                reader.properties()?;
            }
            Packet::SubAck { codes: reader.bytes.to_vec() }
        }
        13 => Packet::PingResp,
        14 => Packet::Disconnect { reason: if reader.bytes.is_empty() { 0 } else { reader.u8()? } },
        _ => Packet::Other(first),
    })
}

fn decode_publish(version: Version, first: u8, reader: &mut Reader<'_>) -> Result<Inbound> {
    let topic = reader.string()?;
    let packet_id = if first & 0x06 == 0 { None } else { Some(reader.u16()?) };
    let Properties { user, content_type } =
        if version == Version::V5 { reader.properties()? } else { Properties::default() };
    Ok(Inbound { topic, payload: reader.bytes.to_vec(), packet_id, user, content_type })
}

/// Those that a message is judged by.
#[derive(Default)]
struct Properties {
    user: Vec<(String, String)>,
    content_type: Option<String>,
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (head, tail) = self.bytes.split_at_checked(length).with_context(|| {
            format!("packet ends {} bytes too early", length - self.bytes.len())
        })?;
        self.bytes = tail;
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn string(&mut self) -> Result<String> {
        let length = self.u16()?;
        let bytes = self.take(usize::from(length))?;
        Ok(std::str::from_utf8(bytes).context("string is not UTF-8")?.to_owned())
    }

    fn variable(&mut self) -> Result<usize> {
        let mut value = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8()?;
            value |= usize::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        bail!("variable length is longer than four bytes")
    }

    /// Properties other than those kept are skipped by their length [MQTT-2.2.2].
    fn properties(&mut self) -> Result<Properties> {
        let length = self.variable()?;
        let mut reader = Reader { bytes: self.take(length)? };
        let mut found = Properties::default();
        while !reader.bytes.is_empty() {
            match reader.u8()? {
                USER_PROPERTY => found.user.push((reader.string()?, reader.string()?)),
                CONTENT_TYPE => found.content_type = Some(reader.string()?),
                0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => drop(reader.take(1)?),
                0x13 | 0x21 | 0x22 | 0x23 => drop(reader.take(2)?),
                0x02 | 0x11 | 0x18 | 0x27 => drop(reader.take(4)?),
                0x08 | 0x09 | 0x12 | 0x15 | 0x16 | 0x1A | 0x1C | 0x1F => {
                    let length = reader.u16()?;
                    reader.take(usize::from(length))?;
                }
                0x0B => drop(reader.variable()?),
                other => bail!("unknown property {other:#04x}"),
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(version: Version, bytes: &[u8]) -> Vec<Packet> {
        let mut decoder = Decoder::new(version);
        let mut packets = Vec::new();
        for byte in bytes {
            decoder.feed(&[*byte]);
            while let Some(packet) = decoder.next_packet().unwrap() {
                packets.push(packet);
            }
        }
        packets
    }

    #[test]
    fn a_publish_survives_the_way_through_the_codec_byte_by_byte() {
        for version in [Version::V311, Version::V5] {
            let user: &[_] = &[("tg-pub-boot", "7"), ("tg-pub-seq", "41")];
            let payload = vec![b'x'; 300];
            let message =
                Outbound { topic: "a/b", payload: &payload, packet_id: 9, again: false, user };
            let mut bytes = Vec::new();
            encode_publish(&mut bytes, version, &message);
            encode_publish(&mut bytes, version, &Outbound { packet_id: 10, ..message });
            let expected_user = match version {
                Version::V311 => Vec::new(),
                Version::V5 => {
                    user.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
                }
            };
            let expected = |packet_id| {
                Packet::Publish(Inbound {
                    topic: "a/b".into(),
                    payload: payload.clone(),
                    packet_id: Some(packet_id),
                    user: expected_user.clone(),
                    content_type: None,
                })
            };
            assert_eq!(decoded(version, &bytes), [expected(9), expected(10)]);
        }
    }

    #[test]
    fn an_acknowledgement_with_a_reason_is_told_from_one_without() {
        assert_eq!(
            decoded(Version::V5, &[0x40, 2, 0, 5, 0x40, 3, 0, 6, 0x97]),
            [
                Packet::PubAck { packet_id: 5, reason: 0 },
                Packet::PubAck { packet_id: 6, reason: 0x97 }
            ]
        );
    }

    #[test]
    fn a_packet_that_is_cut_short_inside_is_an_error_and_no_panic() {
        let mut decoder = Decoder::new(Version::V5);
        decoder.feed(&[0x32, 3, 0, 9, b'a']);
        assert!(decoder.next_packet().is_err());
        let mut decoder = Decoder::new(Version::V5);
        decoder.feed(&[0x32, 0xFF, 0xFF, 0xFF, 0xFF, 1]);
        assert!(decoder.next_packet().is_err());
    }
}
