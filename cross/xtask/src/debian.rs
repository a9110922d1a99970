//! Packages of the machine.

use crate::cli::Usage;
use crate::progress::{captured, quietly, show};
use crate::workspace::program;
use anyhow::Result;
use std::process::Command;

/// Servers that uplinks send to, besides mosquitto.
pub(crate) const SINKS: &[(&str, &str)] = &[
    ("nats-server", "nats-server"),
    // The server's own programs are not on the path; this one comes with them.
    ("pg_ctlcluster", "postgresql"),
];

/// Installs the packages whose programs are missing. Never removes or upgrades anything.
///
/// `wanted` holds pairs of a program and the package that brings it.
pub(crate) fn ensure(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<&str> = wanted
        .iter()
        .filter(|(name, _)| program(name).is_none())
        .map(|(_, package)| *package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    install(&missing)
}

/// Installs these packages.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    let names = packages.join(" ");
    let command = format!("apt-get install -y --no-remove --no-upgrade {names}");
    if program("apt-get").is_none() || !is_root() {
        let missing = packages.join(", ");
        return Err(Usage(format!("missing: {missing}; install with: sudo {command}")).into());
    }
    let first = captured(&command, &mut apt_get(packages))?;
    if !first.status.success() {
        // A fresh machine has no package lists yet.
        show(&first);
        quietly("apt-get update", Command::new("apt-get").args(["update", "-qq"]))?;
        quietly(&command, &mut apt_get(packages))?;
    }
    Ok(())
}

fn apt_get(packages: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command
        .args(["install", "-y", "-qq", "--no-remove", "--no-upgrade", "--no-install-recommends"])
        .args(["-o", "DPkg::Lock::Timeout=300"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive")
        // Keeps the package scripts from starting services: nothing here uses the system's.
        .env("RUNLEVEL", "1");
    command
}

/// Whether this process may install packages.
pub(crate) fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n")
}
