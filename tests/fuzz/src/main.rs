//! Runs fuzz targets on the stable compiler.
//!
//! ```text
//! tidegate-fuzz                                  the corpus of every target
//! tidegate-fuzz TARGET --runs N [--seed S]       that many mutated inputs
//! tidegate-fuzz TARGET --seconds N [--seed S]    mutated inputs for that long
//! tidegate-fuzz TARGET --replay FILE             one input, telling what happens
//! tidegate-fuzz TARGET --minimise FILE           the shortest input found that still fails
//! ```
//!
//! A finding is written to `target/fuzz/TARGET-SEED.bin`, with the line that runs it again.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use std::{env, fs, panic};

use tidegate_fuzz::mutate::{Random, mutated};
use tidegate_fuzz::{TARGETS, TRACE, Target, corpus, modules};

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args[..] {
        [] => TARGETS.iter().try_for_each(|target| run_corpus(target).map(|_| ())),
        [name, ref rest @ ..] => match TARGETS.iter().find(|target| target.name == name) {
            Some(target) => run(target, rest),
            None => Err(format!("there is no target {name}")),
        },
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(target: &Target, args: &[&str]) -> Result<(), String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
    let mut seed = 1;
    let (mut runs, mut time) = (u64::MAX, None);
    for pair in args.chunks(2) {
        match pair {
            ["--seed", n] => seed = number(n)?,
            ["--runs", n] => runs = number(n)?,
            ["--seconds", n] => time = Some(Duration::from_secs(number(n)?)),
            ["--replay", file] => {
                let input = read(Path::new(file))?;
                TRACE.store(true, Ordering::Relaxed);
                (target.run)(&input);
                return Ok(());
            }
            ["--minimise", file] => return minimise(target, Path::new(file)),
            other => return Err(format!("not understood: {other:?}")),
        }
    }
    if runs == u64::MAX && time.is_none() {
        return Err("say --runs N or --seconds N".to_owned());
    }
    fuzz(target, seed, runs, time)
}

fn fuzz(target: &Target, seed: u64, runs: u64, time: Option<Duration>) -> Result<(), String> {
    let corpus = run_corpus(target)?;
    let started = Instant::now();
    let mut done = 0;
    while done < runs && time.is_none_or(|time| started.elapsed() < time) {
        // Each input has a seed of its own, so that one can be made again alone.
        let input_seed = seed.wrapping_add(done);
        let input = mutated(&mut Random::new(input_seed), &corpus);
        if fails(target, &input) {
            return Err(finding(target, input_seed, &input)?);
        }
        done += 1;
    }
    println!("{}: {done} inputs in {:.1?}, no finding", target.name, started.elapsed());
    if target.name == "modules" {
        println!("{}", modules::tell());
    }
    Ok(())
}

/// Where the last panic was.
static PLACE: Mutex<Option<String>> = Mutex::new(None);

fn fails(target: &Target, input: &[u8]) -> bool {
    panic::catch_unwind(|| (target.run)(input)).is_err()
}

/// The place of the panic, if there is one.
fn place(target: &Target, input: &[u8]) -> Option<String> {
    fails(target, input).then(|| PLACE.lock().ok().and_then(|mut place| place.take()))?
}

fn finding(target: &Target, seed: u64, input: &[u8]) -> Result<String, String> {
    let folder = Path::new("target/fuzz");
    let file = folder.join(format!("{}-{seed}.bin", target.name));
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&file, input))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(format!(
        "{0} fails; run it again with: cargo run -p tidegate-fuzz -- {0} --replay {1}",
        target.name,
        file.display()
    ))
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    fs::read(file).map_err(|error| format!("{}: {error}", file.display()))
}

/// Runs the committed inputs and returns them.
fn run_corpus(target: &Target) -> Result<Vec<Vec<u8>>, String> {
    let corpus = corpus(target).map_err(|error| format!("corpus of {}: {error}", target.name))?;
    for (file, input) in &corpus {
        if fails(target, input) {
            return Err(format!("{} fails with {}", target.name, file.display()));
        }
    }
    Ok(corpus.into_iter().map(|(_, input)| input).collect())
}

/// Leaves out bytes as long as the input still fails at the same place.
fn minimise(target: &Target, file: &Path) -> Result<(), String> {
    panic::set_hook(Box::new(|info| {
        if let (Ok(mut place), Some(location)) = (PLACE.lock(), info.location()) {
            *place = Some(location.to_string());
        }
    }));
    let mut input = read(file)?;
    let failure = place(target, &input);
    if failure.is_none() {
        return Err(format!("{} does not fail", file.display()));
    }
    let mut portion = input.len().div_ceil(2);
    while portion > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < input.len() {
            let mut candidate = input.clone();
            candidate.drain(at..(at + portion).min(input.len()));
            if place(target, &candidate) == failure {
                input = candidate;
                shorter = true;
            } else {
                at += portion;
            }
        }
        if !shorter || portion > 1 {
            portion /= 2;
        }
    }
    let out = file.with_extension("min");
    fs::write(&out, &input).map_err(|error| format!("{}: {error}", out.display()))?;
    println!("{} bytes left in {}", input.len(), out.display());
    Ok(())
}
