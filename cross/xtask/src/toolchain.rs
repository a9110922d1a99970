//! Compilers for other machines: functions (wasm32-unknown-unknown), devices, and
//! those that releases are built for (`cross/targets.toml`).

use crate::cli::Usage;
use crate::debian::is_root;
use crate::progress::{captured, quietly, show};
use crate::workspace::{Workspace, clean, program};
use anyhow::{Context, Result};
use std::env;
use std::path::PathBuf;
use std::process::Command;

/// A machine other than this one that is compiled for.
pub(crate) struct Target<'a> {
    /// As the compiler calls it.
    pub(crate) name: &'a str,
    /// What a compiler that has only the sources of the standard library has to be told.
    pub(crate) build_std: &'static [&'static str],
    /// What is there when Debian's Rust was set up for the target, seen from its folder; nothing more
    /// than the compiler where that builds for it by itself.
    pub(crate) prepared: Option<String>,
}

/// Functions.
pub(crate) const GUEST: Target<'static> = Target {
    name: "wasm32-unknown-unknown",
    build_std: &["-Zbuild-std=std,panic_abort"],
    prepared: None,
};

/// Devices: a Cortex-M4 with a floating-point unit.
pub(crate) const DEVICE: Target<'static> =
    Target { name: "thumbv7em-none-eabihf", build_std: &["-Zbuild-std=core"], prepared: None };

/// Devices: a Cortex-M0+.
pub(crate) const SMALL_DEVICE: Target<'static> =
    Target { name: "thumbv6m-none-eabi", build_std: &["-Zbuild-std=core"], prepared: None };

/// Devices: a RISC-V of 32 bits.
pub(crate) const RISCV_DEVICE: Target<'static> = Target {
    name: "riscv32imac-unknown-none-elf",
    build_std: &["-Zbuild-std=core"],
    prepared: None,
};

/// Who compiles for other machines.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Toolchain {
    /// The cargo that runs this: its compiler has the target.
    Own,
    /// The wrapper that `cross/debian-rust.sh` has written; builds std itself.
    Debian(PathBuf),
}

impl Toolchain {
    /// Finds one for a target, or sets one up, in this order: the active one; rustup, where it may
    /// install; Debian's packages. Says what it does.
    pub(crate) fn find(workspace: &Workspace, target: &Target<'_>) -> Result<Self> {
        let prepared = target.prepared.as_deref();
        let target = target.name;
        if has_target(workspace, target)? {
            return Ok(Self::Own);
        }
        let add = format!("rustup target add {target}");
        if program("rustup").is_some()
            && env::var_os("RUSTUP_AUTO_INSTALL").is_none_or(|v| v != "0")
        {
            let mut command = Command::new("rustup");
            command.args(["target", "add", target]).current_dir(workspace.root());
            let output = captured(&add, &mut command)?;
            if output.status.success() && has_target(workspace, target)? {
                return Ok(Self::Own);
            }
            show(&output);
        }
        let folder = workspace.target().join("toolchain/debian");
        let cargo = folder.join("cargo");
        let is_prepared = prepared.is_none_or(|path| folder.join(path).exists());
        if folder.join(".version").is_file() && cargo.is_file() && is_prepared {
            return Ok(Self::Debian(cargo));
        }
        if program("apt-get").is_some() && is_root() {
            let script = workspace.root().join("cross/debian-rust.sh");
            let mut command = Command::new(script);
            command.arg(&folder).arg(target);
            let what = format!("setting up Debian's Rust for {target} in {}", folder.display());
            if quietly(&what, &mut command).is_ok() {
                return Ok(Self::Debian(cargo));
            }
        }
        Err(Usage(format!(
            "the compiler has no standard library for {target}. Run\n    {add}\nor, on Debian 12 as root,\n    cross/debian-rust.sh {} {target}\nand then this command again",
            folder.display()
        ))
        .into())
    }

    /// A cargo command in the workspace, and the arguments that building for the target needs.
    pub(crate) fn cargo(
        &self,
        workspace: &Workspace,
        target: &Target<'_>,
    ) -> (Command, &'static [&'static str]) {
        let command = match self {
            Self::Own => workspace.cargo(),
            Self::Debian(cargo) => {
                let mut command = Command::new(cargo);
                clean(&mut command);
                command.current_dir(workspace.root());
                command
            }
        };
        (command, self.flags(target))
    }

    /// Flags for every crate of a guest, std included: its sources are the same wherever they lie, so
    /// that a module is too, and no long path is in it.
    pub(crate) fn encoded_rustflags(&self, workspace: &Workspace) -> String {
        match self {
            Self::Own => String::new(),
            Self::Debian(cargo) => {
                let folder = cargo.parent().unwrap_or(cargo);
                // Cargo names what lies in the workspace by its path from there.
                let folder = folder.strip_prefix(workspace.root()).unwrap_or(folder);
                let sources = folder.join("usr/lib/rustlib/src/rust");
                format!("--remap-path-prefix={}=rust", sources.display())
            }
        }
    }

    /// The cargo of that command.
    pub(crate) fn program(&self) -> PathBuf {
        match self {
            Self::Own => env::var_os("CARGO").unwrap_or_else(|| "cargo".into()).into(),
            Self::Debian(cargo) => cargo.clone(),
        }
    }

    /// The arguments that building for the target needs.
    pub(crate) fn flags(&self, target: &Target<'_>) -> &'static [&'static str] {
        match self {
            Self::Own => &[],
            Self::Debian(_) => target.build_std,
        }
    }
}

/// Whether the compiler that cargo uses in this workspace has the target.
fn has_target(workspace: &Workspace, target: &str) -> Result<bool> {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args(["--print", "sysroot"])
        .current_dir(workspace.root())
        .output()
        .context("cannot run rustc --print sysroot")?;
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(PathBuf::from(sysroot).join("lib/rustlib").join(target).join("lib").is_dir())
}
