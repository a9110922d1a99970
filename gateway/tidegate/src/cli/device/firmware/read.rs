//! Reads what the commands are given: keys, key sets, images, bundles.

use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow};
use tidegate_wire::ed25519::PublicKey;
use tidegate_wire::key_set::{KeySet, MAX_KEY_SET};
use tidegate_wire::sign1::{KeyId, look_into};

use super::Failure;
use crate::packages::{SigningKey, parse_public, read_key};

/// The key of a file.
pub(super) fn key(file: &Path) -> anyhow::Result<SigningKey> {
    read_key(file).map_err(|problem| anyhow!("the key {} {problem}", file.display()))
}

/// A public key that was typed.
pub(super) fn public(option: &str, text: &str) -> Result<PublicKey, Failure> {
    parse_public(text).map_err(|problem| Failure::Wrong(format!("{option} {text}: {problem}")))
}

/// A file of at most so many bytes.
pub(super) fn file(path: &Path, what: &str, max: u64) -> anyhow::Result<Vec<u8>> {
    let shown = path.display();
    let size = fs::metadata(path).with_context(|| format!("cannot read {shown}"))?.len();
    if !(1..=max).contains(&size) {
        return Err(anyhow!("{shown} has {size} bytes; {what} has 1 to {max}"));
    }
    fs::read(path).with_context(|| format!("cannot read {shown}"))
}

/// A key set in its envelope, with who has signed it. Nothing of it is proven.
pub(super) fn key_set(path: &Path) -> anyhow::Result<(Vec<u8>, KeyId, KeySet)> {
    let envelope = file(path, "a key set", MAX_KEY_SET as u64)?;
    let named = |problem: String| anyhow!("{} is no key set: {problem}", path.display());
    let (signer, payload) = look_into(&envelope).map_err(|error| named(error.to_string()))?;
    let set = KeySet::read(payload).map_err(|error| named(error.to_string()))?;
    Ok((envelope, signer, set))
}
