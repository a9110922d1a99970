//! `tidegate fn keygen`

use std::io::Write;
use std::path::Path;

use anyhow::Context;

use super::Failure;
use crate::packages::{KeyUse, show_public, write_key};

/// Makes a key, and shows what a gateway's configuration needs.
pub(super) fn keygen(file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let key = write_key(file, KeyUse::Functions)
        .with_context(|| format!("cannot make the key {}; choose another file", file.display()))?;
    let public = show_public(key.public());
    writeln!(
        out,
        "{} is the key; keep it secret. A gateway takes what it signs with",
        file.display()
    )?;
    writeln!(out, "\n[functions]\ntrusted_keys = [\"{public}\"]")?;
    Ok(())
}
