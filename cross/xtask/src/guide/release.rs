//! Guides that are followed in the repository: releases, images and cards, and what takes too long for each
//! submission.

use super::page::{Book, Script};
use super::{EXAMPLES, FLASH, INSTALL, README};
use anyhow::Result;
use std::path::Path;

/// Builds a release with its package, and the OCI image; they are in `made` at the end. `--thin` is added: to
/// optimise the program as a whole takes minutes, and the build is that of the demo on arm64. What was in
/// `target/dist` comes back.
pub(super) fn release<'a>(book: &'a Book, dist: &Path) -> Result<Script<'a>> {
    let mut script = Script::new(book);
    script.add(&format!(
        "dist='{}'
names='aarch64-unknown-linux-musl tidegate-arm64.oci.tar'
mkdir \"$PLACE/made\"
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
cargo() {{
    test \"$1\" = xtask
    shift
    case $1 in
        dist) xtask \"$@\" --thin ;;
        *) xtask \"$@\" ;;
    esac
}}",
        dist.display()
    ));
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

/// Builds the same commit in two folders.
pub(super) fn again(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.add("git diff --quiet HEAD # A clone has what is committed.\nhere=$PWD");
    script.follow(INSTALL, "git clone ")?;
    script.text = script.text.replace("/tmp/again", "\"$PLACE/again\"");
    script.add(
        "made=target/dist/x86_64-unknown-linux-gnu/SHA256SUMS
there=$PWD/$made
cd \"$here\"
xtask dist x86_64-unknown-linux-gnu
cmp \"$there\" $made",
    );
    Ok(script)
}

/// Makes a card, checks it, starts it in an emulated machine, and writes it to a file.
pub(super) fn card(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.add("cargo() { xtask \"${@:2}\"; }\nsudo() { \"$@\"; }");
    for begins in [
        "cargo xtask dist aarch64-unknown-linux-musl --deb",
        "cargo xtask image --check",
        "cargo xtask vm",
    ] {
        script.follow(FLASH, begins)?;
    }
    script.follow(FLASH, "lsblk ")?;
    script.text = script.text.replace("/dev/sdX", "\"$PLACE/sdX\"");
    script.add("cmp target/dist/tidegate-rpi4.img \"$PLACE/sdX\"");
    Ok(script)
}

/// The demo of the README, which ends by itself here.
pub(super) fn demo(book: &Book) -> Result<Script<'_>> {
    let mut script = Script::new(book);
    script.add("cargo() { xtask \"${@:2}\" --seconds 20; }");
    script.follow(README, "cargo xtask demo")?;
    Ok(script)
}
