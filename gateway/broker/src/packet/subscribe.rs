//! SUBSCRIBE and UNSUBSCRIBE in, SUBACK and UNSUBACK out.

use crate::message::QoS;
use crate::packet::Version;
use crate::packet::fault::{Fault, Reason};
use crate::packet::properties::{self, Block, SUBSCRIPTION_ID, USER_PROPERTY, Value};
use crate::packet::wire::Reader;

/// A SUBSCRIBE.
#[derive(Debug)]
pub(crate) struct Subscribe {
    pub(crate) id: u16,
    pub(crate) subscription_id: Option<u32>,
    pub(crate) entries: Vec<Entry>,
}

/// One wish in it. The filter is not checked yet.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) filter: String,
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retained: SendRetained,
}

/// When a new subscription is given the retained messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendRetained {
    Always,
    IfNew,
    Never,
}

pub(crate) fn decode(version: Version, body: &[u8]) -> Result<Subscribe, Fault> {
    let mut reader = Reader::new(body);
    let id = packet_id(&mut reader)?;
    let mut subscription_id = None;
    if version == Version::V5 {
        properties::read(&mut reader, &[SUBSCRIPTION_ID, USER_PROPERTY], |id, value| {
            match (id, value) {
                (SUBSCRIPTION_ID, Value::Number(0)) => {
                    return Err(Fault::protocol("subscription identifier 0"));
                }
                (SUBSCRIPTION_ID, Value::Number(number)) => subscription_id = Some(number),
                _ => {}
            }
            Ok(())
        })?;
    }
    let mut entries = Vec::new();
    while !reader.is_empty() {
        let filter = reader.text()?.to_owned();
        entries.push(entry(version, filter, reader.u8()?)?);
    }
    if entries.is_empty() {
        // [MQTT-3.8.3-2] (5), [MQTT-3.8.3-3] (3.1.1)
        return Err(Fault::protocol("SUBSCRIBE without a filter"));
    }
    Ok(Subscribe { id, subscription_id, entries })
}

fn entry(version: Version, filter: String, options: u8) -> Result<Entry, Fault> {
    let reserved = match version {
        Version::V3_1_1 => 0b1111_1100, // [MQTT-3.8.3-4] (3.1.1)
        Version::V5 => 0b1100_0000,     // [MQTT-3.8.3-5]
    };
    if options & reserved != 0 {
        return Err(Fault::malformed("reserved bits of a subscription's options are set"));
    }
    let qos = QoS::from_bits(options & 3);
    let qos = qos.ok_or_else(|| match version {
        Version::V3_1_1 => Fault::malformed("QoS 3 is asked for"),
        Version::V5 => Fault::protocol("QoS 3 is asked for"), // section 3.8.3.1
    })?;
    let retained = match options >> 4 & 3 {
        0 => SendRetained::Always,
        1 => SendRetained::IfNew,
        2 => SendRetained::Never,
        _ => return Err(Fault::protocol("retain handling 3")),
    };
    Ok(Entry {
        filter,
        qos,
        no_local: options & 0b0100 != 0,
        retain_as_published: options & 0b1000 != 0,
        retained,
    })
}

/// [MQTT-2.2.1-3]
fn packet_id(reader: &mut Reader<'_>) -> Result<u16, Fault> {
    match reader.u16()? {
        0 => Err(Fault::protocol("packet identifier 0")),
        id => Ok(id),
    }
}

/// SUBACK: what each entry was granted, or why not, in the order of the entries
/// [MQTT-3.8.4-6]; `text` says more about a refusal.
pub(crate) fn suback(
    version: Version,
    id: u16,
    granted: &[Result<QoS, Reason>],
    text: &str,
) -> Vec<u8> {
    let code = |granted: &Result<QoS, Reason>| match (granted, version) {
        (Ok(qos), _) => *qos as u8,
        (Err(_), Version::V3_1_1) => 0x80,
        (Err(reason), Version::V5) => *reason as u8,
    };
    let codes: Vec<u8> = granted.iter().map(code).collect();
    properties::packet(version, 0x90, &id.to_be_bytes(), &Block::reason(text), &codes)
}

/// An UNSUBSCRIBE: packet identifier and filters, not checked yet.
pub(crate) fn decode_unsubscribe(
    version: Version,
    body: &[u8],
) -> Result<(u16, Vec<String>), Fault> {
    let mut reader = Reader::new(body);
    let id = packet_id(&mut reader)?;
    if version == Version::V5 {
        properties::read(&mut reader, &[USER_PROPERTY], |_, _| Ok(()))?;
    }
    let mut filters = Vec::new();
    while !reader.is_empty() {
        filters.push(reader.text()?.to_owned());
    }
    if filters.is_empty() {
        return Err(Fault::protocol("UNSUBSCRIBE without a filter")); // [MQTT-3.10.3-2]
    }
    Ok((id, filters))
}

/// UNSUBACK; `existed` in the order of the filters [MQTT-3.11.3-2], `None` for one that is not
/// valid.
pub(crate) fn unsuback(version: Version, id: u16, existed: &[Option<bool>]) -> Vec<u8> {
    let code = |existed: &Option<bool>| match existed {
        Some(true) => 0x00,
        Some(false) => 0x11,
        None => 0x8F,
    };
    let codes: Vec<u8> = match version {
        Version::V3_1_1 => Vec::new(), // section 3.11.3: no payload
        Version::V5 => existed.iter().map(code).collect(),
    };
    properties::packet(version, 0xB0, &id.to_be_bytes(), &Block::default(), &codes)
}
