//! An MQTT client as bytes, for tests: packets put together by hand, valid or not ([`encode`]),
//! and a reader that panics at whatever the specifications do not allow a server to send
//! ([`decode`]). It shares no code with the broker, so that a mistake of one does not hide in the
//! other.
#![allow(missing_docs, reason = "packets and fields have the names of the specifications")]

pub mod decode;
pub mod encode;

/// A version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    V3_1_1,
    V5,
}
