//! What a device says over its MQTT client: records with a schema, as CBOR or JSON, in a queue that is
//! bounded; commands with replies; log lines; its twin; the time; when it sleeps. `no_std`, no allocation.
//!
//! ```
//! use tidegate_mqtt::{Client, Config, Qos};
//! use tidegate_telemetry::{Cbor, Fixed, Overflow, Queue, Record, Time, record};
//!
//! record! {
//!     /// What the sensor measures, version 1.
//!     pub struct Reading: "reading/1" {
//!         /// Degrees Celsius.
//!         value: Fixed<2>,
//!         /// Readings since the start.
//!         seq: u32,
//!         /// When it was measured.
//!         time: Time,
//!     }
//! }
//!
//! let (mut shelf, mut input) = ([0; 512], [0; 256]);
//! let mut client = Client::new(Config::new("pump-7"), &mut shelf, &mut input);
//!
//! // While nothing takes them, records wait here; when it is full the oldest go, and are counted.
//! let mut waiting = [0; 1024];
//! let mut queue = Queue::new(&mut waiting, Overflow::DropOldest);
//!
//! // Without a clock the time is unknown, which is not zero.
//! let reading = Reading { value: Fixed(2150), seq: 1, time: Time::unknown() };
//! queue.push_record::<64, Cbor>(&reading);
//!
//! // Connect, flush, sleep: what the client has not taken stays in the queue.
//! queue.flush(&mut client, "sensors/pump-7/telemetry", Qos::AtLeastOnce);
//! assert!(queue.is_empty() && queue.dropped() == 0);
//! # assert_eq!(Reading::SCHEMA, "reading/1");
//! ```
//!
//! A device that sleeps most of the time measures into the queue, and now and then connects, flushes, leaves
//! and sleeps: [`Duty`] says when. Its session waits for it at the gateway, commands with it.
//!
//! What a device should be like, and says that it is like, is its [`Twin`]. What time it is, a serial link knows; over
//! TCP, [`TimeSync`] asks.
//!
//! Invariants:
//! - A record is in the queue whole or not at all, and records leave it in their order.
//! - What is dropped is counted.
//!
//! Not here: sensors, transports, the client (`tidegate-mqtt`).
#![no_std]

#[cfg(test)]
extern crate std;

mod duty;
mod form;
mod log;
mod queue;
mod record;
mod reply;
mod sync;
mod time;
mod twin;

#[cfg(test)]
mod tests;

pub use duty::{Duty, Rhythm, Step};
pub use form::{Cbor, Form, Format, Json};
pub use log::{Level, Log};
pub use queue::{Overflow, Queue};
pub use record::{Fixed, Record, Value};
pub use reply::ReplyTo;
pub use sync::TimeSync;
pub use time::Time;
pub use twin::{Change, Property, Twin};
