//! The few MQTT packets that a simulated publisher speaks, by hand: the judge of the broker must
//! not share code with it.

/// Which version a publisher speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// A packet from the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming {
    /// The connection was accepted.
    ConnAck,
    /// A publish was acknowledged.
    PubAck {
        /// Packet identifier.
        id: u16,
        /// Reason code; 0x80 and above are refusals.
        reason: u8,
    },
    /// Anything else.
    Other(u8),
}

/// CONNECT with clean start; the keep-alive in seconds, 0 for none.
pub fn connect(version: Version, client: &str, keep_alive: u16) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, "MQTT");
    body.extend_from_slice(&[if version == Version::V5 { 5 } else { 4 }, 2]);
    body.extend_from_slice(&keep_alive.to_be_bytes());
    if version == Version::V5 {
        body.push(0);
    }
    string(&mut body, client);
    packet(0x10, &body)
}

/// PINGREQ.
pub fn ping() -> Vec<u8> {
    vec![0xC0, 0]
}

/// PUBLISH at QoS 1, with user properties where the version has them.
pub fn publish(
    version: Version,
    topic: &str,
    id: u16,
    payload: &[u8],
    user: &[(&str, String)],
) -> Vec<u8> {
    let mut body = Vec::new();
    string(&mut body, topic);
    body.extend_from_slice(&id.to_be_bytes());
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
    body.extend_from_slice(payload);
    packet(0x32, &body)
}

/// Takes the complete packets out of `buffer`.
pub fn incoming(buffer: &mut Vec<u8>) -> Vec<Incoming> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some((kind, body, next)) = split(buffer, at) {
        found.push(match kind >> 4 {
            2 => Incoming::ConnAck,
            4 => Incoming::PubAck {
                id: u16::from_be_bytes([body[0], body[1]]),
                reason: body.get(2).copied().unwrap_or(0),
            },
            other => Incoming::Other(other),
        });
        at = next;
    }
    buffer.drain(..at);
    found
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
