//! Who compiles and links a release, and with which flags.
//!
//! The compiler is that of [`Toolchain::find`]: the active one, where rustup has the target or can add it,
//! else Debian's. What is static is linked by cargo-zigbuild where that is installed, else by Debian's cross compiler.
//! Debian's Rust is always linked by the latter: it brings musl's own files for it; and so is what needs glibc, whose
//! packed relocations zig refuses (`-z pack-relative-relocs`, zig 0.17).
//!
//! Whoever linked it, the binary is looked at: it is to be static where it claims to, and laid out.

use super::elf;
use super::target::{DebianStd, Machine};
use crate::cli::Usage;
use crate::debian;
use crate::order::NEW_NAMES;
use crate::progress::quietly;
use crate::toolchain::Toolchain;
use crate::workspace::{Workspace, program};
use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// The profile that ships, with the whole program optimised as one.
const SHIPPED: &str = "dist";
/// The same program, quicker to build.
const QUICK: &str = "thin";
/// Wakes cargo-zigbuild up; there is no other sign of it.
const ZIGBUILD: &str = "cargo-zigbuild";
/// What a running gateway calls is more than twice that on every machine.
const LEAST_LAID_OUT: usize = 500_000;

/// How thoroughly a release is built: each way gives the same bytes wherever it is built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Care {
    /// For users.
    Shipped,
    /// To try it, and for tests on other machines.
    Quick,
}

impl Care {
    fn profile(self) -> &'static str {
        match self {
            Self::Shipped => SHIPPED,
            Self::Quick => QUICK,
        }
    }
}

/// Who links a release, and compiles what is C.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Linker {
    /// cargo-zigbuild.
    Zig,
    /// Debian's cross compiler.
    Gcc,
}

impl Linker {
    fn choose(toolchain: &Toolchain, machine: &Machine, zigbuild: bool) -> Self {
        if zigbuild && machine.is_static() && *toolchain == Toolchain::Own {
            Self::Zig
        } else {
            Self::Gcc
        }
    }
}

/// Builds the gateway; the file, stripped.
pub(crate) fn build(workspace: &Workspace, machine: &Machine, care: Care) -> Result<PathBuf> {
    let toolchain = find(workspace, machine)?;
    let linker = Linker::choose(&toolchain, machine, program(ZIGBUILD).is_some());
    let zig = linker == Linker::Zig;
    let target = machine.target();
    let (mut cargo, extra) = toolchain.cargo(workspace, &target);
    // A folder of its own: the compiler may be another one, and cargo would look at everything again.
    let folder = workspace.target().join("cross");
    cargo
        .arg(if zig { "zigbuild" } else { "build" })
        .args(["--locked", "--package", "tidegate", "--bin", "tidegate"])
        .args(["--profile", care.profile(), "--target", target.name])
        .args(extra)
        .env("CARGO_TARGET_DIR", &folder)
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace, &toolchain, &folder)?.join("\x1f"));
    if care == Care::Shipped {
        // For __DATE__, which no C code that is linked uses today. With another time at each commit, cargo
        // builds C code and what uses it again: too long for tests.
        cargo.env("SOURCE_DATE_EPOCH", workspace.source_date_epoch()?.to_string());
    }
    if !zig {
        link_with_gcc(&mut cargo, &toolchain, machine)?;
    }
    let by = if zig { ", linked by zig" } else { "" };
    let what = format!("building tidegate for {} ({}{by})", machine.name, care.profile());
    quietly(&what, &mut cargo)?;
    let file = folder.join(target.name).join(care.profile()).join("tidegate");
    let binary = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    check(&binary, machine).with_context(|| format!("{} is not right", file.display()))?;
    Ok(file)
}

/// What may go wrong in silence: programs run without it, but take more memory, or do not run everywhere.
fn check(binary: &[u8], machine: &Machine) -> Result<()> {
    let laid_out = elf::section(binary, ".text.run")?.map_or(0, <[u8]>::len);
    ensure!(
        laid_out >= LEAST_LAID_OUT,
        "of its code {laid_out} bytes lie together, at least {LEAST_LAID_OUT} should: either the linker did not follow order.ld, or functions have other names than there (`cargo xtask order`)"
    );
    let has = |name: &str| Ok::<_, anyhow::Error>(elf::section(binary, name)?.is_some());
    ensure!(!has(".eh_frame")?, "the linker did not leave out the tables for unwinding");
    ensure!(
        !machine.is_static() || !has(".interp")?,
        "it is to be static, but asks for an interpreter"
    );
    Ok(())
}

fn find(workspace: &Workspace, machine: &Machine) -> Result<Toolchain> {
    let toolchain = Toolchain::find(workspace, &machine.target());
    if machine.std == DebianStd::None && !matches!(toolchain, Ok(Toolchain::Own)) {
        let name = &machine.name;
        return Err(Usage(format!(
            "Debian's C library for {} needs a newer processor than {name} is for. Run\n    rustup target add {name}\nand then this command again",
            machine.debian
        ))
        .into());
    }
    toolchain
}

/// Debian's compiler for C code, and as the linker. `x86_64-linux-gnu-gcc` is that of the machine itself.
fn link_with_gcc(cargo: &mut Command, toolchain: &Toolchain, machine: &Machine) -> Result<()> {
    let gcc = format!("{}-gcc", machine.compiler);
    debian::ensure(&[(&gcc, &machine.package)])?;
    let underscored = machine.underscored();
    let cc = match toolchain {
        // With the headers of musl.
        Toolchain::Debian(cargo) if machine.is_static() => {
            let folder = cargo.parent().context("Debian's cargo is in no folder")?;
            folder.join("musl").join(&machine.name).join("cc")
        }
        // The C code of dependencies calls nothing of a C library, so any headers do.
        Toolchain::Debian(_) | Toolchain::Own => gcc.clone().into(),
    };
    cargo
        .env(format!("CARGO_TARGET_{}_LINKER", underscored.to_uppercase()), &gcc)
        .env(format!("CC_{underscored}"), cc)
        .env(format!("AR_{underscored}"), format!("{}-ar", machine.compiler))
        .env(format!("CFLAGS_{underscored}"), machine.cflags.join(" "));
    Ok(())
}

/// The names by which `order.ld` finds functions, whatever the compiler likes better. And no path of the machine
/// that built it is in the binary, so that the same sources give the same binary anywhere: the last one that
/// fits counts.
fn flags(workspace: &Workspace, toolchain: &Toolchain, folder: &Path) -> Result<Vec<String>> {
    let home = match env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?)
            .join(".cargo"),
    };
    let mut paths = vec![
        (workspace.root().to_owned(), "tidegate"),
        (home, "cargo"),
        (folder.to_owned(), "target"),
    ];
    if let Toolchain::Debian(cargo) = toolchain {
        let folder = cargo.parent().context("Debian's cargo is in no folder")?;
        let sources = folder.join("usr/lib/rustlib/src/rust");
        // It is a link: cargo names what it points to.
        let real = sources.canonicalize();
        paths.push((real.with_context(|| format!("no {}", sources.display()))?, "rust"));
        paths.push((sources, "rust"));
    }
    let remaps = paths
        .into_iter()
        .map(|(path, name)| format!("--remap-path-prefix={}=/{name}", path.display()));
    Ok([NEW_NAMES.to_owned()].into_iter().chain(remaps).collect())
}

#[cfg(test)]
mod tests {
    use super::elf::tests::empty;
    use super::elf::with_section;
    use super::{LEAST_LAID_OUT, Linker, Machine, Toolchain, check};

    #[test]
    fn zig_links_what_is_static_and_comes_from_the_active_toolchain() {
        let chosen = |target: &str, toolchain: &Toolchain, zigbuild| {
            Linker::choose(toolchain, &Machine::find(target).unwrap(), zigbuild)
        };
        let debian = Toolchain::Debian("cargo".into());
        for target in ["aarch64-unknown-linux-musl", "arm-unknown-linux-musleabihf"] {
            assert_eq!(chosen(target, &Toolchain::Own, true), Linker::Zig);
            assert_eq!(chosen(target, &Toolchain::Own, false), Linker::Gcc);
            assert_eq!(chosen(target, &debian, true), Linker::Gcc);
        }
        assert_eq!(chosen("aarch64-unknown-linux-gnu", &Toolchain::Own, true), Linker::Gcc);
    }

    #[test]
    fn the_linker_is_given_what_zig_takes_too() {
        // Of several scripts zig takes the last one, and it knows no --defsym.
        let build = include_str!("../../../../gateway/tidegate/build.rs");
        assert_eq!(build.matches("-Wl,-T,").count(), 1);
        assert!(!build.contains("-Wl,--defsym"));
    }

    #[test]
    fn a_binary_that_is_not_laid_out_or_not_static_is_refused() {
        let [musl, glibc] = ["x86_64-unknown-linux-musl", "x86_64-unknown-linux-gnu"]
            .map(|target| Machine::find(target).unwrap());
        let why = |binary: &[u8], machine| check(binary, machine).unwrap_err().to_string();
        let plain = empty();
        assert!(why(&plain, &musl).contains("0 bytes lie together"));
        let hardly = with_section(&plain, ".text.run", &[0; 55_084]).unwrap();
        assert!(why(&hardly, &musl).contains("55084 bytes lie together"));
        let laid_out = with_section(&plain, ".text.run", &[0; LEAST_LAID_OUT]).unwrap();
        check(&laid_out, &musl).unwrap();
        let unwinds = with_section(&laid_out, ".eh_frame", b"tables").unwrap();
        assert!(why(&unwinds, &musl).contains("unwinding"));
        let dynamic = with_section(&laid_out, ".interp", b"/lib/ld.so").unwrap();
        assert!(why(&dynamic, &musl).contains("static"));
        check(&dynamic, &glibc).unwrap();
    }
}
