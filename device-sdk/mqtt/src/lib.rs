//! An MQTT 5 client for devices. `no_std`, no allocation, no I/O: bytes and the time go in, bytes
//! come out. One client, whatever carries it: channel 2 of a serial link ([`Line`]), TCP, anything that
//! is a stream.
//!
//! ```
//! use tidegate_mqtt::{Client, Config, Event, Micros, Publish};
//!
//! // What waits for its acknowledgement, and one packet of the server: all the memory that grows.
//! let (mut shelf, mut input) = ([0; 512], [0; 256]);
//! let config = Config { subscriptions: &["commands/pump-7"], ..Config::new("pump-7") };
//! let mut client = Client::new(config, &mut shelf, &mut input);
//!
//! // Messages are taken at any time, connected or not, as long as there is room.
//! let id = client.publish(&Publish::new("sensors/pump-7/telemetry", b"21.5")).unwrap();
//!
//! // The transport has a connection: CONNECT goes out. `sent` says how much the transport has taken.
//! let now = Micros(0);
//! client.connected(now);
//! assert_eq!(client.output(now)[0], 0x10);
//! let count = client.output(now).len();
//! client.sent(now, count);
//! # while !client.output(now).is_empty() { let n = client.output(now).len(); client.sent(now, n) }
//!
//! // What comes in: the session is new, the subscription is taken, the message is on flash.
//! # let mut came = &b"\x20\x03\0\0\0"[..];
//! assert_eq!(client.handle_input(now, &mut came), Some(Event::Up { session_present: false }));
//! # while !client.output(now).is_empty() { let n = client.output(now).len(); client.sent(now, n) }
//! # let mut came = &b"\x90\x04\xff\0\0\x01\x40\x02\0\x01"[..];
//! while let Some(event) = client.handle_input(now, &mut came) {
//!     match event {
//!         Event::Subscribed { .. } => {}
//!         Event::Acknowledged { id: of, reason } => assert_eq!((of, reason), (id, 0)),
//!         Event::Message(command) => { /* command.topic, command.payload */ }
//!         Event::Up { .. } | Event::Refused(_) => {}
//!         Event::Down(why) => { /* close the transport, connect again after a while */ }
//!     }
//! }
//! assert!(client.is_settled(), "a device that sleeps may sleep now");
//! ```
//!
//! Invariants:
//! - A message that was taken with [`Qos::AtLeastOnce`] is kept, and sent in every connection, until the
//!   server acknowledges it; messages are sent in the order of publishing.
//! - A message of the server is acknowledged after the application has had it.
//! - No input makes it panic, or grow.
//!
//! Not here: sockets, TLS, clocks; QoS 2, topic aliases, and versions before 5: a server that refuses a
//! message says so in version 5 alone, and a device that is not told loses it.
#![no_std]

#[cfg(test)]
extern crate std;

mod client;
mod line;
mod packet;
mod publish;
mod retry;
mod shelf;

#[cfg(test)]
mod tests;

pub use client::{Client, Config, Event, Login, Message, Why};
pub use line::{Incoming, Line, MQTT};
pub use publish::{Publish, PublishError, Qos};
pub use retry::Retry;
pub use shelf::MAX_WAITING;
pub use tidegate_link::Micros;
