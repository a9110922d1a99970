//! One record on its way up, with everything that its envelope says.

use std::borrow::Cow;

use tidegate_stream::{Epoch, Seq};
use tidegate_wire::PublisherIdentity;

use crate::action::OutboundMessage;
use crate::envelope::{Clock, Envelope};

/// What an envelope's own headers take besides the texts in it: names, numbers, lengths.
const ENVELOPE_BYTES: usize = 160;
/// Lengths and tags around one property of the publisher.
const PER_PROPERTY: usize = 5;

/// A record as a driver gets it. Stream and epoch are the batch's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundRecord {
    /// Number of the record in its stream.
    pub seq: Seq,
    /// Topic under which the gateway received the message.
    pub topic: String,
    /// Client id of the publisher.
    pub client: String,
    /// Partition key, where the stream has one and the record too; never empty.
    pub key: Option<String>,
    /// Time of receipt, milliseconds since 1970-01-01 UTC.
    pub unix_ms: i64,
    /// Quality of that time.
    pub clock: Clock,
    /// Identity given by the publisher.
    pub publisher: Option<PublisherIdentity>,
    /// The publisher had set RETAIN.
    pub retain: bool,
    /// Message expiry interval in seconds from the time of receipt.
    pub expiry_s: Option<u32>,
    /// Response topic as given by the publisher.
    pub response_topic: Option<String>,
    /// Correlation data as given by the publisher.
    pub correlation: Option<Vec<u8>>,
    /// The publisher's own properties, in order; names may repeat.
    pub user: Vec<(String, String)>,
    /// As given by the publisher.
    pub content_type: Option<String>,
    /// The publisher declared the payload to be UTF-8 text.
    pub payload_is_text: bool,
    /// The message itself, unchanged.
    pub payload: Vec<u8>,
}

impl Default for OutboundRecord {
    /// An empty message without properties, received in 1970: a beginning for struct updates.
    fn default() -> OutboundRecord {
        OutboundRecord {
            seq: Seq(1),
            topic: String::new(),
            client: String::new(),
            key: None,
            unix_ms: 0,
            clock: Clock::Synced,
            publisher: None,
            retain: false,
            expiry_s: None,
            response_topic: None,
            correlation: None,
            user: Vec::new(),
            content_type: None,
            payload_is_text: false,
            payload: Vec::new(),
        }
    }
}

impl OutboundRecord {
    /// Bytes that this record holds in memory and, nearly, on the wire: what counts against the
    /// window and against a batch.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        let texts = [&self.key, &self.response_topic, &self.content_type];
        let texts: usize = texts.into_iter().flatten().map(String::len).sum();
        let user: usize =
            self.user.iter().map(|(name, value)| name.len() + value.len() + PER_PROPERTY).sum();
        let correlation = self.correlation.as_ref().map_or(0, Vec::len);
        let named = self.topic.len() + self.client.len() + texts + correlation + user;
        ENVELOPE_BYTES + named + self.payload.len()
    }

    /// The envelope in which it leaves the gateway.
    #[must_use]
    pub fn envelope<'a>(&'a self, gateway: &'a str, stream: &'a str, epoch: Epoch) -> Envelope<'a> {
        Envelope {
            gateway,
            epoch,
            stream,
            seq: self.seq,
            topic: &self.topic,
            client: &self.client,
            key: self.key.as_deref(),
            unix_ms: self.unix_ms,
            clock: self.clock,
            publisher: self.publisher,
            retain: self.retain,
            expiry_s: self.expiry_s,
            response_topic: self.response_topic.as_deref(),
            correlation: self.correlation.as_deref().map(Cow::Borrowed),
            user: self.user.iter().map(|(name, value)| (&**name, &**value)).collect(),
        }
    }

    /// The record as a message of its own, for sinks that take one record at a time.
    #[must_use]
    pub fn into_message(mut self, gateway: &str, stream: &str, epoch: Epoch) -> OutboundMessage {
        let payload = std::mem::take(&mut self.payload);
        let content_type = self.content_type.take();
        let is_text = self.payload_is_text;
        self.envelope(gateway, stream, epoch).encode(payload, content_type, is_text)
    }
}
