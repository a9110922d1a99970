//! The edge to the wire: bytes to this crate's own types and back.
//!
//! CONNECT, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT and PUBACK are parsed, and CONNACK, SUBACK,
//! UNSUBACK and DISCONNECT encoded, by `mqtt-protocol-core`; its types end here. Four things
//! are done by hand:
//! - the fixed header (`frame`): limits apply to the length it announces, before a byte of the
//!   body is stored, and its reserved bits are checked, which the library leaves to its users;
//! - PUBLISH inbound (`publish`): the library copies a payload three times, this once;
//! - PUBLISH outbound: encoded straight into the connection's outbox from the message that all
//!   subscribers share;
//! - PUBACK outbound (`ack`): four bytes.
//!
//! The library's connection object is not used: it acknowledges by itself or forgets the order,
//! keeps a copy of each message for each connection, and its windows end with the connection,
//! while ours belong to the session.

pub(crate) mod ack;
pub(crate) mod connect;
pub(crate) mod disconnect;
pub(crate) mod fault;
pub(crate) mod frame;
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
