//! The templates of `tidegate fn new`, as an author would build them: written out below
//! `target/templates`, one command each, then held against the contract; and the guide for authors,
//! followed in each language.

use crate::progress::quietly;
use crate::toolchain::{GUEST, Toolchain};
use crate::workspace::Workspace;
use crate::{clients, debian, guide};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name that the functions get.
const NAME: &str = "overheat";
const CONFIG: &str = r#"{"limit":30,"hysteresis":1}"#;

/// Writes, builds and checks all three; the folder that holds `rust.wasm`, `c.wasm` and
/// `assemblyscript.wasm`. Needs the gateway's debug build.
pub(crate) fn build(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target().join("templates");
    debian::ensure(&[("make", "make"), ("clang", "clang"), ("wasm-ld", "lld")])?;
    debian::ensure(&[("mosquitto_pub", "mosquitto-clients")])?;
    let compiler = clients::assemblyscript(workspace)?;
    let toolchain = Toolchain::find(workspace, &GUEST)?;
    let mut cargo_flags = OsString::from("CARGO_FLAGS=");
    cargo_flags.push(toolchain.flags(&GUEST).join(" "));
    let rust = [
        variable("CARGO", &toolchain.program()),
        cargo_flags,
        // Kept between runs: std is built once.
        variable("OUT", &folder.join("cargo")),
    ];
    one(workspace, &folder, "rust", &rust)?;
    one(workspace, &folder, "c", &[])?;
    one(workspace, &folder, "assemblyscript", &[variable("ASC", &compiler)])?;
    Ok(folder)
}

fn variable(name: &str, value: &Path) -> OsString {
    let mut variable = OsString::from(format!("{name}="));
    variable.push(value);
    variable
}

fn one(workspace: &Workspace, folder: &Path, lang: &str, variables: &[OsString]) -> Result<()> {
    let written = folder.join(lang);
    if written.exists() {
        fs::remove_dir_all(&written)
            .with_context(|| format!("cannot remove {}", written.display()))?;
    }
    let gateway = workspace.binary("debug", "tidegate");
    let mut new = Command::new(&gateway);
    new.args(["fn", "new", NAME, "--lang", lang, "--dir"]).arg(&written);
    quietly(&format!("tidegate fn new --lang {lang}"), &mut new)?;
    let mut make = Command::new("make");
    make.args(variables).current_dir(&written);
    for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "MAKEFLAGS"] {
        make.env_remove(flags);
    }
    crate::workspace::clean(&mut make);
    quietly(&format!("building the template in {lang}"), &mut make)?;
    let built = written.join(format!("{NAME}.wasm"));
    let mut check = Command::new(&gateway);
    check.args(["fn", "check", "--config", CONFIG]).arg(&built);
    quietly(&format!("holding the template in {lang} against the contract"), &mut check)?;
    let mut test = Command::new(&gateway);
    test.args(["fn", "test"]).arg(&written);
    quietly(&format!("the tests of the template in {lang}"), &mut test)?;
    let module = folder.join(format!("{lang}.wasm"));
    let bytes =
        fs::copy(&built, &module).with_context(|| format!("cannot copy {}", built.display()))?;
    eprintln!("  {lang}.wasm: {bytes} bytes");
    guide::follow(workspace, folder, lang, variables)
}
