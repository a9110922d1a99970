//! Builds programs for microcontrollers: those whose size is measured, and the firmware of the examples.

use crate::progress::quietly;
use crate::toolchain::{DEVICE, Toolchain};
use crate::workspace::Workspace;
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Programs whose size is measured: a workspace of its own.
const PROGRAMS: &str = "tests/sizes";
/// Firmware that runs: another one.
const FIRMWARE: &str = "firmware-examples";

/// Builds what is measured, and returns the folder that it is in.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    build_in(workspace, PROGRAMS, "building the programs for devices")
}

/// Builds the examples' firmware, and returns the folder that it is in. What is over the budget of its
/// `memory.x` does not link.
pub(crate) fn firmware(workspace: &Workspace) -> Result<PathBuf> {
    build_in(workspace, FIRMWARE, "building the firmware of the examples")
}

/// The crates that devices link.
const CRATES: [&str; 8] = [
    "tidegate-wire",
    "tidegate-link",
    "tidegate-mqtt",
    "tidegate-telemetry",
    "tidegate-boot",
    "tidegate-agent",
    "tidegate-embedded-io",
    "tidegate-embassy",
];

/// A command that checks whether the crates for devices compile for one, with all their features.
pub(crate) fn crates(workspace: &Workspace) -> Result<Command> {
    let toolchain = Toolchain::find(workspace, &DEVICE)?;
    let (mut cargo, extra) = toolchain.cargo(workspace, &DEVICE);
    cargo
        .args(["check", "--locked", "--lib", "--all-features", "--target", DEVICE.name])
        .args(extra)
        .args(CRATES.iter().flat_map(|name| ["--package", *name]))
        .env("CARGO_TARGET_DIR", workspace.target().join("device"))
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    Ok(cargo)
}

/// The tests of those parts of the firmware that run on the host as well.
pub(crate) fn host_tests(workspace: &Workspace) -> Command {
    let mut cargo = workspace.cargo();
    cargo
        .args(["test", "--locked", "--package", "firmware-crypto"])
        .current_dir(workspace.root().join(FIRMWARE))
        .env("CARGO_TARGET_DIR", workspace.target().join("device"));
    cargo
}

fn build_in(workspace: &Workspace, folder: &str, what: &str) -> Result<PathBuf> {
    let toolchain = Toolchain::find(workspace, &DEVICE)?;
    // A target directory of its own: the compiler may be another one.
    let target = workspace.target().join("device");
    let (mut cargo, extra) = toolchain.cargo(workspace, &DEVICE);
    cargo
        .args(["build", "--locked", "--release", "--workspace", "--bins", "--target", DEVICE.name])
        .args(extra)
        .current_dir(workspace.root().join(folder))
        .env("CARGO_TARGET_DIR", &target)
        // Flags for the machine's own binaries are not for devices.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    quietly(what, &mut cargo)?;
    Ok(target.join(DEVICE.name).join("release"))
}
