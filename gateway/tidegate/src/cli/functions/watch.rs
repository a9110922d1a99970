//! `tidegate fn test --watch`: builds and tests again when something has changed.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use anyhow::Context;

use super::super::{Failure, complain};
use super::test::{TestArguments, run};
use crate::config::{self, FUNCTION_FILE};

/// How often the files are looked at.
const PAUSE: Duration = Duration::from_millis(300);
/// Folders that tools write to.
const LEFT_OUT: [&str; 4] = ["target", ".git", "node_modules", "build"];
/// Files looked at, at most; about 150 bytes each.
const MAX_FILES: usize = 20_000;

/// What is watched of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seen {
    path: PathBuf,
    modified: Option<SystemTime>,
    length: u64,
}

/// Builds and tests, then again after every change, until the process is ended.
pub(super) fn watch(arguments: &TestArguments, out: &mut dyn Write) -> Result<(), Failure> {
    loop {
        let before = look(&arguments.dirs)?;
        build_and_run(arguments, out)?;
        writeln!(out, "(waiting for changes; Ctrl-C ends)")?;
        out.flush()?;
        while look(&arguments.dirs)? == before {
            std::thread::sleep(PAUSE);
        }
        // An editor may write several files.
        std::thread::sleep(PAUSE);
    }
}

/// What goes wrong is told, and is no reason to stop watching; only a lost output is.
fn build_and_run(arguments: &TestArguments, out: &mut dyn Write) -> Result<(), Failure> {
    for dir in &arguments.dirs {
        match build(dir) {
            Ok(()) => {}
            Err(Failure::Wrong(text)) => {
                complain(&text);
                return Ok(());
            }
            Err(Failure::Failed(error)) => {
                complain(&format!("{error:#}"));
                return Ok(());
            }
            Err(Failure::Said) => return Ok(()),
        }
    }
    match run(arguments, out) {
        Ok(()) | Err(Failure::Said) => {}
        Err(Failure::Wrong(text)) => complain(&text),
        Err(Failure::Failed(error)) if error.is::<io::Error>() => {
            return Err(Failure::Failed(error));
        }
        Err(Failure::Failed(error)) => complain(&format!("{error:#}")),
    }
    Ok(())
}

/// Runs what a folder's manifest has as `build`, in that folder.
pub(super) fn build(dir: &Path) -> Result<(), Failure> {
    let manifest = dir.join(FUNCTION_FILE);
    if !manifest.exists() {
        return Ok(());
    }
    let Some(command) = config::load_function(&manifest)?.build else { return Ok(()) };
    let status = Command::new("sh")
        .args(["-c", &command])
        .current_dir(dir)
        .status()
        .with_context(|| format!("cannot run build = \"{command}\""))?;
    if !status.success() {
        complain(&format!("{}: build = \"{command}\": {status}", manifest.display()));
        return Err(Failure::Said);
    }
    Ok(())
}

/// All files below the folders, as they are now.
pub(super) fn look(dirs: &[PathBuf]) -> Result<Vec<Seen>, Failure> {
    let mut seen = Vec::new();
    for dir in dirs {
        walk(dir, &mut seen).with_context(|| format!("cannot watch {}", dir.display()))?;
    }
    Ok(seen)
}

fn walk(dir: &Path, seen: &mut Vec<Seen>) -> io::Result<()> {
    let mut paths = fs::read_dir(dir)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let left_out = path.file_name().is_some_and(|name| LEFT_OUT.iter().any(|out| name == *out));
        // A file may go between being listed and being looked at.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let is_module = path.extension().is_some_and(|end| end == "wasm");
        if left_out || is_module || seen.len() >= MAX_FILES {
            continue;
        }
        if metadata.is_dir() {
            walk(&path, seen)?;
        } else {
            let (modified, length) = (metadata.modified().ok(), metadata.len());
            seen.push(Seen { path, modified, length });
        }
    }
    Ok(())
}
