//! The shelf with the keys that are trusted: from a hash to what may run.

use std::sync::Arc;

use tidegate_flow::FunctionPlan;
use tidegate_runtime::Module;
use tidegate_wire::Digest;

use super::manifest::Manifest;
use super::package::{Contents, Package};
use super::shelf::Shelf;
use super::signature::TrustedKeys;
use crate::secrets::Vault;

/// See the module. The core's thread and the side share it.
#[derive(Clone)]
pub struct Store {
    pub(crate) shelf: Shelf,
    pub(crate) trusted: Arc<TrustedKeys>,
    pub(crate) vault: Vault,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// A package on the shelf that is signed by a key that is trusted now.
    ///
    /// # Errors
    /// In words: it is not there, damaged, or not trusted any more.
    pub(crate) fn load(&self, package: Digest) -> Result<Contents, String> {
        let bytes = self.shelf.read(package).map_err(|error| error.to_string())?;
        let package = Package::open(&bytes, &self.trusted).map_err(|error| error.to_string())?;
        Ok(package.into_contents())
    }

    /// What a package's function may do.
    ///
    /// # Errors
    /// As [`Store::load`].
    pub(crate) fn plan(&self, package: Digest) -> Result<FunctionPlan, String> {
        Ok(self.load(package)?.manifest.plan())
    }
}

/// Compiles the module of a package as its function will run it.
///
/// # Errors
/// What is wrong with the module, in words.
pub(crate) fn compile(manifest: &Manifest, wasm: &[u8]) -> Result<Module, String> {
    let limits = manifest.settings().limits();
    Module::compile_with(wasm, &limits, manifest.grants()).map_err(|error| error.to_string())
}
