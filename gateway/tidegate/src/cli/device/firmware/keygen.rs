//! `tidegate device firmware keygen`

use std::io::Write;
use std::path::Path;

use anyhow::Context;

use super::Failure;
use crate::packages::{KeyUse, show_public, write_key};

/// Makes a key, and shows its public half.
pub(super) fn keygen(file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let key = write_key(file, KeyUse::Firmware)
        .with_context(|| format!("cannot make the key {}; choose another file", file.display()))?;
    let public = show_public(key.public());
    writeln!(out, "{} is the key; keep it secret. Its public half:", file.display())?;
    writeln!(out, "{public}")?;
    Ok(())
}
