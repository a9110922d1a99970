//! `tidegate init`

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use anyhow::Context;

use super::Failure;
use crate::config;

/// Writes the starter configuration into `dir`; never over another one.
pub(super) fn init(dir: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let file = dir.join("tidegate.toml");
    let shown = file.display();
    let mut opened = match OpenOptions::new().write(true).create_new(true).open(&file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let text = format!("{shown} is there already; remove it first, or name another place");
            return Err(Failure::Failed(anyhow::Error::msg(text)));
        }
        opened => opened.with_context(|| format!("cannot write {shown}"))?,
    };
    opened
        .write_all(config::starter().as_bytes())
        .with_context(|| format!("cannot write {shown}"))?;
    writeln!(out, "wrote {shown}\nnext:  tidegate run --config {shown}")?;
    Ok(())
}
