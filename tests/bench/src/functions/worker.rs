//! One measurement of a module in a process of its own, whose memory and caches are its alone.
//! The result is one line of JSON.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tidegate_runtime::{Instance, Limits, Module, State, Verdict};

use super::readings::{Shape, frames};
use crate::procfs;

/// Of the machine's memory, what a crowd may take at the most: the rest is others'.
const MEMORY_SHARE: f64 = 0.6;

/// `tidegate-bench function-worker`
#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// The module
    #[arg(long)]
    module: PathBuf,
    #[command(subcommand)]
    task: Task,
}

/// What to do.
#[derive(Debug, Subcommand)]
enum Task {
    /// Start it once from its file, then once more
    Start,
    /// Start so many at once
    Crowd {
        #[arg(long)]
        instances: usize,
    },
}

/// What [`Task::Start`] gives.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Started {
    /// From the file to the first record handled.
    pub(crate) cold_ms: f64,
    /// Of that, checking and translating the module.
    pub(crate) translation_ms: f64,
    /// Another instance of the translated module, to its first record handled.
    pub(crate) warm_ms: f64,
}

/// What [`Task::Crowd`] gives.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Crowd {
    /// Instances that were started.
    pub(crate) instances: usize,
    /// What the process has more with them, by their number.
    pub(crate) kilobytes_each: f64,
    /// What the process has with them.
    pub(crate) kilobytes: f64,
    /// Time to start one and have it handle its first batch, in the mean.
    pub(crate) start_us: f64,
    /// Why it did not go on.
    pub(crate) stopped: Option<String>,
}

/// Carries out one task and prints its result.
pub(crate) fn run(args: &WorkerArgs) -> Result<()> {
    match args.task {
        Task::Start => print(&start(&args.module)?),
        Task::Crowd { instances } => print(&gather(&args.module, instances)?),
    }
}

fn print(result: &impl Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    Ok(writeln!(out, "{}", serde_json::to_string(result)?)?)
}

fn shape(module: &Path) -> Shape {
    match module.file_stem() {
        Some(stem) if stem == "gauge" => Shape::Packed,
        Some(_) | None => Shape::Json,
    }
}

fn translated(path: &Path) -> Result<Module> {
    let wasm = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Module::compile(&wasm, &Limits::default())?)
}

fn started_once(module: &Module, frame: &[u8]) -> Result<Instance> {
    let mut instance = module.instantiate(br#"{"limit":30}"#).map_err(|start| start.failure)?;
    let verdict = instance.call(frame, Arc::new(State::new())).verdict;
    ensure!(matches!(verdict, Verdict::Done(_)), "the first call ended with {verdict:?}");
    Ok(instance)
}

fn start(path: &Path) -> Result<Started> {
    let frame = &frames(shape(path), 1, 1)?[0];
    let begin = Instant::now();
    let module = translated(path)?;
    let translation = begin.elapsed();
    let first = started_once(&module, frame)?;
    let cold = begin.elapsed();
    let begin = Instant::now();
    let second = started_once(&module, frame)?;
    let warm = begin.elapsed();
    drop((first, second));
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    Ok(Started { cold_ms: ms(cold), translation_ms: ms(translation), warm_ms: ms(warm) })
}

fn gather(path: &Path, wanted: usize) -> Result<Crowd> {
    let frame = &frames(shape(path), 16, 1)?[0];
    let resident = || procfs::resident(std::process::id()).map(|resident| resident.now as f64);
    let most = procfs::memory_bytes()? as f64 * MEMORY_SHARE;
    let module = translated(path)?;
    // What the first call of all takes is not an instance's.
    drop(started_once(&module, frame)?);
    let before = resident()?;
    let mut held = Vec::with_capacity(wanted);
    let mut stopped = None;
    let begin = Instant::now();
    while held.len() < wanted {
        match started_once(&module, frame) {
            Ok(instance) => held.push(instance),
            Err(error) => {
                stopped = Some(format!("{error:#}"));
                break;
            }
        }
        if held.len() % 256 == 0 && resident()? > most {
            stopped = Some(format!("{MEMORY_SHARE} of the machine's memory is in use"));
            break;
        }
    }
    let start_us = begin.elapsed().as_secs_f64() * 1e6 / held.len().max(1) as f64;
    let after = resident()?;
    let each = (after - before) / 1e3 / held.len().max(1) as f64;
    let kilobytes = after / 1e3;
    Ok(Crowd { instances: held.len(), kilobytes_each: each, kilobytes, start_us, stopped })
}

/// Starts `module` in a process of its own.
pub(super) fn started(module: &Path) -> Result<Started> {
    ask(module, &["start"])
}

/// Starts so many instances of `module` in a process of their own.
pub(super) fn crowd(module: &Path, instances: usize) -> Result<Crowd> {
    ask(module, &["crowd", "--instances", &instances.to_string()])
}

fn ask<T: DeserializeOwned>(module: &Path, words: &[&str]) -> Result<T> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    let mut command = Command::new(program);
    command.arg("function-worker").arg("--module").arg(module).args(words);
    let output = command.output().context("cannot start the worker")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the worker for {words:?} failed: {said}");
    serde_json::from_slice(&output.stdout).context("a result that is not understood")
}
