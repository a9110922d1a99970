//! The link and the MQTT client over `embedded-io-async` 0.7 and TCP of `embedded-nal-async` 0.9: for embassy, and any
//! other executor. `no_std`, no allocation.
//!
//! ```
//! use tidegate_embassy::{Error, Timer, carry_line};
//! use tidegate_link::{Config, Link, Role};
//! use tidegate_mqtt::{Client, Incoming, Line, Publish};
//! # use tidegate_embassy::example::{Clock, Uart};
//!
//! # async fn run(mut uart: Uart, timer: Clock) -> Result<(), Error<core::convert::Infallible>> {
//! type Serial = Link<256, 4, 1280>;
//! let mut link = Serial::new(Config::new(Role::Device, 7), 0x5eed);
//! let (mut shelf, mut input) = ([0; 512], [0; 256]);
//! let mut client = Client::new(tidegate_mqtt::Config::new("pump-7"), &mut shelf, &mut input);
//! let mut line = Line::new(7);
//!
//! // `uart` is one of embassy's HALs, buffered; `timer` is `EmbassyTimer` with the feature `time`.
//! let mut frame = [0; Serial::MAX_OUTPUT];
//! # for _ in 0..3 {
//! // In a loop. It ends when something has come in, or is due, or `measured` is ready: a future, such as that of
//! // a signal of the task that measures.
//! let measured = core::future::ready(());
//! carry_line(&mut uart, &timer, &mut frame, (&mut link, &mut line, &mut client), measured, |incoming| {
//!     if let Incoming::Mqtt(event) = incoming { /* a command, an acknowledgement */ }
//! })
//! .await?;
//! // What does not fit now does later.
//! let _ = client.publish(&Publish::new("sensors/pump-7/telemetry", b"21.5"));
//! # }
//! # Ok(())
//! # }
//! # embassy_futures::block_on(run(Uart::default(), Clock::default())).unwrap();
//! ```
//!
//! Invariants:
//! - a read that is given up, because something else happened first, must have lost nothing: drivers that buffer
//!   (`BufferedUart`, TCP sockets, USB) keep that;
//! - every call ends: at the next deadline of what it carries, if nothing comes before.
//!
//! Not here: TLS, names of hosts, tasks. For programs without an executor there is `tidegate-embedded-io`.
#![no_std]

#[cfg(test)]
extern crate std;

mod carrying;
#[doc(hidden)]
pub mod example;
mod tcp;
#[cfg(test)]
mod tests;
mod timer;

pub use carrying::{carry_client, carry_line, carry_link};
pub use tcp::{Ended, serve};
pub use tidegate_embedded_io::Error;
#[cfg(feature = "time")]
pub use timer::EmbassyTimer;
pub use timer::Timer;
