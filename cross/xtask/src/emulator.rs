//! QEMU: for the firmware of the examples, and for whole ARM computers.

use crate::cli::Usage;
use crate::debian::is_root;
use crate::progress::quietly;
use crate::workspace::{Workspace, program};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

/// Finds `qemu-system-arm`: on the path, else unpacked under `target/toolchain`, else, as root on Debian, it
/// is unpacked there.
pub(crate) fn find(workspace: &Workspace) -> Result<PathBuf> {
    find_program(workspace, "qemu-system-arm")
}

/// The same for `qemu-system-aarch64`, which comes in the same package.
pub(crate) fn find_64(workspace: &Workspace) -> Result<PathBuf> {
    find_program(workspace, "qemu-system-aarch64")
}

/// The same for `qemu-system-riscv32`.
pub(crate) fn find_riscv(workspace: &Workspace) -> Result<PathBuf> {
    find_program(workspace, "qemu-system-riscv32")
}

fn find_program(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    if let Some(found) = program(name) {
        return Ok(found);
    }
    let folder = workspace.target().join("toolchain/qemu");
    let wrapper = folder.join(name);
    if wrapper.is_file() {
        return Ok(wrapper);
    }
    let script = workspace.root().join("cross/debian-qemu.sh");
    if program("apt-get").is_some() && is_root() {
        let mut command = Command::new(&script);
        quietly("setting up Debian's QEMU", command.arg(&folder))?;
        return Ok(wrapper);
    }
    Err(Usage(format!(
        "missing: {name}; install it (Debian: qemu-system-arm, qemu-system-misc), or on Debian 12 run as root\n    {} {}",
        script.display(),
        folder.display()
    ))
    .into())
}
