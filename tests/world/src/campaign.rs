//! Many worlds, on as many threads as there are cores. Which thread runs a world changes nothing
//! in it.

use std::cell::RefCell;
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::options::Options;
use crate::tally::Tally;
use crate::{Planted, run_and_count};

/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(10);
/// Broken promises of one world that are worth reading.
const MAX_LINES: usize = 12;

/// A world to run and the arguments that replay it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Arguments of `cargo xtask world`.
    pub replay: String,
    /// Its options.
    pub options: Options,
}

/// A world that broke a promise.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Its place in the campaign.
    pub place: usize,
    /// What was wrong.
    pub wrong: Vec<String>,
    /// The line that replays it.
    pub replay: String,
}

/// What a campaign found.
#[derive(Debug, Default)]
pub struct Report {
    /// Worlds run.
    pub worlds: u64,
    /// What happened in all of them.
    pub tally: Tally,
    /// Worlds in which each of power cut, partition and full disk hit work.
    pub bitten: u64,
    /// Worlds that broke a promise, in order.
    pub broken: Vec<Broken>,
    /// How long it took.
    pub elapsed: Duration,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.wrong.iter().take(MAX_LINES) {
            writeln!(f, "{line}")?;
        }
        if self.wrong.len() > MAX_LINES {
            writeln!(f, "... and {} more", self.wrong.len() - MAX_LINES)?;
        }
        write!(f, "replay: {}", self.replay)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.tally)?;
        write!(
            f,
            "{} worlds, {} with power cut, partition and full disk that each hit work, {} broken promises, {:.1} s",
            self.worlds,
            self.bitten,
            self.broken.len(),
            self.elapsed.as_secs_f64()
        )
    }
}

/// So many storms, from this seed on. A mistake is looked for without what it has nothing to do with.
pub fn storms(from: u64, seeds: u64, bug: Option<Planted>) -> Vec<Entry> {
    let options = |seed| match bug {
        None => Options::storm(seed),
        Some(bug) => Options::storm_for(seed, bug.part()),
    };
    let storm = |seed| Entry { replay: format!("--seeds 1 --from {seed}"), options: options(seed) };
    (from..from + seeds).map(storm).collect()
}

/// Runs the worlds, with the mistake in each; ends early at the first that breaks a promise when
/// `first` asks for it. Progress and failures are told as they come.
pub fn run(entries: &[Entry], bug: Option<Planted>, first: First, tell: Tell) -> Report {
    let began = Instant::now();
    let next = AtomicUsize::new(0);
    let done = AtomicU64::new(0);
    let report = Mutex::new(Report::default());
    let told = Mutex::new(began);
    let work = || {
        loop {
            let place = next.fetch_add(1, Ordering::Relaxed);
            let Some(entry) = entries.get(place) else { return };
            let broken = run_one(place, entry, bug, &report);
            if let (Some(broken), Tell::Everything) = (&broken, tell) {
                eprintln!("{broken}\n");
            }
            if broken.is_some() && first == First::Only {
                next.store(entries.len(), Ordering::Relaxed);
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if tell == Tell::Everything {
                tell_progress(&told, done, entries.len());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads() {
            scope.spawn(work);
        }
        work();
    });
    let mut report = report.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    report.broken.sort_unstable_by_key(|broken| broken.place);
    report.elapsed = began.elapsed();
    report
}

thread_local! {
    /// What replays the world that runs on this thread.
    static RUNNING: RefCell<String> = const { RefCell::new(String::new()) };
}

/// From now on a panic names the world that it happened in.
pub fn announce_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        eprintln!("replay: {}", RUNNING.take());
    }));
}

/// Whether one failure is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// The campaign ends with it.
    Only,
    /// It goes on.
    AndAllOthers,
}

/// How much is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    /// Nothing.
    Nothing,
    /// Failures and progress.
    Everything,
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn run_one(
    place: usize,
    entry: &Entry,
    bug: Option<Planted>,
    report: &Mutex<Report>,
) -> Option<Broken> {
    let options = match bug {
        Some(bug) => entry.options.clone().with(bug),
        None => entry.options.clone(),
    };
    let bug = bug.map_or(String::new(), |bug| format!(" --bug {bug}"));
    let replay = format!("cargo xtask world {}{bug}", entry.replay);
    RUNNING.set(replay.clone());
    let (wrong, tally) = run_and_count(options);
    let mut report = report.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    report.worlds += 1;
    report.tally += &tally;
    report.bitten +=
        u64::from(tally.power_cuts_bit > 0 && tally.partitions_bit > 0 && tally.full_disks_bit > 0);
    if wrong.is_empty() {
        return None;
    }
    let broken = Broken { place, wrong, replay };
    report.broken.push(broken.clone());
    Some(broken)
}

fn tell_progress(told: &Mutex<Instant>, done: u64, all: usize) {
    let Ok(mut told) = told.try_lock() else { return };
    if told.elapsed() >= PROGRESS {
        *told = Instant::now();
        eprintln!("{done} of {all} worlds");
    }
}
