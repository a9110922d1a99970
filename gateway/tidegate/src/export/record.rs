//! One record with everything that the log keeps of it, in a form for files and for the
//! administration socket.

use std::fmt;

use serde::de::{Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tidegate_broker::TopicName;
use tidegate_flow::attributes::{Attributes, DeadLetter, MAX_ATTRIBUTE_BYTES};
use tidegate_flow::{ClockQuality, PartitionKey};
use tidegate_stream::{Epoch, PublisherIdentity, Record, RecordRef, Seq};

use crate::core_handle::DeadLetterNote;
use crate::hex;

/// User properties that an imported record gets: where it was first.
const ORIGIN_GATEWAY: &str = "origin-gateway";
const ORIGIN_EPOCH: &str = "origin-epoch";
const ORIGIN_STREAM: &str = "origin-stream";
const ORIGIN_SEQ: &str = "origin-seq";
/// Longest text of MQTT, and so of a topic, a client id and a property.
const MAX_TEXT: usize = 65_535;

/// A record on its way between gateways. Members at their default are left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedRecord {
    /// Its sequence in the stream that it comes from.
    pub seq: u64,
    /// Its epoch there.
    pub epoch: u32,
    /// When that gateway received it, milliseconds since 1970.
    pub unix_ms: i64,
    /// That gateway's clock could not be trusted then.
    #[serde(default, skip_serializing_if = "is_default")]
    pub clock_unsynced: bool,
    /// The topic that it was published to.
    pub topic: String,
    /// The client that published it.
    pub client: String,
    /// Its partition key in the stream that it comes from; another stream has its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The publisher's own counting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<Publisher>,
    /// QoS of the publish.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub qos: u8,
    /// RETAIN of the publish.
    #[serde(default, skip_serializing_if = "is_default")]
    pub retain: bool,
    /// Functions that it has passed.
    #[serde(default, skip_serializing_if = "is_default")]
    pub hops: u8,
    /// MQTT 5 content type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// MQTT 5 payload format indicator: UTF-8.
    #[serde(default, skip_serializing_if = "is_default")]
    pub payload_utf8: bool,
    /// MQTT 5 response topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response_topic: Option<String>,
    /// MQTT 5 correlation data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Blob>,
    /// MQTT 5 message expiry interval, seconds from receipt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expiry_s: Option<u32>,
    /// MQTT 5 user properties, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<(String, String)>,
    /// Why a function gave it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetterNote>,
    /// What was published.
    pub payload: Blob,
}

impl Default for CarriedRecord {
    fn default() -> CarriedRecord {
        CarriedRecord {
            seq: 0,
            epoch: 0,
            unix_ms: 0,
            clock_unsynced: false,
            topic: String::new(),
            client: String::new(),
            key: None,
            publisher: None,
            qos: 1,
            retain: false,
            hops: 0,
            content_type: None,
            payload_utf8: false,
            response_topic: None,
            correlation: None,
            expiry_s: None,
            user: Vec::new(),
            dead_letter: None,
            payload: Blob::default(),
        }
    }
}

/// A publisher's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publisher {
    /// Which run of the publisher.
    pub boot: u64,
    /// Number of the message in that run.
    pub seq: u64,
}

/// Where imported records come from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The gateway.
    pub gateway: String,
    /// Its stream.
    pub stream: String,
}

impl CarriedRecord {
    /// A record as the log gives it. Attributes are the gateway's own; what damage left of them
    /// is carried with defaults.
    #[must_use]
    pub fn of(
        seq: Seq,
        epoch: Epoch,
        record: &RecordRef<'_>,
        key: Option<&PartitionKey>,
    ) -> CarriedRecord {
        let attributes = Attributes::decode(record.attributes).unwrap_or_default();
        let key = key.and_then(|key| key.of(record.topic, record.client, &attributes.user));
        CarriedRecord {
            seq: seq.0,
            epoch: epoch.0,
            unix_ms: record.unix_ms,
            clock_unsynced: attributes.clock == ClockQuality::Unsynced,
            topic: record.topic.to_owned(),
            client: record.client.to_owned(),
            key: key.map(str::to_owned),
            publisher: record.publisher.map(|one| Publisher { boot: one.boot, seq: one.seq }),
            qos: attributes.qos,
            retain: attributes.retain,
            hops: attributes.hops,
            content_type: attributes.content_type,
            payload_utf8: attributes.payload_utf8,
            response_topic: attributes.response_topic,
            correlation: attributes.correlation.map(Blob),
            expiry_s: attributes.expiry_s,
            user: attributes.user,
            dead_letter: attributes.dead.map(|dead| DeadLetterNote {
                function: dead.function,
                stream: dead.stream,
                seq: dead.seq,
                attempts: dead.attempts,
                reason: dead.reason,
                settled: false,
            }),
            payload: Blob(record.payload.to_vec()),
        }
    }

    /// Bytes that it takes in the log, nearly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let user = self.user.iter().map(|(key, value)| key.len() + value.len() + 5);
        let texts = [&self.content_type, &self.response_topic].into_iter().flatten();
        self.payload.0.len()
            + self.topic.len()
            + self.client.len()
            + self.key.as_ref().map_or(0, String::len)
            + self.correlation.as_ref().map_or(0, |blob| blob.0.len())
            + self.dead_letter.as_ref().map_or(0, |dead| dead.reason.len())
            + user.sum::<usize>()
            + texts.map(String::len).sum::<usize>()
    }

    /// The record as another gateway's log takes it in, with its origin as user properties.
    ///
    /// # Errors
    /// It could never have been published: in words.
    pub fn into_record(mut self, origin: &Origin) -> Result<Record, String> {
        self.user = self.user_with_origin(origin);
        self.into_plain_record()
    }

    /// The record as the log that it comes from had it.
    ///
    /// # Errors
    /// It could never have been published: in words.
    pub fn into_plain_record(self) -> Result<Record, String> {
        TopicName::parse(&self.topic)
            .map_err(|error| format!("topic {:?}: {error}", self.topic))?;
        for (what, text) in [("topic", &self.topic), ("client", &self.client)] {
            if text.len() > MAX_TEXT {
                return Err(format!("a {what} of {} bytes, {MAX_TEXT} are allowed", text.len()));
            }
        }
        for (key, value) in &self.user {
            // As one field of the attributes, with the length of its key.
            let bytes = key.len() + value.len();
            if bytes + 2 > MAX_TEXT {
                return Err(format!("a property of {bytes} bytes, {} are allowed", MAX_TEXT - 2));
            }
        }
        if self.qos > 2 {
            return Err(format!("QoS {}, 0 to 2 are allowed", self.qos));
        }
        let attributes = Attributes {
            qos: self.qos,
            retain: self.retain,
            hops: self.hops,
            clock: if self.clock_unsynced { ClockQuality::Unsynced } else { ClockQuality::Synced },
            content_type: self.content_type,
            payload_utf8: self.payload_utf8,
            response_topic: self.response_topic,
            correlation: self.correlation.map(|blob| blob.0),
            user: self.user,
            expiry_s: self.expiry_s,
            dead: self.dead_letter.map(|note| DeadLetter {
                function: note.function,
                stream: note.stream,
                seq: note.seq,
                attempts: note.attempts,
                reason: note.reason,
            }),
        };
        Ok(Record {
            unix_ms: self.unix_ms,
            topic: self.topic,
            client: self.client,
            publisher: self.publisher.map(|one| PublisherIdentity { boot: one.boot, seq: one.seq }),
            attributes: encoded(&attributes)?,
            payload: self.payload.0,
        })
    }

    /// A record that was imported before keeps the origin that it had then.
    fn user_with_origin(&self, origin: &Origin) -> Vec<(String, String)> {
        let mut user = self.user.clone();
        if !user.iter().any(|(key, _)| key == ORIGIN_GATEWAY) {
            let mut put = |key: &str, value: String| user.push((key.to_owned(), value));
            put(ORIGIN_GATEWAY, origin.gateway.clone());
            put(ORIGIN_EPOCH, self.epoch.to_string());
            put(ORIGIN_STREAM, origin.stream.clone());
            put(ORIGIN_SEQ, self.seq.to_string());
        }
        user
    }
}

fn encoded(attributes: &Attributes) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    attributes.encode(&mut bytes);
    if bytes.len() > MAX_ATTRIBUTE_BYTES {
        let len = bytes.len();
        return Err(format!("properties of {len} bytes, {MAX_ATTRIBUTE_BYTES} are allowed"));
    }
    Ok(bytes)
}

fn one() -> u8 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(qos: &u8) -> bool {
    *qos == 1
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Bytes. In JSON text when they are UTF-8, else `{"hex": DIGITS}`; in CBOR a byte string.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if !to.is_human_readable() {
            return to.serialize_bytes(&self.0);
        }
        if let Ok(text) = std::str::from_utf8(&self.0) {
            return to.serialize_str(text);
        }
        let mut map = to.serialize_map(Some(1))?;
        map.serialize_entry("hex", &hex::encode(&self.0))?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Blob, D::Error> {
        struct Shapes;
        impl<'de> Visitor<'de> for Shapes {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("text, bytes, or {\"hex\": DIGITS}")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Blob, E> {
                Ok(Blob(text.as_bytes().to_vec()))
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(bytes))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Blob, A::Error> {
                let Some((key, digits)) = map.next_entry::<String, String>()? else {
                    return Err(A::Error::missing_field("hex"));
                };
                if key != "hex" || map.next_key::<String>()?.is_some() {
                    return Err(A::Error::unknown_field(&key, &["hex"]));
                }
                let bytes = hex::decode(&digits);
                bytes.map(Blob).ok_or_else(|| A::Error::custom("\"hex\" is not hexadecimal"))
            }
        }
        from.deserialize_any(Shapes)
    }
}
