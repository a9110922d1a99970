//! MQTT broker core: MQTT 3.1.1 and 5 without sockets, clock or threads.
//!
//! The owner hands over what sockets bring and takes what they are to be sent. A publish is
//! first of all an event: the owner decides what becomes of it (stores it, refuses it), then
//! calls [`Broker::publish`] to deliver it and [`Broker::acknowledge`] to let its PUBACK go.
//! That is how a PUBACK can wait for a disk.
//!
//! ```
//! use std::time::Instant;
//! use tidegate_broker::{Answer, Broker, BrokerEvent, BrokerLimits, ConnId};
//!
//! # #[allow(clippy::disallowed_methods)]
//! # fn now() -> Instant { Instant::now() }
//! let (mut broker, now, conn) = (Broker::new(BrokerLimits::default()), now(), ConnId(1));
//! broker.handle_open(now, conn, "192.0.2.7:4711".to_owned());
//! // CONNECT of MQTT 3.1.1 with client identifier "c", then PUBLISH "x" to "t" with QoS 1.
//! broker.handle_bytes(now, conn, b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x00\x00\x01c");
//! broker.handle_bytes(now, conn, b"\x32\x06\x00\x01t\x00\x07x");
//! while let Some(event) = broker.poll_event() {
//!     if let BrokerEvent::Publish { ticket: Some(ticket), message, .. } = event {
//!         let matched = broker.publish(now, &message);
//!         assert_eq!((message.topic.as_str(), matched), ("t", 0));
//!         broker.acknowledge(now, ticket, Answer::Success);
//!     }
//! }
//! let outbox = broker.unsent(conn).unwrap();
//! assert_eq!(outbox.as_slice(), b"\x20\x02\x00\x00\x40\x02\x00\x07"); // CONNACK, PUBACK
//! ```
//!
//! Invariants:
//! - PUBACKs and PUBRECs leave in the order of the PUBLISHes of their connection, however the
//!   owner answers.
//! - Nothing a peer sends makes memory grow beyond [`BrokerLimits`], and no slow subscriber
//!   holds up anybody else.
//! - The same calls give the same events and bytes: no clock, no randomness, no unordered maps.
//! - Nothing here points into a read buffer after `handle_bytes` has returned.
//!
//! Deliberately not here: sockets, TLS, who a client is (see [`access`]), extended authentication,
//! anything on a disk.

pub mod access;
mod admission;
mod aliases;
mod arrival;
mod backpressure;
mod broker;
mod connection;
mod delivery;
mod departure;
mod durable;
mod event;
mod filter_tree;
mod handover;
mod inflight;
mod intake;
mod limits;
mod local;
mod losses;
mod message;
mod outbox;
mod packet;
mod pending;
mod receipts;
mod retained;
mod sending;
mod session;
mod sharing;
mod slots;
mod slow;
mod stats;
mod subscription;
mod timers;
pub mod topic;
mod will;

#[cfg(test)]
pub(crate) mod tests;

pub use broker::Broker;
pub use connection::Caller;
pub use durable::{Amount, Change, PersistTicket, Restored, SpoolTarget};
pub use event::{Answer, BrokerEvent, CloseReason, ConnId, RefuseReason, Ticket};
pub use filter_tree::FilterTree;
pub use limits::{BrokerLimits, SlowSubscriber};
pub use local::LocalId;
pub use losses::{SessionLoss, SessionLossReason, UntoldLoss};
pub use message::{Message, MessageProperties, Properties, QoS};
pub use outbox::Outbox;
pub use packet::Version;
pub use stats::{BrokerStats, Counters, SessionStats};
pub use topic::{SharedFilter, TopicError, TopicFilter, TopicName};
