//! `cargo xtask dist TARGET`: what a release consists of, below `target/dist/TARGET`.
//!
//! ```text
//! target/dist/TARGET/tidegate             the binary, stripped, with the list of its crates inside
//! target/dist/TARGET/tidegate.cdx.json    what it is made of (CycloneDX)
//! target/dist/TARGET/tidegate_VERSION_ARCHITECTURE.deb    the Debian package, with --deb
//! target/dist/TARGET/SHA256SUMS           of all files here
//! ```
//!
//! `target/dist` is also where cargo puts this machine's own build of the profile `dist`; none of its
//! folders is named like a target.

pub(crate) mod check;
mod compiler;
mod contents;
pub(crate) mod crates;
pub(crate) mod deb;
mod elf;
pub(crate) mod proof;
pub(crate) mod target;

use crate::cli::Usage;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use compiler::Care;
use crates::Crate;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use target::Machine;

/// The package that is released, and its binary.
const PROGRAM: &str = "tidegate";

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    target: String,
    care: Care,
    package: bool,
}

/// Builds a release and prints its files.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    let wanted = parse(arguments)?;
    let machine = Machine::find(&wanted.target)?;
    for file in release(workspace, &machine, &wanted)? {
        println!("{}", file.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Builds a release as it ships, and its Debian package; the package.
pub(crate) fn package(workspace: &Workspace, target: &str) -> Result<PathBuf> {
    let wanted = Wanted { target: target.to_owned(), care: Care::Shipped, package: true };
    let files = release(workspace, &Machine::find(target)?, &wanted)?;
    let package = files.into_iter().find(|file| file.extension().is_some_and(|end| end == "deb"));
    package.context("the release has no Debian package")
}

/// Builds what is wanted; its files.
fn release(workspace: &Workspace, machine: &Machine, wanted: &Wanted) -> Result<Vec<PathBuf>> {
    let crates = crates::of(workspace, PROGRAM, &machine.name)?;
    let folder = binary(workspace, machine, &crates, wanted.care)?;
    if wanted.package {
        deb::pack(workspace, machine, &crates, &folder)?;
    }
    sums(&folder)
}

/// Where the files of a release are.
fn folder(workspace: &Workspace, machine: &Machine) -> PathBuf {
    workspace.target().join("dist").join(&machine.name)
}

fn parse(arguments: &[String]) -> Result<Wanted> {
    let mut target = None;
    let (mut care, mut package) = (Care::Shipped, false);
    for argument in arguments {
        match argument.as_str() {
            "--thin" => care = Care::Quick,
            "--deb" => package = true,
            other if other.starts_with('-') => {
                let text = format!("`dist` has no {other}; it takes TARGET, --deb and --thin");
                return Err(Usage(text).into());
            }
            name if target.is_none() => target = Some(name.to_owned()),
            more => {
                return Err(Usage(format!("one target at a time; `{more}` is a second one")).into());
            }
        }
    }
    let Some(target) = target else {
        // The answer to a name that is not known lists those that are.
        return Err(Machine::find("").err().context("there is a target without a name")?);
    };
    Ok(Wanted { target, care, package })
}

/// The binary and its document; the folder that they are in.
fn binary(
    workspace: &Workspace,
    machine: &Machine,
    crates: &[Crate],
    care: Care,
) -> Result<PathBuf> {
    let built = compiler::build(workspace, machine, care)?;
    let program = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let program =
        elf::with_section(&program, contents::SECTION, &contents::section(crates, PROGRAM)?)
            .with_context(|| format!("cannot add a list of crates to {}", built.display()))?;
    let folder = folder(workspace, machine);
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let file = folder.join(PROGRAM);
    fs::copy(&built, &file).with_context(|| format!("cannot write {}", file.display()))?;
    write(&file, &program)?;
    let release = contents::Release {
        root: PROGRAM,
        target: &machine.name,
        time: &time(workspace.source_date_epoch()?, "+%Y-%m-%dT%H:%M:%SZ")?,
        sha256: &sha256(&file)?,
    };
    let document = contents::bill_of_materials(crates, &release)?;
    write(&folder.join(format!("{PROGRAM}.cdx.json")), document.as_bytes())?;
    let delivered = crates.iter().filter(|package| !package.only_builds).count();
    eprintln!("  {}: {} bytes, {delivered} crates", file.display(), program.len());
    if care == Care::Shipped && program.len() as u64 > machine.max_bytes {
        bail!(
            "the binary has {} bytes, at most {} are allowed (cross/targets.toml)",
            program.len(),
            machine.max_bytes
        );
    }
    Ok(folder)
}

/// Writes the sums of all files of a folder; the files, in order.
fn sums(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        files.push(entry?.path());
    }
    files.sort();
    let mut text = String::new();
    for file in &files {
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        text.push_str(&format!("{}  {name}\n", sha256(file)?));
    }
    let sums = folder.join("SHA256SUMS");
    write(&sums, text.as_bytes())?;
    files.push(sums);
    Ok(files)
}

fn sha256(file: &Path) -> Result<String> {
    let line = said(Command::new("sha256sum").arg("--binary").arg(file))?;
    // A name with unusual letters is announced by a backslash.
    let sum = line.trim_start_matches('\\').split(' ').next().unwrap_or_default();
    ensure!(sum.len() == 64, "sha256sum says {line}");
    Ok(sum.to_owned())
}

/// A time in UTC, as `date` formats it.
fn time(seconds: u64, format: &str) -> Result<String> {
    said(
        Command::new("date")
            .args(["--utc", &format!("--date=@{seconds}"), format])
            .env("LC_ALL", "C"),
    )
}

/// What a short command prints.
fn said(command: &mut Command) -> Result<String> {
    let shown = crate::progress::shown(command);
    let output = command.output().with_context(|| format!("cannot run {shown}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{shown} failed: {errors}");
    Ok(String::from_utf8(output.stdout).context("its output is not text")?.trim_end().to_owned())
}

fn write(file: &Path, contents: &[u8]) -> Result<()> {
    fs::write(file, contents).with_context(|| format!("cannot write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::{Care, Wanted, parse, time};

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_release_is_built_with_care_unless_the_quick_one_is_asked_for() {
        let target = "x86_64-unknown-linux-musl".to_owned();
        let wanted = parse(&words("x86_64-unknown-linux-musl")).unwrap();
        assert_eq!(wanted, Wanted { target: target.clone(), care: Care::Shipped, package: false });
        let wanted = parse(&words("--thin x86_64-unknown-linux-musl --deb")).unwrap();
        assert_eq!(wanted, Wanted { target, care: Care::Quick, package: true });
    }

    #[test]
    fn wrong_words_are_answered_with_the_right_ones() {
        let error = |line: &str| parse(&words(line)).unwrap_err().to_string();
        assert!(error("").contains("aarch64-unknown-linux-musl"));
        assert!(error("a b").contains("`b` is a second one"));
        assert!(error("a --fast").contains("--thin"));
    }

    #[test]
    fn times_are_told_in_utc() {
        assert_eq!(time(0, "+%Y-%m-%dT%H:%M:%SZ").unwrap(), "1970-01-01T00:00:00Z");
    }
}
