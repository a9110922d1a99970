//! Guides that are followed in the repository: releases, images and cards, and what takes too long for each
//! submission.

use super::page::{Book, Script};
use super::{EXAMPLES, FLASH, INSTALL, README};
use anyhow::Result;
use std::path::Path;

/// What begins a guide that makes these in `target/dist`: what was there comes back when it ends, and releases are
/// built with `--thin`, as to optimise the whole program takes minutes.
fn aside(script: &mut Script<'_>, dist: &Path, names: &str) {
    script.add(&format!(
        "dist='{}'
names='{names}'
for name in $names; do
    # One that is there already was left by a run that was cut off.
    test -e \"$dist/$name.before\" || test ! -e \"$dist/$name\" || mv \"$dist/$name\" \"$dist/$name.before\"
done
back() {{
    for name in $names; do
        rm -rf \"${{dist:?}}/$name\"
        test ! -e \"$dist/$name.before\" || mv \"$dist/$name.before\" \"$dist/$name\"
    done
}}
trap back EXIT
{THIN}",
        dist.display()
    ));
}

/// `cargo` for guides that build releases.
const THIN: &str = "cargo() {
    test \"$1\" = xtask
    shift
    case $1 in
        dist) xtask \"$@\" --thin ;;
        *) xtask \"$@\" ;;
    esac
}";

/// Builds a release with its package, and the OCI image; they are in `made` at the end. The build is that of the
/// demo on arm64.
pub(super) fn release<'a>(book: &'a Book, dist: &Path) -> Result<Script<'a>> {
    let mut script = Script::new(book);
    aside(&mut script, dist, "aarch64-unknown-linux-musl tidegate-arm64.oci.tar");
    script.add("mkdir \"$PLACE/made\"");
    script.follow(INSTALL, "cargo xtask dist aarch64")?;
    script.add(
        "cp \"$dist/aarch64-unknown-linux-musl\"/* \"$PLACE/made\"
(cd \"$PLACE/made\" && sha256sum --check SHA256SUMS)",
    );
    script.follow(FLASH, "cargo xtask dist aarch64-unknown-linux-musl\n")?;
    script.add("cp \"$dist/tidegate-arm64.oci.tar\" \"$PLACE/made\"");
    Ok(script)
}

/// Builds and tests the example functions.
pub(super) fn examples(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.add("cargo() { xtask \"${@:2}\"; }\ncd \"$REPOSITORY\"");
    for page in EXAMPLES {
        script.follow(page, "cargo xtask wasm\n")?;
    }
    Ok(script)
}

/// Builds a commit once more, in another folder.
pub(super) fn again(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    // The clone has an xtask of its own.
    script.add("cargo() { command \"${CARGO:-cargo}\" \"$@\" --thin; }\ntrap 'rm -rf \"$PLACE/again\"' EXIT");
    script.follow(INSTALL, "git clone ")?;
    script.text = script.text.replace("/tmp/again", "\"$PLACE/again\"");
    Ok(script)
}

/// Makes a card, checks it, and writes it to a file.
pub(super) fn card<'a>(book: &'a Book, dist: &Path) -> Result<Script<'a>> {
    let mut script = Script::new(book);
    let names = "aarch64-unknown-linux-musl tidegate-rpi4.img tidegate-rpi4.img.xz";
    aside(&mut script, dist, names);
    script.add("sudo() { \"$@\"; }");
    script.follow(FLASH, "cargo xtask dist aarch64-unknown-linux-musl --deb")?;
    script.follow(FLASH, "cargo xtask image --check")?;
    script.follow(FLASH, "lsblk ")?;
    script.text = script.text.replace("/dev/sdX", "\"$PLACE/sdX\"");
    script.add("cmp \"$dist/tidegate-rpi4.img\" \"$PLACE/sdX\"\nrm \"$PLACE/sdX\"");
    Ok(script)
}

/// Starts a card in an emulated machine.
pub(super) fn vm(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.add("cargo() { xtask \"${@:2}\"; }");
    script.follow(FLASH, "cargo xtask vm")?;
    Ok(script)
}

/// The demo of the README, which ends by itself here, with what is built for tests.
pub(super) fn demo(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.add("cargo() { xtask \"${@:2}\" --quick --seconds 30; }");
    script.follow(README, "cargo xtask demo")?;
    Ok(script)
}
