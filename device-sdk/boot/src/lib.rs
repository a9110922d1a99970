//! What a bootloader decides, and what it shares with the agent: where things are in flash, which
//! state a device is in, whether a release may be taken. `no_std`, no allocation, any
//! `embedded_storage` NOR flash; docs/formats/flash-layout.md.
//!
//! A bootloader's `main` is [`start`] and a jump:
//!
//! ```
//! # fn example<F: embedded_storage::nor_flash::NorFlash, C: tidegate_wire::crypto::Crypto>(
//! #     flash: &mut F, layout: &tidegate_boot::Layout<'_>, trust: &tidegate_boot::Trust<'_>, crypto: &C,
//! # ) -> Result<u32, tidegate_boot::FlashFailed> {
//! let started = tidegate_boot::start(flash, layout, trust, crypto, &mut || { /* feed the watchdog */ })?;
//! // The offset in flash of the image to jump to.
//! Ok(started.entry)
//! # }
//! ```
//!
//! Invariants:
//! - Power may fail at any write and erase: afterwards [`start`] ends with an image that is whole.
//! - No image is started that was not in a release which is signed by the device's key set, is
//!   above its sequence and not below its floor; except what was there from the factory.
//!
//! Not here: the jump, the watchdog, clocks, how an image gets into flash (`tidegate-agent`).
#![no_std]

#[cfg(test)]
extern crate std;

mod exchange;
mod flash;
mod keys;
mod layout;
mod ledger;
mod release;
mod start;
mod state;

#[cfg(test)]
mod tests;

pub use flash::{Cause, Flash, FlashFailed, MAX_WORD};
pub use keys::{KeyStore, Trust};
pub use layout::{FRAME, Kind, Layout, LayoutError, MAX_PARTS, Part, Region};
pub use ledger::{Ledger, PageDone, Taken};
pub use release::{Choice, Identity, Plan, Travels, choose, digest_of, judge};
pub use start::{Started, start};
pub use state::{Outcome, Phase, State, StateLog};

/// Version of the contract between this bootloader and the images that it starts.
pub const BOOT_ABI: u32 = 1;
