//! One application message, as it entered the gateway: what flow stores and subscribers get.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;

use crate::topic::TopicName;

/// How surely a message is delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QoS {
    /// QoS 0: sent once, never again.
    AtMostOnce = 0,
    /// QoS 1: sent until acknowledged.
    AtLeastOnce = 1,
    /// QoS 2: handed over in two steps, so that it arrives once.
    ExactlyOnce = 2,
}

impl QoS {
    /// From the two bits that packets have for it; `None` for 3.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// One application message. It owns its bytes: nothing in it points into a read buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published.
    pub topic: TopicName,
    /// Its payload.
    pub payload: Bytes,
    /// The QoS it was published with.
    pub qos: QoS,
    /// Whether it is to be kept as the topic's retained message.
    pub retain: bool,
    /// What MQTT 5 says about it beside the payload; empty for 3.1.1 publishers.
    pub properties: MessageProperties,
    /// The client that published it; `None` for the gateway's own messages. Subscriptions with
    /// No Local look at it.
    pub publisher: Option<Arc<str>>,
}

impl Message {
    /// A message of the gateway itself: not retained, without properties.
    pub fn new(topic: TopicName, payload: impl Into<Bytes>, qos: QoS) -> Message {
        Message {
            topic,
            payload: payload.into(),
            qos,
            retain: false,
            properties: MessageProperties::default(),
            publisher: None,
        }
    }
}

/// [`Properties`] in the space of a pointer: most messages have none, and many messages wait in
/// memory at a time.
#[derive(Debug, Clone, Default)]
pub struct MessageProperties(Option<Box<Properties>>);

/// What a message without properties has.
static NONE: Properties = Properties {
    payload_format: None,
    message_expiry: None,
    content_type: None,
    response_topic: None,
    correlation_data: None,
    user: Vec::new(),
};

impl Deref for MessageProperties {
    type Target = Properties;

    fn deref(&self) -> &Properties {
        self.0.as_deref().unwrap_or(&NONE)
    }
}

impl DerefMut for MessageProperties {
    fn deref_mut(&mut self) -> &mut Properties {
        self.0.get_or_insert_default()
    }
}

impl PartialEq for MessageProperties {
    fn eq(&self, other: &MessageProperties) -> bool {
        **self == **other
    }
}

impl Eq for MessageProperties {}

impl From<Properties> for MessageProperties {
    fn from(properties: Properties) -> MessageProperties {
        MessageProperties((!properties.is_empty()).then(|| Box::new(properties)))
    }
}

/// The MQTT 5 properties of a message that travel with it. A text or binary value longer than
/// 65,535 bytes cannot be said on the wire and is left out there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// Whether the payload is said to be UTF-8 text (`Some(true)`) or bytes.
    pub payload_format: Option<bool>,
    /// Seconds from the receipt until the message is of no use any more.
    pub message_expiry: Option<u32>,
    /// MIME type of the payload, or whatever the publisher calls it.
    pub content_type: Option<String>,
    /// Where a response is expected.
    pub response_topic: Option<String>,
    /// What the requester recognises its response by.
    pub correlation_data: Option<Vec<u8>>,
    /// Free pairs in the publisher's order; a name may occur more than once.
    pub user: Vec<(String, String)>,
}

impl Properties {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.payload_format.is_none()
            && self.message_expiry.is_none()
            && self.content_type.is_none()
            && self.response_topic.is_none()
            && self.correlation_data.is_none()
            && self.user.is_empty()
    }

    /// The first user property with this name.
    pub fn user(&self, name: &str) -> Option<&str> {
        self.user.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Bytes of the texts, for accounting.
    pub fn bytes(&self) -> usize {
        self.content_type.as_ref().map_or(0, String::len)
            + self.response_topic.as_ref().map_or(0, String::len)
            + self.correlation_data.as_ref().map_or(0, Vec::len)
            + self.user.iter().map(|(key, value)| key.len() + value.len() + 48).sum::<usize>()
    }
}
