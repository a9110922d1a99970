//! What must be gone when the program ends, however it ends: brokers it started, directories it
//! filled. Guards remove their own on return and on panic; a signal removes everything.
//!
//! Deliberately not here: SIGKILL of this program, which nobody can answer.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal};
use tokio::signal::unix::{SignalKind, signal};

/// All of this program's children and directories. A child is spawned, reaped and listed under
/// this lock, so that a listed process id is always ours.
static LEFTOVERS: Mutex<Leftovers> = Mutex::new(Leftovers { children: vec![], dirs: vec![] });

struct Leftovers {
    children: Vec<Pid>,
    dirs: Vec<PathBuf>,
}

fn leftovers() -> MutexGuard<'static, Leftovers> {
    LEFTOVERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on SIGINT, SIGTERM and SIGHUP end the children, remove the directories and exit with
/// 130.
pub(crate) fn clear_on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut interrupt, mut terminate, mut hang_up) = {
        let _context = runtime.enter();
        (
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        )
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        clear_and_exit();
    };
    std::thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}

/// Keeps the lock until the process is gone, so that nothing new is started meanwhile.
fn clear_and_exit() -> ! {
    let listed = leftovers();
    for &child in &listed.children {
        let _ = rustix::process::kill_process_group(child, Signal::KILL);
    }
    for dir in &listed.dirs {
        tidegate_volume::detach_below(dir);
        // A dying child may still write: once more, then it is gone.
        if std::fs::remove_dir_all(dir).is_err() && dir.exists() {
            std::thread::sleep(Duration::from_millis(100));
            if let Err(error) = std::fs::remove_dir_all(dir) {
                eprintln!("cannot remove {}: {error}; remove it by hand", dir.display());
            }
        }
    }
    eprintln!("interrupted: brokers stopped, directories removed");
    std::process::exit(130);
}

/// A child in a process group of its own that does not outlive this value.
#[derive(Debug)]
pub(crate) struct Leash {
    child: Child,
    pid: Pid,
}

impl Leash {
    /// Starts `command`.
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Leash> {
        use std::os::unix::process::CommandExt;
        let mut listed = leftovers();
        let child = command.process_group(0).spawn()?;
        let pid = Pid::from_child(&child);
        listed.children.push(pid);
        Ok(Leash { child, pid })
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let mut listed = leftovers();
        let status = self.child.try_wait()?;
        if status.is_some() {
            listed.children.retain(|pid| *pid != self.pid);
        }
        Ok(status)
    }

    /// Sends `signal` and waits for the end, at most `limit`; says how long it took.
    pub(crate) fn end(mut self, signal: Signal, limit: Duration) -> Result<Duration> {
        let start = Instant::now();
        if self.ended()?.is_none() {
            rustix::process::kill_process(self.pid, signal)
                .with_context(|| format!("cannot signal process {}", self.pid()))?;
        }
        while self.ended()?.is_none() {
            if start.elapsed() > limit {
                anyhow::bail!("process {} did not end in {limit:?} after {signal:?}", self.pid());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(start.elapsed())
    }
}

impl Drop for Leash {
    fn drop(&mut self) {
        if let Ok(None) = self.ended() {
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
            // Not under the lock: a signal must not wait for a child that is slow to die.
            while let Ok(None) = self.ended() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

/// A new directory that is removed with this value.
#[derive(Debug)]
pub(crate) struct ScratchDir {
    path: PathBuf,
}

impl ScratchDir {
    /// Makes a directory inside `parent`.
    pub(crate) fn new(parent: &Path) -> Result<ScratchDir> {
        let mut listed = leftovers();
        for number in 0..10_000 {
            let path = parent.join(format!("tidegate-bench-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => {
                    listed.dirs.push(path.clone());
                    return Ok(ScratchDir { path });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| {
                        format!("cannot make {}: choose another --dir", path.display())
                    });
                }
            }
        }
        anyhow::bail!("{} is full of old tidegate-bench-* directories", parent.display())
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let mut listed = leftovers();
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            eprintln!("cannot remove {}: {error}; remove it by hand", self.path.display());
        }
        listed.dirs.retain(|dir| *dir != self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_leash_ends_and_reaps_its_child() {
        let leash = Leash::spawn(Command::new("sleep").arg("600")).unwrap();
        let pid = leash.pid();
        assert!(Path::new(&format!("/proc/{pid}")).exists());
        drop(leash);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        assert!(!leftovers().children.iter().any(|child| child.as_raw_pid() == pid as i32));
    }

    #[test]
    fn a_dropped_scratch_directory_is_gone_with_what_is_in_it() {
        let scratch = ScratchDir::new(&std::env::temp_dir()).unwrap();
        let path = scratch.path().to_owned();
        std::fs::create_dir(path.join("store")).unwrap();
        std::fs::write(path.join("store/segment"), b"bytes").unwrap();
        drop(scratch);
        assert!(!path.exists());
    }
}
