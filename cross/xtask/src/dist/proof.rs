//! Shows that the gateway does its main job on other machines: the demo, with the gateway built for them
//! and run by QEMU's emulation of their processor.

use super::compiler::{self, Care};
use super::target::Machine;
use super::write;
use crate::cli::Usage;
use crate::progress::{captured, quietly, show};
use crate::workspace::{Workspace, program};
use crate::{checks, debian, wasm};
use anyhow::{Context, Result, ensure};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The targets whose binaries run the main job on each submission, and what that is called.
pub(crate) const PROVEN: [(&str, &str); 2] = [
    ("aarch64-unknown-linux-musl", "the demo on arm64, 30 s"),
    ("armv7-unknown-linux-musleabihf", "the demo on armv7, 30 s"),
];

/// Runs the demo on each machine, or on the one that is named.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let chosen: Vec<_> = match arguments {
        [] => PROVEN.to_vec(),
        [only] => PROVEN.into_iter().filter(|(target, _)| target == only).collect(),
        _ => Vec::new(),
    };
    if chosen.is_empty() {
        let known = PROVEN.map(|(target, _)| target).join(" or ");
        return Err(Usage(format!("`proof` takes no argument, or {known}")).into());
    }
    let functions = wasm::build(workspace)?;
    let mut cargo = workspace.cargo();
    quietly("building the rig", cargo.args(["build", "--package", "tidegate-rig"]))?;
    let mut good = true;
    for (target, name) in chosen {
        let gateway = emulated(workspace, target)?;
        let output =
            captured(name, &mut checks::rig(workspace, &functions, &gateway, checks::DEMO))?;
        if !output.status.success() {
            show(&output);
            good = false;
        }
        let said = String::from_utf8_lossy(&output.stdout);
        println!("{target} {}", said.lines().last().unwrap_or_default());
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds the gateway for a machine; a program for this one that runs it.
pub(crate) fn emulated(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    let machine = Machine::find(name)?;
    debian::ensure(&[(&machine.emulator, "qemu-user-static")])?;
    let built = compiler::build(workspace, &machine, Care::Quick)?;
    let bytes = fs::metadata(&built).with_context(|| format!("no {}", built.display()))?.len();
    eprintln!("  {name}: {bytes} bytes");
    let emulator = program(&machine.emulator).context("the emulator is not there")?;
    let script = built.with_file_name("emulated");
    // One process: who ends it ends the gateway.
    let text = format!("#!/bin/sh\nexec {} {} \"$@\"\n", emulator.display(), built.display());
    write(&script, text.as_bytes())?;
    fs::set_permissions(&script, Permissions::from_mode(0o755))
        .with_context(|| format!("cannot change the mode of {}", script.display()))?;
    tells_errors(&script)?;
    Ok(script)
}

/// An error is told, and ends the program with 1, also where a backtrace is wanted: there are no tables for one.
fn tells_errors(gateway: &Path) -> Result<()> {
    let mut command = Command::new(gateway);
    command.args(["status", "--data-dir", "/nowhere"]).env("RUST_BACKTRACE", "1");
    let output = command.output().with_context(|| format!("cannot run {}", gateway.display()))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let told = text.contains("no gateway runs on /nowhere");
    ensure!(output.status.code() == Some(1) && told, "{}: {output:?}", gateway.display());
    Ok(())
}
