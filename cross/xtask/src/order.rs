//! Writes the order of the gateway's functions: those that a running gateway calls lie together in the binary.
//!
//! A kernel maps sixteen pages around the one that is needed, so code that is called lies between code that is not
//! and makes all of it resident. The demo runs on a gateway inside QEMU's user mode, which writes down each piece of code
//! that it translates; what ran becomes a linker script, in the order in which it ran first. Names in it stand
//! without their hashes, so that it fits other versions and machines; a name that is gone by then does no harm.
//! Reason and figures: `docs/decisions/028-size.md`.

use crate::debian;
use crate::launch::{self, DIST, RELEASE};
use crate::progress::quietly;
use crate::wasm;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const EMULATOR: &str = "qemu-x86_64-static";

/// Read by `gateway/tidegate/build.rs`: keeps the names of functions in the binary.
const KEEP_SYMBOLS: &str = "TIDEGATE_KEEP_SYMBOLS";

/// Long enough for an outage and what comes after it, inside an emulator.
const DEMO: [&str; 4] = ["--seconds", "30", "--outage-seconds", "8"];

const HEADER: &str = "\
/* Written by `cargo xtask order`; not meant to be changed by hand. docs/decisions/028-size.md
   The functions that a running gateway calls, in the order in which it first does. */
SECTIONS { .text.run : {
";

const FOOTER: &str = "} }\nINSERT AFTER .text;\n";

/// A function of the binary.
struct Function {
    end: u64,
    name: String,
}

/// Runs the demo in the emulator and writes `gateway/tidegate/order.ld`.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    if cfg!(not(target_arch = "x86_64")) {
        bail!("the order is taken on x86-64, where names are the same as elsewhere");
    }
    debian::ensure(&[(EMULATOR, "qemu-user-static"), ("nm", "binutils")])?;
    let module = wasm::build(workspace)?.join("threshold.wasm");
    launch::build(workspace, RELEASE, &["tidegate-rig"], &[])?;
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--profile", DIST, "--package", "tidegate", "--bins"]);
    cargo.env(KEEP_SYMBOLS, "1").env("CARGO_PROFILE_DIST_STRIP", "none");
    quietly("building tidegate with the names of its functions", &mut cargo)?;

    let folder = workspace.target().join("order");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let gateway = workspace.binary(DIST, "tidegate");
    let mut demo = Command::new(workspace.binary(RELEASE, "tidegate-rig"));
    demo.arg("demo").args(DEMO).arg("--gateway").arg(traced(&folder, &gateway)?);
    demo.arg("--function").arg(module);
    quietly("the demo inside an emulator", &mut demo)?;

    let functions = functions(&gateway)?;
    let ran = ran(&largest(&folder)?, &functions)?;
    let script = workspace.root().join("gateway/tidegate/order.ld");
    let patterns: Vec<String> = ran.iter().map(|name| pattern(name)).collect();
    fs::write(&script, linker_script(&patterns))?;
    eprintln!("{} of {} functions ran: {}", ran.len(), functions.len(), script.display());
    Ok(ExitCode::SUCCESS)
}

/// A program that stands for the gateway: `run` in the emulator, everything else as it is.
fn traced(folder: &Path, gateway: &Path) -> Result<PathBuf> {
    let path = folder.join("tidegate");
    let (gateway, log) = (gateway.display(), folder.join("ran.%d"));
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = run ] || exec '{gateway}' \"$@\"\nexec {EMULATOR} -d in_asm,page -D '{}' '{gateway}' \"$@\"\n",
        log.display()
    );
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The log of the process that did most, should there be several.
fn largest(folder: &Path) -> Result<PathBuf> {
    let mut logs = vec![];
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with("ran.") {
            logs.push((entry.metadata()?.len(), entry.path()));
        }
    }
    logs.sort();
    Ok(logs.pop().context("the emulator has written no log")?.1)
}

/// The functions of a binary by their addresses.
fn functions(binary: &Path) -> Result<BTreeMap<u64, Function>> {
    let mut nm = Command::new("nm");
    let output = quietly("reading the names", nm.arg("--print-size").arg(binary))?;
    let mut functions = BTreeMap::new();
    for line in String::from_utf8(output.stdout)?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if let [address, size, "t" | "T" | "w" | "W", name] = fields[..] {
            let address = u64::from_str_radix(address, 16)?;
            let end = address + u64::from_str_radix(size, 16)?;
            functions.insert(address, Function { end, name: name.to_owned() });
        }
    }
    if functions.is_empty() {
        bail!("{} has no names: was it stripped?", binary.display());
    }
    Ok(functions)
}

/// The functions that ran, in the order in which they first did.
fn ran(log: &Path, functions: &BTreeMap<u64, Function>) -> Result<Vec<String>> {
    let file = File::open(log).with_context(|| format!("cannot open {}", log.display()))?;
    let (mut base, mut seen, mut order) = (None, HashSet::new(), vec![]);
    for line in BufReader::new(file).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        // The first place that is mapped is the binary's.
        base = base.or_else(|| mapped(&line));
        let (Some(base), Some(address)) = (base, translated(&line)) else { continue };
        let Some(place) = address.checked_sub(base) else { continue };
        let Some((_, function)) = functions.range(..=place).next_back() else { continue };
        if place < function.end && seen.insert(&function.name) {
            order.push(function.name.clone());
        }
    }
    Ok(order)
}

/// Where a line of the table of mapped places begins: `0000004000000000-00000040027a2000 ...`.
fn mapped(line: &str) -> Option<u64> {
    let (start, rest) = line.split_once('-')?;
    let is_place = start.len() == 16 && rest.len() > 16;
    is_place.then(|| u64::from_str_radix(start, 16).ok()).flatten()
}

/// The address of a line of translated code: `0x40000bc4d0:  48 89 e7 ...`.
fn translated(line: &str) -> Option<u64> {
    let (address, _) = line.strip_prefix("0x")?.split_once(':')?;
    u64::from_str_radix(address, 16).ok()
}

fn linker_script(patterns: &[String]) -> String {
    let mut script = HEADER.to_owned();
    let mut seen = HashSet::new();
    for pattern in patterns.iter().filter(|pattern| seen.insert(*pattern)) {
        let _ = writeln!(script, "*(.text*.{pattern})"); // Writing to a string cannot fail.
    }
    script + FOOTER
}

/// What finds the section of a function in other builds: without the hash of its crate or its types, and
/// without what a linker script would read as something else.
fn pattern(name: &str) -> String {
    let name = match name.rfind("17h").filter(|_| name.starts_with("_ZN")) {
        Some(hash) => format!("{}17h*", &name[..hash]),
        // The compiler numbers what has one name in several crates.
        None => match name.split_once('.') {
            Some((name, _)) => without_crate_hashes(name) + "*",
            None => without_crate_hashes(name),
        },
    };
    name.replace('$', "?")
}

/// `_RNvCs1aB2c_3std` as `_RNvCs*_3std`: the hash of a crate differs from compiler to compiler.
fn without_crate_hashes(name: &str) -> String {
    let (mut rest, mut text) = (name, String::new());
    while let Some(at) = rest.find("Cs") {
        let hash = &rest[at + 2..];
        let length = hash.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(hash.len());
        let is_hash = length >= 8 && hash[length..].starts_with('_');
        text += &rest[..at + 2];
        rest = if is_hash { &hash[length..] } else { hash };
        text += if is_hash { "*" } else { "" };
    }
    text + rest
}

#[cfg(test)]
mod tests {
    use super::{mapped, pattern, translated};

    #[test]
    fn names_are_found_in_other_builds() {
        let legacy =
            "_ZN65_$LT$tidegate..cli..Cli$u20$as$u20$Args$GT$4args17h0011223344556677E.llvm.12";
        assert_eq!(pattern(legacy), "_ZN65_?LT?tidegate..cli..Cli?u20?as?u20?Args?GT?4args17h*");
        let of_std = "_RNvMs5_NtNtCsjrHSEGnQ3l9_3std2io5errorNtB5_5Error4kind.480";
        assert_eq!(pattern(of_std), "_RNvMs5_NtNtCs*_3std2io5errorNtB5_5Error4kind*");
        assert_eq!(pattern("memcpy"), "memcpy");
    }

    #[test]
    fn lines_of_the_emulator_are_told_apart() {
        let place = "0000004000000000-00000040027a2000 00000000027a2000 ---";
        assert_eq!(mapped(place), Some(0x40_0000_0000));
        assert_eq!(mapped("start            end              size             prot"), None);
        assert_eq!(
            translated("0x4002fbdb70:  48 89 e7   movq     %rsp, %rdi"),
            Some(0x40_02fb_db70)
        );
        assert_eq!(translated("IN: _start"), None);
    }
}
