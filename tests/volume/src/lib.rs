//! An ext4 file system of its own, in a file behind a loop device: tests cut its power, and
//! benchmarks count the bytes that reach its device, where nothing else writes.
//!
//! A cut is the ioctl `EXT4_IOC_SHUTDOWN` without a flush of the journal: from that moment no
//! write reaches the device, and what was in the page cache alone is gone. Mounting it again
//! recovers the journal, as a machine does that gets its power back.
//!
//! Invariants: what is mounted is unmounted when its value goes, on panic too, and its loop
//! device goes with it (`mount` attaches it with autoclear); what is still in use then is
//! detached, and gone once its user has ended.
//!
//! What is not here: a device that forgets what it has taken in. A write that ext4 has sent to
//! the loop device survives the cut, flushed or not, and whole or not at all by the host's page
//! cache; torn and reordered sectors are the simulator's.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};

/// `EXT4_IOC_SHUTDOWN` is `_IOR('X', 125, __u32)`, with `EXT4_GOING_FLAGS_NOLOGFLUSH`, 2 (Linux,
/// `include/uapi/linux/ext4.h`). Rust has no safe ioctl; perl is in every Debian.
const CUT: &str = r#"open(my $root, "<", $ARGV[0]) or die "open: $!\n";
my $flags = pack("L", 2);
ioctl($root, 0x8004587d, $flags) or die "EXT4_IOC_SHUTDOWN: $!\n";"#;

/// Longest wait for the last user of a volume to be gone.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
/// Zeros of a new image are written in pieces of this size.
const PIECE: usize = 1 << 20;
/// The unit of the kernel's block counters, whatever the device's own sector is.
const SECTOR: u64 = 512;

/// A mounted volume; unmounted, and its image removed, when dropped.
#[derive(Debug)]
pub struct Volume {
    image: PathBuf,
    at: PathBuf,
    mounted: bool,
}

/// This machine cannot have volumes; the text says what is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unavailable(String);

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no ext4 on a loop device here: {}", self.0)
    }
}

impl std::error::Error for Unavailable {}

impl Volume {
    /// Makes a file system of `bytes` in a new file `image` and mounts it at `at`, which is made
    /// when it is not there. The image is written in full, so that no write to the volume has to
    /// find room for it.
    ///
    /// # Errors
    /// Without root, mkfs.ext4, perl, a free loop device or the right to mount.
    pub fn new(image: &Path, bytes: u64, at: &Path) -> Result<Volume, Unavailable> {
        if !rustix::process::geteuid().is_root() {
            return Err(Unavailable("that needs root".to_owned()));
        }
        let mut volume = Volume { image: image.to_owned(), at: at.to_owned(), mounted: false };
        let made = volume.make(bytes).and_then(|()| volume.mount());
        made.map(|()| volume).map_err(|error| Unavailable(format!("{error:#}")))
    }

    fn make(&self, bytes: u64) -> Result<()> {
        run(Command::new("perl").arg("-v"))?;
        write_zeros(&self.image, bytes)
            .with_context(|| format!("cannot write {}", self.image.display()))?;
        // Without the lazy parts nothing writes to it in the background later.
        let mut mkfs = Command::new("mkfs.ext4");
        mkfs.args(["-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0"]);
        run(mkfs.arg(&self.image))?;
        fs::create_dir_all(&self.at).with_context(|| format!("cannot make {}", self.at.display()))
    }

    /// Mounts it (again); after a cut this recovers the journal.
    ///
    /// # Errors
    /// When it is mounted, or the kernel refuses.
    pub fn mount(&mut self) -> Result<()> {
        ensure!(!self.mounted, "{} is mounted", self.at.display());
        let mut mount = Command::new("mount");
        run(mount.args(["-t", "ext4", "-o", "loop"]).arg(&self.image).arg(&self.at))?;
        self.mounted = true;
        Ok(())
    }

    /// Unmounts it; waits for a process that has just been killed to let go of it.
    ///
    /// # Errors
    /// When something still uses it after 10 s, or it is not mounted.
    pub fn unmount(&mut self) -> Result<()> {
        let deadline = Instant::now() + BUSY_LIMIT;
        loop {
            match unmount(&self.at, UnmountFlags::empty()) {
                Ok(()) => {
                    self.mounted = false;
                    return Ok(());
                }
                Err(Errno::BUSY) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(error) => {
                    let at = self.at.display();
                    return Err(error).with_context(|| format!("cannot unmount {at}"));
                }
            }
        }
    }

    /// Cuts the power: nothing that is not on the device gets there any more, and everything on
    /// the volume fails until it has been unmounted and mounted.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn cut(&self) -> Result<()> {
        run(Command::new("perl").args(["-e", CUT]).arg(&self.at))
    }

    /// See [`written_bytes`].
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn written_bytes(&self) -> Result<u64> {
        written_bytes(&self.at)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if self.mounted
            && let Err(error) = unmount(&self.at, UnmountFlags::DETACH)
        {
            eprintln!("cannot unmount {}: {error}; unmount it by hand", self.at.display());
        }
        // It may never have been made; one that stays is in a directory for such files.
        let _ = fs::remove_file(&self.image);
    }
}

/// Bytes written to the device of the file system that holds `path`, those of its journal
/// included, since the device is there; only the difference of two such counts means something.
/// Syncs the file system first, so that what belongs to the interval that ends here does not
/// count for the next.
///
/// # Errors
/// When the kernel does not say.
pub fn written_bytes(path: &Path) -> Result<u64> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    rustix::fs::syncfs(&file)?;
    let device = file.metadata()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let path = format!("/sys/dev/block/{major}:{minor}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    written_sectors(&stat)
        .map(|sectors| sectors * SECTOR)
        .with_context(|| format!("{path} names no sectors written: {stat:?}"))
}

/// Detaches all that is mounted below `dir`, for a program that ends in a hurry. What cannot be
/// detached is said on standard error.
pub fn detach_below(dir: &Path) {
    let table = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let points = table.lines().filter_map(|line| line.split(' ').nth(1)).map(Path::new);
    for point in points.filter(|point| point.starts_with(dir)) {
        if let Err(error) = unmount(point, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}; unmount it by hand", point.display());
        }
    }
}

/// Says that a test did not run, and why. Goes past the test harness, which would hide what a
/// passed test prints; `cargo xtask test` counts these lines.
pub fn say_skipped(test: &str, why: &Unavailable) {
    // Nobody reads standard error: then nobody wants to know.
    let _ = writeln!(std::io::stderr(), "skipped: {test}: {why}");
}

fn write_zeros(path: &Path, bytes: u64) -> Result<()> {
    let mut file = File::create_new(path)?;
    let zeros = vec![0; PIECE];
    let mut left = bytes;
    while left > 0 {
        let piece = PIECE.min(usize::try_from(left).unwrap_or(PIECE));
        file.write_all(&zeros[..piece])?;
        left -= piece as u64;
    }
    Ok(())
}

/// Runs a program that root finds, and shows what it says when it fails.
fn run(command: &mut Command) -> Result<()> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let name = command.get_program().to_owned();
    let output = command
        .env("PATH", std::env::join_paths(folders)?)
        .output()
        .with_context(|| format!("cannot run {}", shown(&name)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}: {}", shown(&name), output.status, said.trim());
    }
    Ok(())
}

fn shown(name: &OsStr) -> std::borrow::Cow<'_, str> {
    name.to_string_lossy()
}

/// The seventh field: sectors written (Linux, `Documentation/block/stat.rst`).
fn written_sectors(stat: &str) -> Option<u64> {
    stat.split_ascii_whitespace().nth(6)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A place under the system's temporary directory, removed when dropped.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str) -> Place {
            let name = format!("tidegate-volume-{}-{name}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Place(path)
        }

        fn volume(&self) -> Result<Volume, Unavailable> {
            Volume::new(&self.0.join("image"), 16 << 20, &self.0.join("mounted"))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn is_mounted(at: &Path) -> bool {
        let table = fs::read_to_string("/proc/self/mounts").unwrap();
        table.contains(&at.display().to_string())
    }

    #[test]
    fn a_cut_takes_what_was_not_synced_and_leaves_what_was() {
        let place = Place::new("cut");
        let mut volume = match place.volume() {
            Ok(volume) => volume,
            Err(why) => return say_skipped("a power cut of a volume", &why),
        };
        let (kept, gone) = (volume.path().join("kept"), volume.path().join("gone"));
        fs::write(&kept, b"synced").unwrap();
        File::open(&kept).unwrap().sync_all().unwrap();
        File::open(volume.path()).unwrap().sync_all().unwrap();
        fs::write(&gone, b"in the page cache").unwrap();
        volume.cut().unwrap();
        assert!(fs::write(volume.path().join("late"), b"after the cut").is_err());
        volume.unmount().unwrap();
        volume.mount().unwrap();
        assert_eq!(fs::read(&kept).unwrap(), b"synced");
        assert!(!gone.exists(), "what was never synced has survived: the cut cuts nothing");
        let at = volume.path().to_owned();
        assert!(is_mounted(&at));
        drop(volume);
        assert!(!is_mounted(&at));
    }

    #[test]
    fn bytes_are_counted_where_they_reach_the_device() {
        let place = Place::new("count");
        let volume = match place.volume() {
            Ok(volume) => volume,
            Err(why) => return say_skipped("the byte counter of a volume", &why),
        };
        let before = volume.written_bytes().unwrap();
        fs::write(volume.path().join("a"), vec![7; 1 << 20]).unwrap();
        let written = volume.written_bytes().unwrap() - before;
        // The file, and a few blocks of the journal.
        assert!((1 << 20..2 << 20).contains(&written), "{written} bytes");
    }

    #[test]
    fn sectors_written_are_the_seventh_field() {
        let stat = "    4521       12   180420     1033     9001       77   360240     2210 0 0 0";
        assert_eq!(written_sectors(stat), Some(360_240));
        assert_eq!(written_sectors("1 2 3"), None);
    }
}
