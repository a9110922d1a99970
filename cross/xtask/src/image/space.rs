//! Where images are made: a folder below `target/image`.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Zeros of this length are not written: they become holes of the file.
const BLOCK: usize = 64 * 1024;

/// A folder with files of known names.
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes it, unless it is there.
    pub(crate) fn at(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    /// The same, empty.
    pub(crate) fn empty(path: PathBuf) -> Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path)
                .with_context(|| format!("cannot remove {}", path.display()))?;
        }
        Self::at(path)
    }

    /// A file in it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Itself.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

/// Copies `from` into `to` at a byte, and leaves out what is zero: `to` must be zero there.
pub(crate) fn copy_into(from: &Path, to: &mut File, at: u64) -> Result<()> {
    let mut source = File::open(from).with_context(|| format!("cannot open {}", from.display()))?;
    let mut block = vec![0; BLOCK];
    let mut position = at;
    loop {
        let length = source.read(&mut block).with_context(|| from.display().to_string())?;
        if length == 0 {
            return Ok(());
        }
        if block[..length].iter().any(|byte| *byte != 0) {
            to.seek(SeekFrom::Start(position))?;
            to.write_all(&block[..length]).context("cannot write the copy: is the disk full?")?;
        }
        position += length as u64;
    }
}

/// Copies a file, with holes where it is zero.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let length = fs::metadata(from).with_context(|| from.display().to_string())?.len();
    let mut file = File::create(to).with_context(|| format!("cannot make {}", to.display()))?;
    file.set_len(length)?;
    copy_into(from, &mut file, 0)
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Folder, copy};
    use std::fs;

    #[test]
    fn a_copy_with_holes_has_the_same_bytes() {
        let path = std::env::temp_dir().join(format!("xtask-copy-{}", std::process::id()));
        let folder = Folder::empty(path).unwrap();
        let mut bytes = vec![0; 3 * BLOCK + 7];
        bytes[BLOCK + 3] = 9;
        bytes[3 * BLOCK + 6] = 1;
        fs::write(folder.file("a"), &bytes).unwrap();
        copy(&folder.file("a"), &folder.file("b")).unwrap();
        assert_eq!(fs::read(folder.file("b")).unwrap(), bytes);
        fs::remove_dir_all(folder.path()).unwrap();
    }
}
