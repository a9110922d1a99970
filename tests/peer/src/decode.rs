//! What a strict client makes of the server's bytes. It accepts nothing that the specifications
//! do not allow a server to send: reserved bits, reason codes, properties in the wrong packet,
//! numbers longer than need be. So each test also checks the form of everything it is sent.

use crate::Version;

/// One packet from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    Connack {
        present: bool,
        code: u8,
        properties: Properties,
    },
    Publish(Message),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP, by its first byte.
    Ack {
        kind: u8,
        id: u16,
        code: u8,
        properties: Properties,
    },
    Suback {
        id: u16,
        codes: Vec<u8>,
        properties: Properties,
    },
    Unsuback {
        id: u16,
        codes: Vec<u8>,
        properties: Properties,
    },
    Pingresp,
    Disconnect {
        code: u8,
        properties: Properties,
    },
    Auth {
        code: u8,
        properties: Properties,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// 0 with QoS 0.
    pub id: u16,
    pub properties: Properties,
}

/// Properties in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<(u8, Value)>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Number(u32),
    Bytes(Vec<u8>),
    Pair(String, String),
}

impl Properties {
    /// The values of one property.
    pub fn all(&self, id: u8) -> Vec<&Value> {
        self.0.iter().filter(|(of, _)| *of == id).map(|(_, value)| value).collect()
    }

    pub fn has(&self, id: u8) -> bool {
        self.0.iter().any(|(of, _)| *of == id)
    }

    pub fn number(&self, id: u8) -> Option<u32> {
        match self.all(id)[..] {
            [Value::Number(number)] => Some(*number),
            _ => None,
        }
    }

    pub fn numbers(&self, id: u8) -> Vec<u32> {
        let numbers = self.all(id).into_iter().map(|value| match value {
            Value::Number(number) => *number,
            other => panic!("{other:?} is no number"),
        });
        numbers.collect()
    }

    pub fn bytes(&self, id: u8) -> Option<&[u8]> {
        match self.all(id)[..] {
            [Value::Bytes(bytes)] => Some(bytes),
            _ => None,
        }
    }

    pub fn pairs(&self) -> Vec<(&str, &str)> {
        let pairs = self.0.iter().filter_map(|(_, value)| match value {
            Value::Pair(key, value) => Some((key.as_str(), value.as_str())),
            Value::Number(_) | Value::Bytes(_) => None,
        });
        pairs.collect()
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at_checked(count).expect("the server's packet is short");
        self.0 = rest;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.u16();
        self.take(length.into())
    }

    fn text(&mut self) -> String {
        let text = std::str::from_utf8(self.bytes()).expect("the server's text is UTF-8");
        assert!(!text.contains('\0'), "the server's text contains U+0000");
        text.to_owned()
    }

    fn variable(&mut self) -> usize {
        let mut value = 0;
        for i in 0..4 {
            let byte = self.u8();
            value |= usize::from(byte & 0x7F) << (7 * i);
            if byte & 0x80 == 0 {
                assert!(i == 0 || byte != 0, "a number of the server takes too many bytes");
                return value;
            }
        }
        panic!("a number of the server has five bytes");
    }

    fn properties(&mut self, allowed: &[u8]) -> Properties {
        let length = self.variable();
        let mut block = Reader(self.take(length));
        let mut list: Vec<(u8, Value)> = Vec::new();
        while !block.0.is_empty() {
            let id = block.u8();
            assert!(allowed.contains(&id), "property 0x{id:02X} is not for this packet");
            let repeats = list.iter().any(|(of, _)| *of == id);
            assert!(!repeats || [0x26, 0x0B].contains(&id), "property 0x{id:02X} twice");
            let value = match id {
                0x01 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => Value::Number(block.u8().into()),
                0x13 | 0x21 | 0x22 | 0x23 => Value::Number(block.u16().into()),
                0x02 | 0x11 | 0x27 => Value::Number(block.u32()),
                0x0B => Value::Number(block.variable() as u32),
                0x09 | 0x16 => Value::Bytes(block.bytes().to_vec()),
                0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => {
                    Value::Bytes(block.text().into_bytes())
                }
                0x26 => Value::Pair(block.text(), block.text()),
                other => panic!("property 0x{other:02X} does not exist"),
            };
            list.push((id, value));
        }
        Properties(list)
    }
}

const CONNACK: &[u8] = &[
    0x11, 0x21, 0x24, 0x25, 0x27, 0x12, 0x22, 0x1F, 0x26, 0x28, 0x29, 0x2A, 0x13, 0x1A, 0x1C, 0x15,
    0x16,
];
const CONNECT_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
    0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];
const DISCONNECT_CODES: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];
const SUBACK_CODES: &[u8] =
    &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
const UNSUBACK_CODES: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
const RECEIVED_CODES: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];

/// Every packet in `bytes`; all of them are whole.
pub fn packets(version: Version, mut bytes: &[u8]) -> Vec<Packet> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let mut reader = Reader(bytes);
        let first = reader.u8();
        let length = reader.variable();
        let body = reader.take(length);
        bytes = reader.0;
        all.push(packet(version, first, Reader(body)));
    }
    all
}

/// Sizes of the packets in `bytes`.
pub fn sizes(mut bytes: &[u8]) -> Vec<usize> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let mut reader = Reader(&bytes[1..]);
        let length = reader.variable();
        reader.take(length);
        all.push(bytes.len() - reader.0.len());
        bytes = reader.0;
    }
    all
}

fn packet(version: Version, first: u8, mut body: Reader<'_>) -> Packet {
    let five = version == Version::V5;
    let packet = match first {
        0x20 => connack(five, &mut body),
        0x30..=0x3F => publish(five, first, &mut body),
        0x40 | 0x50 | 0x62 | 0x70 => acknowledgement(five, first, &mut body),
        0x90 => {
            let id = body.u16();
            let properties =
                if five { body.properties(&[0x1F, 0x26]) } else { Properties::default() };
            let allowed = if five { SUBACK_CODES } else { &[0, 1, 2, 0x80] };
            Packet::Suback { id, codes: codes(&mut body, allowed), properties }
        }
        0xB0 => {
            let id = body.u16();
            let properties =
                if five { body.properties(&[0x1F, 0x26]) } else { Properties::default() };
            let allowed = if five { UNSUBACK_CODES } else { &[] };
            Packet::Unsuback { id, codes: codes(&mut body, allowed), properties }
        }
        0xD0 => Packet::Pingresp,
        0xE0 if five => {
            let (code, properties) = reason(&mut body, &[0x1F, 0x26, 0x1C]);
            assert!(DISCONNECT_CODES.contains(&code), "DISCONNECT with 0x{code:02X}");
            Packet::Disconnect { code, properties }
        }
        0xF0 if five => {
            let (code, properties) = reason(&mut body, &[0x15, 0x16, 0x1F, 0x26]);
            assert!([0x00, 0x18].contains(&code), "AUTH with 0x{code:02X}");
            Packet::Auth { code, properties }
        }
        other => panic!("a server does not send a packet that begins with 0x{other:02X}"),
    };
    assert!(body.0.is_empty(), "{} bytes too many in {packet:?}", body.0.len());
    packet
}

fn connack(five: bool, body: &mut Reader<'_>) -> Packet {
    let (flags, code) = (body.u8(), body.u8());
    assert!(flags <= 1, "reserved flags of CONNACK: {flags:#x}");
    let present = flags == 1;
    // A refusal of a version may come in 3.1.1's words.
    let properties = match five && !body.0.is_empty() {
        true => body.properties(CONNACK),
        false => Properties::default(),
    };
    if five {
        assert!(code == 1 || CONNECT_CODES.contains(&code), "CONNACK with 0x{code:02X}");
    } else {
        assert!(code <= 5, "CONNACK with {code}");
    }
    Packet::Connack { present, code, properties }
}

fn publish(five: bool, first: u8, body: &mut Reader<'_>) -> Packet {
    let (dup, qos, retain) = (first & 8 != 0, first >> 1 & 3, first & 1 != 0);
    assert!(qos < 3, "PUBLISH with QoS 3");
    assert!(qos > 0 || !dup, "DUP with QoS 0");
    let topic = body.text();
    assert!(!topic.contains(['+', '#']), "wildcard in {topic}");
    let id = if qos > 0 { body.u16() } else { 0 };
    assert!(qos == 0 || id > 0, "packet identifier 0");
    let allowed = [0x01, 0x02, 0x23, 0x08, 0x09, 0x26, 0x0B, 0x03];
    let properties = if five { body.properties(&allowed) } else { Properties::default() };
    let payload = body.take(body.0.len()).to_vec();
    Packet::Publish(Message { topic, payload, qos, retain, dup, id, properties })
}

fn acknowledgement(five: bool, first: u8, body: &mut Reader<'_>) -> Packet {
    let id = body.u16();
    assert!(id > 0, "packet identifier 0");
    let (code, properties) =
        if five { reason(body, &[0x1F, 0x26]) } else { (0, Properties::default()) };
    let allowed: &[u8] =
        if first == 0x40 || first == 0x50 { RECEIVED_CODES } else { &[0x00, 0x92] };
    assert!(allowed.contains(&code), "0x{first:02X} with 0x{code:02X}");
    Packet::Ack { kind: first, id, code, properties }
}

/// A reason and properties, either of which may be left out at the end.
fn reason(body: &mut Reader<'_>, allowed: &[u8]) -> (u8, Properties) {
    let code = if body.0.is_empty() { 0 } else { body.u8() };
    let none = body.0.is_empty();
    (code, if none { Properties::default() } else { body.properties(allowed) })
}

fn codes(body: &mut Reader<'_>, allowed: &[u8]) -> Vec<u8> {
    let codes = body.take(body.0.len()).to_vec();
    for code in &codes {
        assert!(allowed.contains(code), "reason 0x{code:02X} is not for this packet");
    }
    codes
}
