//! Upstream synchronisation: which record goes to the cloud next, what to do with each answer,
//! and when to connect again. Sans-IO: the caller passes the time, reads the records, and owns
//! the sockets; the same code runs in the daemon and in the simulator.
//!
//! One [`Uplink`] serves one destination. Each stream that goes there is a *lane*.
//!
//! ```
//! use std::time::Instant;
//! use tidegate_stream::{Epoch, Seq};
//! use tidegate_uplink::{
//!     Action, LaneId, LaneStart, OutboundRecord, Uplink, UplinkEvent, UplinkOptions,
//! };
//!
//! let now = Instant::now();
//! let alerts = LaneStart { stream: "alerts".into(), ..LaneStart::from(Seq(1)) };
//! let mut uplink = Uplink::new(UplinkOptions::default(), vec![alerts], 42);
//! let Some(Action::Connect { session, .. }) = uplink.poll_action(now) else { panic!() };
//! uplink.handle_event(now, UplinkEvent::Connected { session, held: Vec::new() });
//!
//! // It says what it wants; the caller reads that from the log.
//! let want = uplink.wanted().unwrap();
//! assert_eq!((want.lane, want.from), (LaneId(0), Seq(1)));
//! let record = OutboundRecord { seq: Seq(1), payload: b"31.5".to_vec(), ..Default::default() };
//! assert!(uplink.offer(now, want.lane, Epoch(1), record));
//! uplink.exhausted(want.lane);
//!
//! let Some(Action::Send { session, token, .. }) = uplink.poll_action(now) else { panic!() };
//! uplink.handle_event(now, UplinkEvent::Acknowledged { session, token });
//! assert_eq!(
//!     uplink.poll_action(now),
//!     Some(Action::Advance { lane: LaneId(0), next: Seq(2) })
//! );
//! ```
//!
//! Invariants:
//! - The cursor ([`Action::Advance`]) never passes a record that is neither acknowledged nor
//!   reported by [`Action::Reject`] nor skipped by the caller.
//! - Nothing is sent [`MAX_WINDOW`] or more above the cursor of its lane. Consumers rely on it:
//!   it bounds what they must remember to recognise a duplicate (see the envelope's document).
//! - On each session a lane's first transmissions are in sequence order.
//! - Events of a session other than the current one change nothing.
//!
//! Not here: sockets and protocols (drivers in the daemon), reading records and moving durable
//! cursors (flow), what a record is (stream).

mod action;
mod backoff;
mod batch;
mod body;
mod boundaries;
pub mod envelope;
mod flights;
mod lane;
pub mod mqtt;
mod options;
mod rate;
mod record;
mod sending;
mod status;
mod uplink;

pub use action::{Action, Held, LaneId, OutboundMessage, RefuseReason, UplinkEvent, Want};
pub use batch::{Batch, Part, SeqRange};
pub use body::{BODY_VERSION, BodyFormat};
pub use envelope::{Clock, Envelope, EnvelopeError, Identity};
pub use lane::LaneStart;
pub use options::{MAX_WINDOW, UplinkOptions};
pub use record::OutboundRecord;
pub use status::{UplinkState, UplinkStatus};
pub use uplink::{Landed, Uplink};

#[cfg(test)]
mod tests;
