//! `cargo xtask image`: a card for a board, or an OCI image, with the gateway in it.
//!
//! A card is made without root, mounts and loop devices: dpkg unpacks the packages of arm64 into a folder
//! and mke2fs makes a file system of it (`unpack.sh`); then an emulated machine starts with that and the
//! empty boot partition as its disks and has dpkg configure everything, as it would on the board
//! (`init-assembly`). Packages of Debian fill the boot partition themselves that way. What takes
//! long is done once and kept below `target/image`, as long as packages and scripts are the same.

mod card;
pub(crate) mod contents;
mod cpio;
#[cfg(test)]
mod firstboot;
mod initramfs;
pub(crate) mod machine;
pub(crate) mod oci;
pub(crate) mod space;
mod tar;

use crate::cli::Usage;
use crate::progress::quietly;
use crate::workspace::{Workspace, program};
use crate::{debian, dist, emulator};
use anyhow::{Context, Result, ensure};
use machine::Boot;
use space::Folder;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// What the gateway is built for: static, so that it runs without anything beside it.
const STATIC: &str = "aarch64-unknown-linux-musl";
/// The boards that there is a card for.
const BOARDS: &[&str] = &["rpi4"];
/// Of the root file system while it is assembled; the card gets what is used of it, and some.
const ROOT_SIZE: &str = "1400M";
/// Of the boot partition: two kernels with all that belongs to them, during an upgrade.
const BOOT_KIB: &str = "262144";
/// Free on the root file system until it has grown to the card's size.
const SPARE_MIB: u64 = 96;

/// Programs, and the packages that bring them.
const TOOLS: &[(&str, &str)] = &[
    ("sfdisk", "fdisk"),
    ("mkfs.vfat", "dosfstools"),
    ("mcopy", "mtools"),
    ("mke2fs", "e2fsprogs"),
    ("depmod", "kmod"),
    ("xz", "xz-utils"),
];

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    Card { board: String, package: Option<PathBuf>, compress: bool },
    Check(PathBuf),
    Oci(oci::Wanted),
}

/// Makes or checks an image, and prints where it is.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<ExitCode> {
    match parse(arguments)? {
        Wanted::Card { board, package, compress } => {
            let package = match package {
                Some(package) => package,
                None => built_package(workspace)?,
            };
            let card = build(workspace, &board, &package)?;
            let mistakes = contents::check(&card)?;
            let made = if compress { compressed(&card)? } else { card };
            println!("{}", made.display());
            Ok(if mistakes == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Wanted::Check(card) => {
            debian::ensure(TOOLS)?;
            let mistakes = contents::check(&card)?;
            Ok(if mistakes == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Wanted::Oci(wanted) => {
            println!("{}", oci::build(workspace, &wanted)?.display());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn parse(arguments: &[String]) -> Result<Wanted> {
    let (mut board, mut package, mut check, mut binary) = (None, None, None, None);
    let (mut compress, mut oci) = (false, false);
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        let mut value =
            || rest.next().cloned().ok_or_else(|| Usage(format!("{option} lacks its value")));
        match option.as_str() {
            "--board" => board = Some(value()?),
            "--deb" => package = Some(PathBuf::from(value()?)),
            "--check" => check = Some(PathBuf::from(value()?)),
            "--binary" => binary = Some(PathBuf::from(value()?)),
            "--xz" => compress = true,
            "--oci" => oci = true,
            other => {
                let text = format!("there is no option {other}; see cargo xtask image --help");
                return Err(Usage(text).into());
            }
        }
    }
    match (board, check, oci) {
        (Some(board), None, false) if BOARDS.contains(&board.as_str()) => {
            Ok(Wanted::Card { board, package, compress })
        }
        (Some(board), None, false) => {
            let known = BOARDS.join(", ");
            Err(Usage(format!("there is no card for the board {board}; known are {known}")).into())
        }
        (None, Some(card), false) if card.extension().is_some_and(|ending| ending == "xz") => {
            let text = format!("{0} is compressed: run xz -dk {0} first", card.display());
            Err(Usage(text).into())
        }
        (None, Some(card), false) => Ok(Wanted::Check(card)),
        (None, None, true) => Ok(Wanted::Oci(oci::Wanted { binary })),
        _ => Err(Usage("one of --board NAME, --check FILE and --oci is needed".to_owned()).into()),
    }
}

/// The package that `cargo xtask dist` has made, or makes now.
fn built_package(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target().join("dist").join(STATIC);
    let found = fs::read_dir(&folder).ok().and_then(|entries| {
        let paths = entries.flatten().map(|entry| entry.path());
        paths.filter(|path| path.extension().is_some_and(|ending| ending == "deb")).max()
    });
    match found {
        Some(package) => {
            eprintln!("the gateway is {}, as it was built last", package.display());
            Ok(package)
        }
        None => dist::package(workspace, STATIC),
    }
}

/// The boot partition of a card, as mtools take it.
pub(crate) fn first_partition(card: &Path) -> Result<String> {
    let parts = card::partitions(card)?;
    let first = parts.first().with_context(|| format!("{} has no partition", card.display()))?;
    Ok(format!("{}@@{}", card.display(), first.start))
}

/// Where cards are.
pub(crate) fn card_of(workspace: &Workspace, board: &str) -> PathBuf {
    workspace.target().join("dist").join(format!("tidegate-{board}.img"))
}

/// Makes a card with this package.
fn build(workspace: &Workspace, board: &str, package: &Path) -> Result<PathBuf> {
    ensure!(package.is_file(), "there is no {}", package.display());
    debian::ensure(TOOLS)?;
    if !debian::is_root() {
        debian::ensure(&[("fakeroot", "fakeroot")])?;
    }
    let emulator = emulator::find_64(workspace)?;
    let sources = workspace.root().join("cross/image");
    let base = base(workspace, &sources, &emulator)?;
    let work = Folder::empty(workspace.target().join("image/card"))?;
    let (boot, root) = (work.file("boot.vfat"), work.file("root.ext4"));
    space::copy(&base.file("boot.vfat"), &boot)?;
    space::copy(&base.file("root.ext4"), &root)?;
    let parts = initramfs::Parts::read(&base.file("parts"), &sources.join("modules.txt"))?;
    let mut archive = parts.archive(&sources.join("init-assembly"))?;
    let name =
        package.file_name().and_then(|name| name.to_str()).context("a package without name")?;
    let bytes = fs::read(package).with_context(|| format!("cannot read {}", package.display()))?;
    archive.file(&format!("packages/{name}"), &bytes)?;
    let what = format!("installing {name} in an emulated machine");
    assemble(&what, emulator, &base, archive, &work)?;
    shrink(&root)?;
    let template = sources.join("firstboot.toml");
    put(&boot, &template, "tidegate-firstboot.toml")?;
    let card = card_of(workspace, board);
    fs::create_dir_all(workspace.target().join("dist"))?;
    card::write(&card, &boot, &root)?;
    Ok(card)
}

/// Everything but the gateway, configured: `boot.vfat`, `root.ext4`, and what the machine starts from.
fn base(workspace: &Workspace, sources: &Path, emulator: &Path) -> Result<Folder> {
    let downloads = workspace.target().join("image/packages");
    let mut fetch = Command::new(sources.join("fetch.sh"));
    quietly("fetching the packages of arm64 (120 MB at first)", fetch.arg(&downloads))?;
    let folder = workspace.target().join("image/base");
    let inputs = inputs(&downloads.join("debs"), sources)?;
    let known = folder.join("inputs.txt");
    if fs::read_to_string(&known).is_ok_and(|text| text == inputs) {
        return Folder::at(folder);
    }
    let folder = Folder::empty(folder)?;
    let (tree, root) = (folder.file("tree"), folder.file("root.ext4"));
    let mut unpack = as_root(&sources.join("unpack.sh"));
    unpack.arg(downloads.join("debs")).arg(&tree).arg(&root).arg(ROOT_SIZE);
    quietly("unpacking them", &mut unpack)?;
    let parts = initramfs::Parts::read(&tree, &sources.join("modules.txt"))?;
    parts.keep(&folder.file("parts"))?;
    let kernel = tree.join("boot").join(format!("vmlinuz-{}", parts.release()));
    fs::copy(&kernel, folder.file("vmlinuz"))
        .with_context(|| format!("no kernel at {}", kernel.display()))?;
    fs::remove_dir_all(&tree).with_context(|| format!("cannot remove {}", tree.display()))?;
    let initrd = folder.file("initrd.img");
    initramfs::write(parts.archive(&sources.join("init-card"))?, &initrd)?;
    let mut format = Command::new(program("mkfs.vfat").context("no mkfs.vfat")?);
    format
        .args(["-n", "TGBOOT", "-i", "74696465", "-C"])
        .arg(folder.file("boot.vfat"))
        .arg(BOOT_KIB);
    quietly("formatting the boot partition", &mut format)?;
    let mut archive = parts.archive(&sources.join("init-assembly"))?;
    archive.file("first", b"")?;
    archive.file(&format!("boot/initrd.img-{}", parts.release()), &fs::read(&initrd)?)?;
    let what = "configuring them in an emulated machine (minutes)";
    assemble(what, emulator.to_owned(), &folder, archive, &folder)?;
    fs::write(&known, inputs).with_context(|| format!("cannot write {}", known.display()))?;
    Ok(folder)
}

/// Runs the machine that configures packages on the disks in `work`.
fn assemble(
    what: &str,
    emulator: PathBuf,
    base: &Folder,
    archive: cpio::Archive,
    work: &Folder,
) -> Result<()> {
    let initramfs = work.file("assembly.img");
    initramfs::write(archive, &initramfs)?;
    let command_line = "quiet".to_owned();
    let boot = Boot { emulator, kernel: base.file("vmlinuz"), initramfs, command_line };
    boot.assemble(what, work, &[&work.file("root.ext4"), &work.file("boot.vfat")])
}

/// What a base is made of, as text: the packages, and all files of `cross/image`.
fn inputs(debs: &Path, sources: &Path) -> Result<String> {
    let mut text = String::new();
    let mut names = Vec::new();
    for entry in fs::read_dir(debs).with_context(|| format!("no {}", debs.display()))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.retain(|name| name.ends_with(".deb"));
    names.sort();
    text.push_str(&names.join("\n"));
    let mut files = Vec::new();
    collect(sources, &mut files)?;
    files.sort();
    for file in files {
        // The template goes onto the card at the very end.
        if file.ends_with("firstboot.toml") {
            continue;
        }
        text.push_str(&format!("\n\n{}\n", file.strip_prefix(sources)?.display()));
        let contents = fs::read_to_string(&file);
        text.push_str(&contents.with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(text)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

/// A program whose files seem to belong to root.
fn as_root(program: &Path) -> Command {
    if debian::is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("fakeroot");
    command.arg(program);
    command
}

/// Makes a root file system as small as it can be, and a little larger.
fn shrink(root: &Path) -> Result<()> {
    let tool = |name: &str| program(name).with_context(|| format!("no {name}"));
    // It ends with 1 where it has changed something, which it always may.
    let mut check = Command::new("sh");
    check.args(["-c", "\"$1\" -fy \"$2\"; [ $? -le 1 ]", "e2fsck"]).arg(tool("e2fsck")?).arg(root);
    quietly("checking the root file system", &mut check)?;
    let mut smallest = Command::new(tool("resize2fs")?);
    quietly("shrinking it", smallest.arg("-M").arg(root))?;
    let length = fs::metadata(root)?.len().div_ceil(1 << 20) + SPARE_MIB;
    let mut larger = Command::new(tool("resize2fs")?);
    quietly("leaving some space", larger.arg(root).arg(format!("{length}M")))?;
    Ok(())
}

/// Puts a file onto a boot partition that is in a file of its own.
fn put(boot: &Path, file: &Path, name: &str) -> Result<()> {
    let mut copy = Command::new("mcopy");
    copy.arg("-o").arg("-i").arg(boot).arg(file).arg(format!("::{name}"));
    quietly(&format!("putting {name} onto the boot partition"), &mut copy)?;
    Ok(())
}

fn compressed(card: &Path) -> Result<PathBuf> {
    let mut xz = Command::new("xz");
    quietly("compressing the card", xz.args(["-T0", "-6", "-k", "-f"]).arg(card))?;
    Ok(card.with_extension("img.xz"))
}

#[cfg(test)]
mod tests {
    use super::{Wanted, parse};
    use std::path::PathBuf;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_card_is_asked_for_by_its_board() {
        let wanted = parse(&words("--board rpi4 --deb a.deb --xz")).unwrap();
        let package = Some(PathBuf::from("a.deb"));
        assert_eq!(wanted, Wanted::Card { board: "rpi4".to_owned(), package, compress: true });
        let error = parse(&words("--board rpi9")).unwrap_err().to_string();
        assert_eq!(error, "there is no card for the board rpi9; known are rpi4");
    }

    #[test]
    fn nothing_and_two_things_at_once_are_refused() {
        for line in [
            "",
            "--check a.img.xz",
            "--board rpi4 --oci",
            "--check a.img --oci",
            "--board",
            "--colour red",
        ] {
            assert!(parse(&words(line)).is_err(), "{line}");
        }
    }
}
