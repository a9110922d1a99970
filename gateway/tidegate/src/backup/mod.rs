//! A copy of a data directory, taken while the gateway runs or does not, and back
//! (docs/formats/backup.md).
//!
//! The log only ever appends to its newest segment, so a copy of all segments is a store as it was
//! at some moment, when none of them was given back meanwhile and the newest one is cut behind its
//! last whole frame. The daemon is not asked and does not wait.
//!
//! Invariants:
//! - a backup is complete when `backup.json` is there, which is written last;
//! - what is restored is what was copied, byte by byte, and begins a new epoch: its original may
//!   have used the numbers behind the copy's end for other records.

mod log;
mod restore;
#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use ring::digest::{Context as Digest, SHA256};
use serde::{Deserialize, Serialize};

use crate::config::{ADMIN_SOCKET, LOCK_FILE, STORE_DIR};
use crate::hex;

pub(crate) use restore::restore;

/// Name of the list of a backup's files.
const LIST: &str = "backup.json";
/// Name of the configuration in a backup.
const CONFIG: &str = "tidegate.toml";
/// Version of the list.
const VERSION: u32 = 1;
/// Bytes copied at a time.
const PIECE: usize = 256 << 10;
/// Directories in a data directory go no deeper.
const MAX_DEPTH: usize = 4;

/// `backup.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct List {
    v: u32,
    /// The version of the program that made it.
    made_by: String,
    /// When it was complete.
    made_unix_ms: u64,
    files: Vec<Copied>,
}

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Copied {
    /// Its path, from the backup's directory.
    name: String,
    bytes: u64,
    /// In hexadecimal digits.
    sha256: String,
}

/// What a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Made {
    /// Its files.
    pub(crate) files: usize,
    /// Their bytes; what is zeros takes no room where the file system can leave it out.
    pub(crate) bytes: u64,
}

/// Copies a data directory, and a configuration with it.
///
/// # Errors
/// `to` holds something already, something cannot be read or written, or segments were given back
/// faster than they could be copied.
pub(crate) fn back_up(from: &Path, config: Option<&Path>, to: &Path) -> anyhow::Result<Made> {
    let store = from.join(STORE_DIR);
    anyhow::ensure!(store.is_dir(), "{} is no data directory of a gateway", from.display());
    make_empty(to)?;
    let mut files = log::copy(&store, &to.join(STORE_DIR))?;
    // Behind the log: what its records name is there already.
    copy_tree(from, to, Path::new(""), MAX_DEPTH, &mut files)?;
    if let Some(config) = config {
        files.push(copy(config, &to.join(CONFIG), CONFIG)?);
    }
    let made = Made { files: files.len(), bytes: files.iter().map(|file| file.bytes).sum() };
    let made_by = env!("CARGO_PKG_VERSION").to_owned();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let made_unix_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    let list = List { v: VERSION, made_by, made_unix_ms, files };
    write(&to.join(LIST), &serde_json::to_vec_pretty(&list)?)?;
    sync_directory(to)?;
    Ok(made)
}

/// Makes a directory for its owner alone, or takes an empty one.
fn make_empty(path: &Path) -> anyhow::Result<()> {
    match fs::read_dir(path) {
        Ok(mut entries) => {
            anyhow::ensure!(
                entries.next().is_none(),
                "{} holds something already; name a new directory",
                path.display()
            );
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_directory(path),
        Err(error) => Err(error).with_context(|| format!("cannot use {}", path.display())),
    }
}

fn make_directory(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().mode(0o700).recursive(true).create(path);
    made.with_context(|| format!("cannot make {}", path.display()))
}

/// Copies what is in a data directory beside the log: packages, firmware, secrets.
fn copy_tree(
    from: &Path,
    to: &Path,
    below: &Path,
    depth: usize,
    files: &mut Vec<Copied>,
) -> anyhow::Result<()> {
    let here = from.join(below);
    let entries = fs::read_dir(&here).with_context(|| format!("cannot read {}", here.display()))?;
    for entry in entries {
        let entry = entry?;
        let path = below.join(entry.file_name());
        let top = [STORE_DIR, LOCK_FILE, ADMIN_SOCKET, LIST, CONFIG];
        if below.as_os_str().is_empty() && top.iter().any(|name| path == Path::new(name)) {
            continue;
        }
        let kind = entry.file_type()?;
        if kind.is_dir() && depth > 0 {
            make_directory(&to.join(&path))?;
            copy_tree(from, to, &path, depth - 1, files)?;
            sync_directory(&to.join(&path))?;
        } else if kind.is_file() {
            let name = path.to_str().with_context(|| format!("{path:?} is not UTF-8"))?;
            match copy(&entry.path(), &to.join(&path), name) {
                Ok(copied) => files.push(copied),
                // It went while the directory was read: nothing needs it any more.
                Err(_) if !entry.path().exists() => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Copies one file, for its owner alone, and brings it to the disk.
fn copy(from: &Path, to: &Path, name: &str) -> anyhow::Result<Copied> {
    let failed = || format!("cannot copy {}", from.display());
    let mut source = File::open(from).with_context(failed)?;
    let mut target = create(to)?;
    let (mut hash, mut bytes, mut piece) = (Digest::new(&SHA256), 0, vec![0; PIECE]);
    loop {
        let read = source.read(&mut piece).with_context(failed)?;
        if read == 0 {
            break;
        }
        hash.update(&piece[..read]);
        write_sparse(&mut target, &piece[..read]).with_context(failed)?;
        bytes += read as u64;
    }
    finish(&target, bytes).with_context(failed)?;
    Ok(Copied { name: name.to_owned(), bytes, sha256: hex::encode(hash.finish().as_ref()) })
}

fn create(path: &Path) -> anyhow::Result<File> {
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    made.with_context(|| format!("cannot write {}", path.display()))
}

/// Leaves out what is zeros: segments are prepared long before they are full.
fn write_sparse(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    if bytes.iter().all(|byte| *byte == 0) {
        let more = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
        return file.seek(SeekFrom::Current(more)).map(drop);
    }
    file.write_all(bytes)
}

fn finish(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    file.sync_all()
}

/// Writes a small file whole, and brings it to the disk.
fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut file = create(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn sync_directory(path: &Path) -> anyhow::Result<()> {
    let synced = File::open(path).and_then(|directory| directory.sync_all());
    synced.with_context(|| format!("cannot bring {} to the disk", path.display()))
}
