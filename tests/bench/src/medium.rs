//! The disk under a benchmark: which file system, and what a sync costs on it. A durable broker
//! measured on memory says nothing, so memory is refused.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::leftovers::ScratchDir;
use crate::procfs;
use crate::quantile::percentile;

const BLOCK: usize = 4096;
const SYNCS: usize = 200;
/// Rounds of a write and a sync with a pause before each, and the pause: what an SD card's sync
/// takes longer in the broker's benchmark.
const PACED_SYNCS: usize = 100;
const PACE: Duration = Duration::from_millis(20);

/// A directory fit for a durable broker, and the measure of it.
#[derive(Debug, Clone)]
pub(crate) struct Medium {
    /// The directory, absolute.
    pub(crate) dir: PathBuf,
    /// Type of its file system.
    pub(crate) file_system: String,
    /// Median of 200 times 4 KiB written to a preallocated file and fdatasync.
    pub(crate) sync_p50: Duration,
    /// The 99th percentile of the same.
    pub(crate) sync_p99: Duration,
    /// Processor time of one such write and sync by a thread that slept 20 ms before it, and
    /// nothing else: what a program that syncs 50 times a second pays at the least.
    pub(crate) paced_sync_cpu: Duration,
}

impl Medium {
    /// Looks at `dir`, by default the build directory that this program was built into.
    ///
    /// # Errors
    /// When the directory is missing, is in memory, or cannot be written.
    pub(crate) fn examine(dir: Option<&Path>) -> Result<Medium> {
        let dir = match dir {
            Some(dir) => dir.to_owned(),
            None => build_dir()?,
        };
        let dir = dir
            .canonicalize()
            .with_context(|| format!("cannot use --dir {}: does it exist?", dir.display()))?;
        let file_system = procfs::file_system(&dir)?;
        refuse_memory(&dir, &file_system)?;
        let scratch = ScratchDir::new(&dir)?;
        let syncs = time_syncs(&scratch.path().join("sync"))
            .with_context(|| format!("cannot time a sync in {}", dir.display()))?;
        let paced_sync_cpu = paced_sync_cpu(&scratch.path().join("paced"))
            .with_context(|| format!("cannot time paced syncs in {}", dir.display()))?;
        let at = |percent| percentile(&syncs, percent).unwrap_or_default();
        let (sync_p50, sync_p99) = (at(50.0), at(99.0));
        Ok(Medium { sync_p50, sync_p99, paced_sync_cpu, dir, file_system })
    }
}

fn refuse_memory(dir: &Path, file_system: &str) -> Result<()> {
    if matches!(file_system, "tmpfs" | "ramfs" | "devtmpfs") {
        bail!(
            "{} is on {file_system}, which is memory: a sync costs nothing there, so a durable \
             broker would look as fast as one that keeps nothing. Give --dir a directory on a \
             disk, for example --dir /var/tmp",
            dir.display()
        );
    }
    Ok(())
}

fn build_dir() -> Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let dir = program.parent().context("this program has no directory")?;
    Ok(dir.to_owned())
}

/// Sorted times of `SYNCS` syncs of one block each, in a file whose blocks are all there before.
fn time_syncs(path: &Path) -> Result<Vec<Duration>> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all_at(&vec![0; SYNCS * BLOCK], 0)?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(SYNCS);
    for index in 0..SYNCS {
        let block = [index as u8 | 1; BLOCK];
        let start = Instant::now();
        file.write_all_at(&block, (index * BLOCK) as u64)?;
        rustix::fs::fdatasync(&file)?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

/// See [`Medium::paced_sync_cpu`].
fn paced_sync_cpu(path: &Path) -> Result<Duration> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    file.write_all_at(&vec![0; PACED_SYNCS * BLOCK], 0)?;
    file.sync_all()?;
    let before = procfs::own_thread_cpu()?;
    for index in 0..PACED_SYNCS {
        std::thread::sleep(PACE);
        let block = [index as u8 | 1; BLOCK];
        file.write_all_at(&block, (index * BLOCK) as u64)?;
        rustix::fs::fdatasync(&file)?;
    }
    Ok((procfs::own_thread_cpu()? - before) / PACED_SYNCS as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_refused_with_what_why_and_what_to_do() {
        let error = refuse_memory(Path::new("/dev/shm"), "tmpfs").unwrap_err().to_string();
        for part in ["/dev/shm", "tmpfs", "memory", "--dir"] {
            assert!(error.contains(part), "{part:?} is missing in {error:?}");
        }
        assert!(refuse_memory(Path::new("/data"), "ext4").is_ok());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = Medium::examine(Some(Path::new("/no/such/place"))).unwrap_err().to_string();
        assert!(error.contains("/no/such/place"), "{error}");
    }
}
