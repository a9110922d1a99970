//! Uplink drivers: one folder for each kind of sink. A driver opens the connections that an uplink
//! core asks for, sends what it is given, and reports what it hears; it decides nothing and keeps
//! nothing across connections.

#[cfg(feature = "sink-http")]
pub mod http;
pub mod mqtt;
#[cfg(feature = "sink-nats")]
pub mod nats;
#[cfg(feature = "sink-s3")]
pub mod s3;
mod sessions;
mod target;
mod tls;
mod unready;
mod url;
#[cfg(feature = "web")]
mod web;

#[cfg(feature = "sink-http")]
pub use http::{HttpOptions, HttpTarget};
pub use mqtt::{MqttTarget, TargetOptions, Version};
#[cfg(feature = "sink-nats")]
pub use nats::{NatsOptions, NatsTarget};
#[cfg(feature = "sink-s3")]
pub use s3::{Addressing, S3Options, S3Target};
pub use target::{Target, TargetError};
pub use tls::TlsFiles;
pub use unready::Unready;
pub(crate) use url::masked;
