//! Function packages: one version of a function with its manifest, signed
//! (docs/formats/package.md).
//!
//! Invariants:
//! - [`Package::open`] is the only way to a package that may run, and it takes whole files that
//!   a trusted key has signed;
//! - a package is on the shelf before the log says that a function's name stands for it.
//!
//! Not here: which version a name stands for, and trials: `tidegate_flow`.

mod ceiling;
mod installer;
mod key_file;
mod manifest;
mod package;
mod shelf;
mod signature;
mod store;

#[cfg(test)]
mod tests;

pub use ceiling::Ceiling;
pub(crate) use installer::off_thread;
pub use installer::{Canary, Installed, Installer};
pub(crate) use key_file::{KeyUse, read_key, write_key};
pub use manifest::Wants;
pub(crate) use manifest::{MAX_MODULE, Manifest, is_version};
pub(crate) use package::{Contents, MAX_PACKAGE, Package, look_into, pack, sha256};
pub(crate) use shelf::{BUNDLES, MAX_BLOCK, PACKAGES, Progress, Shelf};
pub use signature::TrustedKeys;
pub(crate) use signature::{SigningKey, parse_public, show_public};
pub use store::Store;
pub(crate) use store::compile;
