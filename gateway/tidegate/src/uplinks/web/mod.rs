//! What the sinks over HTTP have in common: addresses, TLS, one connection, and the course of a
//! session.

mod connection;
mod gzip;
mod origin;
#[cfg(test)]
pub(in crate::uplinks) mod scripted;
mod session;
mod wait;

pub(in crate::uplinks) use crate::secret::read_secret;
pub(in crate::uplinks) use connection::{Answer, Connection};
pub(in crate::uplinks) use gzip::gzip;
pub(in crate::uplinks) use origin::{Origin, checked_path};
pub(in crate::uplinks) use session::{Delivery, Ending, run};
pub(in crate::uplinks) use wait::retry_after;

/// What the gateway says that it is.
pub(in crate::uplinks) const AGENT: &str = concat!("tidegate/", env!("CARGO_PKG_VERSION"));
