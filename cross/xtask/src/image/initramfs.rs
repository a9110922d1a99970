//! The first initramfs of an image, and that of the machine that it is assembled in: busybox, the
//! kernel modules of `cross/image/modules.txt`, and a script.
//!
//! Debian's own tools would make it on the board, but take more than ten minutes in an emulated
//! machine; this takes a second.

use super::cpio::Archive;
use crate::progress::quietly;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What every initramfs has, from an unpacked root file system.
pub(super) struct Parts {
    busybox: Vec<u8>,
    /// The kernel's release, such as `6.1.0-56-arm64`.
    release: String,
    /// Names for modprobe, in order.
    wanted: Vec<String>,
    /// Files of modules, by their path below `lib/modules/RELEASE`.
    modules: BTreeMap<String, Vec<u8>>,
    /// The lines of `modules.dep` for these.
    dependencies: String,
}

impl Parts {
    /// Reads them from `root`, with the list of modules at `list`.
    pub(super) fn read(root: &Path, list: &Path) -> Result<Self> {
        let release = release(root)?;
        let folder = root.join("usr/lib/modules").join(&release);
        let dependencies = folder.join("modules.dep");
        let dependencies = fs::read_to_string(&dependencies)
            .with_context(|| format!("cannot read {}", dependencies.display()))?;
        let list =
            fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
        let wanted = words(&list);
        let lines = closure(&dependencies, &wanted)?;
        let mut modules = BTreeMap::new();
        for line in &lines {
            let (path, _) =
                line.split_once(':').context("a line of modules.dep without a colon")?;
            let file = folder.join(path);
            let bytes =
                fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            modules.insert(path.to_owned(), bytes);
        }
        let busybox = root.join("usr/bin/busybox");
        let busybox =
            fs::read(&busybox).with_context(|| format!("cannot read {}", busybox.display()))?;
        Ok(Self { busybox, release, wanted, modules, dependencies: lines.join("\n") + "\n" })
    }

    /// Writes them to a folder, from which [`Parts::read`] has them again.
    pub(super) fn keep(&self, root: &Path) -> Result<()> {
        let folder = root.join("usr/lib/modules").join(&self.release);
        write_file(&root.join("usr/bin/busybox"), &self.busybox)?;
        write_file(&folder.join("modules.dep"), self.dependencies.as_bytes())?;
        for (path, bytes) in &self.modules {
            write_file(&folder.join(path), bytes)?;
        }
        Ok(())
    }

    /// The kernel's release.
    pub(super) fn release(&self) -> &str {
        &self.release
    }

    /// An archive with these parts and `init`, the script that the kernel starts.
    pub(super) fn archive(&self, init: &Path) -> Result<Archive> {
        let script = fs::read(init).with_context(|| format!("cannot read {}", init.display()))?;
        let mut archive = Archive::default();
        for folder in ["bin", "dev", "proc", "sys", "root"] {
            archive.folder(folder)?;
        }
        archive.file("init", &script)?;
        archive.file("bin/busybox", &self.busybox)?;
        archive.file("modules", (self.wanted.join("\n") + "\n").as_bytes())?;
        let folder = format!("lib/modules/{}", self.release);
        for (path, bytes) in &self.modules {
            archive.file(&format!("{folder}/{path}"), bytes)?;
        }
        archive.file(&format!("{folder}/modules.dep"), self.dependencies.as_bytes())?;
        Ok(archive)
    }
}

/// Writes an archive to a file, compressed as the kernel can read it.
pub(super) fn write(archive: Archive, path: &Path) -> Result<()> {
    let plain = path.with_extension("cpio");
    fs::write(&plain, archive.finish()?)
        .with_context(|| format!("cannot write {}", plain.display()))?;
    let mut gzip = Command::new("sh");
    // Without name and time, so that the same files give the same bytes.
    gzip.args(["-c", "gzip -n -9 <\"$1\" >\"$2\"", "gzip"]).arg(&plain).arg(path);
    quietly(&format!("compressing {}", path.display()), &mut gzip)?;
    fs::remove_file(&plain).with_context(|| format!("cannot remove {}", plain.display()))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("a file without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// The one kernel in a root file system.
fn release(root: &Path) -> Result<String> {
    let folder = root.join("usr/lib/modules");
    let kernels: Vec<PathBuf> = fs::read_dir(&folder)
        .with_context(|| format!("no kernel in {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    ensure!(kernels.len() == 1, "{} kernels in {}, not one", kernels.len(), folder.display());
    let name = kernels[0].file_name().and_then(|name| name.to_str());
    Ok(name.context("the kernel's release is no text")?.to_owned())
}

/// The lines of a list, without comments.
fn words(list: &str) -> Vec<String> {
    let lines = list.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// The lines of `modules.dep` of these modules and of all that they depend on.
fn closure(dependencies: &str, wanted: &[String]) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for name in wanted {
        let line = dependencies
            .lines()
            .find(|line| line.split_once(':').is_some_and(|(path, _)| is_module(path, name)))
            .with_context(|| format!("the kernel has no module {name}"))?;
        let (path, needed) = line.split_once(':').unwrap_or((line, ""));
        for path in needed.split_whitespace().chain([path]) {
            let start = format!("{path}:");
            let line = dependencies
                .lines()
                .find(|line| line.starts_with(&start))
                .with_context(|| format!("modules.dep has no line for {path}"))?;
            if !lines.iter().any(|known| known == line) {
                lines.push(line.to_owned());
            }
        }
    }
    Ok(lines)
}

/// Whether a file holds the module of a name; `-` and `_` are the same there.
fn is_module(path: &str, name: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.split_once('.').map_or(file, |(stem, _)| stem);
    stem.replace('-', "_") == name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::{closure, words};

    const DEP: &str = "\
kernel/fs/ext4/ext4.ko: kernel/lib/crc16.ko kernel/fs/jbd2/jbd2.ko
kernel/lib/crc16.ko:
kernel/fs/jbd2/jbd2.ko:
kernel/drivers/scsi/sd_mod.ko:
";

    #[test]
    fn a_module_brings_what_it_depends_on_once() {
        let wanted = words("# a comment\next4\n\nsd-mod\n");
        let lines = closure(DEP, &wanted).unwrap();
        let names: Vec<&str> = lines.iter().filter_map(|line| line.split(':').next()).collect();
        let expected = ["kernel/lib/crc16.ko", "kernel/fs/jbd2/jbd2.ko", "kernel/fs/ext4/ext4.ko"];
        assert_eq!(names, [&expected[..], &["kernel/drivers/scsi/sd_mod.ko"]].concat());
    }

    #[test]
    fn a_module_that_the_kernel_does_not_have_is_named() {
        let error = closure(DEP, &words("ext4\nvirtio_blk\n")).unwrap_err();
        assert_eq!(error.to_string(), "the kernel has no module virtio_blk");
    }
}
