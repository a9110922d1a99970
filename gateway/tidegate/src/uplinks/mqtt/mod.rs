//! The MQTT 5 sink: QoS 1, one record a message, the envelope in user properties.

mod complaint;
mod driver;
mod packet;
mod target;

#[cfg(test)]
mod tests;

pub use driver::run;
pub use target::{MqttTarget, TargetOptions};
