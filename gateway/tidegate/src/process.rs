//! What the kernel says of this process (`proc(5)`), for `/metrics`. Read when somebody asks; what
//! cannot be read is left out.

use std::fs;

use rustix::process::{Resource, getrlimit};

/// Ticks a second in `/proc/self/stat`: 100 on every architecture of Linux, whatever the kernel's
/// own clock does (`USER_HZ`).
const TICKS: f64 = 100.0;

/// One process at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Process {
    /// Seconds on a processor.
    pub(crate) cpu_seconds: Option<f64>,
    /// When it was started, in seconds since 1970.
    pub(crate) start_seconds: Option<f64>,
    /// Threads.
    pub(crate) threads: Option<u64>,
    /// Bytes of memory that are in use and in RAM.
    pub(crate) resident_bytes: Option<u64>,
    /// Bytes of address space.
    pub(crate) virtual_bytes: Option<u64>,
    /// Open files.
    pub(crate) open_fds: Option<u64>,
    /// Files that may be open.
    pub(crate) max_fds: Option<u64>,
}

impl Process {
    /// This process now.
    pub(crate) fn now() -> Process {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut process =
            parse(&read("/proc/self/stat"), &read("/proc/self/status"), &read("/proc/stat"));
        // The directory that is being read is open too.
        process.open_fds =
            fs::read_dir("/proc/self/fd").ok().map(|open| open.count().saturating_sub(1) as u64);
        process.max_fds = getrlimit(Resource::Nofile).current;
        process
    }
}

/// From the text of `/proc/self/stat`, `/proc/self/status` and `/proc/stat`.
fn parse(stat: &str, status: &str, system: &str) -> Process {
    // The name in parentheses may hold anything; the fields behind it are counted from 3.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let kib = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
    };
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "));
    let boot = boot.and_then(|text| text.trim().parse::<f64>().ok());
    Process {
        cpu_seconds: field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS),
        start_seconds: boot.zip(field(22)).map(|(boot, after)| boot + after / TICKS),
        threads: fields.get(20 - 3).and_then(|text| text.parse().ok()),
        resident_bytes: kib("VmRSS:"),
        virtual_bytes: kib("VmSize:"),
        open_fds: None,
        max_fds: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_text_is_understood() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 12345 8 2";
        let status = "Name:\ta\nVmSize:\t  2048 kB\nVmRSS:\t   10 kB\n";
        let process = parse(stat, status, "cpu 1 2\nbtime 1780000000\n");
        assert_eq!(process.cpu_seconds, Some(3.0));
        assert_eq!(process.start_seconds, Some(1_780_000_123.45));
        assert_eq!(process.threads, Some(9));
        assert_eq!((process.resident_bytes, process.virtual_bytes), (Some(10_240), Some(2 << 20)));
    }

    #[test]
    fn what_cannot_be_read_is_left_out() {
        assert_eq!(parse("", "", ""), Process::default());
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let now = Process::now();
        assert!(now.resident_bytes > Some(1 << 20) && now.threads >= Some(1), "{now:?}");
        assert!(now.open_fds >= Some(3) && now.start_seconds > Some(1.6e9), "{now:?}");
    }
}
