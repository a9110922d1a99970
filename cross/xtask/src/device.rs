//! Builds the programs for microcontrollers whose size is measured.

use crate::progress::quietly;
use crate::toolchain::{DEVICE, Toolchain};
use crate::workspace::Workspace;
use anyhow::Result;
use std::path::PathBuf;

/// Where they are: a workspace of its own.
const PROGRAMS: &str = "tests/sizes";

/// Builds them, and returns the folder that they are in.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let toolchain = Toolchain::find(workspace, &DEVICE)?;
    // A target directory of its own: the compiler may be another one.
    let target = workspace.target().join("device");
    let (mut cargo, extra) = toolchain.cargo(workspace, &DEVICE);
    cargo
        .args(["build", "--locked", "--release", "--bins", "--target", DEVICE.name])
        .args(extra)
        .current_dir(workspace.root().join(PROGRAMS))
        .env("CARGO_TARGET_DIR", &target)
        // Flags for the machine's own binaries are not for devices.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    quietly("building the programs for devices", &mut cargo)?;
    Ok(target.join(DEVICE.name).join("release"))
}
