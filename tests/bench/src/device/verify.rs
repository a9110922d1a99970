//! What a verification takes: the program `verify` of `tests/sizes`, run in QEMU. It counts the processor's
//! instructions by the emulator's own count, so that no other load on this machine changes anything.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

/// Longest wait for a line.
const PATIENCE: Duration = Duration::from_secs(120);
/// Lines that the program writes.
const LINES: usize = 2;

/// What one of its lines says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Measured {
    pub(super) what: String,
    pub(super) instructions: u32,
    pub(super) stack: u32,
}

/// Ends it.
struct Emulator(Child);

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended by itself, which the missing lines have told.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the program.
pub(super) fn run(qemu: &Path, program: &Path) -> Result<Vec<Measured>> {
    let mut command = Command::new(qemu);
    command
        .args(["-M", "mps2-an386", "-icount", "shift=0,sleep=off", "-serial", "stdio"])
        .args(["-display", "none", "-monitor", "none", "-nic", "none", "-kernel"])
        .arg(program)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {}", qemu.display()))?;
    let output = child.stdout.take().context("no output of QEMU")?;
    let _emulator = Emulator(child);
    let (sender, lines) = mpsc::channel();
    // Ends with the emulator's output.
    std::thread::spawn(move || {
        BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
    });
    (0..LINES)
        .map(|_| {
            let line = lines.recv_timeout(PATIENCE).with_context(|| {
                format!("{} said nothing for {PATIENCE:?}, or has ended", program.display())
            })?;
            Measured::read(&line)
        })
        .collect()
}

impl Measured {
    /// Reads a line such as `sha256 right 3000000 400`.
    fn read(line: &str) -> Result<Measured> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[what, right, instructions, stack] = &words[..] else {
            anyhow::bail!("\"{line}\" is no measurement");
        };
        ensure!(right == "right", "\"{line}\": the result is wrong");
        let number = |word: &str| word.parse().with_context(|| format!("\"{line}\""));
        let (instructions, stack) = (number(instructions)?, number(stack)?);
        Ok(Measured { what: what.to_owned(), instructions, stack })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_counts_only_when_its_result_was_right() {
        let expected = Measured { what: "ed25519".to_owned(), instructions: 640, stack: 12 };
        assert_eq!(Measured::read("ed25519 right 640 12\r").unwrap(), expected);
        for wrong in ["ed25519 wrong 640 12", "ed25519 right 640", "", "ed25519 right x 12"] {
            assert!(Measured::read(wrong).is_err(), "{wrong}");
        }
    }
}
