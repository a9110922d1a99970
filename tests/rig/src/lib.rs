//! Test rig: a cloud, a link that can be cut, sensors, and the gateway as a process. The demo and
//! the process tests are built from these parts.
//!
//! The rig judges the gateway from outside: it speaks MQTT by its own hand-written packets and
//! uses none of the gateway's crates.

pub mod cloud;
pub mod consumer;
pub mod demo;
pub mod gateway;
pub mod link;
pub mod mosquitto;
pub mod mqtt;
pub mod nats;
pub mod nkeys;
pub mod ports;
pub mod postgres;
pub mod proxy;
pub mod publisher;
pub mod rabbitmq;
pub mod scratch;
pub mod seen;
pub mod sensors;
pub mod sink;
pub mod soak;
mod terminate;
