//! QEMU for the firmware of the examples.

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
    if let Some(found) = program("qemu-system-arm") {
        return Ok(found);
    }
    let folder = workspace.target().join("toolchain/qemu");
    let wrapper = folder.join("qemu-system-arm");
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
        "missing: qemu-system-arm; install it, or on Debian 12 run as root\n    {} {}",
        script.display(),
        folder.display()
    ))
    .into())
}
