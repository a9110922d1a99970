//! The Tidegate daemon: the shell around [`tidegate_flow`], and the commands.

pub mod config;
pub mod core_handle;
pub mod disk;
mod hex;
#[cfg(test)]
mod scratch;
