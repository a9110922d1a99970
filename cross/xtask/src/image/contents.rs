//! `cargo xtask image --check FILE`: goes through a card as a Raspberry Pi 4 does when it starts, file by
//! file, and then through what the root file system must have.
//!
//! Nothing is mounted: mtools read FAT, debugfs reads ext4.

use super::card::{self, FAT, LINUX, Partition};
use super::cpio;
use crate::dist::deb::COMMIT;
use crate::workspace::program;
use anyhow::{Context, Result, bail, ensure};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the firmware in the board's own flash looks for first.
const FIRMWARE: &[&str] = &["start4.elf", "fixup4.dat"];
const DEVICE_TREE: &str = "bcm2711-rpi-4-b.dtb";
const FIRST_BOOT: &str = "tidegate-firstboot.toml";
/// Label of the root file system, which the kernel is told to look for.
const ROOT: &str = "TIDEGATE";
/// Modules without which the first initramfs finds no card.
const CARD_MODULES: &[&str] = &["ext4", "sdhci-iproc", "fixed", "gpio-regulator"];

/// Files of the root file system, what for, and how they begin.
const FILES: &[(&str, &str, &[u8])] = &[
    ("/usr/bin/tidegate", "the gateway, for arm64", ELF_ARM64),
    ("/etc/tidegate/tidegate.toml", "its configuration", b""),
    ("/usr/lib/systemd/systemd", "the first process, for arm64", ELF_ARM64),
    ("/usr/lib/tidegate-image/firstboot", "applies the first-boot file", b"#!"),
    ("/usr/lib/tidegate-image/grow", "grows the root file system", b"#!"),
    ("/usr/sbin/sshd", "logins, for arm64", ELF_ARM64),
    ("/usr/sbin/wpa_supplicant", "Wi-Fi, for arm64", ELF_ARM64),
    ("/usr/lib/firmware/brcm/brcmfmac43455-sdio.txt", "settings of the board's Wi-Fi chip", b""),
    ("/etc/ssl/certs/ca-certificates.crt", "authorities for TLS", b"-----BEGIN"),
];
/// Units that start by themselves, by the link that says so.
const ENABLED: &[&str] = &[
    "multi-user.target.wants/tidegate.service",
    "sysinit.target.wants/tidegate-firstboot.service",
    "local-fs.target.wants/tidegate-grow.service",
    "multi-user.target.wants/systemd-networkd.service",
    "multi-user.target.wants/ssh.service",
];
/// The header of an ELF file up to `e_version`: 64 bits, little-endian, machine 183.
const ELF_ARM64: &[u8] = b"\x7fELF\x02\x01";

/// Prints what is there, and returns how much is not as it must be.
///
/// # Errors
/// When the card cannot be read at all.
pub(super) fn check(path: &Path) -> Result<u32> {
    ensure!(path.is_file(), "there is no {}", path.display());
    let parts = card::partitions(path)?;
    println!("{}", path.display());
    let mut report = Report::default();
    let (boot, root) = match parts[..] {
        [boot, root] if boot.kind == FAT && root.kind == LINUX => (boot, root),
        _ => bail!("not a FAT partition (0c) and a Linux partition (83), but {parts:x?}"),
    };
    for (number, part) in [(1, boot), (2, root)] {
        let length = part.length / (1 << 20);
        let what = if part.kind == FAT { "FAT32" } else { "ext4" };
        report.good(&format!("partition {number}"), part.start, &format!("{what}, {length} MiB"));
    }
    let boot = Boot { card: path, at: boot };
    check_boot(&boot, &mut report);
    let root = Root { card: path, at: root };
    check_root(&root, &mut report);
    match report.mistakes {
        0 => println!("{} checks, all good", report.checks),
        mistakes => println!("{} checks, {mistakes} failed", report.checks),
    }
    Ok(report.mistakes)
}

/// The commit that the gateway on a card was built from.
///
/// # Errors
/// When the card does not tell.
pub(crate) fn commit(card: &Path) -> Result<String> {
    let parts = card::partitions(card)?;
    let at = parts.into_iter().find(|part| part.kind == LINUX).context("no Linux partition")?;
    let told = Root { card, at }.text(&format!("/{COMMIT}"))?;
    Ok(told.trim().to_owned())
}

/// What a Raspberry Pi 4 reads, in its order.
fn check_boot(boot: &Boot<'_>, report: &mut Report) {
    for name in FIRMWARE {
        report.take(name, "firmware", boot.file(name), |_| Ok(()));
    }
    let config = report.take("config.txt", "says what to start", boot.text("config.txt"), |text| {
        ensure!(setting(text, "arm_64bit=") == Some("1"), "it lacks arm_64bit=1");
        Ok(())
    });
    let config = config.unwrap_or_default();
    report.take(DEVICE_TREE, "device tree", boot.file(DEVICE_TREE), |bytes| {
        ensure!(bytes.starts_with(&[0xd0, 0x0d, 0xfe, 0xed]), "no flattened device tree");
        Ok(())
    });
    let kernel = setting(&config, "kernel=").unwrap_or("(kernel= is missing in config.txt)");
    report.take(kernel, "the kernel that config.txt names", boot.file(kernel), |bytes| {
        // Documentation/arm64/booting.rst: the magic number is at byte 56.
        ensure!(bytes.get(56..60) == Some(&b"ARM\x64"[..]), "no kernel of arm64");
        Ok(())
    });
    let initramfs =
        setting(&config, "initramfs ").unwrap_or("(initramfs is missing in config.txt)");
    report.take(initramfs, "the initramfs that it names", boot.file(initramfs), |bytes| {
        let names = cpio::names(&piped("gzip", &["-dc"], bytes)?)?;
        ensure!(names.iter().any(|name| name == "init"), "it has no init");
        for module in CARD_MODULES {
            let file = format!("/{module}.ko");
            ensure!(names.iter().any(|name| name.ends_with(&file)), "it lacks {module}.ko");
        }
        Ok(())
    });
    report.take("cmdline.txt", "arguments of the kernel", boot.text("cmdline.txt"), |text| {
        let root = format!("root=LABEL={ROOT}");
        ensure!(text.split_whitespace().any(|word| word == root), "it lacks {root}");
        ensure!(text.trim_end().lines().count() == 1, "it has more than one line");
        Ok(())
    });
    report.take(FIRST_BOOT, "what the first start applies", boot.text(FIRST_BOOT), |text| {
        ensure!(text.lines().any(|line| line.trim() == "[gateway]"), "it lacks [gateway]");
        Ok(())
    });
}

/// What must be on the root file system.
fn check_root(root: &Root<'_>, report: &mut Report) {
    report.take("/", "label of the root file system", root.label(), |label| {
        ensure!(label == ROOT, "it is called \"{label}\", the kernel looks for {ROOT}");
        Ok(())
    });
    for (path, what, start) in FILES {
        report.take(path, what, root.file(path), |bytes| {
            ensure!(bytes.starts_with(start), "it is something else");
            // e_machine of arm64
            let machine = bytes.get(18..20);
            ensure!(*start != ELF_ARM64 || machine == Some(&[183, 0][..]), "not for arm64");
            Ok(())
        });
    }
    for link in ENABLED {
        let path = format!("/etc/systemd/system/{link}");
        report.take(link, "starts by itself", root.exists(&path), |_| Ok(()));
    }
    report.take("/etc/fstab", "spares the card", root.text("/etc/fstab"), |text| {
        ensure!(text.contains("noatime"), "it lacks noatime");
        ensure!(!text.contains("swap "), "it has swap");
        Ok(())
    });
    let status = "/var/lib/dpkg/status";
    report.take(status, "packages", root.text(status), |text| {
        let unfinished = packages(text).filter(|(_, state)| *state != "install ok installed");
        let names: Vec<&str> = unfinished.map(|(name, _)| name).collect();
        ensure!(names.is_empty(), "not configured: {}", names.join(", "));
        ensure!(packages(text).any(|(name, _)| name == "tidegate"), "tidegate is not installed");
        Ok(())
    });
}

/// The value of a line of config.txt.
fn setting<'a>(config: &'a str, key: &str) -> Option<&'a str> {
    config.lines().find_map(|line| line.strip_prefix(key)).map(str::trim)
}

/// Names and states in dpkg's database.
fn packages(status: &str) -> impl Iterator<Item = (&str, &str)> {
    let field = |entry: &'_ str, key: &str| -> Option<std::ops::Range<usize>> {
        let start = if entry.starts_with(key) { 0 } else { entry.find(&format!("\n{key}"))? + 1 };
        let start = start + key.len();
        let end = entry[start..].find('\n').map_or(entry.len(), |length| start + length);
        Some(start..end)
    };
    status.split("\n\n").filter_map(move |entry| {
        let (name, state) = (field(entry, "Package: ")?, field(entry, "Status: ")?);
        Some((&entry[name], &entry[state]))
    })
}

/// What was found so far.
#[derive(Default)]
struct Report {
    checks: u32,
    mistakes: u32,
}

impl Report {
    /// Judges one thing, and hands it back if it could be read.
    fn take<T: Measured>(
        &mut self,
        name: &str,
        what: &str,
        found: Result<T>,
        judge: impl FnOnce(&T) -> Result<()>,
    ) -> Option<T> {
        let judged = found.and_then(|found| judge(&found).map(|()| found));
        match judged {
            Ok(found) => {
                self.good(name, found.length(), what);
                Some(found)
            }
            Err(error) => {
                self.checks += 1;
                self.mistakes += 1;
                println!("BAD {name}: {what}: {error:#}");
                None
            }
        }
    }

    fn good(&mut self, name: &str, number: u64, what: &str) {
        self.checks += 1;
        println!("ok  {name:<52} {number:>10}  {what}");
    }
}

/// What the report shows as a size.
trait Measured {
    fn length(&self) -> u64;
}

impl Measured for Vec<u8> {
    fn length(&self) -> u64 {
        self.len() as u64
    }
}

impl Measured for String {
    fn length(&self) -> u64 {
        self.len() as u64
    }
}

/// The partition that the board starts from.
struct Boot<'a> {
    card: &'a Path,
    at: Partition,
}

impl Boot<'_> {
    fn file(&self, name: &str) -> Result<Vec<u8>> {
        let image = format!("{}@@{}", self.card.display(), self.at.start);
        let mut copy = Command::new("mcopy");
        copy.args(["-i", &image, &format!("::{name}"), "-"]);
        not_empty(output(&mut copy)?)
    }

    fn text(&self, name: &str) -> Result<String> {
        Ok(String::from_utf8(self.file(name)?)?)
    }
}

/// The root file system.
struct Root<'a> {
    card: &'a Path,
    at: Partition,
}

impl Root<'_> {
    /// Asks debugfs, which answers errors on standard error and ends well.
    fn ask(&self, request: &str) -> Result<Vec<u8>> {
        let image = format!("{}?offset={}", self.card.display(), self.at.start);
        let debugfs = program("debugfs").unwrap_or_else(|| PathBuf::from("debugfs"));
        output(Command::new(debugfs).args(["-R", request, &image]))
    }

    fn file(&self, path: &str) -> Result<Vec<u8>> {
        not_empty(self.ask(&format!("cat {path}"))?)
    }

    fn text(&self, path: &str) -> Result<String> {
        Ok(String::from_utf8(self.file(path)?)?)
    }

    /// The inode of a path, itself and not what it leads to.
    fn exists(&self, path: &str) -> Result<String> {
        let told = String::from_utf8(self.ask(&format!("stat {path}"))?)?;
        ensure!(told.starts_with("Inode: "), "it is not there");
        Ok(told)
    }

    /// At byte 120 of the superblock, which is at byte 1,024.
    fn label(&self) -> Result<String> {
        let superblock = card::bytes_at(self.card, self.at.start + 1024, 1024)?;
        ensure!(superblock[56..58] == [0x53, 0xef], "no ext4");
        let label = superblock[120..136].split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(String::from_utf8(label.to_vec())?)
    }
}

fn not_empty(bytes: Vec<u8>) -> Result<Vec<u8>> {
    ensure!(!bytes.is_empty(), "it is not there, or empty");
    Ok(bytes)
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {name}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{name}: {}", said.trim());
    Ok(output.stdout)
}

/// What a program makes of these bytes.
fn piped(name: &str, arguments: &[&str], bytes: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(name)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot start {name}"))?;
    let mut input = child.stdin.take().context("no pipe to write to")?;
    let bytes = bytes.to_vec();
    let writing = std::thread::spawn(move || input.write_all(&bytes));
    let output = child.wait_with_output()?;
    // A program that has enough may close its end before all is written.
    let written = writing.join().map_err(|_| anyhow::anyhow!("the writing thread is gone"))?;
    ensure!(output.status.success(), "{name} ended with {} ({written:?})", output.status);
    Ok(output.stdout)
}

#[cfg(test)]
mod tests {
    use super::{packages, piped, setting};

    #[test]
    fn the_kernel_is_found_in_the_settings_of_the_firmware() {
        let config = "# kernel=old\narm_64bit=1\n\nkernel=vmlinuz-6.1\ninitramfs initrd.img-6.1\n";
        assert_eq!(setting(config, "kernel="), Some("vmlinuz-6.1"));
        assert_eq!(setting(config, "initramfs "), Some("initrd.img-6.1"));
        assert_eq!(setting(config, "enable_uart="), None);
    }

    #[test]
    fn a_package_that_is_only_unpacked_is_told_from_an_installed_one() {
        let status = "Package: a\nStatus: install ok installed\nVersion: 1\n\n\
            Package: b\nVersion: 2\nStatus: install ok unpacked\n\n";
        let found: Vec<_> = packages(status).collect();
        assert_eq!(found, [("a", "install ok installed"), ("b", "install ok unpacked")]);
    }

    #[test]
    fn a_program_that_fails_is_no_answer() {
        assert_eq!(piped("cat", &[], b"abc").unwrap(), b"abc");
        assert!(piped("gzip", &["-dc"], b"no gzip").is_err());
    }
}
