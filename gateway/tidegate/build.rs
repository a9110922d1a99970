//! Packs what `tidegate fn new` writes into one compressed file, 50 KB instead of 180: the templates,
//! and the SDK for Rust, which is on no registry.
//!
//! The file, once inflated: repeated `u16 length of the path, u32 length of the contents` (little-endian),
//! path, contents. Read by `src/cli/functions/template.rs`.

use std::error::Error;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use flate2::Compression;
use flate2::write::DeflateEncoder;

/// Folders of the repository, and the path that their files get.
const FOLDERS: [(&str, &str); 3] = [
    ("functions/templates", ""),
    ("functions/abi/src", "rust/sdk/abi/src"),
    ("functions/guest/src", "rust/sdk/guest/src"),
];

/// What the linker is told, as one script: of several, zig takes the last one.
const SCRIPTS: [&str; 3] = ["no-unwinding.ld", "order.ld", NO_BACKTRACE];
/// For programs with an unwinder in them. A script says it, as zig has no `--defsym`.
const NO_BACKTRACE: &str = "no-backtrace.ld";

/// Set where somebody needs the names of functions: `cargo xtask order`.
const KEEP_SYMBOLS: &str = "TIDEGATE_KEEP_SYMBOLS";

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../..");
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::best());
    println!("cargo::rerun-if-changed=build.rs");
    for (folder, name) in FOLDERS {
        let folder = root.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        pack(&folder, name, &mut packed)?;
    }
    let file = PathBuf::from(env::var("OUT_DIR")?).join("templates.deflate");
    fs::write(&file, packed.finish()?)?;
    lay_out(&root)
}

/// What the linker leaves out and where it puts the rest. The release profile, and those made from it, abort at a
/// panic: nobody unwinds the stack, and the tables for it stay out. Symbols too: cargo forgets `strip`
/// where a profile has an entry for the package. Functions that a running gateway calls lie together.
/// `docs/decisions/028-size.md`.
fn lay_out(root: &Path) -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-env-changed={KEEP_SYMBOLS}");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let glibc = is("CARGO_CFG_TARGET_ENV", "gnu");
    let mut script = String::new();
    for name in SCRIPTS {
        let part = root.join("gateway/tidegate").join(name);
        println!("cargo::rerun-if-changed={}", part.display());
        if name != NO_BACKTRACE || !glibc {
            script.push_str(&fs::read_to_string(part)?);
        }
    }
    if is("PROFILE", "release") && is("CARGO_CFG_TARGET_OS", "linux") {
        let file = PathBuf::from(env::var("OUT_DIR")?).join("layout.ld");
        fs::write(&file, script)?;
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", file.display());
        if env::var_os(KEEP_SYMBOLS).is_none() {
            println!("cargo::rustc-link-arg-bins=-Wl,--strip-all");
        }
        if glibc {
            // glibc reads it from 2.36 on; musl in Debian 12 does not.
            println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        }
    }
    Ok(())
}

/// Adds the files of a folder, in the order of their names.
fn pack(folder: &Path, name: &str, packed: &mut impl Write) -> Result<(), Box<dyn Error>> {
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let file =
            entry.file_name().into_string().map_err(|name| format!("{name:?} is no text"))?;
        let name = if name.is_empty() { file.clone() } else { format!("{name}/{file}") };
        // Tests of the SDK are the repository's.
        let ours = name.starts_with("rust/sdk/") && matches!(file.as_str(), "tests.rs" | "tests");
        if ours {
            continue;
        }
        if entry.path().is_dir() {
            pack(&entry.path(), &name, packed)?;
            continue;
        }
        let contents = fs::read(entry.path())?;
        packed.write_all(&u16::try_from(name.len())?.to_le_bytes())?;
        packed.write_all(&u32::try_from(contents.len())?.to_le_bytes())?;
        packed.write_all(name.as_bytes())?;
        packed.write_all(&contents)?;
    }
    Ok(())
}
