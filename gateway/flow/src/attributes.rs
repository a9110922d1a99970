//! What a record carries beside topic, client, time and payload: a list of tagged fields that
//! the log keeps without looking inside. Format: `docs/formats/attributes.md`.
//!
//! Each field is `tag u8, length u16 little-endian, bytes`. A tag at its default value is left
//! out, so a plain QoS 1 publish has no attributes at all. Unknown tags are skipped.

use tidegate_broker::{Message, Properties, QoS};

use crate::clock::ClockQuality;

const QOS: u8 = 1;
const RETAIN: u8 = 2;
const HOPS: u8 = 3;
const CLOCK_UNSYNCED: u8 = 4;
const CONTENT_TYPE: u8 = 5;
const PAYLOAD_UTF8: u8 = 6;
const RESPONSE_TOPIC: u8 = 7;
const CORRELATION: u8 = 8;
const USER: u8 = 9;
const EXPIRY: u8 = 10;
const DEAD: u8 = 16;

/// Longest attribute list of a record, in bytes; what does not fit is refused at the edge.
pub const MAX_ATTRIBUTE_BYTES: usize = 64 * 1024 - 1;

/// The decoded attributes of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// QoS at which the publisher sent it.
    pub qos: u8,
    /// The RETAIN flag at which the publisher sent it.
    pub retain: bool,
    /// How many functions it has passed.
    pub hops: u8,
    /// Whether the gateway's clock could be trusted when it stamped the record.
    pub clock: ClockQuality,
    /// MQTT 5 content type.
    pub content_type: Option<String>,
    /// MQTT 5 payload format indicator says UTF-8.
    pub payload_utf8: bool,
    /// MQTT 5 response topic.
    pub response_topic: Option<String>,
    /// MQTT 5 correlation data.
    pub correlation: Option<Vec<u8>>,
    /// MQTT 5 user properties, in order.
    pub user: Vec<(String, String)>,
    /// MQTT 5 message expiry interval, in seconds from the time of receipt.
    pub expiry_s: Option<u32>,
    /// Why it is a dead letter, when it is one.
    pub dead: Option<DeadLetter>,
}

/// Why a function gave a record up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The function.
    pub function: String,
    /// The stream that it came from.
    pub stream: String,
    /// Its sequence in that stream.
    pub seq: u64,
    /// How often it was tried.
    pub attempts: u16,
    /// The reason, in words.
    pub reason: String,
}

impl Default for Attributes {
    fn default() -> Attributes {
        Attributes {
            qos: 1,
            retain: false,
            hops: 0,
            clock: ClockQuality::Synced,
            content_type: None,
            payload_utf8: false,
            response_topic: None,
            correlation: None,
            user: Vec::new(),
            expiry_s: None,
            dead: None,
        }
    }
}

/// Attribute bytes that no gateway wrote: damaged, or from a newer version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("record attributes end inside field {tag} at byte {offset} of {len}")]
pub struct AttributeError {
    tag: u8,
    offset: usize,
    len: usize,
}

/// Appends the attributes of a message that a client published.
pub fn encode_message(message: &Message, clock: ClockQuality, into: &mut Vec<u8>) {
    let properties = &message.properties;
    match message.qos {
        QoS::AtLeastOnce => {}
        other => field(into, QOS, &[other as u8]),
    }
    if message.retain {
        field(into, RETAIN, &[]);
    }
    if clock == ClockQuality::Unsynced {
        field(into, CLOCK_UNSYNCED, &[]);
    }
    if let Some(text) = &properties.content_type {
        field(into, CONTENT_TYPE, text.as_bytes());
    }
    if properties.payload_format == Some(true) {
        field(into, PAYLOAD_UTF8, &[]);
    }
    if let Some(text) = &properties.response_topic {
        field(into, RESPONSE_TOPIC, text.as_bytes());
    }
    if let Some(bytes) = &properties.correlation_data {
        field(into, CORRELATION, bytes);
    }
    for (key, value) in &properties.user {
        pair(into, key, value);
    }
    if let Some(seconds) = properties.message_expiry {
        field(into, EXPIRY, &seconds.to_le_bytes());
    }
}

impl Attributes {
    /// Appends these attributes in their stored form.
    pub fn encode(&self, into: &mut Vec<u8>) {
        if self.qos != 1 {
            field(into, QOS, &[self.qos]);
        }
        if self.retain {
            field(into, RETAIN, &[]);
        }
        if self.hops != 0 {
            field(into, HOPS, &[self.hops]);
        }
        if self.clock == ClockQuality::Unsynced {
            field(into, CLOCK_UNSYNCED, &[]);
        }
        if let Some(text) = &self.content_type {
            field(into, CONTENT_TYPE, text.as_bytes());
        }
        if self.payload_utf8 {
            field(into, PAYLOAD_UTF8, &[]);
        }
        if let Some(text) = &self.response_topic {
            field(into, RESPONSE_TOPIC, text.as_bytes());
        }
        if let Some(bytes) = &self.correlation {
            field(into, CORRELATION, bytes);
        }
        for (key, value) in &self.user {
            pair(into, key, value);
        }
        if let Some(seconds) = self.expiry_s {
            field(into, EXPIRY, &seconds.to_le_bytes());
        }
        if let Some(dead) = &self.dead {
            field(into, DEAD, &dead.encode());
        }
    }

    /// The stored form of these attributes with the reason why the record is a dead letter. When
    /// that is more than a record may carry, the properties are left out, and the reason says so.
    pub(crate) fn encode_dead(&self, letter: DeadLetter) -> Vec<u8> {
        let mut bytes = Vec::new();
        Attributes { dead: Some(letter.clone()), ..self.clone() }.encode(&mut bytes);
        if bytes.len() <= MAX_ATTRIBUTE_BYTES {
            return bytes;
        }
        let reason = format!("{} (its properties were too long to be kept)", letter.reason);
        let bare = Attributes {
            qos: self.qos,
            retain: self.retain,
            hops: self.hops,
            clock: self.clock,
            dead: Some(DeadLetter { reason, ..letter }),
            ..Attributes::default()
        };
        bytes.clear();
        bare.encode(&mut bytes);
        bytes
    }

    /// Reads the stored form.
    pub fn decode(bytes: &[u8]) -> Result<Attributes, AttributeError> {
        let mut attributes = Attributes::default();
        let mut at = 0;
        while at < bytes.len() {
            let tag = bytes[at];
            let broken = AttributeError { tag, offset: at, len: bytes.len() };
            let (body, next) = body_at(bytes, at).ok_or_else(|| broken.clone())?;
            attributes.take(tag, body).ok_or(broken)?;
            at = next;
        }
        Ok(attributes)
    }

    fn take(&mut self, tag: u8, body: &[u8]) -> Option<()> {
        match tag {
            QOS => self.qos = *body.first()?,
            RETAIN => self.retain = true,
            HOPS => self.hops = *body.first()?,
            CLOCK_UNSYNCED => self.clock = ClockQuality::Unsynced,
            CONTENT_TYPE => self.content_type = Some(text(body)),
            PAYLOAD_UTF8 => self.payload_utf8 = true,
            RESPONSE_TOPIC => self.response_topic = Some(text(body)),
            CORRELATION => self.correlation = Some(body.to_vec()),
            USER => {
                let (key, rest) = counted(body)?;
                self.user.push((text(key), text(rest)));
            }
            EXPIRY => {
                self.expiry_s = Some(u32::from_le_bytes(*body.first_chunk::<4>()?));
            }
            DEAD => self.dead = Some(DeadLetter::decode(body)?),
            _ => {}
        }
        Some(())
    }

    /// The MQTT properties with which the record is published again.
    pub fn properties(&self) -> Properties {
        Properties {
            content_type: self.content_type.clone(),
            payload_format: self.payload_utf8.then_some(true),
            message_expiry: self.expiry_s,
            response_topic: self.response_topic.clone(),
            correlation_data: self.correlation.clone(),
            user: self.user.clone(),
        }
    }
}

impl DeadLetter {
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.reason.len() + 32);
        out.extend_from_slice(&self.seq.to_le_bytes());
        out.extend_from_slice(&self.attempts.to_le_bytes());
        for name in [&self.function, &self.stream] {
            out.extend_from_slice(&(name.len() as u16).to_le_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(self.reason.as_bytes());
        out
    }

    fn decode(body: &[u8]) -> Option<DeadLetter> {
        let (seq, rest) = body.split_first_chunk::<8>()?;
        let (attempts, rest) = rest.split_first_chunk::<2>()?;
        let (function, rest) = counted(rest)?;
        let (stream, reason) = counted(rest)?;
        Some(DeadLetter {
            function: text(function),
            stream: text(stream),
            seq: u64::from_le_bytes(*seq),
            attempts: u16::from_le_bytes(*attempts),
            reason: text(reason),
        })
    }
}

fn field(into: &mut Vec<u8>, tag: u8, body: &[u8]) {
    let body = &body[..body.len().min(usize::from(u16::MAX))];
    into.push(tag);
    into.extend_from_slice(&(body.len() as u16).to_le_bytes());
    into.extend_from_slice(body);
}

fn pair(into: &mut Vec<u8>, key: &str, value: &str) {
    let mut body = Vec::with_capacity(2 + key.len() + value.len());
    body.extend_from_slice(&(key.len() as u16).to_le_bytes());
    body.extend_from_slice(key.as_bytes());
    body.extend_from_slice(value.as_bytes());
    field(into, USER, &body);
}

fn body_at(bytes: &[u8], at: usize) -> Option<(&[u8], usize)> {
    let (len, _) = bytes.get(at + 1..)?.split_first_chunk::<2>()?;
    let start = at + 3;
    let end = start + usize::from(u16::from_le_bytes(*len));
    Some((bytes.get(start..end)?, end))
}

fn counted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Attributes {
        Attributes {
            qos: 0,
            retain: true,
            hops: 3,
            clock: ClockQuality::Unsynced,
            content_type: Some("application/json".into()),
            payload_utf8: true,
            response_topic: Some("answers/1".into()),
            correlation: Some(vec![0, 1, 255]),
            user: vec![("unit".into(), "°C".into()), ("".into(), "x".into())],
            expiry_s: Some(3600),
            dead: Some(DeadLetter {
                function: "threshold".into(),
                stream: "telemetry".into(),
                seq: u64::MAX,
                attempts: 3,
                reason: "trap: unreachable".into(),
            }),
        }
    }

    fn encoded(attributes: &Attributes) -> Vec<u8> {
        let mut bytes = Vec::new();
        attributes.encode(&mut bytes);
        bytes
    }

    #[test]
    fn a_plain_publish_has_no_attribute_bytes() {
        assert_eq!(encoded(&Attributes::default()), b"");
        assert_eq!(Attributes::decode(b""), Ok(Attributes::default()));
    }

    #[test]
    fn every_field_survives_the_round_trip() {
        assert_eq!(Attributes::decode(&encoded(&full())), Ok(full()));
    }

    #[test]
    fn the_bytes_are_frozen() {
        let golden = include_bytes!("../../../tests/golden/attributes/v1/full.bin");
        assert_eq!(encoded(&full()), golden);
    }

    #[test]
    fn cut_bytes_are_an_error_or_fewer_fields_and_never_a_panic() {
        let bytes = encoded(&full());
        for cut in 0..bytes.len() {
            if let Ok(fewer) = Attributes::decode(&bytes[..cut]) {
                assert_ne!(fewer, full());
            }
        }
    }

    #[test]
    fn an_unknown_tag_is_skipped() {
        let mut bytes = vec![200, 2, 0, 9, 9];
        full().encode(&mut bytes);
        assert_eq!(Attributes::decode(&bytes), Ok(full()));
    }
}
