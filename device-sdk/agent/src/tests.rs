//! Whole upgrades on simulated flash: bootloader, agent and gateway, with the power cut anywhere, and
//! with gateways that do not what they should.

mod cuts;
mod decoding;
mod flow;
mod hostile;
mod mutated;
mod world;
