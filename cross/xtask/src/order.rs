//! Writes the order of the gateway's functions: those that a running gateway calls lie together in the binary.
//!
//! A kernel maps sixteen pages around the one that is needed, so code that is called lies between code that is not
//! and makes all of it resident. The demo runs on a gateway inside QEMU's user mode, which writes down each piece of code
//! that it translates; what ran becomes a linker script, in the order in which it ran first. Names in it stand
//! without their hashes, so that it fits other versions and machines; a name that is gone by then does no harm.
//! Compilers name functions in two ways, by their age and by whether they take nightly's options, as Debian's is made
//! to. Releases have the new names; `cargo build` has what the compiler likes. So the demo runs once with each.
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
use std::ops::RangeInclusive;
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

/// The new names, which every compiler of today can give.
pub(crate) const NEW_NAMES: &str = "-Csymbol-mangling-version=v0";

/// Longer ones are cut off: what tells functions apart is at the front, and linkers compare each with each.
const LONGEST_NAME: usize = 120;

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
    let mut patterns = vec![];
    for (names, flags) in [("old", ""), ("new", NEW_NAMES)] {
        let folder = workspace.target().join("order").join(names);
        let mut cargo = workspace.cargo();
        cargo.args(["build", "--profile", DIST, "--package", "tidegate", "--bins"]);
        cargo.env(KEEP_SYMBOLS, "1").env("CARGO_PROFILE_DIST_STRIP", "none");
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags).env("CARGO_TARGET_DIR", &folder);
        quietly(&format!("building tidegate with the {names} names of its functions"), &mut cargo)?;
        let gateway = folder.join(DIST).join("tidegate");
        patterns.extend(trace(workspace, &gateway, &folder.join("ran"), &module)?);
    }
    let script = workspace.root().join("gateway/tidegate/order.ld");
    fs::write(&script, linker_script(&patterns))?;
    eprintln!("{}", script.display());
    Ok(ExitCode::SUCCESS)
}

/// Runs the demo on a gateway in the emulator; the patterns of the functions that ran.
fn trace(
    workspace: &Workspace,
    gateway: &Path,
    folder: &Path,
    module: &Path,
) -> Result<Vec<String>> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    let mut demo = Command::new(workspace.binary(RELEASE, "tidegate-rig"));
    demo.arg("demo").args(DEMO).arg("--gateway").arg(traced(folder, gateway)?);
    demo.arg("--function").arg(module);
    quietly("the demo inside an emulator", &mut demo)?;
    let functions = functions(gateway)?;
    let ran = ran(&largest(folder)?, &functions)?;
    eprintln!("  {} of {} functions ran", ran.len(), functions.len());
    Ok(ran.iter().map(|name| pattern(name)).collect())
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
            Some((name, _)) => without_hashes(name) + "*",
            None => without_hashes(name),
        },
    };
    name.replace('$', "?")
}

/// `_RNvNtCs1aB2c_3std2ioB5_` as `_RNvNtCs*_3std2ioB*_`: the hash of a crate differs from compiler to compiler,
/// and with its length the places that the rest of the name refers to. A long name is cut off.
fn without_hashes(name: &str) -> String {
    if !name.starts_with("_R") {
        return name.to_owned();
    }
    let (mut rest, mut text) = (name, String::new());
    while let Some(letter) = rest.chars().next() {
        if text.len() >= LONGEST_NAME {
            return text + "*";
        }
        if let Some(after) = after_number(rest, "Cs", 8..=12) {
            text += "Cs*";
            rest = after;
        } else if let Some(after) = after_number(rest, "B", 1..=3) {
            text += "B*";
            rest = after;
        } else {
            text.push(letter);
            rest = &rest[letter.len_utf8()..];
        }
    }
    text
}

/// What follows a mark and a number of that many digits, where those and a `_` are next.
fn after_number<'a>(text: &'a str, mark: &str, digits: RangeInclusive<usize>) -> Option<&'a str> {
    let number = text.strip_prefix(mark)?;
    let length = number.find(|c: char| !c.is_ascii_alphanumeric())?;
    let rest = &number[length..];
    (digits.contains(&length) && rest.starts_with('_')).then_some(rest)
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
        assert_eq!(pattern(of_std), "_RNvMs5_NtNtCs*_3std2io5errorNtB*_5Error4kind*");
        let long = format!("_RINvNtCs4vRtdFfFcHy_4core3ptrNtB1a_{}", "x".repeat(200));
        let cut_off = pattern(&long);
        assert!(cut_off.starts_with("_RINvNtCs*_4core3ptrNtB*_xx") && cut_off.ends_with("x*"));
        assert_eq!(cut_off.len(), super::LONGEST_NAME + 1);
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
