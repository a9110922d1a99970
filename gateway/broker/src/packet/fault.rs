//! What a peer did wrong, in the protocol's own numbers.

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
}
