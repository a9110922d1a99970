//! DISCONNECT, both ways, and AUTH.

use crate::packet::Version;
use crate::packet::fault::{Fault, Reason};
use crate::packet::properties::{
    self, Block, REASON_STRING, SERVER_REFERENCE, SESSION_EXPIRY, USER_PROPERTY, Value,
};
use crate::packet::wire::{Reader, put_variable};

/// A client's goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Goodbye {
    /// Whether its will is to be published all the same (any reason but 0x00)
    /// [MQTT-3.14.4-3].
    pub(crate) with_will: bool,
    /// A new session expiry interval in seconds.
    pub(crate) session_expiry: Option<u32>,
}

/// The reason codes that a client may give.
const CLIENT_REASONS: [u8; 14] =
    [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];

pub(crate) fn decode(version: Version, body: &[u8]) -> Result<Goodbye, Fault> {
    let mut goodbye = Goodbye { with_will: false, session_expiry: None };
    if body.is_empty() {
        return Ok(goodbye);
    }
    if version == Version::V3_1_1 {
        return Err(Fault::malformed("DISCONNECT is not empty"));
    }
    let mut reader = Reader::new(body);
    let reason = reader.u8()?;
    // [MQTT-3.14.2-1]
    if !CLIENT_REASONS.contains(&reason) {
        return Err(Fault::protocol("a reason code that a client's DISCONNECT does not have"));
    }
    goodbye.with_will = reason != 0;
    if reader.is_empty() {
        return Ok(goodbye);
    }
    let allowed = [SESSION_EXPIRY, REASON_STRING, USER_PROPERTY, SERVER_REFERENCE];
    properties::read(&mut reader, &allowed, |id, value| {
        match (id, value) {
            (SESSION_EXPIRY, Value::Number(seconds)) => goodbye.session_expiry = Some(seconds),
            (SERVER_REFERENCE, _) => {
                return Err(Fault::protocol("a server reference from a client"));
            }
            _ => {}
        }
        Ok(())
    })?;
    if !reader.is_empty() {
        return Err(Fault::malformed("bytes after the end of DISCONNECT"));
    }
    Ok(goodbye)
}

/// The gateway's goodbye to an MQTT 5 client.
pub(crate) fn encode(reason: Reason, text: Option<&str>) -> Vec<u8> {
    let block = Block::reason(text.unwrap_or_default());
    if block.is_empty() {
        return vec![0xE0, 1, reason as u8];
    }
    let mut out = vec![0xE0];
    put_variable(&mut out, 1 + block.len());
    out.push(reason as u8);
    block.put(&mut out);
    out
}
