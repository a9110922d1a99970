//! The serial link between a gateway and its devices: docs/formats/link.md. One type, [`Link`], is
//! both sides. `no_std`, no allocation, no I/O: bytes and the time go in, bytes come out.
//!
//! ```
//! use tidegate_link::{Config, Link, Micros, Role};
//!
//! // Frames of 256 bytes, a window of 4, of which the device keeps one on its way out, messages of up to 1,280
//! // bytes in: 2.3 KB.
//! let mut device: Link<256, 4, 1280, 1> = Link::new(Config::new(Role::Device, 1), 0x5eed);
//! let mut gateway: Link<256, 8, 2048> = Link::new(Config::new(Role::Gateway, 1), 0xfeed);
//!
//! // Whatever one side gives out is carried to the other, until both fall silent.
//! let mut line = [0; 300];
//! let mut carry = |now: Micros, device: &mut Link<256, 4, 1280, 1>, gateway: &mut Link<256, 8, 2048>| {
//!     loop {
//!         let up = device.poll_output(now, &mut line);
//!         gateway.handle_input(now, &line[..up]);
//!         let down = gateway.poll_output(now, &mut line);
//!         device.handle_input(now, &line[..down]);
//!         if up + down == 0 {
//!             break;
//!         }
//!     }
//! };
//! carry(Micros(0), &mut device, &mut gateway);
//! assert!(device.is_up() && gateway.is_up());
//!
//! assert_eq!(device.send(2, b"21.5 C"), Ok(6));
//! carry(Micros(1_000), &mut device, &mut gateway);
//! let message = gateway.receive().unwrap();
//! assert_eq!((message.channel, message.bytes), (2, &b"21.5 C"[..]));
//! ```
//!
//! Invariants:
//! - What [`Link::receive`] gives out of reliable messages of one session is what the other side's
//!   [`Link::send`] took in, in that order, each once.
//! - No input makes it panic, or grow.
//!
//! Not here: ports, time, randomness (a seed is given), what messages mean.
#![no_std]

#[cfg(test)]
extern crate std;

mod bus;
mod clock;
mod cobs;
mod control;
mod frame;
mod link;
mod micros;
mod outgoing;
mod receiving;
mod sending;
mod session;

#[cfg(test)]
mod tests;

pub use bus::Bus;
pub use clock::{Clock, TimeQuality};
pub use frame::{BROADCAST, MAX_CHANNEL, OVERHEAD};
pub use link::{Config, Counters, Event, Link, SendError, Turns, Why};
pub use micros::Micros;
pub use outgoing::Outgoing;
pub use receiving::Message;
pub use session::Role;
