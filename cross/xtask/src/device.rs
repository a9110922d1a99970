//! Builds programs for microcontrollers: those whose size is measured, and the firmware of the examples.

use crate::budget;
use crate::progress::quietly;
use crate::toolchain::{DEVICE, RISCV_DEVICE, SMALL_DEVICE, Target, Toolchain};
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Programs whose size is measured: a workspace of its own.
const PROGRAMS: &str = "tests/sizes";
/// Firmware that runs: another one.
const FIRMWARE: &str = "firmware-examples";

/// A package of it.
struct Package {
    name: &'static str,
    /// Where its `memory.x` is.
    folder: &'static str,
    programs: &'static [&'static str],
}

/// What is built together.
const PACKAGES: &[(&Target, &[Package])] = &[
    (
        &DEVICE,
        &[
            Package {
                name: "mps2-an386-boot",
                folder: "mps2-an386/boot",
                programs: &["mps2-an386-boot"],
            },
            Package {
                name: "mps2-an386-sensor",
                folder: "mps2-an386/sensor",
                programs: &["sensor-1", "sensor-2", "sensor-hangs", "sensor-unwell"],
            },
            Package {
                name: "mps2-an386-net",
                folder: "mps2-an386-net",
                programs: &["net-1", "net-2", "net-unwell"],
            },
        ],
    ),
    // Each by itself: what embassy's crates have in common is built for one chip, and a bootloader has no interrupts.
    (
        &DEVICE,
        &[Package {
            name: "nrf52840-dk-boot",
            folder: "nrf52840-dk/boot",
            programs: &["nrf52840-dk-boot"],
        }],
    ),
    (
        &DEVICE,
        &[Package {
            name: "nrf52840-dk",
            folder: "nrf52840-dk/sensor",
            programs: &["nrf52840-dk"],
        }],
    ),
    (&DEVICE, &[board("stm32f446-nucleo", &["stm32f446-nucleo"])]),
    (&SMALL_DEVICE, &[board("rp2040-pico", &["rp2040-pico"])]),
    (
        &RISCV_DEVICE,
        &[
            Package {
                name: "qemu-riscv32-boot",
                folder: "qemu-riscv32/boot",
                programs: &["qemu-riscv32-boot"],
            },
            Package {
                name: "qemu-riscv32-sensor",
                folder: "qemu-riscv32/sensor",
                programs: &["riscv-1", "riscv-2", "riscv-unwell"],
            },
        ],
    ),
];

const fn board(name: &'static str, programs: &'static [&'static str]) -> Package {
    Package { name, folder: name, programs }
}

/// Builds what is measured, and returns the folder that it is in.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    build_in(workspace, PROGRAMS, &DEVICE, &[], "building the programs for devices")
}

/// Builds the examples' firmware, and returns the folder that it is in. What is over the budget of its
/// `memory.x` is an error.
pub(crate) fn firmware(workspace: &Workspace) -> Result<PathBuf> {
    let place = workspace.target().join("firmware");
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    for (target, packages) in PACKAGES {
        let names: Vec<&str> = packages.iter().map(|package| package.name).collect();
        let what = format!("building firmware: {}", names.join(", "));
        let folder = build_in(workspace, FIRMWARE, target, &names, &what)?;
        for package in *packages {
            let map = workspace.root().join(FIRMWARE).join(package.folder).join("memory.x");
            for program in package.programs {
                let built = folder.join(program);
                let (takes, may) = budget::check(&map, &built)?;
                eprintln!(
                    "{program}: {} of {} bytes of flash, {} of {} of RAM",
                    takes.flash, may.flash, takes.ram, may.ram
                );
                fs::copy(&built, place.join(program))
                    .with_context(|| format!("cannot copy {}", built.display()))?;
            }
        }
    }
    Ok(place)
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

/// Builds packages of a workspace, all where none is named.
fn build_in(
    workspace: &Workspace,
    folder: &str,
    target: &Target,
    packages: &[&str],
    what: &str,
) -> Result<PathBuf> {
    let toolchain = Toolchain::find(workspace, target)?;
    // A target directory of its own: the compiler may be another one.
    let built = workspace.target().join("device");
    let (mut cargo, extra) = toolchain.cargo(workspace, target);
    if packages.is_empty() {
        cargo.args(["build", "--workspace"]);
    } else {
        cargo.arg("build").args(packages.iter().flat_map(|name| ["--package", name]));
    }
    cargo
        .args(["--locked", "--release", "--bins", "--target", target.name])
        .args(extra)
        .current_dir(workspace.root().join(folder))
        .env("CARGO_TARGET_DIR", &built)
        // Flags for the machine's own binaries are not for devices.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    quietly(what, &mut cargo)?;
    Ok(built.join(target.name).join("release"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    /// What somebody begins with should be read in a few minutes.
    const MOST_LINES: usize = 150;

    #[test]
    fn no_file_of_the_examples_is_longer_than_150_lines() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let mut open = vec![root.join(super::FIRMWARE)];
        let mut files = 0;
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|ending| ending == "rs") {
                    let lines = fs::read_to_string(&path).unwrap().lines().count();
                    assert!(lines <= MOST_LINES, "{} has {lines} lines", path.display());
                    files += 1;
                }
            }
        }
        assert!(files > 20, "only {files} were found");
    }
}
