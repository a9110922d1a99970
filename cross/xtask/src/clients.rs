//! MQTT clients in other languages, which the process tests drive, and the compiler of AssemblyScript:
//! below `target/clients`, each in its pinned version, from its language's own registry.

use crate::debian;
use crate::progress::{captured, quietly};
use crate::workspace::Workspace;
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

const PAHO: &str = "paho-mqtt==2.1.0";
const MQTT_JS: &str = "mqtt@5.16.0";
/// The version that the template names.
const ASSEMBLYSCRIPT: &str = "assemblyscript@0.28.20";
const NODE_RED: &str = "node-red@4.1.8";

/// Installs what is missing; the directory that holds it. As root it must succeed; for others, the
/// tests of a client that cannot be installed are skipped.
pub(crate) fn install(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.target().join("clients");
    for (name, install) in [("python", paho as fn(&Path) -> Result<()>), ("javascript", mqtt_js)] {
        match install(&directory.join(name)) {
            Ok(()) => {}
            Err(error) if debian::is_root() => return Err(error),
            Err(error) => eprintln!("no MQTT client in {name}: {error:#}"),
        }
    }
    Ok(directory)
}

/// Installs Node-RED, which the pipeline is measured beside; the directory that holds it.
pub(crate) fn node_red(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.target().join("clients/node-red");
    npm(&directory, NODE_RED)?;
    Ok(directory)
}

/// Installs Paho; a Python that has it.
pub(crate) fn python(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.target().join("clients/python");
    paho(&directory)?;
    Ok(directory.join("bin/python3"))
}

fn paho(directory: &Path) -> Result<()> {
    once(directory, PAHO, || {
        debian::ensure(&[("python3", "python3")])?;
        // Debian has what an environment needs in packages of their own.
        let ready = ["-c", "import ensurepip, venv"];
        if !captured("python3 -m venv", Command::new("python3").args(ready))?.status.success() {
            debian::install(&["python3-venv", "python3-pip"])?;
        }
        quietly("python3 -m venv", Command::new("python3").args(["-m", "venv"]).arg(directory))?;
        let mut pip = Command::new(directory.join("bin/python3"));
        quietly(PAHO, pip.args(["-m", "pip", "install", "--quiet", PAHO]))?;
        Ok(())
    })
}

fn mqtt_js(directory: &Path) -> Result<()> {
    npm(directory, MQTT_JS)
}

/// The compiler of AssemblyScript.
pub(crate) fn assemblyscript(workspace: &Workspace) -> Result<PathBuf> {
    let directory = workspace.target().join("clients/assemblyscript");
    npm(&directory, ASSEMBLYSCRIPT)?;
    Ok(directory.join("node_modules/.bin/asc"))
}

fn npm(directory: &Path, package: &str) -> Result<()> {
    once(directory, package, || {
        debian::ensure(&[("node", "nodejs"), ("npm", "npm")])?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--ignore-scripts", package, "--prefix"]);
        quietly(package, npm.arg(directory))?;
        Ok(())
    })
}

/// A file named by the version says that the installation was completed; what another version or
/// an interruption has left goes first.
fn once(directory: &Path, version: &str, install: impl FnOnce() -> Result<()>) -> Result<()> {
    let complete = directory.join(format!("{version}.complete"));
    if complete.is_file() {
        return Ok(());
    }
    if directory.exists() {
        std::fs::remove_dir_all(directory)?;
    }
    std::fs::create_dir_all(directory)?;
    install()?;
    std::fs::write(complete, "")?;
    Ok(())
}
