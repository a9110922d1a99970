//! The Tidegate daemon: the shell around [`tidegate_flow`], and the commands.

pub mod admin;
mod backup;
mod base64;
pub mod cli;
pub mod config;
pub mod core;
pub mod core_handle;
pub mod data_dir;
pub mod disk;
pub mod export;
pub mod firmware;
mod folders;
pub mod guest_log;
mod hex;
pub mod http;
mod lines;
pub mod links;
pub mod logging;
mod metrics;
pub mod packages;
mod process;
mod rehearsal;
pub mod reload;
mod ring_crypto;
pub mod routes;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod scratch;
mod secret;
mod secrets;
#[cfg(test)]
mod serving;
pub mod shutdown;
pub mod supervisor;
pub mod uplinks;
mod utc;
mod wear;
