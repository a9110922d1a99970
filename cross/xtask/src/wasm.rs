//! Builds the example functions.

use crate::progress::quietly;
use crate::toolchain::{GUEST, Toolchain};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The most bytes that a function may have; what an example needs beyond it should be worth it.
const MAX_BYTES: usize = 64 << 10;
/// Functions with a budget of their own, bytes.
const BUDGETS: [(&str, usize); 1] = [("threshold", 20 << 10)];
/// Functions of the benchmarks, with their folders.
const MEASURED: [(&str, &str); 1] = [("gauge", "tests/bench/guest")];
/// The most memory that a module may declare, in pages of 64 KiB: the gateway pays for all of
/// it, used or not.
const MAX_PAGES: u32 = 2;
/// The guest's own stack. The linker's default is 1 MiB, sixteen times as much.
const STACK: &str = "link-arg=-zstack-size=65536";
/// Addresses take as many bytes as they need, not 5 each: 6 % less code.
const COMPRESS: &str = "link-arg=--compress-relocations";

/// Builds what is out of date, and returns the folder of the modules.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target().join("functions");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut stale = Vec::new();
    for function in functions(workspace)? {
        let module = folder.join(format!("{}.wasm", function.name));
        if !is_fresh(workspace, &function, &module)? {
            stale.push((function, module));
        }
    }
    if stale.is_empty() {
        return Ok(folder);
    }
    let toolchain = Toolchain::find(workspace, &GUEST)?;
    for (function, module) in stale {
        let built = compile(workspace, &toolchain, &function)?;
        let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        check(&function.name, &bytes)?;
        let half_written = module.with_extension("wasm.tmp");
        fs::write(&half_written, &bytes)
            .and_then(|()| fs::rename(&half_written, &module))
            .with_context(|| format!("cannot write {}", module.display()))?;
    }
    Ok(folder)
}

/// One function: a folder under functions/examples, or one of the benchmarks'.
struct Function {
    name: String,
    package: String,
    folder: PathBuf,
}

fn functions(workspace: &Workspace) -> Result<Vec<Function>> {
    let examples = workspace.root().join("functions/examples");
    let mut found = Vec::new();
    let entries = fs::read_dir(&examples).with_context(|| format!("no {}", examples.display()))?;
    let mut folders = Vec::new();
    for entry in entries {
        folders.push((entry?.path(), None));
    }
    folders.extend(MEASURED.map(|(name, path)| (workspace.root().join(path), Some(name))));
    for (folder, name) in folders {
        let Ok(manifest) = fs::read_to_string(folder.join("Cargo.toml")) else { continue };
        let package = manifest
            .lines()
            .find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
            .with_context(|| format!("{}/Cargo.toml names no package", folder.display()))?
            .to_owned();
        let of_folder = || folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.map_or_else(of_folder, str::to_owned);
        found.push(Function { name, package, folder });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Whether the module is newer than everything that it is made of.
fn is_fresh(workspace: &Workspace, function: &Function, module: &Path) -> Result<bool> {
    let Ok(built) = fs::metadata(module).and_then(|metadata| metadata.modified()) else {
        return Ok(false);
    };
    let root = workspace.root();
    let sources = ["functions/abi", "functions/guest", "Cargo.toml", "cross/xtask/src/wasm.rs"]
        .map(|path| root.join(path));
    for source in sources.iter().chain([&function.folder]) {
        if newest(source)? >= built {
            return Ok(false);
        }
    }
    Ok(true)
}

/// When a file, or the newest file of a folder, was changed.
fn newest(path: &Path) -> Result<SystemTime> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut time = metadata.modified()?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            time = time.max(newest(&entry?.path())?);
        }
    }
    Ok(time)
}

fn compile(workspace: &Workspace, toolchain: &Toolchain, function: &Function) -> Result<PathBuf> {
    // A target directory of its own: the guests' compiler may be another one, and cargo would
    // look at both again with every change between them.
    let target = workspace.target().join("guest");
    let (mut cargo, extra) = toolchain.cargo(workspace, &GUEST);
    cargo
        .args(["rustc", "--package", &function.package, "--lib", "--crate-type", "cdylib"])
        .args(["--profile", "guest", "--target", GUEST.name])
        .args(extra)
        .args(["--", "-C", STACK, "-C", COMPRESS])
        .env("CARGO_TARGET_DIR", &target)
        // Flags for the machine's own binaries are not for guests.
        .env_remove("RUSTFLAGS")
        .env("CARGO_ENCODED_RUSTFLAGS", toolchain.encoded_rustflags(workspace));
    quietly(&format!("building functions/{}.wasm", function.name), &mut cargo)?;
    let file = format!("{}.wasm", function.package.replace('-', "_"));
    Ok(target.join(GUEST.name).join("guest").join(file))
}

/// Size and declared memory within their budgets.
fn check(name: &str, module: &[u8]) -> Result<()> {
    let budget =
        BUDGETS.iter().find(|(known, _)| *known == name).map_or(MAX_BYTES, |(_, max)| *max);
    let pages =
        declared_pages(module).with_context(|| format!("{name}.wasm declares no memory"))?;
    eprintln!("  {name}.wasm: {} bytes, {pages} pages of memory", module.len());
    if module.len() > budget {
        bail!(
            "{name}.wasm has {} bytes, its budget is {budget} (cross/xtask/src/wasm.rs)",
            module.len()
        );
    }
    if pages > MAX_PAGES {
        bail!(
            "{name}.wasm declares {pages} pages of memory, at most {MAX_PAGES} are allowed: large statics?"
        );
    }
    Ok(())
}

/// The pages that a module starts with: the minimum of its first memory.
fn declared_pages(module: &[u8]) -> Option<u32> {
    const MEMORY_SECTION: u8 = 5;
    let mut rest = module.strip_prefix(b"\0asm\x01\0\0\0")?;
    loop {
        let (&id, after) = rest.split_first()?;
        let (size, after) = leb128(after)?;
        let (section, after) = after.split_at_checked(size as usize)?;
        if id == MEMORY_SECTION {
            let (_count, memory) = leb128(section)?;
            let (_flags, memory) = leb128(memory)?;
            return Some(leb128(memory)?.0);
        }
        rest = after;
    }
}

fn leb128(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let mut value = 0u32;
    for (index, &byte) in bytes.iter().enumerate().take(5) {
        value |= u32::from(byte & 0x7f).checked_shl(7 * index as u32)?;
        if byte & 0x80 == 0 {
            return Some((value, &bytes[index + 1..]));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::declared_pages;

    #[test]
    fn the_declared_memory_is_read_behind_other_sections() {
        // A type section of 1 byte, then a memory section: one memory, minimum 300 pages.
        let module = b"\0asm\x01\0\0\0\x01\x01\x00\x05\x04\x01\x00\xac\x02";
        assert_eq!(declared_pages(module), Some(300));
        assert_eq!(declared_pages(b"\0asm\x01\0\0\0\x01\x01\x00"), None);
        assert_eq!(declared_pages(b"\0asm\x01\0\0\0\x05\x7f\x01"), None);
    }
}
