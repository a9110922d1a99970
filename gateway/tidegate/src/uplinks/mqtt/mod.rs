//! The MQTT sink, QoS 1. MQTT 5: one record a message, the envelope in user properties; or, where a
//! server counts messages, many records as the body of one. MQTT 3.1.1: always as a body.

mod complaint;
mod driver;
mod link;
mod target;

#[cfg(test)]
mod tests;

pub use driver::run;
pub use target::{MqttTarget, TargetOptions, Version};
