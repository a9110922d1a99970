//! PUBACK, both ways.

use mqtt_protocol_core::mqtt::packet::v5_0;

use crate::packet::Version;
use crate::packet::fault::{Fault, parse_all};
use crate::packet::wire::{put_binary, put_variable, variable_len};

/// The packet identifier a client acknowledges. What reason it gives makes no difference
/// [MQTT-4.4.0-2]: the message is done with.
pub(crate) fn decode(version: Version, body: &[u8]) -> Result<u16, Fault> {
    let id = match (version, body) {
        (_, [high, low]) => u16::from_be_bytes([*high, *low]),
        (Version::V3_1_1, _) => return Err(Fault::malformed("PUBACK has not two bytes")),
        (Version::V5, _) => {
            parse_all(body, "PUBACK", v5_0::GenericPuback::<u16>::parse)?.packet_id()
        }
    };
    if id == 0 {
        return Err(Fault::protocol("packet identifier 0 in PUBACK"));
    }
    Ok(id)
}

/// PUBACK as an MQTT 3.1.1 client and, for reason 0, an MQTT 5 client understands it.
pub(crate) fn success(id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [0x40, 2, high, low]
}

/// Appends an MQTT 5 PUBACK with a reason and, if the client wants to know and it fits in
/// `max_packet`, the text.
pub(crate) fn encode(out: &mut Vec<u8>, id: u16, reason: u8, text: &str, max_packet: u32) {
    let [high, low] = id.to_be_bytes();
    let properties = if text.is_empty() { 0 } else { 3 + text.len() };
    let length = 3 + variable_len(properties) + properties;
    if text.is_empty() || length + 5 > max_packet as usize {
        out.extend_from_slice(&[0x40, 3, high, low, reason]);
        return;
    }
    out.push(0x40);
    put_variable(out, length);
    out.extend_from_slice(&[high, low, reason]);
    put_variable(out, properties);
    out.push(0x1F);
    put_binary(out, text.as_bytes());
}
