//! Emulated ARM computers: QEMU's `virt` with virtio disks, started by a kernel of Debian.

use super::space::Folder;
use crate::progress::quietly;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Longest time for assembling: a busy machine with two processors takes a tenth of it.
const PATIENCE_S: &str = "3600";
const MEMORY_MIB: &str = "1024";
/// What `init-assembly` says when all is well.
const DONE: &str = "tidegate-image: assembled";
/// Lines of the console that an error shows.
const SHOWN: usize = 40;

/// What a machine starts from.
pub(crate) struct Boot {
    pub(crate) emulator: PathBuf,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// The kernel's command line; the console is added.
    pub(crate) command_line: String,
}

impl Boot {
    /// A QEMU with this machine, the console in a file, and these disks.
    pub(crate) fn command(&self, console: &Path, disks: &[&Path]) -> Command {
        let mut qemu = Command::new(&self.emulator);
        // cortex-a72 is what a Raspberry Pi 4 has. Panics end the machine.
        qemu.args(["-machine", "virt", "-cpu", "cortex-a72", "-smp", "2", "-m", MEMORY_MIB])
            .args(["-accel", "tcg,thread=multi", "-no-reboot", "-display", "none"])
            .args(["-monitor", "none"])
            .arg("-kernel")
            .arg(&self.kernel)
            .arg("-initrd")
            .arg(&self.initramfs)
            .arg("-append")
            .arg(format!("{} console=ttyAMA0 panic=-1", self.command_line))
            .arg("-serial")
            .arg(format!("file:{}", console.display()));
        for (number, disk) in disks.iter().enumerate() {
            // Files of this machine's cache are enough: a broken run starts from the beginning.
            qemu.arg("-drive")
                .arg(format!(
                    "if=none,id=disk{number},format=raw,cache=unsafe,file={}",
                    disk.display()
                ))
                .arg("-device")
                .arg(format!("virtio-blk-device,drive=disk{number}"));
        }
        qemu
    }

    /// Runs a machine that assembles an image, to its end.
    ///
    /// # Errors
    /// When it does not say that all is well; with the end of its console.
    pub(super) fn assemble(&self, what: &str, folder: &Folder, disks: &[&Path]) -> Result<()> {
        let console = folder.file("console.log");
        let qemu = self.command(&console, disks);
        let mut bounded = Command::new("timeout");
        bounded
            .arg(PATIENCE_S)
            .arg(qemu.get_program())
            .args(qemu.get_args())
            .args(["-nic", "none"]);
        quietly(what, &mut bounded)?;
        let said = console_text(&console)?;
        if said.lines().any(|line| line.trim_end().ends_with(DONE)) {
            return Ok(());
        }
        bail!(
            "{what}: the machine did not finish; the end of {}:\n{}",
            console.display(),
            end(&said)
        )
    }
}

/// What a machine has written to its console.
pub(crate) fn console_text(console: &Path) -> Result<String> {
    let bytes = fs::read(console).with_context(|| format!("cannot read {}", console.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a console.
pub(crate) fn end(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}
