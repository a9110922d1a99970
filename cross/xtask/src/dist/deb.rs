//! The Debian package of a release: what is in it comes from `cross/debian`, from the program's own
//! definition of its commands (`cross/manual`), and from the sources of the crates that are linked.
//!
//! The same release gives the same bytes: every file bears the time of the release, and belongs to root.

use super::crates::Crate;
use super::target::Machine;
use super::{PROGRAM, said, time, write};
use crate::debian;
use crate::progress::quietly;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use flate2::{Compression, GzBuilder};
use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = env!("CARGO_PKG_VERSION");
/// What glibc and the compiler of Debian 12 need at run time.
const GLIBC: &str = "Depends: libc6 (>= 2.36), libgcc-s1\n";
/// Whose package it is.
const MAINTAINER: &str = "The Tidegate authors <tidegate@users.noreply.github.com>";
/// Says which commit a package was built from.
pub(crate) const COMMIT: &str = "usr/share/tidegate/commit";
/// Documents that come with the package, from `docs`.
const GUIDES: [&str; 4] =
    ["guides/secure-the-broker.md", "guides/install.md", "guides/operate.md", "configuration.md"];
/// What other programs read of the gateway: alerts for Prometheus, a dashboard for Grafana.
const FOR_OTHERS: [&str; 2] = ["operations/alerts.yml", "operations/dashboard.json"];

/// Packs the release that is in `folder`; the package, beside it.
pub(crate) fn pack(
    workspace: &Workspace,
    machine: &Machine,
    crates: &[Crate],
    folder: &Path,
) -> Result<PathBuf> {
    debian::ensure(&[("dpkg-deb", "dpkg"), ("gzip", "gzip")])?;
    let manual = manual(workspace)?;
    let tree = Tree { root: workspace.target().join("cross").join(name(machine)) };
    if tree.root.exists() {
        fs::remove_dir_all(&tree.root)
            .with_context(|| format!("cannot remove {}", tree.root.display()))?;
    }
    program(&tree, workspace, folder)?;
    documents(&tree, workspace, &manual, folder)?;
    tree.put(
        "usr/share/doc/tidegate/licenses-of-crates.gz",
        &gzip(&licences(workspace, crates)?)?,
    )?;
    overrides(&tree, workspace, machine)?;
    let size = tree.bytes()?.div_ceil(1024);
    control(&tree, workspace, machine, size)?;
    let package = file(workspace, machine);
    let mut build = Command::new("dpkg-deb");
    build
        .args(["--root-owner-group", "-Zxz", "--build"])
        .arg(&tree.root)
        .arg(&package)
        // Files that are newer bear this time.
        .env("SOURCE_DATE_EPOCH", workspace.source_date_epoch()?.to_string());
    quietly(&format!("packing {}", package.display()), &mut build)?;
    Ok(package)
}

/// Where the package of a machine is.
pub(crate) fn file(workspace: &Workspace, machine: &Machine) -> PathBuf {
    super::folder(workspace, machine).join(format!("{}.deb", name(machine)))
}

fn name(machine: &Machine) -> String {
    format!("{PROGRAM}_{VERSION}_{}", machine.debian)
}

/// Manual pages, completions and the starter configuration, written by a program for this machine.
fn manual(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--package", "tidegate-manual"]);
    quietly("building the manual", &mut cargo)?;
    let folder = workspace.target().join("cross/manual");
    let mut write = Command::new(workspace.binary("debug", "tidegate-manual"));
    quietly("writing the manual", write.arg(&folder))?;
    Ok(folder)
}

/// What the service needs.
fn program(tree: &Tree, workspace: &Workspace, folder: &Path) -> Result<()> {
    let ours = workspace.root().join("cross/debian");
    tree.put("usr/bin/tidegate", &read(&folder.join(PROGRAM))?)?;
    tree.allow("usr/bin/tidegate", 0o755)?;
    tree.put("lib/systemd/system/tidegate.service", &read(&ours.join("tidegate.service"))?)?;
    tree.put("usr/share/tidegate/tidegate.toml", &read(&ours.join("tidegate.toml"))?)?;
    if let Some(commit) = workspace.commit() {
        tree.put(COMMIT, format!("{commit}\n").as_bytes())?;
    }
    tree.folder("etc/tidegate/secrets")?;
    tree.allow("etc/tidegate/secrets", 0o700)
}

/// What people read, and what helps them to type.
fn documents(tree: &Tree, workspace: &Workspace, manual: &Path, folder: &Path) -> Result<()> {
    let documents = "usr/share/doc/tidegate";
    let ours = workspace.root().join("cross/debian");
    tree.put(&format!("{documents}/copyright"), &read(&ours.join("copyright"))?)?;
    let bill = format!("{PROGRAM}.cdx.json");
    tree.put(&format!("{documents}/{bill}"), &read(&folder.join(&bill))?)?;
    for guide in GUIDES {
        let name = guide.rsplit('/').next().unwrap_or(guide);
        let text = read(&workspace.root().join("docs").join(guide))?;
        tree.put(&format!("{documents}/{name}.gz"), &gzip(&text)?)?;
    }
    let date = time(workspace.source_date_epoch()?, "+%a, %d %b %Y %H:%M:%S %z")?;
    let changes = format!(
        "{PROGRAM} ({VERSION}) stable; urgency=medium\n\n  * Release {VERSION}.\n\n -- {MAINTAINER}  {date}\n"
    );
    tree.put(&format!("{documents}/changelog.gz"), &gzip(changes.as_bytes())?)?;
    let examples = format!("{documents}/examples");
    tree.put(&format!("{examples}/serial.conf"), &read(&ours.join("serial.conf"))?)?;
    tree.put(&format!("{examples}/tidegate.toml"), &read(&manual.join("tidegate.toml"))?)?;
    for file in FOR_OTHERS {
        let name = file.rsplit('/').next().unwrap_or(file);
        tree.put(&format!("{examples}/{name}"), &read(&workspace.root().join("docs").join(file))?)?;
    }
    for (from, to) in [
        ("completions/tidegate.bash", "usr/share/bash-completion/completions/tidegate"),
        ("completions/_tidegate", "usr/share/zsh/vendor-completions/_tidegate"),
        ("completions/tidegate.fish", "usr/share/fish/vendor_completions.d/tidegate.fish"),
    ] {
        tree.put(to, &read(&manual.join(from))?)?;
    }
    let pages = manual.join("man1");
    for page in fs::read_dir(&pages).with_context(|| format!("no {}", pages.display()))? {
        let page = page?.path();
        let name = page.file_name().unwrap_or_default().to_string_lossy();
        tree.put(&format!("usr/share/man/man1/{name}.gz"), &gzip(&read(&page)?)?)?;
    }
    Ok(())
}

/// What lintian is told to leave alone, with reasons.
fn overrides(tree: &Tree, workspace: &Workspace, machine: &Machine) -> Result<()> {
    let ours = workspace.root().join("cross/debian");
    let mut text = read(&ours.join("lintian-overrides"))?;
    if machine.is_static() {
        text.extend(read(&ours.join("lintian-overrides.static"))?);
    }
    tree.put("usr/share/lintian/overrides/tidegate", &text)
}

/// What dpkg reads.
fn control(tree: &Tree, workspace: &Workspace, machine: &Machine, size: u64) -> Result<()> {
    // A static binary needs nothing.
    let depends = if machine.is_static() { "" } else { GLIBC };
    let architecture = &machine.debian;
    let sums = tree.md5sums()?;
    let text = format!(
        "Package: {PROGRAM}\nVersion: {VERSION}\nArchitecture: {architecture}\nMaintainer: {MAINTAINER}\n\
         Installed-Size: {size}\nPre-Depends: init-system-helpers (>= 1.54~)\n\
         {depends}Recommends: ca-certificates\nSuggests: mosquitto-clients\n\
         Section: net\nPriority: optional\n\
         Description: edge and IoT gateway: MQTT in, durable streams, functions, uplinks\n \
         Takes messages of sensors in over MQTT, from the network and from serial\n \
         lines, and acknowledges each when it is on flash. Runs sandboxed WebAssembly\n \
         functions on the streams, and sends them on to MQTT, NATS JetStream, HTTPS or\n \
         S3 when the uplink is there.\n \
         .\n \
         As installed it listens on this machine only.\n"
    );
    tree.put("DEBIAN/control", text.as_bytes())?;
    tree.put("DEBIAN/md5sums", sums.as_bytes())?;
    for script in ["postinst", "prerm", "postrm"] {
        let file = workspace.root().join("cross/debian").join(script);
        tree.put(&format!("DEBIAN/{script}"), &read(&file)?)?;
        tree.allow(&format!("DEBIAN/{script}"), 0o755)?;
    }
    Ok(())
}

/// The licences of everything that is linked, as its sources have them.
fn licences(workspace: &Workspace, crates: &[Crate]) -> Result<Vec<u8>> {
    let mut text = String::from("Crates that tidegate is linked with, and their licences.\n");
    for package in crates.iter().filter(|package| package.source.is_some() && !package.only_builds)
    {
        let license = package.license.as_deref().unwrap_or("see below");
        text.push_str(&format!("\n==== {} {}: {license}\n", package.name, package.version));
        let folder = workspace.root().join(&package.folder);
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().to_uppercase();
            let known = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE"];
            if known.iter().any(|known| name.starts_with(known)) && entry.path().is_file() {
                files.push(entry.path());
            }
        }
        files.sort();
        for file in files {
            text.push('\n');
            text.push_str(&String::from_utf8_lossy(&read(&file)?));
        }
    }
    Ok(text.into_bytes())
}

/// As `gzip -9n` writes it: without a name and a time.
fn gzip(text: &[u8]) -> Result<Vec<u8>> {
    let mut gzip = GzBuilder::new().write(Vec::new(), Compression::best());
    gzip.write_all(text).context("cannot compress a document")?;
    gzip.finish().context("cannot compress a document")
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// The files of a package, as they will lie on the machine.
struct Tree {
    root: PathBuf,
}

impl Tree {
    /// Writes a file that everybody may read.
    fn put(&self, path: &str, contents: &[u8]) -> Result<()> {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder)?;
        }
        write(&self.root.join(path), contents)?;
        self.allow(path, 0o644)
    }

    /// Makes a folder that everybody may read, with those above it.
    fn folder(&self, path: &str) -> Result<()> {
        let mut folder = self.root.clone();
        for part in path.split('/') {
            folder.push(part);
            if !folder.is_dir() {
                fs::create_dir_all(&folder)
                    .and_then(|()| fs::set_permissions(&folder, Permissions::from_mode(0o755)))
                    .with_context(|| format!("cannot make {}", folder.display()))?;
            }
        }
        fs::set_permissions(&self.root, Permissions::from_mode(0o755))?;
        Ok(())
    }

    fn allow(&self, path: &str, mode: u32) -> Result<()> {
        let file = self.root.join(path);
        fs::set_permissions(&file, Permissions::from_mode(mode))
            .with_context(|| format!("cannot change the mode of {}", file.display()))
    }

    /// All files, sorted, as paths within the tree.
    fn files(&self) -> Result<Vec<PathBuf>> {
        let mut folders = vec![self.root.clone()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in
                fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?
            {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path.strip_prefix(&self.root)?.to_owned());
                }
            }
        }
        files.sort();
        Ok(files)
    }

    fn bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for file in self.files()? {
            bytes += fs::metadata(self.root.join(file))?.len();
        }
        Ok(bytes)
    }

    fn md5sums(&self) -> Result<String> {
        let mut command = Command::new("md5sum");
        Ok(said(command.args(self.files()?).current_dir(&self.root))? + "\n")
    }
}
