//! Packets as a client sends them, put together byte by byte: valid ones by default, any others
//! by changing a part.

use crate::Version;

/// A variable byte integer.
pub fn variable(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

/// A text or binary value with its length.
pub fn text(value: impl AsRef<[u8]>) -> Vec<u8> {
    let value = value.as_ref();
    let mut out = u16::try_from(value.len()).expect("at most 65,535 bytes").to_be_bytes().to_vec();
    out.extend_from_slice(value);
    out
}

/// A whole packet out of its first byte and its body.
pub fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    out.extend(variable(body.len()));
    out.extend_from_slice(body);
    out
}

/// Properties with their length.
pub fn properties(list: &[Vec<u8>]) -> Vec<u8> {
    let all = list.concat();
    let mut out = variable(all.len());
    out.extend(all);
    out
}

/// Properties by name, each as the bytes of one.
pub mod prop {
    use super::{text, variable};

    pub const SESSION_EXPIRY: u8 = 0x11;
    pub const WILL_DELAY: u8 = 0x18;
    pub const MESSAGE_EXPIRY: u8 = 0x02;
    pub const MAX_PACKET: u8 = 0x27;
    pub const RECEIVE_MAXIMUM: u8 = 0x21;
    pub const ALIAS_MAXIMUM: u8 = 0x22;
    pub const ALIAS: u8 = 0x23;
    pub const PAYLOAD_FORMAT: u8 = 0x01;
    pub const CONTENT_TYPE: u8 = 0x03;
    pub const RESPONSE_TOPIC: u8 = 0x08;
    pub const CORRELATION: u8 = 0x09;
    pub const SUBSCRIPTION_ID: u8 = 0x0B;
    pub const ASSIGNED_CLIENT: u8 = 0x12;
    pub const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub const AUTH_METHOD: u8 = 0x15;
    pub const AUTH_DATA: u8 = 0x16;
    pub const PROBLEM_INFO: u8 = 0x17;
    pub const RESPONSE_WANTED: u8 = 0x19;
    pub const RESPONSE_INFO: u8 = 0x1A;
    pub const REASON: u8 = 0x1F;
    pub const MAXIMUM_QOS: u8 = 0x24;
    pub const RETAIN_AVAILABLE: u8 = 0x25;
    pub const USER: u8 = 0x26;

    pub fn byte(id: u8, value: u8) -> Vec<u8> {
        vec![id, value]
    }

    pub fn two(id: u8, value: u16) -> Vec<u8> {
        [&[id][..], &value.to_be_bytes()].concat()
    }

    pub fn four(id: u8, value: u32) -> Vec<u8> {
        [&[id][..], &value.to_be_bytes()].concat()
    }

    pub fn bytes(id: u8, value: impl AsRef<[u8]>) -> Vec<u8> {
        [vec![id], text(value)].concat()
    }

    pub fn subscription_id(value: usize) -> Vec<u8> {
        [vec![SUBSCRIPTION_ID], variable(value)].concat()
    }

    pub fn user(key: &str, value: &str) -> Vec<u8> {
        [vec![USER], text(key), text(value)].concat()
    }
}

/// A CONNECT; every part can be replaced.
#[derive(Debug, Clone)]
pub struct Connect {
    pub version: Version,
    pub protocol: Vec<u8>,
    pub level: u8,
    pub client: Vec<u8>,
    pub clean: bool,
    pub keep_alive: u16,
    pub properties: Vec<Vec<u8>>,
    pub will: Option<Will>,
    pub user: Option<Vec<u8>>,
    pub password: Option<Vec<u8>>,
    /// Bits to turn round in the flags that follow from the rest.
    pub twist_flags: u8,
}

#[derive(Debug, Clone)]
pub struct Will {
    pub topic: Vec<u8>,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub properties: Vec<Vec<u8>>,
}

/// A CONNECT with a new session that ends with the connection, without keep-alive.
pub fn connect(version: Version, client: &str) -> Connect {
    Connect {
        version,
        protocol: b"MQTT".to_vec(),
        level: if version == Version::V5 { 5 } else { 4 },
        client: client.as_bytes().to_vec(),
        clean: true,
        keep_alive: 0,
        properties: vec![],
        will: None,
        user: None,
        password: None,
        twist_flags: 0,
    }
}

pub fn will(topic: &str, payload: &str) -> Will {
    Will {
        topic: topic.as_bytes().to_vec(),
        payload: payload.as_bytes().to_vec(),
        qos: 0,
        retain: false,
        properties: vec![],
    }
}

impl Connect {
    /// Clean Start 0 and a session that outlives the connection.
    pub fn keep(mut self) -> Connect {
        self.clean = false;
        self.kept()
    }

    /// A session that outlives the connection; with MQTT 5 whatever Clean Start is.
    pub fn kept(self) -> Connect {
        match self.version {
            Version::V5 => self.with(prop::four(prop::SESSION_EXPIRY, 3600)),
            Version::V3_1_1 => Connect { clean: false, ..self },
        }
    }

    pub fn keep_alive(self, seconds: u16) -> Connect {
        Connect { keep_alive: seconds, ..self }
    }

    pub fn with(mut self, property: Vec<u8>) -> Connect {
        self.properties.push(property);
        self
    }

    pub fn will(self, will: Will) -> Connect {
        Connect { will: Some(will), ..self }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let five = self.version == Version::V5;
        let mut flags = u8::from(self.clean) << 1;
        let mut payload = text(&self.client);
        if let Some(will) = &self.will {
            flags |= 0b100 | will.qos << 3 | u8::from(will.retain) << 5;
            if five {
                payload.extend(properties(&will.properties));
            }
            payload.extend(text(&will.topic));
            payload.extend(text(&will.payload));
        }
        for (flag, value) in [(0x80, &self.user), (0x40, &self.password)] {
            if let Some(value) = value {
                flags |= flag;
                payload.extend(text(value));
            }
        }
        let mut body = text(&self.protocol);
        body.extend([self.level, flags ^ self.twist_flags]);
        body.extend(self.keep_alive.to_be_bytes());
        if five {
            body.extend(properties(&self.properties));
        }
        body.extend(payload);
        packet(0x10, &body)
    }
}

/// A PUBLISH; every part can be replaced.
#[derive(Debug, Clone)]
pub struct Publish {
    pub topic: Vec<u8>,
    pub qos: u8,
    pub id: u16,
    pub retain: bool,
    pub dup: bool,
    pub properties: Vec<Vec<u8>>,
    pub payload: Vec<u8>,
}

/// A PUBLISH with QoS 0.
pub fn publish(topic: &str, payload: &str) -> Publish {
    Publish {
        topic: topic.as_bytes().to_vec(),
        qos: 0,
        id: 0,
        retain: false,
        dup: false,
        properties: vec![],
        payload: payload.as_bytes().to_vec(),
    }
}

impl Publish {
    pub fn qos(self, qos: u8, id: u16) -> Publish {
        Publish { qos, id, ..self }
    }

    pub fn retain(self) -> Publish {
        Publish { retain: true, ..self }
    }

    pub fn dup(self) -> Publish {
        Publish { dup: true, ..self }
    }

    pub fn with(mut self, property: Vec<u8>) -> Publish {
        self.properties.push(property);
        self
    }

    pub fn bytes(&self, version: Version) -> Vec<u8> {
        let first = 0x30 | u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        let mut body = text(&self.topic);
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        if version == Version::V5 {
            body.extend(properties(&self.properties));
        }
        body.extend(&self.payload);
        packet(first, &body)
    }
}

/// SUBSCRIBE with filters and the byte of their options.
pub fn subscribe(version: Version, id: u16, filters: &[(&str, u8)]) -> Vec<u8> {
    subscribe_with(version, id, filters, &[])
}

pub fn subscribe_with(
    version: Version,
    id: u16,
    filters: &[(&str, u8)],
    list: &[Vec<u8>],
) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.extend(properties(list));
    }
    for (filter, options) in filters {
        body.extend(text(filter));
        body.push(*options);
    }
    packet(0x82, &body)
}

/// Subscription options of MQTT 5 beside the QoS.
pub const NO_LOCAL: u8 = 0x04;
pub const RETAIN_AS_PUBLISHED: u8 = 0x08;
pub const RETAINED_IF_NEW: u8 = 0x10;
pub const RETAINED_NEVER: u8 = 0x20;

pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for filter in filters {
        body.extend(text(filter));
    }
    packet(0xA2, &body)
}

/// First bytes of the packets that acknowledge.
pub const PUBACK: u8 = 0x40;
pub const PUBREC: u8 = 0x50;
pub const PUBREL: u8 = 0x62;
pub const PUBCOMP: u8 = 0x70;

/// PUBACK, PUBREC, PUBREL or PUBCOMP without a reason.
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

/// The same with a reason, for MQTT 5.
pub fn ack_with(first: u8, id: u16, reason: u8) -> Vec<u8> {
    let [high, low] = id.to_be_bytes();
    packet(first, &[high, low, reason])
}

pub const PINGREQ: &[u8] = &[0xC0, 0];
pub const DISCONNECT: &[u8] = &[0xE0, 0];

/// DISCONNECT of MQTT 5 with a reason.
pub fn disconnect(reason: u8, list: &[Vec<u8>]) -> Vec<u8> {
    packet(0xE0, &[vec![reason], properties(list)].concat())
}

/// AUTH.
pub fn auth(reason: u8, list: &[Vec<u8>]) -> Vec<u8> {
    packet(0xF0, &[vec![reason], properties(list)].concat())
}
