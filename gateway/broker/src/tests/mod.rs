//! Bytes in, bytes out, in simulated time. The peers are built from the client side of
//! `mqtt-protocol-core`, so two encoders and two parsers written apart have to agree.

mod access;
mod backpressure;
mod bytes_in;
mod conformance;
mod connecting;
mod handover;
mod inside;
pub(crate) mod peer;
mod publishing;
mod retaining;
mod sessions;
mod sharing;
mod slow;
mod subscribing;
mod wills;
