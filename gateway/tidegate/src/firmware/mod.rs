//! Bundles of firmware on the disk: how they come there, and how their blocks are read
//! (docs/formats/firmware-bundle.md).
//!
//! Invariant: a campaign begins only with a bundle that is whole on flash and holds what its
//! manifest says.
//!
//! Not here: which device is offered what (`tidegate_firmware`).

mod blocks;
mod bundles;

pub(crate) use blocks::BlockReader;
pub use bundles::Bundles;
