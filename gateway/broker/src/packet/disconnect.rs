//! DISCONNECT, both ways.

use mqtt_protocol_core::mqtt::packet::{Property, ReasonString, v5_0};
use mqtt_protocol_core::mqtt::result_code::DisconnectReasonCode;

use crate::packet::Version;
use crate::packet::fault::{Fault, Reason, parse_all};

/// A client's goodbye.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Goodbye {
    /// Whether its will is to be published all the same (any reason but 0x00)
    /// [MQTT-3.14.4-3].
    pub(crate) with_will: bool,
    /// A new session expiry interval in seconds.
    pub(crate) session_expiry: Option<u32>,
}

pub(crate) fn decode(version: Version, body: &[u8]) -> Result<Goodbye, Fault> {
    let mut goodbye = Goodbye { with_will: false, session_expiry: None };
    if body.is_empty() {
        return Ok(goodbye);
    }
    if version == Version::V3_1_1 {
        return Err(Fault::malformed("DISCONNECT is not empty"));
    }
    let packet = parse_all(body, "DISCONNECT", v5_0::Disconnect::parse)?;
    goodbye.with_will =
        !matches!(packet.reason_code(), None | Some(DisconnectReasonCode::NormalDisconnection));
    for property in packet.props().iter().flatten() {
        match property {
            Property::SessionExpiryInterval(p) => goodbye.session_expiry = Some(p.val()),
            Property::ServerReference(_) => {
                return Err(Fault::protocol("a server reference from a client"));
            }
            _ => {}
        }
    }
    Ok(goodbye)
}

/// The gateway's goodbye to an MQTT 5 client. `None` if the library cannot say it: the
/// connection closes then without a word.
pub(crate) fn encode(reason: Reason, text: Option<&str>) -> Option<Vec<u8>> {
    let code = DisconnectReasonCode::try_from(reason as u8)
        .unwrap_or(DisconnectReasonCode::UnspecifiedError);
    let mut builder = v5_0::Disconnect::builder().reason_code(code);
    if let Some(text) = text.and_then(|text| ReasonString::new(text).ok()) {
        builder = builder.props(vec![text.into()]);
    }
    builder.build().ok().map(|disconnect| disconnect.to_continuous_buffer())
}
