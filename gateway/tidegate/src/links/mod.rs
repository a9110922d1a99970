//! The way of a client to the core: listeners with PROXY header, TLS and WebSocket, who the
//! client is, and how often it may try.
//!
//! Handshakes are done on a thread of their own ([`door`]) and passwords are checked on another
//! ([`passwords`]), so that neither holds up the core. What is through goes to the core's thread
//! with its socket.
//!
//! Deliberately not here: what a client may do (`tidegate_broker::access`), reading and writing
//! once a client is through (`core::links`).

mod addresses;
mod certificate;
mod door;
mod keys;
mod origin;
mod passwords;
mod proxy;
mod rates;
mod refused_certificate;
mod tls;
mod turned_away;
mod upgrade;
mod users;
mod websocket;

pub use certificate::Identity;
pub use tls::TlsFiles;

pub(crate) use addresses::{Addresses, Place};
pub(crate) use certificate::fields;
pub(crate) use door::{Arrival, Door, News, needs_handshake};
pub(crate) use keys::Keys;
pub(crate) use passwords::{Answer, Checked, Passwords};
pub(crate) use rates::Rates;
pub(crate) use tls::load_tls;
pub(crate) use turned_away::{Reason, TurnedAway, Who};
pub(crate) use users::{Users, hash_password, is_user_name};
pub(crate) use websocket::{Frames, frame_header, goodbye};
