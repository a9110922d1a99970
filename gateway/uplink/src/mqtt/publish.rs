//! PUBLISH with QoS 1: a record with its envelope in user properties, or a batch as the body.
//!
//! What the protocol cannot carry is refused here, with the reason, and leaves no byte in the
//! outbox.

use std::sync::Arc;

use super::connect::{ClientOptions, Version};
use super::wire::{MAX_TEXT, length_bytes, put_length, put_text};
use crate::action::RefuseReason;
use crate::batch::Batch;
use crate::body::BodyFormat;
use crate::envelope::upstream_topic;
use crate::record::OutboundRecord;

/// PUBLISH, QoS 1, not retained, not a duplicate.
const PUBLISH_QOS1: u8 = 0x32;
const PAYLOAD_FORMAT_INDICATOR: u8 = 0x01;
const CONTENT_TYPE: u8 = 0x03;
const USER_PROPERTY: u8 = 0x26;

/// Writes batches as packets.
#[derive(Debug)]
pub(super) struct Publisher {
    version: Version,
    gateway: String,
    packing: Option<BodyFormat>,
    /// The topic of the stream that was sent last.
    topic: Topic,
    /// The properties of one message at a time, because their length goes before them.
    properties: Vec<u8>,
}

#[derive(Debug)]
struct Topic {
    stream: Arc<str>,
    text: String,
    /// Why it is none.
    fault: Option<RefuseReason>,
}

impl Topic {
    fn new(gateway: &str, stream: Arc<str>) -> Topic {
        let text = upstream_topic(gateway, &stream);
        let fault = if text.contains(['+', '#']) {
            Some(RefuseReason::Unencodable(format!("{text:?} is no topic name")))
        } else {
            check("topic", &text).err()
        };
        Topic { stream, text, fault }
    }
}

impl Publisher {
    pub(super) fn new(options: &ClientOptions) -> Publisher {
        let packing = match options.version {
            Version::V5 => options.packing,
            // There are no properties for an envelope.
            Version::V311 => Some(options.packing.unwrap_or(BodyFormat::Ndjson)),
        };
        Publisher {
            version: options.version,
            gateway: options.gateway.clone(),
            packing,
            topic: Topic::new(&options.gateway, Arc::from("")),
            properties: Vec::new(),
        }
    }

    /// Appends the packet that carries this batch, of at most `max` bytes.
    ///
    /// # Errors
    /// Why MQTT or the server does not take it; nothing was appended.
    pub(super) fn publish(
        &mut self,
        out: &mut Vec<u8>,
        batch: &Batch,
        packet_id: u16,
        max: u32,
    ) -> Result<(), RefuseReason> {
        if self.topic.stream != batch.stream {
            self.topic = Topic::new(&self.gateway, batch.stream.clone());
        }
        if let Some(fault) = &self.topic.fault {
            return Err(fault.clone());
        }
        self.properties.clear();
        match (self.packing, batch.records.as_slice()) {
            (None, [record]) => {
                self.describe(batch, record)?;
                self.put(out, packet_id, &record.payload, max)
            }
            (None, records) => {
                let why = format!("{} records in a message that carries one", records.len());
                Err(RefuseReason::Unencodable(why))
            }
            (Some(format), _) => {
                let kind = Some(format.content_type());
                put_kind(&mut self.properties, format == BodyFormat::Ndjson, None)?;
                put_kind(&mut self.properties, false, kind)?;
                self.put(out, packet_id, &format.encode(&self.gateway, batch), max)
            }
        }
    }

    /// The properties of a record by itself.
    fn describe(&mut self, batch: &Batch, record: &OutboundRecord) -> Result<(), RefuseReason> {
        let properties = &mut self.properties;
        put_kind(properties, record.payload_is_text, None)?;
        let mut checked = Ok(());
        let envelope = record.envelope(&self.gateway, &batch.stream, batch.epoch);
        envelope.each_header(|name, value| {
            let text = check("name of a user property", name).and_then(|()| check(name, value));
            if text.is_ok() {
                properties.push(USER_PROPERTY);
                put_text(properties, name);
                put_text(properties, value);
            } else if checked.is_ok() {
                checked = text;
            }
        });
        checked?;
        put_kind(properties, false, record.content_type.as_deref())
    }

    fn put(
        &self,
        out: &mut Vec<u8>,
        packet_id: u16,
        payload: &[u8],
        max: u32,
    ) -> Result<(), RefuseReason> {
        let topic = &self.topic.text;
        let properties = match self.version {
            Version::V5 => length_bytes(self.properties.len()) + self.properties.len(),
            Version::V311 => 0,
        };
        let rest = 2 + topic.len() + 2 + properties + payload.len();
        let bytes = 1 + length_bytes(rest) + rest;
        if bytes as u64 > u64::from(max) {
            let (bytes, max) = (Some(bytes as u64), Some(u64::from(max)));
            return Err(RefuseReason::PacketTooLarge { bytes, max });
        }
        out.reserve(bytes);
        out.push(PUBLISH_QOS1);
        put_length(out, rest);
        put_text(out, topic);
        out.extend_from_slice(&packet_id.to_be_bytes());
        if self.version == Version::V5 {
            put_length(out, self.properties.len());
            out.extend_from_slice(&self.properties);
        }
        out.extend_from_slice(payload);
        Ok(())
    }
}

/// What the payload is, where that is known.
fn put_kind(
    properties: &mut Vec<u8>,
    is_text: bool,
    content_type: Option<&str>,
) -> Result<(), RefuseReason> {
    if is_text {
        properties.extend_from_slice(&[PAYLOAD_FORMAT_INDICATOR, 1]);
    }
    if let Some(content_type) = content_type {
        check("content type", content_type)?;
        properties.push(CONTENT_TYPE);
        put_text(properties, content_type);
    }
    Ok(())
}

/// Whether MQTT can carry the text.
fn check(what: &str, text: &str) -> Result<(), RefuseReason> {
    let why = if text.len() > MAX_TEXT {
        format!("is {} bytes long; MQTT allows {MAX_TEXT}", text.len())
    } else if text.as_bytes().contains(&0) {
        "holds U+0000, which MQTT forbids".to_owned()
    } else {
        return Ok(());
    };
    let what: String = what.chars().take(64).collect();
    Err(RefuseReason::Unencodable(format!("{what} {why}")))
}
