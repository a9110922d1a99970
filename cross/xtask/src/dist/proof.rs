//! Shows that the gateway does its main job on other machines: the demo, with the gateway built for them
//! and run by QEMU's emulation of their processor.

use super::compiler::{self, Care};
use super::target::Machine;
use super::write;
use crate::debian;
use crate::workspace::{Workspace, program};
use anyhow::{Context, Result};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

/// The targets whose binaries run the main job on each submission, and what that is called.
pub(crate) const PROVEN: [(&str, &str); 2] = [
    ("aarch64-unknown-linux-musl", "the demo on arm64, 30 s"),
    ("armv7-unknown-linux-musleabihf", "the demo on armv7, 30 s"),
];

/// Builds the gateway for a machine; a program for this one that runs it.
pub(crate) fn emulated(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let machine = Machine::find(name)?;
    debian::ensure(&[(&machine.emulator, "qemu-user-static")])?;
    let built = compiler::build(workspace, &machine, Care::Tried)?;
    let bytes = fs::metadata(&built).with_context(|| format!("no {}", built.display()))?.len();
    eprintln!("  {name}: {bytes} bytes");
    let emulator = program(&machine.emulator).context("the emulator is not there")?;
    let script = built.with_file_name("emulated");
    // One process: who ends it ends the gateway.
    let text = format!("#!/bin/sh\nexec {} {} \"$@\"\n", emulator.display(), built.display());
    write(&script, text.as_bytes())?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))
        .with_context(|| format!("cannot change the mode of {}", script.display()))?;
    Ok(script)
}
