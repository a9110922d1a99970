//! Says what is being done and how long it took.

use anyhow::{Context, Result, bail};
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Between two signs of life of a step that takes long.
const SIGN_OF_LIFE: Duration = Duration::from_secs(30);

/// Runs a command with its output kept back, and shows the output if it fails.
pub(crate) fn quietly(what: &str, command: &mut Command) -> Result<Output> {
    let output = captured(what, command)?;
    if output.status.success() {
        return Ok(output);
    }
    show(&output);
    bail!("{what}: {} ended with {}", shown(command), output.status)
}

/// Runs a command with its output kept back, whatever comes of it.
pub(crate) fn captured(what: &str, command: &mut Command) -> Result<Output> {
    eprint!("{what} ... ");
    let _ = std::io::stderr().flush(); // Only cosmetic: a lost flush delays the line.
    let started = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    let (done, wait) = channel();
    // Nobody is left to read the result only if this process is ending anyway.
    thread::spawn(move || done.send(child.wait_with_output()));
    let output = loop {
        match wait.recv_timeout(SIGN_OF_LIFE) {
            Ok(output) => break output.context("cannot read the output of the command")?,
            Err(RecvTimeoutError::Timeout) => {
                eprint!("{:.0} s ... ", started.elapsed().as_secs_f32());
            }
            Err(RecvTimeoutError::Disconnected) => bail!("{what}: the waiting thread is gone"),
        }
    };
    let verdict = if output.status.success() { "" } else { "FAILED, " };
    eprintln!("{verdict}{:.1} s", started.elapsed().as_secs_f32());
    Ok(output)
}

/// Prints what a command has said to standard error.
pub(crate) fn show(output: &Output) {
    eprint!("{}", String::from_utf8_lossy(&output.stdout));
    eprint!("{}", String::from_utf8_lossy(&output.stderr));
}

/// The command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
