//! The crates that a package is made of on one machine, as cargo resolves them.

use crate::progress::shown;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use toml::Table;

/// One crate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crate {
    pub(crate) name: String,
    pub(crate) version: String,
    /// Where it comes from, as cargo writes it; `None` for what is in this repository.
    pub(crate) source: Option<String>,
    /// Its licence, as an SPDX expression.
    pub(crate) license: Option<String>,
    /// SHA-256 of its file on the registry.
    pub(crate) checksum: Option<String>,
    /// Where its sources are on this machine.
    pub(crate) folder: PathBuf,
    /// Whether it runs at build time only.
    pub(crate) only_builds: bool,
    /// Places in the list of those that it uses.
    pub(crate) uses: Vec<usize>,
}

/// A crate's name and version: what cargo's tree tells of it.
type Key = (String, String);

/// What `package` is made of for `target`, itself included, in the order of names and versions.
pub(crate) fn of(workspace: &Workspace, package: &str, target: &str) -> Result<Vec<Crate>> {
    let within = tree(workspace, package, target, "normal,no-proc-macro")?;
    let all = tree(workspace, package, target, "normal,build")?;
    let checksums = checksums(workspace)?;
    let metadata = metadata(workspace, &["--filter-platform", target])?;
    let mut crates = Vec::new();
    let mut places = BTreeMap::new();
    let mut found = BTreeMap::new();
    for package in list(&metadata, "packages")? {
        let key = (text(package, "name")?, text(package, "version")?);
        if all.contains(&key) {
            found.insert(key, package);
        }
    }
    ensure!(found.len() == all.len(), "cargo metadata lacks crates that cargo tree has");
    for (key, package) in found {
        places.insert(text(package, "id")?, crates.len());
        let optional = |field| package.get(field).and_then(Value::as_str).map(str::to_owned);
        crates.push(Crate {
            source: optional("source"),
            license: optional("license").map(|license| expression(&license)),
            checksum: checksums.get(&key).cloned(),
            folder: Path::new(&text(package, "manifest_path")?)
                .parent()
                .context("a manifest is in no folder")?
                .to_owned(),
            only_builds: !within.contains(&key),
            uses: Vec::new(),
            name: key.0,
            version: key.1,
        });
    }
    let nodes = metadata.pointer("/resolve/nodes").and_then(Value::as_array);
    for node in nodes.context("cargo metadata resolves nothing")? {
        let Some(&place) = places.get(&text(node, "id")?) else { continue };
        for used in list(node, "deps")? {
            // A dependency of tests only is none of the binary's.
            let kinds = list(used, "dep_kinds")?;
            let counts =
                kinds.iter().any(|kind| kind.get("kind").and_then(Value::as_str) != Some("dev"));
            if let (true, Some(&used)) = (counts, places.get(&text(used, "pkg")?)) {
                crates[place].uses.push(used);
            }
        }
        crates[place].uses.sort_unstable();
    }
    Ok(crates)
}

/// The crates along these edges.
fn tree(workspace: &Workspace, package: &str, target: &str, edges: &str) -> Result<BTreeSet<Key>> {
    let mut cargo = workspace.cargo();
    cargo.args(["tree", "--locked", "--package", package, "--target", target]);
    cargo.args(["--edges", edges, "--prefix", "none", "--format", "{p}"]);
    let lines = output(&mut cargo)?;
    let keys = lines.lines().filter_map(|line| {
        let (name, rest) = line.split_once(" v")?;
        let version = rest.split(' ').next()?;
        Some((name.to_owned(), version.to_owned()))
    });
    Ok(keys.collect())
}

/// What cargo knows of the workspace.
pub(crate) fn metadata(workspace: &Workspace, arguments: &[&str]) -> Result<Value> {
    let mut cargo = workspace.cargo();
    cargo.args(["metadata", "--locked", "--format-version", "1"]);
    cargo.args(arguments);
    serde_json::from_str(&output(&mut cargo)?).context("cargo metadata is not JSON")
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", shown(command)))?;
    ensure!(
        output.status.success(),
        "{} failed: {}",
        shown(command),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("cargo's output is not text")
}

/// What the lock file says of each crate's file.
fn checksums(workspace: &Workspace) -> Result<BTreeMap<Key, String>> {
    let file = workspace.root().join("Cargo.lock");
    let lock = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
    let lock: Table = lock.parse().context("Cargo.lock is not TOML")?;
    let packages = lock.get("package").and_then(toml::Value::as_array);
    let packages = packages.context("Cargo.lock has no packages")?;
    let checksum = |package: &toml::Value| {
        let text = |field| Some(package.get(field)?.as_str()?.to_owned());
        Some(((text("name")?, text("version")?), text("checksum")?))
    };
    Ok(packages.iter().filter_map(checksum).collect())
}

/// A licence as SPDX wants it: old manifests write `/` for OR.
fn expression(license: &str) -> String {
    license.split('/').map(str::trim).collect::<Vec<_>>().join(" OR ")
}

/// A list of cargo's metadata.
pub(crate) fn list<'a>(value: &'a Value, field: &str) -> Result<&'a Vec<Value>> {
    let list = value.get(field).and_then(Value::as_array);
    list.with_context(|| format!("cargo metadata has no list {field}"))
}

/// A text of cargo's metadata.
pub(crate) fn text(value: &Value, field: &str) -> Result<String> {
    let text = value.get(field).and_then(Value::as_str);
    Ok(text.with_context(|| format!("cargo metadata has no text {field}"))?.to_owned())
}
