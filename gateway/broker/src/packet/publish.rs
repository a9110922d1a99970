//! PUBLISH, both ways, without a detour over the library's types: this is the hot path.

use crate::message::{Message, Properties, QoS};
use crate::packet::Version;
use crate::packet::fault::{Fault, Reason};
use crate::packet::properties::{
    CONTENT_TYPE, CORRELATION_DATA, MESSAGE_EXPIRY, PAYLOAD_FORMAT, RESPONSE_TOPIC,
    SUBSCRIPTION_ID, TOPIC_ALIAS, USER_PROPERTY,
};
use crate::packet::wire::{MAX_VARIABLE, Reader, put_binary, put_variable, text, variable_len};

/// A PUBLISH as received. Topic and payload still lie in the read buffer.
pub(crate) struct Inbound<'a> {
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Not checked yet; empty when only the alias says it.
    pub(crate) topic: &'a [u8],
    /// 0 for QoS 0.
    pub(crate) id: u16,
    pub(crate) alias: Option<u16>,
    pub(crate) properties: Properties,
    pub(crate) payload: &'a [u8],
}

/// Parses the body of a PUBLISH.
pub(crate) fn decode(
    version: Version,
    flags: u8,
    body: &[u8],
    max_user_properties: usize,
) -> Result<Inbound<'_>, Fault> {
    let qos = QoS::from_bits(flags >> 1 & 3).ok_or(Fault::malformed("QoS 3"))?; // [MQTT-3.3.1-4]
    if qos == QoS::AtMostOnce && flags & 8 != 0 {
        return Err(Fault::malformed("DUP with QoS 0")); // [MQTT-3.3.1-2]
    }
    let mut reader = Reader::new(body);
    let topic = reader.binary()?;
    let id = if qos == QoS::AtMostOnce { 0 } else { reader.u16()? };
    if qos != QoS::AtMostOnce && id == 0 {
        return Err(Fault::protocol("packet identifier 0 in PUBLISH")); // [MQTT-2.2.1-3]
    }
    let mut properties = Properties::default();
    let mut alias = None;
    if version == Version::V5 {
        let length = reader.variable()?;
        if length > 0 {
            let block = reader.take(length as usize)?;
            decode_properties(block, &mut properties, &mut alias, max_user_properties)?;
        }
    }
    let (retain, payload) = (flags & 1 != 0, reader.rest());
    Ok(Inbound { qos, retain, topic, id, alias, properties, payload })
}

/// Properties of a message in PUBLISH. Each but the user property may be there only once.
fn decode_properties(
    block: &[u8],
    properties: &mut Properties,
    alias: &mut Option<u16>,
    max_user_properties: usize,
) -> Result<(), Fault> {
    let mut reader = Reader::new(block);
    while !reader.is_empty() {
        match reader.u8()? {
            PAYLOAD_FORMAT => {
                let text = match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return Err(Fault::protocol("payload format is neither 0 nor 1")),
                };
                once(&mut properties.payload_format, text)?;
            }
            MESSAGE_EXPIRY => once(&mut properties.message_expiry, reader.u32()?)?,
            CONTENT_TYPE => once(&mut properties.content_type, reader.text()?.to_owned())?,
            RESPONSE_TOPIC => {
                let topic = reader.text()?;
                if topic.contains(['+', '#']) {
                    return Err(Fault::protocol("wildcard in a response topic")); // [MQTT-3.3.2-14]
                }
                once(&mut properties.response_topic, topic.to_owned())?;
            }
            CORRELATION_DATA => once(&mut properties.correlation_data, reader.binary()?.to_vec())?,
            TOPIC_ALIAS => once(alias, reader.u16()?)?,
            USER_PROPERTY => {
                if properties.user.len() >= max_user_properties {
                    return Err(Fault::new(Reason::QuotaExceeded, "too many user properties"));
                }
                properties.user.push((reader.text()?.to_owned(), reader.text()?.to_owned()));
            }
            // [MQTT-3.3.4-6]
            SUBSCRIPTION_ID => {
                return Err(Fault::protocol("a subscription identifier from a client"));
            }
            // Section 2.2.2.2
            _ => return Err(Fault::malformed("a property that PUBLISH does not have")),
        }
    }
    Ok(())
}

fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Fault> {
    if place.replace(value).is_some() {
        return Err(Fault::protocol("a property of PUBLISH is given twice"));
    }
    Ok(())
}

/// The topic of a PUBLISH as text.
pub(crate) fn topic_text(bytes: &[u8]) -> Result<&str, Fault> {
    text(bytes)
}

/// One PUBLISH to one client.
pub(crate) struct Outbound<'a> {
    pub(crate) message: &'a Message,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) dup: bool,
    /// The packet identifier; 0 for QoS 0, which has none.
    pub(crate) id: u16,
    /// Seconds the message has left, when it expires.
    pub(crate) expiry: Option<u32>,
    pub(crate) subscription_ids: &'a [u32],
}

/// How a PUBLISH says its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Naming {
    /// By its name alone.
    Name,
    /// By its name, which is to be known by this alias from now on.
    Both(u16),
    /// By the alias alone.
    Alias(u16),
}

/// The packet is larger than the client accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooLarge;

/// Appends the packet, or nothing if it has more than `max_packet` bytes.
pub(crate) fn encode(
    version: Version,
    outbound: &Outbound<'_>,
    naming: Naming,
    max_packet: u32,
    out: &mut Vec<u8>,
) -> Result<(), TooLarge> {
    let message = outbound.message;
    let topic = match naming {
        Naming::Name | Naming::Both(_) => message.topic.as_str().as_bytes(),
        Naming::Alias(_) => &[],
    };
    let id_len = if outbound.qos == QoS::AtMostOnce { 0 } else { 2 };
    let mut length = 2 + topic.len() + id_len + message.payload.len();
    let properties = match version {
        Version::V3_1_1 => 0,
        Version::V5 => {
            let alias = if naming == Naming::Name { 0 } else { 3 };
            let properties = properties_len(outbound) + alias;
            length += variable_len(properties) + properties;
            properties
        }
    };
    let total = 1 + variable_len(length) + length;
    if total > max_packet as usize || length > MAX_VARIABLE {
        return Err(TooLarge);
    }
    out.reserve(total);
    let qos = (outbound.qos as u8) << 1;
    out.push(0x30 | qos | u8::from(outbound.retain) | u8::from(outbound.dup) << 3);
    put_variable(out, length);
    put_binary(out, topic);
    if id_len > 0 {
        out.extend_from_slice(&outbound.id.to_be_bytes());
    }
    if version == Version::V5 {
        put_variable(out, properties);
        if let Naming::Both(alias) | Naming::Alias(alias) = naming {
            out.push(TOPIC_ALIAS);
            out.extend_from_slice(&alias.to_be_bytes());
        }
        if properties > 0 {
            put_properties(out, outbound);
        }
    }
    out.extend_from_slice(&message.payload);
    Ok(())
}

/// What the wire can say of a text or binary value: up to 65,535 bytes, else nothing.
fn sayable<T: AsRef<[u8]>>(value: &Option<T>) -> Option<&[u8]> {
    value.as_ref().map(T::as_ref).filter(|bytes| bytes.len() <= usize::from(u16::MAX))
}

fn sayable_pair((key, value): &(String, String)) -> Option<(&[u8], &[u8])> {
    let max = usize::from(u16::MAX);
    (key.len() <= max && value.len() <= max).then_some((key.as_bytes(), value.as_bytes()))
}

fn properties_len(outbound: &Outbound<'_>) -> usize {
    let properties = &outbound.message.properties;
    let ids: usize =
        outbound.subscription_ids.iter().map(|id| 1 + variable_len(*id as usize)).sum();
    if properties.is_empty() {
        return ids;
    }
    let value = |bytes: Option<&[u8]>| bytes.map_or(0, |bytes| 3 + bytes.len());
    ids + properties.payload_format.map_or(0, |_| 2)
        + outbound.expiry.map_or(0, |_| 5)
        + value(sayable(&properties.content_type))
        + value(sayable(&properties.response_topic))
        + value(sayable(&properties.correlation_data))
        + properties
            .user
            .iter()
            .filter_map(sayable_pair)
            .map(|(key, value)| 5 + key.len() + value.len())
            .sum::<usize>()
}

fn put_properties(out: &mut Vec<u8>, outbound: &Outbound<'_>) {
    let properties = &outbound.message.properties;
    if let Some(text) = properties.payload_format {
        out.extend_from_slice(&[PAYLOAD_FORMAT, u8::from(text)]);
    }
    // [MQTT-3.3.2-6]: what is left of it, not what the publisher said.
    if let (false, Some(seconds)) = (properties.is_empty(), outbound.expiry) {
        out.push(MESSAGE_EXPIRY);
        out.extend_from_slice(&seconds.to_be_bytes());
    }
    for (id, bytes) in [
        (CONTENT_TYPE, sayable(&properties.content_type)),
        (RESPONSE_TOPIC, sayable(&properties.response_topic)),
        (CORRELATION_DATA, sayable(&properties.correlation_data)),
    ] {
        if let Some(bytes) = bytes {
            out.push(id);
            put_binary(out, bytes);
        }
    }
    for id in outbound.subscription_ids {
        out.push(SUBSCRIPTION_ID);
        put_variable(out, *id as usize);
    }
    // [MQTT-3.3.2-18]: in the publisher's order.
    for (key, value) in properties.user.iter().filter_map(sayable_pair) {
        out.push(USER_PROPERTY);
        put_binary(out, key);
        put_binary(out, value);
    }
}
