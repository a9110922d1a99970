//! `cargo xtask dist-check`: a package in a root file system of its machine.

use super::target::Machine;
use super::{Wanted, parse, release};
use crate::cli::Usage;
use crate::debian;
use crate::progress::{quietly, shown};
use crate::wasm;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::process::{Command, ExitCode};

/// The machine that is checked when none is named.
const DEFAULT: &str = "aarch64-unknown-linux-musl";

/// Builds the package, unless it is there and `--built` is given, and has `cross/check-package.sh` try it.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    if !debian::is_root() {
        let text = "a root file system is made and entered, which takes root; run this with sudo";
        return Err(Usage(text.to_owned()).into());
    }
    let mut wanted = arguments.to_vec();
    let built =
        wanted.iter().position(|argument| argument == "--built").map(|at| wanted.remove(at));
    if !wanted.iter().any(|argument| !argument.starts_with('-')) {
        wanted.push(DEFAULT.to_owned());
    }
    let wanted = Wanted { package: true, ..parse(&wanted)? };
    let machine = Machine::find(&wanted.target)?;
    debian::ensure(&[
        ("lintian", "lintian"),
        ("mmdebstrap", "mmdebstrap"),
        ("arch-test", "arch-test"),
        // What the service may do is counted by it.
        ("systemd-analyze", "systemd"),
        (&machine.emulator, "qemu-user-static"),
    ])?;
    if built.is_none() {
        release(workspace, &machine, &wanted)?;
    }
    let package = super::deb::file(workspace, &machine);
    let mut lintian = Command::new("lintian");
    quietly("lintian", lintian.args(["--fail-on", "error,warning"]).arg(&package))?;
    let functions = wasm::build(workspace)?;
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--package", "tidegate-rig"]);
    quietly("building the rig", &mut cargo)?;
    let mut script = Command::new(workspace.root().join("cross/check-package.sh"));
    script
        .arg(&package)
        .arg(&machine.emulator)
        .arg(workspace.binary("debug", "tidegate-rig"))
        .arg(functions.join("threshold.wasm"));
    let status = script.status().with_context(|| format!("cannot run {}", shown(&script)))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
