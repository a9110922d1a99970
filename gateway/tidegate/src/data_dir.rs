//! The data directory, held by one daemon at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::LOCK_FILE;

/// A data directory that no other daemon uses while this value lives.
#[derive(Debug)]
pub struct DataDir {
    /// Locked (`flock`); the kernel lets go of it when the process ends, however it ends.
    _lock: File,
}

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another daemon has it.
    #[error(
        "another tidegate{owner} runs on {path}; stop it, or give this one a data_dir of its own"
    )]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// Its process id in words, or nothing when it is not known.
        owner: String,
    },
    /// A daemon writes to it.
    #[error("tidegate{owner} runs on {path}; stop it, or look at a copy")]
    BeingWritten {
        /// The data directory.
        path: PathBuf,
        /// Its process id in words, or nothing when it is not known.
        owner: String,
    },
    /// The system refuses.
    #[error("cannot use the data directory: {path}: {error}")]
    Io {
        /// What could not be made or opened.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl DataDir {
    /// Makes the directory (mode 0700) when it is not there, and locks it.
    ///
    /// # Errors
    /// Another daemon has it, or it cannot be made or written.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let failed = |path: &Path, error| DataDirError::Io { path: path.to_owned(), error };
        make(path).map_err(|error| failed(path, error))?;
        let lock_path = path.join(LOCK_FILE);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(|error| failed(&lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DataDirError::InUse { path: path.to_owned(), owner: owner(&mut lock) });
            }
            Err(TryLockError::Error(error)) => return Err(failed(&lock_path, error)),
        }
        write_owner(&mut lock).map_err(|error| failed(&lock_path, error))?;
        Ok(Self { _lock: lock })
    }
}

/// A data directory that no daemon uses while this value lives; others may look at it, too.
#[derive(Debug)]
pub struct LookedAt {
    /// Locked (shared `flock`), when there is a lock file: a directory on another machine's
    /// card, or a copy, may have none.
    _lock: Option<File>,
}

impl LookedAt {
    /// Keeps daemons out, without writing anything.
    ///
    /// # Errors
    /// A daemon has it, or the lock file cannot be opened.
    pub fn lock(path: &Path) -> Result<Self, DataDirError> {
        let lock_path = path.join(LOCK_FILE);
        let failed = |error| DataDirError::Io { path: lock_path.clone(), error };
        let mut lock = match File::open(&lock_path) {
            Ok(lock) => lock,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Self { _lock: None });
            }
            Err(error) => return Err(failed(error)),
        };
        match lock.try_lock_shared() {
            Ok(()) => Ok(Self { _lock: Some(lock) }),
            Err(TryLockError::WouldBlock) => {
                Err(DataDirError::BeingWritten { path: path.to_owned(), owner: owner(&mut lock) })
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        warn_if_open(path);
        return Ok(());
    }
    make_directory(path)
}

/// Makes a directory (mode 0700) with those above it, so that no power cut takes them away
/// again: a new name is durable when the directory that holds it has been synced.
pub(crate) fn make_directory(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let above = match path.parent() {
        Some(above) if !above.as_os_str().is_empty() => above,
        _ => Path::new("."),
    };
    make_directory(above)?;
    DirBuilder::new().mode(0o700).create(path)?;
    File::open(above)?.sync_all()
}

/// A directory that somebody else made keeps its mode: it may be shared on purpose. What is
/// ours in it has modes of its own.
fn warn_if_open(path: &Path) {
    if let Ok(metadata) = fs::metadata(path)
        && metadata.permissions().mode() & 0o077 != 0
    {
        let mode = format!("{:03o}", metadata.permissions().mode() & 0o777);
        tracing::warn!(path = %path.display(), mode, "others can look into the data directory");
    }
}

fn owner(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock.take(32).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(process) if read.is_ok() => format!(" (process {process})"),
        _ => String::new(),
    }
}

fn write_owner(lock: &mut File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_second_daemon_is_refused_and_told_who_has_the_directory() {
        let scratch = Scratch::new();
        let path = scratch.path().join("data");
        let held = DataDir::lock(&path).unwrap();
        let refused = DataDir::lock(&path).unwrap_err().to_string();
        let process = format!("another tidegate (process {}) runs on", std::process::id());
        assert!(refused.starts_with(&process), "{refused}");
        drop(held);
        DataDir::lock(&path).unwrap();
    }

    #[test]
    fn several_may_look_but_not_while_a_daemon_runs_and_no_daemon_starts_meanwhile() {
        let scratch = Scratch::new();
        let path = scratch.path().join("data");
        let daemon = DataDir::lock(&path).unwrap();
        let refused = LookedAt::lock(&path).unwrap_err().to_string();
        let process = format!("tidegate (process {}) runs on", std::process::id());
        assert!(refused.starts_with(&process), "{refused}");
        drop(daemon);
        let _looks = (LookedAt::lock(&path).unwrap(), LookedAt::lock(&path).unwrap());
        DataDir::lock(&path).unwrap_err();
        LookedAt::lock(scratch.path()).unwrap();
        assert!(!scratch.path().join(LOCK_FILE).exists(), "looking leaves no file");
    }

    #[test]
    fn a_new_directory_is_for_its_owner_alone() {
        let scratch = Scratch::new();
        let path = scratch.path().join("data");
        let _held = DataDir::lock(&path).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(LOCK_FILE)), 0o600);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let scratch = Scratch::new();
        let path = scratch.path().join("data");
        fs::write(&path, "").unwrap();
        let refused = DataDir::lock(&path).unwrap_err().to_string();
        assert!(refused.contains("data: "), "{refused}");
    }
}
