//! The NATS JetStream sink: one record a message, the envelope in its headers.
//!
//! A record of stream STREAM goes to the subject `tidegate.GATEWAY.STREAM`, its envelope in the
//! headers, its identity as message id. What a session reads at its beginning, why each record is
//! stored once also when an outage outlasts the stream's duplicate window, and what can break
//! that: `docs/formats/nats-sink.md`.
//!
//! The client of the protocol is our own (`docs/decisions/014-nats-client.md`): a session must end
//! with its socket, and nothing of it may go out on the next.
//!
//! Memory: the records of the uplink's window, encoded, and at most 4 MiB of an answer.
//!
//! Not here: retries, windows, delays (the uplink core).

mod complaint;
mod driver;
mod headers;
mod jetstream;
mod lane;
mod link;
mod login;
mod opening;
mod protocol;
mod target;

#[cfg(test)]
mod tests;

pub use driver::run;
pub use target::{NatsOptions, NatsTarget};
