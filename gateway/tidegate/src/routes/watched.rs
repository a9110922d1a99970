//! A file that is read again when it has changed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Reads the file; errors are for the log.
type Load<T> = fn(&Path) -> Result<T, String>;

/// What a file says, and what it was like when it was read.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    file: PathBuf,
    load: Load<T>,
    last: Mutex<Option<(Look, Option<Arc<T>>)>>,
}

/// What changes when a file does: inode, size and time of change. `None`: it is not there.
type Look = Option<(u64, u64, i64, i64)>;

impl<T> Watched<T> {
    pub(crate) fn new(file: &Path, load: Load<T>) -> Watched<T> {
        Watched { file: file.to_owned(), load, last: Mutex::new(None) }
    }

    /// What it says now; `None` when it cannot be used, which is logged once.
    pub(crate) fn current(&self) -> Option<Arc<T>> {
        let look = fs::metadata(&self.file).ok();
        let look = look.map(|m| (m.ino(), m.size(), m.mtime(), m.mtime_nsec()));
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((seen, value)) = &*last
            && *seen == look
        {
            return value.clone();
        }
        let loaded = (self.load)(&self.file);
        if let Err(why) = &loaded {
            tracing::error!(why, "nobody is let in by this file until it is mended");
        }
        let value = loaded.ok().map(Arc::new);
        *last = Some((look, value.clone()));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_file_is_read_again_only_when_it_has_changed() {
        let scratch = Scratch::new();
        let file = scratch.path().join("file");
        let load: Load<String> = |file| fs::read_to_string(file).map_err(|error| error.to_string());
        let watched = Watched::new(&file, load);
        assert_eq!(watched.current(), None);
        fs::write(&file, "one").unwrap();
        let first = watched.current().unwrap();
        assert_eq!(
            (first.as_str(), Arc::ptr_eq(&first, &watched.current().unwrap())),
            ("one", true)
        );
        fs::write(&file, "three").unwrap();
        assert_eq!(watched.current().unwrap().as_str(), "three");
        fs::remove_file(&file).unwrap();
        assert_eq!(watched.current(), None);
    }
}
