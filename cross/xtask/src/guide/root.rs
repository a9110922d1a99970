//! A Debian root file system that commands of guides are tried in, with what belongs to a machine of its own:
//! network, processes, devices. `cross/guide` has what makes it, and what stands in it for systemd and others.

use crate::debian;
use crate::dist::target::Machine;
use crate::progress::quietly;
use crate::workspace::{Workspace, program};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest time that a guide may take in it.
const PATIENCE_S: &str = "300";

/// What makes it a machine of its own.
const NAMESPACES: [&str; 7] =
    ["--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child"];

/// Why there can be none here, as far as that is the kernel's doing.
pub(super) fn missing() -> Option<&'static str> {
    let mounts = |what: &str| {
        let mut mount = Command::new("unshare");
        mount.args(NAMESPACES);
        mount.args(["sh", "-c", &format!("mount --make-rprivate / && mount {what}")]);
        mount.output().is_ok_and(|output| output.status.success())
    };
    if !mounts("-t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc") {
        Some("the kernel runs no programs of other machines (binfmt_misc)")
    } else if !mounts("-t cgroup2 cgroup2 /mnt") {
        Some("the kernel has no second version of cgroups here")
    } else if !mounts("-t overlay -o lowerdir=/usr:/etc overlay /mnt") {
        Some("the kernel has no overlays here")
    } else {
        None
    }
}

/// A root file system with files of its own over one that stays as it is.
pub(super) struct Root {
    base: PathBuf,
    place: PathBuf,
    sources: PathBuf,
    machine: Machine,
}

impl Root {
    /// One that also runs programs of this machine.
    pub(super) fn new(workspace: &Workspace, place: &Path, machine: Machine) -> Result<Self> {
        debian::ensure(&[
            ("mmdebstrap", "mmdebstrap"),
            ("unshare", "util-linux"),
            (&machine.emulator, "qemu-user-static"),
        ])?;
        let sources = workspace.root().join("cross/guide");
        let base = base(workspace, &sources)?;
        for folder in ["layer", "files/root", "files/usr/local/bin"] {
            let folder = place.join(folder);
            fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let root = Self { base, place: place.to_owned(), sources, machine };
        root.stand_in("sudo", "sudo")?;
        Ok(root)
    }

    /// Puts a file where its commands are run.
    pub(super) fn put(&self, file: &Path, name: &str) -> Result<()> {
        self.copy(file, &format!("root/{name}"))
    }

    /// Puts a program of `cross/guide` into the path, before those of Debian.
    pub(super) fn stand_in(&self, file: &str, name: &str) -> Result<()> {
        self.copy(&self.sources.join(file), &format!("usr/local/bin/{name}"))
    }

    fn copy(&self, file: &Path, name: &str) -> Result<()> {
        fs::copy(file, self.place.join("files").join(name))
            .with_context(|| format!("cannot copy {} to /{name} there", file.display()))?;
        Ok(())
    }

    /// Runs commands in it, in `/root`. Nothing of them is left behind.
    pub(super) fn run(&self, what: &str, script: &str) -> Result<()> {
        let file = self.place.join("files/guide.sh");
        fs::write(&file, script).with_context(|| format!("cannot write {}", file.display()))?;
        let emulator = program(&self.machine.emulator).context("the emulator is not there")?;
        let mut enter = Command::new("timeout");
        enter
            .args(["--signal=KILL", PATIENCE_S, "unshare"])
            .args(NAMESPACES)
            .arg(self.sources.join("enter.sh"))
            .arg(&self.base)
            .arg(&self.place)
            .arg(emulator)
            // In the header of an ELF file, for arm64.
            .arg(r"\xb7\x00");
        quietly(what, &mut enter)?;
        Ok(())
    }
}

/// The folder with Debian, made anew when its recipe has changed.
fn base(workspace: &Workspace, sources: &Path) -> Result<PathBuf> {
    let script = sources.join("make.sh");
    let recipe = fs::read(&script).with_context(|| format!("cannot read {}", script.display()))?;
    let folder = workspace.target().join("toolchain/guide");
    let (root, known) = (folder.join("root"), folder.join("make.sh"));
    if root.is_dir() && fs::read(&known).is_ok_and(|known| known == recipe) {
        return Ok(root);
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    quietly("making a root file system for guides", Command::new(&script).arg(&root))?;
    fs::write(&known, recipe).with_context(|| format!("cannot write {}", known.display()))?;
    Ok(root)
}
