//! Uplink drivers: one file per kind of sink. A driver opens the connections that an uplink core
//! asks for, sends what it is given, and reports what it hears; it decides nothing and keeps
//! nothing across connections.

mod complaint;
pub mod mqtt;
mod packet;
pub mod target;

#[cfg(test)]
mod tests;

pub use mqtt::{run, spawn};
pub use target::{MqttTarget, TargetError, TargetOptions};
