//! What the kernel says about a process and about the machine, read from `/proc`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

/// Processor time of a process so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CpuTime {
    /// utime + stime of `/proc/PID/stat`: exact to a tick (10 ms on most machines).
    ticks: Duration,
    /// Thread ids with their time on a processor in nanoseconds (`schedstat`), when the kernel
    /// keeps it: the same accounting without the rounding.
    threads: Option<Vec<(u32, u64)>>,
}

impl CpuTime {
    /// The time used since `before`. Exact when the threads are still the same ones, otherwise
    /// to the tick.
    pub(crate) fn since(&self, before: &CpuTime) -> Duration {
        let exact = self.threads.as_ref().zip(before.threads.as_ref()).filter(|(now, then)| {
            now.len() == then.len() && now.iter().zip(then.iter()).all(|(a, b)| a.0 == b.0)
        });
        match exact {
            Some((now, then)) => {
                let sum = |threads: &[(u32, u64)]| threads.iter().map(|t| t.1).sum::<u64>();
                Duration::from_nanos(sum(now).saturating_sub(sum(then)))
            }
            None => self.ticks.saturating_sub(before.ticks),
        }
    }
}

/// Reads the processor time of `pid`.
pub(crate) fn cpu_time(pid: u32) -> Result<CpuTime> {
    let stat = read(format!("/proc/{pid}/stat"))?;
    let ticks = parse_stat_ticks(&stat)
        .with_context(|| format!("/proc/{pid}/stat has no utime and stime: {stat:?}"))?;
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(ticks_per_second.max(1));
    Ok(CpuTime {
        ticks: Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)),
        threads: thread_times(pid),
    })
}

/// Waits until `pid` has left the processor alone for a while and returns the time it had used
/// by then, so that work which a process puts off is counted too. At most `limit`.
pub(crate) fn cpu_time_when_idle(pid: u32, limit: Duration) -> Result<CpuTime> {
    let start = std::time::Instant::now();
    let mut before = cpu_time(pid)?;
    let mut quiet = 0;
    while quiet < 3 && start.elapsed() < limit {
        std::thread::sleep(IDLE_SAMPLE);
        let now = cpu_time(pid)?;
        quiet = if now.since(&before) < IDLE_SAMPLE / 50 { quiet + 1 } else { 0 };
        before = now;
    }
    Ok(before)
}

const IDLE_SAMPLE: Duration = Duration::from_millis(20);

/// `None` where the kernel keeps no scheduler statistics, or a thread ended while they were read.
fn thread_times(pid: u32) -> Option<Vec<(u32, u64)>> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/task")).ok()? {
        let entry = entry.ok()?;
        let tid = entry.file_name().to_str()?.parse().ok()?;
        let text = std::fs::read_to_string(entry.path().join("schedstat")).ok()?;
        threads.push((tid, parse_schedstat(&text)?));
    }
    threads.sort_unstable();
    Some(threads)
}

/// Processor time so far of the threads that there are, by their names; empty where the kernel keeps no
/// scheduler statistics.
pub(crate) fn cpu_by_thread(pid: u32) -> BTreeMap<String, Duration> {
    let mut times = BTreeMap::new();
    for (tid, nanoseconds) in thread_times(pid).unwrap_or_default() {
        // One that has ended meanwhile has no name any more.
        let Ok(name) = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/comm")) else {
            continue;
        };
        let time: &mut Duration = times.entry(name.trim().to_owned()).or_default();
        *time += Duration::from_nanos(nanoseconds);
    }
    times
}

/// utime + stime in ticks: fields 14 and 15, counted after the command name, which is in
/// parentheses and may hold anything.
fn parse_stat_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    user.checked_add(system)
}

/// Nanoseconds on a processor: the first field.
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}

/// Resident memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resident {
    /// Now (`VmRSS`).
    pub(crate) now: u64,
    /// The most since it started (`VmHWM`).
    pub(crate) peak: u64,
}

/// Reads the resident memory of `pid`.
pub(crate) fn resident(pid: u32) -> Result<Resident> {
    let status = read(format!("/proc/{pid}/status"))?;
    parse_resident(&status)
        .with_context(|| format!("/proc/{pid}/status has no VmRSS and VmHWM: is it a zombie?"))
}

fn parse_resident(status: &str) -> Option<Resident> {
    Some(Resident { now: kilobytes(status, "VmRSS:")?, peak: kilobytes(status, "VmHWM:")? })
}

/// The value of a `Name:   123 kB` line, in bytes.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Bytes that `pid` has caused to be written to a block device, as the kernel counts them where
/// pages become dirty: neither the file system's journal nor what is written later by others.
pub(crate) fn written_bytes(pid: u32) -> Result<u64> {
    let text = read(format!("/proc/{pid}/io"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|number| number.parse().ok())
        .with_context(|| format!("/proc/{pid}/io has no write_bytes: {text:?}"))
}

/// Processor time of the calling thread.
pub(crate) fn own_thread_cpu() -> Result<Duration> {
    let path = "/proc/thread-self/schedstat";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let nanoseconds = text.split_ascii_whitespace().next().and_then(|first| first.parse().ok());
    nanoseconds.map(Duration::from_nanos).with_context(|| format!("{path} holds {text:?}"))
}

/// All memory of the machine, in bytes.
pub(crate) fn memory_bytes() -> Result<u64> {
    let text = read("/proc/meminfo")?;
    kilobytes(&text, "MemTotal:").context("/proc/meminfo has no MemTotal")
}

/// The type of the file system that `path` is on, as the kernel names it (`ext4`, `tmpfs`).
pub(crate) fn file_system(path: &Path) -> Result<String> {
    let path = path
        .canonicalize()
        .with_context(|| format!("cannot resolve {}: does it exist?", path.display()))?;
    let table = read("/proc/self/mountinfo")?;
    parse_file_system(&table, &path)
        .with_context(|| format!("/proc/self/mountinfo has no mount for {}", path.display()))
}

/// The deepest mount point above `path`; of several on one point, the last hides the others.
fn parse_file_system(mountinfo: &str, path: &Path) -> Option<String> {
    let mut best: Option<(usize, String)> = None;
    for line in mountinfo.lines() {
        let Some((mount, rest)) = line.split_once(" - ") else { continue };
        let Some(point) = mount.split(' ').nth(4).map(unescape) else { continue };
        let Some(kind) = rest.split(' ').next() else { continue };
        let depth = point.components().count();
        if path.starts_with(&point) && best.as_ref().is_none_or(|(deepest, _)| depth >= *deepest) {
            best = Some((depth, kind.to_owned()));
        }
    }
    best.map(|(_, kind)| kind)
}

/// Blanks in mount points are written as octal, `\040`.
fn unescape(text: &str) -> PathBuf {
    let plain = text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n");
    PathBuf::from(plain.replace("\\134", "\\"))
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = path.as_ref();
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "812 (a) (b c)) S 1 812 812 0 -1 4194560 99 0 3 0 250 31 0 0 20 0 4 0 77 1";

    #[test]
    fn processor_ticks_are_found_behind_a_hostile_command_name() {
        assert_eq!(parse_stat_ticks(STAT), Some(281));
        assert_eq!(parse_stat_ticks("812 (x) S 1"), None);
        assert_eq!(parse_stat_ticks(""), None);
    }

    #[test]
    fn resident_memory_is_read_in_bytes() {
        let status = "Name:\tmosquitto\nVmHWM:\t    9216 kB\nVmRSS:\t    8192 kB\n";
        let expected = Resident { now: 8192 * 1024, peak: 9216 * 1024 };
        assert_eq!(parse_resident(status), Some(expected));
        assert_eq!(parse_resident("Name:\tzombie\nState:\tZ\n"), None);
    }

    #[test]
    fn the_deepest_and_last_mount_names_the_file_system() {
        let table = "\
22 1 0:21 / / rw,relatime shared:1 - ext4 /dev/vda rw
23 22 0:22 / /data rw - xfs /dev/vdb rw
24 22 0:23 / /data rw - btrfs /dev/vdc rw
25 22 0:24 / /with\\040blank rw shared:7 master:2 - tmpfs tmpfs rw
";
        let check = |path: &str, kind: &str| {
            assert_eq!(parse_file_system(table, Path::new(path)).as_deref(), Some(kind), "{path}");
        };
        check("/home/a", "ext4");
        check("/data/b", "btrfs");
        check("/database", "ext4");
        check("/with blank/c", "tmpfs");
    }

    #[test]
    fn processor_time_is_exact_while_the_threads_stay_the_same() {
        let time = |ticks, threads: Option<&[(u32, u64)]>| CpuTime {
            ticks: Duration::from_millis(ticks),
            threads: threads.map(<[_]>::to_vec),
        };
        let before = time(100, Some(&[(1, 5_000), (2, 7_000)]));
        let same = time(120, Some(&[(1, 6_000), (2, 9_500)]));
        assert_eq!(same.since(&before), Duration::from_nanos(3_500));
        let other = time(120, Some(&[(1, 6_000), (3, 9_500)]));
        assert_eq!(other.since(&before), Duration::from_millis(20));
        assert_eq!(time(130, None).since(&before), Duration::from_millis(30));
    }

    #[test]
    fn this_process_can_read_itself() {
        let pid = std::process::id();
        let memory = resident(pid).unwrap();
        assert!(memory.now > 0 && memory.peak >= memory.now);
        let before = cpu_time(pid).unwrap();
        assert!(cpu_time(pid).unwrap().since(&before) < Duration::from_secs(60));
        assert!(memory_bytes().unwrap() > 0);
        assert!(written_bytes(pid).is_ok());
        assert!(cpu_time_when_idle(pid, Duration::from_millis(100)).is_ok());
        assert_eq!(file_system(Path::new("/proc/self/")).unwrap(), "proc");
    }
}
