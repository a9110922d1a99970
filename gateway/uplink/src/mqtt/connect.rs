//! CONNECT: who we are.

use std::fmt;
use std::time::Duration;

use super::wire::{put_length, put_text};
use crate::body::BodyFormat;

/// A version of MQTT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// MQTT 5.
    V5,
    /// MQTT 3.1.1.
    V311,
}

/// What one connection is like. Shows itself without the login.
#[derive(Clone)]
pub struct ClientOptions {
    /// Version of the protocol.
    pub version: Version,
    /// The gateway's id, for topics and envelopes.
    pub gateway: String,
    /// At most [`MAX_TEXT`](super::MAX_TEXT) bytes, as are user name and password.
    pub client_id: String,
    /// User name, not empty, and password; an empty password is left out.
    pub login: Option<(String, String)>,
    /// Time after which the server is asked whether it is there, in whole seconds; at most
    /// 65,535 s. A server that does not answer before the next one is due is gone.
    pub keep_alive: Duration,
    /// Largest packet taken from the server, in bytes; announced to it. It bounds the memory for
    /// what has arrived in part.
    pub max_packet: u32,
    /// Largest packet sent, where the server does not say less; `None`: what MQTT can express.
    pub max_message: Option<u32>,
    /// Packet identifiers, at least 1, which go round: that many messages may be unacknowledged
    /// where the server allows it. 16 bytes of memory each, once used.
    pub packet_ids: u16,
    /// How the records of a batch are written into one message; `None`: one record a message,
    /// with MQTT 5 only (with 3.1.1 that means NDJSON).
    pub packing: Option<BodyFormat>,
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientOptions({}, {:?})", self.client_id, self.version)
    }
}

/// Property: Maximum Packet Size.
const MAXIMUM_PACKET_SIZE: u8 = 0x27;
const CLEAN_START: u8 = 0x02;
const HAS_PASSWORD: u8 = 0x40;
const HAS_USER_NAME: u8 = 0x80;

/// Appends the packet: a clean start, so that nothing is carried over from an earlier connection.
pub(super) fn put_connect(out: &mut Vec<u8>, options: &ClientOptions) {
    let mut body = Vec::with_capacity(64);
    put_text(&mut body, "MQTT");
    body.push(match options.version {
        Version::V5 => 5,
        Version::V311 => 4,
    });
    let login = options.login.as_ref();
    let password = login.map(|(_, password)| password).filter(|password| !password.is_empty());
    let mut flags = CLEAN_START;
    flags |= if login.is_some() { HAS_USER_NAME } else { 0 };
    flags |= if password.is_some() { HAS_PASSWORD } else { 0 };
    body.push(flags);
    let seconds = u16::try_from(options.keep_alive.as_secs()).unwrap_or(u16::MAX);
    body.extend_from_slice(&seconds.to_be_bytes());
    if options.version == Version::V5 {
        body.extend_from_slice(&[5, MAXIMUM_PACKET_SIZE]);
        body.extend_from_slice(&options.max_packet.to_be_bytes());
    }
    put_text(&mut body, &options.client_id);
    if let Some((user, _)) = login {
        put_text(&mut body, user);
    }
    if let Some(password) = password {
        put_text(&mut body, password);
    }
    out.push(0x10);
    put_length(out, body.len());
    out.extend_from_slice(&body);
}
