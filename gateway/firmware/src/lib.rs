//! The gateway's half of firmware upgrades, without I/O: bundles as operators push them, and the
//! [`Desk`] that brings them to devices (docs/formats/device-messages.md,
//! docs/formats/firmware-bundle.md).
//!
//! What devices say goes in by [`Desk::handle_message`]; after each call [`Desk::poll_output`] says
//! what is to be sent, read and put down, and [`Desk::poll_timeout`] when to come back.
//!
//! Invariant: nothing here decides what a device runs. What travels is checked by devices alone, by
//! their own keys (`tidegate-agent`, `tidegate-boot`).
//!
//! Not here: files, sockets, clocks, the log.

mod about;
mod bundle;
mod campaign;
mod desk;
mod forgetting;
mod member;
mod offering;
mod output;
mod pace;
mod reporting;
mod serving;
mod status;
mod table;

#[cfg(test)]
mod tests;

pub use bundle::{
    BundleError, Entry, HEAD, MAX_BUNDLE, MAX_HEADER, Release, header_bytes, write_head,
};
pub use campaign::{HaltAt, MAX_LISTED, MAX_NAME, State, Terms};
pub use desk::{Desk, DeskError, Limits, MAX_CAMPAIGNS, MAX_DEVICES, Moment};
pub use forgetting::MADE_AT_ONCE;
pub use member::Stage;
pub use output::{Batch, Letter, Note, Output, Read, Topic, Via};
pub use serving::{MAX_ASKED, MAX_RESENT};
pub use status::{CampaignStatus, DeviceStatus, FleetStatus, MemberStatus, show_uuid};
