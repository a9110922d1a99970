//! Uplink drivers: one folder for each kind of sink. A driver opens the connections that an uplink
//! core asks for, sends what it is given, and reports what it hears; it decides nothing and keeps
//! nothing across connections.

pub mod mqtt;
#[cfg(feature = "sink-nats")]
pub mod nats;
mod target;
mod tls;
mod url;

pub use mqtt::{MqttTarget, TargetOptions, Version};
#[cfg(feature = "sink-nats")]
pub use nats::{NatsOptions, NatsTarget};
pub use target::{Target, TargetError};
pub use tls::TlsFiles;
