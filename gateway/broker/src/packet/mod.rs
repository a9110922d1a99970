//! The edge to the wire: bytes to this crate's own types and back.
//!
//! All packets are read and written by hand. Limits apply to the length that a fixed header
//! announces, before a byte of the body is stored; every reserved bit, every property that a
//! packet may not have and every text is checked; a payload is copied once on its way in and
//! encoded straight into the outbox on its way out. The tests speak to the broker through
//! `mqtt-protocol-core`, so that both sides do not share a mistake.

pub(crate) mod ack;
pub(crate) mod connect;
pub(crate) mod disconnect;
pub(crate) mod fault;
pub(crate) mod frame;
pub(crate) mod properties;
pub(crate) mod publish;
pub(crate) mod subscribe;
pub(crate) mod wire;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V3_1_1,
    /// MQTT 5.0, protocol level 5.
    V5,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Version::V3_1_1 => "3.1.1",
            Version::V5 => "5",
        })
    }
}
