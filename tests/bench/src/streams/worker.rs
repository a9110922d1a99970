//! One task on one store, in a process of its own: its processor time and memory are the store's
//! alone, and it can be killed with SIGKILL when it has done its task, as a store that ends
//! without a word.
//!
//! The result goes to a file as JSON, by a rename, so that it is there as a whole or not at all.
//! Then the process waits to be killed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use rustix::process::Signal;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::backlog;
use super::store::{Engine, Supply};
use crate::directory::allocated_below;
use crate::leftovers::Leash;
use crate::load::own_cpu;

/// Longest task.
const TASK_LIMIT: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(2);
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// Records kept before a measurement.
const WARM_UP: Duration = Duration::from_millis(300);

/// `tidegate-bench store-worker`
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// The store's directory
    #[arg(long)]
    dir: PathBuf,
    /// File for the result
    #[arg(long)]
    result: PathBuf,
    #[command(subcommand)]
    task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Task {
    /// Keep records, so many a sync, until one of the limits is reached
    Write(WriteTask),
    /// Open the store that is there
    Open {
        #[arg(long)]
        engine: Engine,
        /// Forget all its records afterwards
        #[arg(long)]
        forget: bool,
    },
    /// Fill ours with a backlog
    Fill {
        #[arg(long)]
        payload_bytes: u64,
    },
    /// Open ours and drain its backlog while more is written
    Drain,
}

#[derive(Debug, Args)]
struct WriteTask {
    #[arg(long)]
    engine: Engine,
    #[arg(long)]
    per_sync: usize,
    #[arg(long)]
    records: u64,
    #[arg(long)]
    milliseconds: u64,
    /// Count the bytes that reach the device of the volume that the store is on
    #[arg(long)]
    volume: bool,
}

/// What [`Task::Write`] gives.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Written {
    /// Records measured.
    pub(crate) records: u64,
    /// Records in the store, those of the warm-up included.
    pub(crate) total: u64,
    /// Seconds that they took.
    pub(crate) seconds: f64,
    /// Processor time of all threads, in seconds.
    pub(crate) cpu_seconds: f64,
    /// Bytes that reached the device; 0 when they were not counted.
    pub(crate) device_bytes: u64,
}

/// What [`Task::Open`] gives.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Opened {
    /// Seconds until the store was open.
    pub(crate) seconds: f64,
    /// Records in it.
    pub(crate) records: u64,
    /// Bytes that its files take of the disk when it has forgotten its records.
    pub(crate) kept_bytes: Option<u64>,
}

/// Carries out one task; the process ends by being killed.
pub(crate) fn run(args: &WorkerArgs) -> Result<()> {
    // A store keeps its threads and files until the end.
    match &args.task {
        Task::Write(task) => {
            let mut store = task.engine.open(&args.dir)?;
            let written = write(&mut *store, task, &args.dir)?;
            publish(&args.result, &written)?;
            wait_for_the_end(store)
        }
        Task::Open { engine, forget } => {
            let start = Instant::now();
            let mut store = engine.open(&args.dir)?;
            let seconds = start.elapsed().as_secs_f64();
            let records = store.count()?;
            let kept_bytes = if *forget { Some(forgotten(&mut *store, &args.dir)?) } else { None };
            publish(&args.result, &Opened { seconds, records, kept_bytes })?;
            wait_for_the_end(store)
        }
        Task::Fill { payload_bytes } => {
            let log = backlog::fill(&args.dir, *payload_bytes)?;
            publish(&args.result, &())?;
            wait_for_the_end(log)
        }
        Task::Drain => {
            let (drained, log) = backlog::drain(&args.dir)?;
            publish(&args.result, &drained)?;
            wait_for_the_end(log)
        }
    }
}

fn wait_for_the_end<T>(_held: T) -> ! {
    loop {
        std::thread::park();
    }
}

fn write(store: &mut dyn super::store::Store, task: &WriteTask, dir: &Path) -> Result<Written> {
    let (mut supply, mut batch) = (Supply::new(), Vec::with_capacity(task.per_sync));
    let start = Instant::now();
    while start.elapsed() < WARM_UP {
        supply.fill(&mut batch, task.per_sync);
        store.keep(&batch)?;
    }
    store.settle()?;
    let device = |_| if task.volume { tidegate_volume::written_bytes(dir) } else { Ok(0) };
    let (warm, before, cpu, start) = (supply.given(), device(())?, own_cpu(), Instant::now());
    let limit = Duration::from_millis(task.milliseconds);
    while supply.given() - warm < task.records && start.elapsed() < limit {
        supply.fill(&mut batch, task.per_sync);
        store.keep(&batch)?;
    }
    let (seconds, cpu) = (start.elapsed().as_secs_f64(), own_cpu() - cpu);
    Ok(Written {
        records: supply.given() - warm,
        total: supply.given(),
        seconds,
        cpu_seconds: cpu.as_secs_f64(),
        device_bytes: device(())? - before,
    })
}

/// Has the store forget its records and says what it still takes.
fn forgotten(store: &mut dyn super::store::Store, dir: &Path) -> Result<u64> {
    store.forget()?;
    allocated_below(dir)
}

fn publish<T: Serialize>(path: &Path, result: &T) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, serde_json::to_vec(result)?)?;
    Ok(std::fs::rename(&unfinished, path)?)
}

/// A worker that has done its task and holds its store still.
#[derive(Debug)]
pub(crate) struct Done {
    leash: Leash,
}

impl Done {
    /// SIGKILL: the store ends as it is.
    pub(crate) fn kill(self) -> Result<()> {
        self.leash.end(Signal::KILL, KILL_LIMIT).map(drop)
    }
}

/// Has a task done on the store in `dir`; `words` are the command line of the task.
pub(crate) fn work<T: DeserializeOwned>(dir: &Path, words: &[&str]) -> Result<(T, Done)> {
    let result = dir.with_extension("result");
    std::fs::create_dir_all(dir)?;
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let mut command = Command::new(program);
    command.arg("store-worker").arg("--dir").arg(dir).arg("--result").arg(&result).args(words);
    let mut leash = Leash::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()))?;
    let start = Instant::now();
    while !result.exists() {
        if let Some(status) = leash.ended()? {
            bail!("the worker for {words:?} ended with {status}");
        }
        if start.elapsed() > TASK_LIMIT {
            bail!("the worker for {words:?} is not done after {TASK_LIMIT:?}");
        }
        std::thread::sleep(POLL);
    }
    let text = std::fs::read(&result)?;
    std::fs::remove_file(&result)?;
    let value = serde_json::from_slice(&text).context("a result that is not understood")?;
    Ok((value, Done { leash }))
}
