//! The process tests, one binary. They need the gateway and the functions, built before:
//! `cargo xtask test` does that and says where they are.

#![allow(clippy::unwrap_used, reason = "a test binary: what fails here fails the test")]

mod backup;
mod binaries;
mod canary;
mod carried;
mod chain;
mod clients;
mod control;
mod emulated;
mod farewell;
mod files;
mod firmware;
mod hostile;
mod hostile_layers;
mod https_sink;
mod isolation;
mod kill;
mod link_death;
mod nats;
mod nats_login;
mod operation;
mod packed;
mod poison;
mod power_cut;
mod pushed;
mod rabbitmq;
mod records;
mod reload;
mod routes;
mod s3_sink;
mod security;
mod serial;
mod sessions;
mod setup;
mod slow;
mod supervised;
mod third_party;
mod workers;
