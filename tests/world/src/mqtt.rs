//! The few MQTT packets that a simulated device speaks, by hand: the judge of the broker must
//! not share code with it.

/// Which version a device speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// How a message is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qos {
    /// Nobody waits for anything.
    AtMostOnce,
    /// PUBLISH, PUBACK.
    AtLeastOnce,
    /// PUBLISH, PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce,
}

/// A packet from the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// The connection was accepted.
    ConnAck {
        /// The gateway had the session already.
        present: bool,
    },
    /// A message.
    Publish(Message),
    /// PUBACK: a message of QoS 1 was taken, or refused.
    PubAck {
        /// Packet identifier.
        id: u16,
        /// Reason code; 0x80 and above are refusals.
        reason: u8,
    },
    /// PUBREC: a message of QoS 2 was taken, or refused.
    PubRec {
        /// Packet identifier.
        id: u16,
        /// Reason code; 0x80 and above are refusals.
        reason: u8,
    },
    /// PUBREL: the identifier of a message to the device is free.
    PubRel {
        /// Packet identifier.
        id: u16,
    },
    /// PUBCOMP: a message of QoS 2 is done with.
    PubComp {
        /// Packet identifier.
        id: u16,
        /// Reason code; [`ID_NOT_FOUND`] if there was nothing to be done.
        reason: u8,
    },
    /// SUBACK.
    SubAck {
        /// What was granted, or reason codes of 0x80 and above.
        codes: Vec<u8>,
    },
    /// Anything else.
    Other(u8),
}

/// Reason code of a PUBREL or PUBCOMP: the packet identifier is not in use.
pub const ID_NOT_FOUND: u8 = 0x92;

/// A message from the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic name.
    pub topic: String,
    /// Payload.
    pub payload: Vec<u8>,
    /// How it is handed over.
    pub qos: Qos,
    /// A retained one.
    pub retain: bool,
    /// It may have been sent before.
    pub dup: bool,
    /// Packet identifier, 0 with QoS 0.
    pub id: u16,
}

/// What a device says when it connects.
#[derive(Debug, Clone, Copy)]
pub struct Connect<'a> {
    /// Which version it speaks.
    pub version: Version,
    /// Client identifier.
    pub client: &'a str,
    /// In seconds, 0 for none.
    pub keep_alive: u16,
    /// It goes on with its session, which outlives the connection.
    pub kept: bool,
    /// Messages with QoS 1 and 2 that it takes at a time; MQTT 5 only.
    pub receive_maximum: Option<u16>,
}

/// CONNECT.
pub fn connect(said: &Connect<'_>) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, "MQTT");
    let clean = if said.kept { 0 } else { 2 };
    body.extend_from_slice(&[if said.version == Version::V5 { 5 } else { 4 }, clean]);
    body.extend_from_slice(&said.keep_alive.to_be_bytes());
    if said.version == Version::V5 {
        let mut properties = Vec::new();
        if said.kept {
            properties.push(0x11); // Session Expiry Interval: never.
            properties.extend_from_slice(&u32::MAX.to_be_bytes());
        }
        if let Some(maximum) = said.receive_maximum {
            properties.push(0x21);
            properties.extend_from_slice(&maximum.to_be_bytes());
        }
        length(&mut body, properties.len());
        body.extend_from_slice(&properties);
    }
    string(&mut body, said.client);
    packet(0x10, &body)
}

/// PINGREQ.
pub fn ping() -> Vec<u8> {
    vec![0xC0, 0]
}

/// DISCONNECT: the session goes on.
pub fn disconnect() -> Vec<u8> {
    vec![0xE0, 0]
}

/// PUBLISH, with user properties where the version has them.
pub fn publish(version: Version, message: &Message, user: &[(&str, String)]) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, &message.topic);
    body.extend_from_slice(&message.id.to_be_bytes());
    if version == Version::V5 {
        let mut properties = Vec::new();
        for (key, value) in user {
            properties.push(0x26);
            string(&mut properties, key);
            string(&mut properties, value);
        }
        length(&mut body, properties.len());
        body.extend_from_slice(&properties);
    }
    body.extend_from_slice(&message.payload);
    let flags = u8::from(message.dup) << 3 | (message.qos as u8) << 1 | u8::from(message.retain);
    packet(0x30 | flags, &body)
}

/// PUBACK.
pub fn puback(id: u16) -> Vec<u8> {
    packet(0x40, &id.to_be_bytes())
}

/// PUBREC.
pub fn pubrec(id: u16) -> Vec<u8> {
    packet(0x50, &id.to_be_bytes())
}

/// PUBREL.
pub fn pubrel(id: u16) -> Vec<u8> {
    packet(0x62, &id.to_be_bytes())
}

/// PUBCOMP.
pub fn pubcomp(id: u16) -> Vec<u8> {
    packet(0x70, &id.to_be_bytes())
}

/// SUBSCRIBE under packet identifier 1.
pub fn subscribe(version: Version, filters: &[(&str, Qos)]) -> Vec<u8> {
    let mut body = vec![0, 1];
    if version == Version::V5 {
        body.push(0);
    }
    for (filter, qos) in filters {
        string(&mut body, filter);
        body.push(*qos as u8);
    }
    packet(0x82, &body)
}

/// Takes the complete packets out of `buffer`.
pub fn incoming(version: Version, buffer: &mut Vec<u8>) -> Vec<Incoming> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((first, body, next)) = split(buffer, at) {
        let id = || u16::from_be_bytes([body[0], body[1]]);
        let reason = || body.get(2).copied().unwrap_or(0);
        found.push(match first >> 4 {
            2 if body[1] == 0 => Incoming::ConnAck { present: body[0] & 1 == 1 },
            3 => Incoming::Publish(message(version, first, body)),
            4 => Incoming::PubAck { id: id(), reason: reason() },
            5 => Incoming::PubRec { id: id(), reason: reason() },
            6 => Incoming::PubRel { id: id() },
            7 => Incoming::PubComp { id: id(), reason: reason() },
            9 => {
                let skipped = if version == Version::V5 { 3 + usize::from(body[2]) } else { 2 };
                Incoming::SubAck { codes: body[skipped..].to_vec() }
            }
            other => Incoming::Other(other),
        });
        at = next;
    }
    buffer.drain(..at);
    found
}

/// The gateway's properties stay below 128 bytes: what the devices publish has none but the
/// publisher's identity.
fn message(version: Version, first: u8, body: &[u8]) -> Message {
    let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][usize::from(first >> 1 & 3)];
    let (topic, rest) = body[2..].split_at(usize::from(u16::from_be_bytes([body[0], body[1]])));
    let (id, rest) = match qos {
        Qos::AtMostOnce => (0, rest),
        Qos::AtLeastOnce | Qos::ExactlyOnce => (u16::from_be_bytes([rest[0], rest[1]]), &rest[2..]),
    };
    let skipped = if version == Version::V5 { 1 + usize::from(rest[0]) } else { 0 };
    Message {
        topic: String::from_utf8_lossy(topic).into_owned(),
        payload: rest[skipped..].to_vec(),
        qos,
        retain: first & 1 != 0,
        dup: first & 8 != 0,
        id,
    }
}

fn split(buffer: &[u8], at: usize) -> Option<(u8, &[u8], usize)> {
    let kind = *buffer.get(at)?;
    let mut len = 0_usize;
    let mut shift = 0;
    let mut cursor = at + 1;
    loop {
        let byte = *buffer.get(cursor)?;
        cursor += 1;
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let body = buffer.get(cursor..cursor + len)?;
    Some((kind, body, cursor + len))
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    length(&mut out, body.len());
    out.extend_from_slice(body);
    out
}

fn length(out: &mut Vec<u8>, mut len: usize) {
    loop {
        let byte = (len & 0x7f) as u8;
        len >>= 7;
        if len == 0 {
            out.push(byte);
            return;
        }
        out.push(byte | 0x80);
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u16).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}
