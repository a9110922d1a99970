//! An MQTT client that only publishes: what goes to the server and what comes back, as bytes. Sans-IO
//! like the rest of the crate: the shell owns the socket and the clock.
//!
//! It is made for many small records: they are encoded one behind the other into one outbox that the
//! shell writes in one call, and acknowledgements are taken out of whatever one read brought.
//!
//! ```
//! use std::time::{Duration, Instant};
//! use tidegate_uplink::mqtt::{Client, ClientEvent, ClientOptions, Version};
//!
//! let mut client = Client::new(ClientOptions {
//!     version: Version::V5,
//!     gateway: "gw".to_owned(),
//!     client_id: "tidegate-gw-cloud".to_owned(),
//!     login: None,
//!     keep_alive: Duration::from_secs(30),
//!     max_packet: 256 * 1024,
//!     max_message: None,
//!     packet_ids: 200,
//!     packing: None,
//! });
//! let count = client.outbox().len();
//! client.written(count); // CONNECT is on its way.
//! client.handle_input(Instant::now(), &[0x20, 3, 0, 0, 0]).unwrap();
//! assert_eq!(client.poll_event(), Some(ClientEvent::Opened));
//! ```
//!
//! Invariants:
//! - Messages leave in the order in which they were handed over, and each token is answered once.
//! - Never more of them are unacknowledged than the server's Receive Maximum.
//! - What a server sends is not stored before its length is known to be within `max_packet`, and
//!   nothing is taken from one that does not read what it is sent.
//! - Nothing outlives the connection: a client is made for one, with a clean start.
//!
//! Not here: sockets, TLS, name resolution (the driver in the daemon); retries, windows and
//! backoff (the uplink core).

mod broken;
mod client;
mod connect;
mod in_flight;
mod publish;
mod server;
#[cfg(test)]
mod tests;
mod verdict;
mod wire;

pub use broken::{Broken, Malformed};
pub use client::{Client, ClientEvent, OUTBOX_BYTES};
pub use connect::{ClientOptions, Version};
pub use wire::{MAX_PACKET, MAX_TEXT};
