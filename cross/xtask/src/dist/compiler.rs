//! Who compiles and links a release, and with which flags.
//!
//! The compiler is that of [`Toolchain::find`]: the active one, where rustup has the target or can add it,
//! else Debian's. What is static is linked by cargo-zigbuild where that is installed, else by Debian's cross compiler.
//! Debian's Rust is always linked by the latter: it brings musl's own files for it; and so is what needs glibc, whose
//! packed relocations zig refuses (`-z pack-relative-relocs`, zig 0.17).

use super::target::{DebianStd, Machine};
use crate::cli::Usage;
use crate::debian;
use crate::progress::quietly;
use crate::toolchain::Toolchain;
use crate::workspace::{Workspace, program};
use anyhow::{Context, Result};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The profile that ships, with the whole program optimised as one.
const SHIPPED: &str = "dist";
/// The same program, quicker to build.
const QUICK: &str = "thin";
/// Wakes cargo-zigbuild up; there is no other sign of it.
const ZIGBUILD: &str = "cargo-zigbuild";

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

/// Builds the gateway; the file, stripped.
pub(crate) fn build(workspace: &Workspace, machine: &Machine, care: Care) -> Result<PathBuf> {
    let toolchain = find(workspace, machine)?;
    let own = matches!(toolchain, Toolchain::Own);
    let zig = own && machine.is_static() && program(ZIGBUILD).is_some();
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
        .env("CARGO_ENCODED_RUSTFLAGS", remaps(workspace, &toolchain, &folder)?.join("\x1f"));
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
    Ok(folder.join(target.name).join(care.profile()).join("tidegate"))
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

/// No path of the machine that built it is in the binary, so that the same sources give the same binary
/// anywhere. The last one that fits counts.
fn remaps(workspace: &Workspace, toolchain: &Toolchain, folder: &Path) -> Result<Vec<String>> {
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
    Ok(paths
        .into_iter()
        .map(|(path, name)| format!("--remap-path-prefix={}=/{name}", path.display()))
        .collect())
}
