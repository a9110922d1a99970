//! How the flash wears: bytes written to the partition of the store as the kernel counts them,
//! and how long the card lasts at this rate.
//!
//! The kernel's count (`/sys/dev/block/MAJ:MIN/stat`) is of what reached the device: journal and
//! metadata of the file system included, and whatever else writes to that partition. Where it
//! keeps none (overlays, network file systems, btrfs), the log's own count is what there is.
//!
//! Deliberately not here: anything that writes; the files are read when somebody asks.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{major, minor, statvfs};
use tidegate_flow::status::{RoomStatus, WearStatus};

/// The kernel counts sectors of this size, whatever the device's are
/// (Documentation/block/stat.rst).
const SECTOR: u64 = 512;
/// Place of "write sectors" in the line, from 0.
const WRITE_SECTORS: usize = 6;
/// Below this the rate says more about the last minute than about a day.
const MIN_SPAN: Duration = Duration::from_secs(60);
const DAY_MS: u128 = 86_400_000;
const DAYS_A_YEAR: f64 = 365.25;

/// The wear of one store.
#[derive(Debug)]
pub(crate) struct Wear {
    started: Instant,
    endurance: Option<u64>,
    device: Result<Device, String>,
    path: PathBuf,
}

/// A block device that the kernel counts for.
#[derive(Debug)]
struct Device {
    /// `MAJOR:MINOR`.
    number: String,
    stat: PathBuf,
    meter: Meter,
}

impl Wear {
    /// Begins to measure the partition that holds `path`. `endurance`: bytes that the card is
    /// rated for.
    pub(crate) fn start(path: &Path, endurance: Option<u64>, now: Instant) -> Wear {
        Wear { started: now, endurance, device: Device::of(path), path: path.to_owned() }
    }

    /// How much there is of the file system, and how much is free; `None` where it does not say.
    pub(crate) fn room(&self) -> Option<RoomStatus> {
        let about = statvfs(&self.path).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(about.f_frsize);
        Some(RoomStatus { size: bytes(about.f_blocks), free: bytes(about.f_bavail) })
    }

    /// What was written so far. `log_bytes`: by the log's own count.
    pub(crate) fn status(&mut self, now: Instant, log_bytes: u64) -> WearStatus {
        let over = now.saturating_duration_since(self.started);
        match self.device.as_mut().map(|device| (device.number.clone(), device.read())) {
            Ok((number, Ok(bytes))) => {
                let told = estimate(over, bytes, self.endurance);
                WearStatus { device: Some(number), device_bytes: Some(bytes), ..told }
            }
            Ok((number, Err(why))) => {
                let told = estimate(over, log_bytes, self.endurance);
                WearStatus { device: Some(number), unknown: Some(why), ..told }
            }
            Err(why) => {
                let told = estimate(over, log_bytes, self.endurance);
                WearStatus { unknown: Some(why.clone()), ..told }
            }
        }
    }
}

impl Device {
    fn of(path: &Path) -> Result<Device, String> {
        let metadata = fs::metadata(path)
            .map_err(|error| format!("cannot find the device of {}: {error}", path.display()))?;
        let device = metadata.dev();
        let number = format!("{}:{}", major(device), minor(device));
        let stat = PathBuf::from(format!("/sys/dev/block/{number}/stat"));
        let sectors = read(&stat)?;
        Ok(Device { number, stat, meter: Meter::new(sectors) })
    }

    /// Bytes written since the beginning.
    fn read(&mut self) -> Result<u64, String> {
        Ok(self.meter.note(read(&self.stat)?).saturating_mul(SECTOR))
    }
}

fn read(stat: &Path) -> Result<u64, String> {
    let text = fs::read_to_string(stat).map_err(|error| {
        format!("the kernel does not count what is written to it: {}: {error}", stat.display())
    })?;
    sectors_written(&text).ok_or_else(|| {
        format!("the kernel's count in {} is not understood: {text:?}", stat.display())
    })
}

/// Sectors written, from the text of a `stat` file.
fn sectors_written(stat: &str) -> Option<u64> {
    stat.split_ascii_whitespace().nth(WRITE_SECTORS)?.parse().ok()
}

/// A counter of the kernel, which may begin again.
#[derive(Debug, PartialEq, Eq)]
struct Meter {
    last: u64,
    total: u64,
}

impl Meter {
    fn new(first: u64) -> Meter {
        Meter { last: first, total: 0 }
    }

    /// Takes a reading; answers what was counted since the beginning.
    fn note(&mut self, reading: u64) -> u64 {
        // On 32-bit kernels the counter has 32 bits, 2 TiB; a smaller fall is another device in
        // the place of the first.
        let wrapped = self.last > u64::from(u32::MAX / 2) && self.last <= u64::from(u32::MAX);
        let more = match reading.checked_sub(self.last) {
            Some(more) => more,
            None if wrapped => reading + (1 << 32) - self.last,
            None => reading,
        };
        self.last = reading;
        self.total = self.total.saturating_add(more);
        self.total
    }
}

/// What `bytes` in so much time come to.
fn estimate(over: Duration, bytes: u64, endurance: Option<u64>) -> WearStatus {
    let long_enough = over >= MIN_SPAN;
    let a_day = u128::from(bytes) * DAY_MS / over.as_millis().max(1);
    let a_day = u64::try_from(a_day).unwrap_or(u64::MAX);
    let years = |endurance: u64| endurance as f64 / a_day as f64 / DAYS_A_YEAR;
    WearStatus {
        over_ms: over.as_millis() as u64,
        device: None,
        device_bytes: None,
        unknown: None,
        bytes_per_day: long_enough.then_some(a_day),
        endurance_bytes: endurance,
        life_years: endurance.filter(|_| long_enough && a_day > 0).map(years),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    /// Linux 6.1, an SD card.
    const STAT: &str = "  298724    32938 21583730   588722   502523   273368 128393256   536582        0    76040  1140547    25031       30 34238904     9752   137911     5489\n";
    /// Linux before 4.18: eleven fields.
    const OLD_STAT: &str = "1 2 3 4 5 6 77 8 9 10 11\n";

    #[test]
    fn sectors_written_are_found_in_old_and_new_lines() {
        assert_eq!(sectors_written(STAT), Some(128_393_256));
        assert_eq!(sectors_written(OLD_STAT), Some(77));
        for other in ["", "1 2 3", "1 2 3 4 5 6 many 8", "1 2 3 4 5 6 -7 8"] {
            assert_eq!(sectors_written(other), None, "{other}");
        }
    }

    #[test]
    fn a_counter_that_wraps_at_32_bits_goes_on() {
        let mut meter = Meter::new(u64::from(u32::MAX) - 9);
        assert_eq!(meter.note(u64::from(u32::MAX)), 9);
        assert_eq!(meter.note(20), 30);
        assert_eq!(meter.note(25), 35);
    }

    #[test]
    fn a_counter_that_begins_again_does_not_count_backwards() {
        let mut meter = Meter::new(1_000);
        assert_eq!(meter.note(1_500), 500);
        assert_eq!(meter.note(100), 600);
        let mut large = Meter::new(u64::MAX);
        assert_eq!(large.note(7), 7);
    }

    #[test]
    fn a_rate_is_told_after_a_minute_and_the_life_of_the_card_with_it() {
        let terabytes = 1_000_000_000_000;
        let short = estimate(Duration::from_secs(59), 1 << 30, Some(100 * terabytes));
        assert_eq!((short.bytes_per_day, short.life_years), (None, None));
        let hour = estimate(Duration::from_secs(3600), 1_000_000_000, Some(100 * terabytes));
        assert_eq!(hour.bytes_per_day, Some(24_000_000_000));
        let years = hour.life_years.unwrap();
        assert!((11.40..11.41).contains(&years), "{years}");
        let unrated = estimate(Duration::from_secs(3600), 1_000_000_000, None);
        assert_eq!((unrated.bytes_per_day, unrated.life_years), (Some(24_000_000_000), None));
        let idle = estimate(Duration::from_secs(3600), 0, Some(terabytes));
        assert_eq!((idle.bytes_per_day, idle.life_years), (Some(0), None));
        let absurd = estimate(Duration::from_secs(60), u64::MAX, Some(1));
        assert_eq!(absurd.bytes_per_day, Some(u64::MAX));
    }

    #[test]
    fn where_the_kernel_does_not_count_the_logs_own_count_stands_in_and_it_says_so() {
        let started = Instant::now();
        let mut wear = Wear::start(Path::new("/proc"), Some(1 << 40), started);
        let status = wear.status(started + Duration::from_secs(86_400), 12_345);
        assert_eq!((status.device_bytes, status.bytes_per_day), (None, Some(12_345)));
        let why = status.unknown.unwrap();
        assert!(why.starts_with("the kernel does not count what is written to it: "), "{why}");
        assert!(status.life_years.is_some());
    }

    #[test]
    fn the_device_of_a_directory_is_read_or_it_says_why_not() {
        let scratch = Scratch::new();
        let now = Instant::now();
        let mut wear = Wear::start(scratch.path(), None, now);
        let status = wear.status(now, 0);
        assert_eq!(status.device_bytes.is_none(), status.unknown.is_some(), "{status:?}");
        let mut gone = Wear::start(&scratch.path().join("gone"), None, now);
        assert!(gone.status(now, 0).unknown.unwrap().starts_with("cannot find the device of "));
    }
}
