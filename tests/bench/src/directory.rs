//! What lies below a store's directory.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::Advice;

/// Takes the files below `dir` out of the page cache. Clean pages only; the store's own syncs have
/// cleaned those that matter.
pub(crate) fn drop_from_page_cache(dir: &Path) -> Result<()> {
    each_file(dir, &mut |path| {
        let file = File::open(path)?;
        file.sync_all()?;
        Ok(rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?)
    })
}

/// Lengths of all files below `dir`.
pub(crate) fn bytes_below(dir: &Path) -> Result<u64> {
    let mut sum = 0;
    each_file(dir, &mut |path| {
        sum += path.metadata()?.len();
        Ok(())
    })?;
    Ok(sum)
}

/// Bytes that the file system has allocated for the files below `dir`: what they take of the disk.
pub(crate) fn allocated_below(dir: &Path) -> Result<u64> {
    const BLOCK: u64 = 512;
    let mut sum = 0;
    each_file(dir, &mut |path| {
        sum += path.metadata()?.blocks() * BLOCK;
        Ok(())
    })?;
    Ok(sum)
}

fn each_file(dir: &Path, visit: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            each_file(&entry.path(), visit)?;
        } else if kind.is_file() {
            visit(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leftovers::ScratchDir;

    #[test]
    fn the_size_of_a_directory_counts_every_file_below_it() {
        let scratch = ScratchDir::new(&std::env::temp_dir()).unwrap();
        std::fs::write(scratch.path().join("a"), [0; 100]).unwrap();
        std::fs::create_dir(scratch.path().join("deeper")).unwrap();
        std::fs::write(scratch.path().join("deeper/b"), [0; 23]).unwrap();
        assert_eq!(bytes_below(scratch.path()).unwrap(), 123);
        assert!(allocated_below(scratch.path()).unwrap() >= 123);
        drop_from_page_cache(scratch.path()).unwrap();
        assert_eq!(std::fs::read(scratch.path().join("a")).unwrap(), [0; 100]);
    }
}
