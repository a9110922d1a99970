//! What a peer did wrong, in the protocol's own numbers.

use mqtt_protocol_core::mqtt::result_code::MqttError;

/// The reason codes of MQTT 5 that this broker gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Reason {
    MalformedPacket = 0x81,
    ProtocolError = 0x82,
    ImplementationSpecific = 0x83,
    UnsupportedVersion = 0x84,
    ClientIdNotValid = 0x85,
    BadUserNameOrPassword = 0x86,
    NotAuthorized = 0x87,
    ServerUnavailable = 0x88,
    ServerShuttingDown = 0x8B,
    BadAuthenticationMethod = 0x8C,
    KeepAliveTimeout = 0x8D,
    SessionTakenOver = 0x8E,
    TopicFilterInvalid = 0x8F,
    TopicNameInvalid = 0x90,
    ReceiveMaximumExceeded = 0x93,
    TopicAliasInvalid = 0x94,
    PacketTooLarge = 0x95,
    QuotaExceeded = 0x97,
    QosNotSupported = 0x9B,
    SharedNotSupported = 0x9E,
    ConnectionRateExceeded = 0x9F,
}

/// A mistake of the peer that ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) reason: Reason,
    pub(crate) text: &'static str,
}

impl Fault {
    pub(crate) const fn new(reason: Reason, text: &'static str) -> Fault {
        Fault { reason, text }
    }

    pub(crate) const fn malformed(text: &'static str) -> Fault {
        Fault::new(Reason::MalformedPacket, text)
    }

    pub(crate) const fn protocol(text: &'static str) -> Fault {
        Fault::new(Reason::ProtocolError, text)
    }

    /// A parse error of the library. Its errors carry reason codes where the standard has one;
    /// all others mean that bytes are missing or too many.
    pub(crate) fn parse(error: MqttError, packet: &'static str) -> Fault {
        match error {
            MqttError::ProtocolError => Fault::protocol(packet),
            _ => Fault::malformed(packet),
        }
    }
}

/// Runs a parser of the library and insists that it used every byte.
pub(crate) fn parse_all<T>(
    body: &[u8],
    packet: &'static str,
    parse: impl FnOnce(&[u8]) -> Result<(T, usize), MqttError>,
) -> Result<T, Fault> {
    match parse(body) {
        Ok((parsed, used)) if used == body.len() => Ok(parsed),
        Ok(_) => Err(Fault::malformed(packet)),
        Err(error) => Err(Fault::parse(error, packet)),
    }
}
