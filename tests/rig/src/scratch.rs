//! A directory for one run, removed at its end.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A directory of its own under the system's temporary directory; removed when dropped, unless
/// [`Scratch::keep`] was called.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    keep: bool,
}

impl Scratch {
    /// Makes one; `what` is part of its name.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn new(what: &str) -> Result<Scratch> {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tidegate-{what}-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        // Left over by a process of the same id that was killed.
        if path.exists() {
            std::fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove the old {}", path.display()))?;
        }
        std::fs::create_dir_all(&path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Scratch { path, keep: false })
    }

    /// Uses `path` and leaves it there at the end.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn at(path: &Path) -> Result<Scratch> {
        std::fs::create_dir_all(path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Scratch { path: path.to_owned(), keep: true })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory there at the end.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed stays in the temporary directory; nothing depends on it.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
