//! Builds release binaries and becomes one of them.

use crate::cli::Usage;
use crate::clients;
use crate::debian;
use crate::device;
use crate::emulator;
use crate::progress::{quietly, shown};
use crate::wasm;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Quick to build, for what is only run here.
pub(crate) const RELEASE: &str = "release";

/// What ships: benchmarks measure this gateway.
pub(crate) const DIST: &str = "dist";

/// Gateway, embedded cloud, cuttable proxy and sensors.
pub(crate) fn demo(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let functions = wasm::build(workspace)?;
    let (quick, arguments): (Vec<_>, Vec<_>) =
        arguments.iter().partition(|argument| *argument == "--quick");
    let (profile, folder) = if quick.is_empty() { (RELEASE, RELEASE) } else { ("dev", "debug") };
    build(workspace, profile, &["tidegate", "tidegate-rig"], &[])?;
    let mut command = Command::new(workspace.binary(folder, "tidegate-rig"));
    command.arg("demo");
    with_gateway(workspace, folder, &functions, &mut command);
    become_it(command.args(arguments))
}

/// A gateway under load for long, judged.
pub(crate) fn soak(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let functions = wasm::build(workspace)?;
    build(workspace, RELEASE, &["tidegate", "tidegate-rig"], &[])?;
    let mut command = Command::new(workspace.binary(RELEASE, "tidegate-rig"));
    command.arg("soak");
    with_gateway(workspace, RELEASE, &functions, &mut command);
    become_it(command.args(arguments))
}

/// A benchmark beside a peer.
pub(crate) fn bench(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    if arguments.first().is_some_and(|name| name == "device") {
        let mut command = sizes(workspace)?;
        match emulator::find(workspace) {
            Ok(emulator) => drop(command.arg("--qemu").arg(emulator)),
            Err(error) => eprintln!("without the time of a verification: {error:#}"),
        }
        return become_it(command.args(&arguments[1..]));
    }
    if arguments.first().is_some_and(|name| name == "serial") {
        return become_it(serial(workspace)?.args(&arguments[1..]));
    }
    debian::ensure(&[("mosquitto", "mosquitto")])?;
    let functions = wasm::build(workspace)?;
    let name = arguments.first().filter(|name| !name.starts_with('-'));
    let features: &[&str] = match name.map(String::as_str) {
        // The stores beside ours take a minute to build: only where they are measured.
        Some("streams") => &["tidegate-bench/peers"],
        Some(_) | None => &[],
    };
    build(workspace, RELEASE, &["tidegate-bench"], features)?;
    build(workspace, DIST, &["tidegate"], &[])?;
    let mut command = Command::new(workspace.binary(RELEASE, "tidegate-bench"));
    command.args(name);
    if name.is_some_and(|name| name == "uplink") {
        debian::ensure(debian::SINKS)?;
        build(workspace, RELEASE, &["tidegate-sink"], &[])?;
        command.arg("--gateway").arg(workspace.binary(DIST, "tidegate"));
        command.arg("--sink").arg(workspace.binary(RELEASE, "tidegate-sink"));
    } else if name.is_some_and(|name| name == "functions") {
        command.arg("--function").arg(functions.join("threshold.wasm"));
    } else {
        with_gateway(workspace, DIST, &functions, &mut command);
    }
    let is_alone = arguments.iter().any(|argument| argument == "--alone");
    if name.is_some_and(|name| name == "pipeline") && !is_alone {
        command.arg("--node-red").arg(clients::node_red(workspace)?);
        command.arg("--python").arg(clients::python(workspace)?);
    }
    become_it(command.args(&arguments[usize::from(name.is_some())..]))
}

/// The sizes of programs for devices. Nothing is timed, so the program that looks at them is the one
/// that is quicker to build.
pub(crate) fn sizes(workspace: &Workspace) -> Result<Command> {
    let programs = device::build(workspace)?;
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--package", "tidegate-bench", "--bins"]);
    quietly("building tidegate-bench (debug)", &mut cargo)?;
    let mut command = Command::new(workspace.binary("debug", "tidegate-bench"));
    command.args(["device", "--programs"]).arg(programs);
    Ok(command)
}

/// The payload of a serial line. The line is slow, so that the programs are those that are quicker to build.
fn serial(workspace: &Workspace) -> Result<Command> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--package", "tidegate-bench", "--package", "tidegate", "--bins"]);
    quietly("building tidegate-bench and tidegate (debug)", &mut cargo)?;
    let mut command = Command::new(workspace.binary("debug", "tidegate-bench"));
    command.args(["serial", "--gateway"]).arg(workspace.binary("debug", "tidegate"));
    Ok(command)
}

/// The seeded simulation.
pub(crate) fn world(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    build(workspace, RELEASE, &["tidegate-world"], &[])?;
    let mut command = Command::new(workspace.binary(RELEASE, "tidegate-world"));
    become_it(command.args(arguments))
}

/// The binaries of some packages, optimised.
pub(crate) fn build(
    workspace: &Workspace,
    profile: &str,
    packages: &[&str],
    features: &[&str],
) -> Result<()> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--profile", profile, "--bins"]);
    for package in packages {
        cargo.args(["--package", package]);
    }
    if !features.is_empty() {
        cargo.arg("--features").arg(features.join(","));
    }
    quietly(&format!("building {} ({profile})", packages.join(" and ")), &mut cargo)?;
    Ok(())
}

fn with_gateway(workspace: &Workspace, profile: &str, functions: &Path, command: &mut Command) {
    command.arg("--gateway").arg(workspace.binary(profile, "tidegate"));
    command.arg("--function").arg(functions.join("threshold.wasm"));
}

/// Replaces this process, so that signals and the exit code are the other's own.
fn become_it(command: &mut Command) -> Result<ExitCode> {
    let program = Path::new(command.get_program());
    if !program.is_file() {
        let text = format!(
            "{} was not built: does its package have a binary of that name?",
            program.display()
        );
        return Err(Usage(text).into());
    }
    let error = command.exec();
    Err(error).with_context(|| format!("cannot run {}", shown(command)))
}
