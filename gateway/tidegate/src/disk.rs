//! The store on real files.
//!
//! Invariants: a name is one file directly below the directory, never a path; a file with
//! writes that are not yet synced keeps its handle, because the kernel reports a failed
//! write-back to the handles that were open then; at most [`MAX_OPEN_FILES`] files are open.
//! What is deliberately not here: any knowledge of segments, and any retry. An error goes to the
//! log as it is, and the log decides.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tidegate_stream::Disk;

use crate::data_dir::make_directory;

/// Most files open at a time: two segments being written and read, and those that slow readers
/// are in.
const MAX_OPEN_FILES: usize = 32;
/// Zeros are written in pieces of this size.
const ZEROS: usize = 256 << 10;
/// The environment variable that makes each sync slower, to measure with the syncs of another
/// medium (an SD card: 20).
pub const SYNC_DELAY_VARIABLE: &str = "TIDEGATE_SYNC_DELAY_MS";
/// Longest such delay.
const MAX_SYNC_DELAY: Duration = Duration::from_secs(10);

/// A directory of files, as [`tidegate_stream::Disk`] sees it. Its calls block: they belong on a
/// thread of their own.
#[derive(Debug)]
pub struct FileDisk {
    path: PathBuf,
    directory: File,
    open: Mutex<OpenFiles>,
    sync_delay: Duration,
    /// Files are opened for reading only: the medium may be mounted so.
    read_only: bool,
}

/// The open files, most recently used last.
#[derive(Debug, Default)]
struct OpenFiles {
    files: Vec<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    name: String,
    file: Arc<File>,
    /// Written since the last sync.
    dirty: bool,
}

impl FileDisk {
    /// Opens the directory, making it (mode 0700) when it is not there.
    ///
    /// # Errors
    /// The directory cannot be made or opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        make_directory(path)?;
        Ok(Self { read_only: false, ..Self::open_read_only(path)? })
    }

    /// Opens a directory that is there, for looking at it: writing to its files fails.
    ///
    /// # Errors
    /// The directory cannot be opened.
    pub fn open_read_only(path: &Path) -> io::Result<Self> {
        let directory = File::open(path)?;
        Ok(Self {
            path: path.to_owned(),
            directory,
            open: Mutex::default(),
            sync_delay: Duration::ZERO,
            read_only: true,
        })
    }

    /// Makes each sync take `delay` longer. For benchmarks.
    #[must_use]
    pub fn with_sync_delay(mut self, delay: Duration) -> Self {
        self.sync_delay = delay;
        self
    }

    /// The delay that [`SYNC_DELAY_VARIABLE`] asks for, with a warning; none when it is not set.
    ///
    /// # Errors
    /// It is set to something else than whole milliseconds up to 10 s.
    pub fn sync_delay_from_environment() -> anyhow::Result<Duration> {
        let Some(value) = std::env::var_os(SYNC_DELAY_VARIABLE) else { return Ok(Duration::ZERO) };
        let delay = parse_delay(&value.to_string_lossy())?;
        tracing::warn!(?delay, "{SYNC_DELAY_VARIABLE} makes each sync slower; for benchmarks only");
        Ok(delay)
    }

    /// The handle of a file, opened if need be.
    fn handle(&self, name: &str, writes: bool) -> io::Result<Arc<File>> {
        let path = self.file_path(name)?;
        let mut open = self.open_files();
        if let Some(index) = open.position(name) {
            let mut entry = open.files.remove(index);
            entry.dirty |= writes;
            let file = entry.file.clone();
            open.files.push(entry);
            return Ok(file);
        }
        if open.files.len() >= MAX_OPEN_FILES {
            self.make_room(&mut open)?;
        }
        let file = OpenOptions::new().read(true).write(!self.read_only).open(path)?;
        let file = Arc::new(file);
        open.files.push(OpenFile { name: name.to_owned(), file: file.clone(), dirty: writes });
        Ok(file)
    }

    /// Closes the file that was not used for longest, one without unsynced writes if there is.
    fn make_room(&self, open: &mut OpenFiles) -> io::Result<()> {
        let index = match open.files.iter().position(|file| !file.dirty) {
            Some(clean) => clean,
            None => {
                open.files[0].file.sync_data()?;
                0
            }
        };
        open.files.remove(index);
        Ok(())
    }

    fn forget(&self, name: &str) {
        let mut open = self.open_files();
        open.files.retain(|file| file.name != name);
    }

    fn open_files(&self) -> MutexGuard<'_, OpenFiles> {
        // The list is whole after every statement, so a panic elsewhere does not spoil it.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file_path(&self, name: &str) -> io::Result<PathBuf> {
        let plain = !name.is_empty()
            && name.len() <= 255
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && !name.starts_with('.');
        if plain {
            return Ok(self.path.join(name));
        }
        let text = format!("\"{}\" is not a name of a store file", name.escape_default());
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    fn delay(&self) {
        if !self.sync_delay.is_zero() {
            std::thread::sleep(self.sync_delay);
        }
    }

    fn write_zeros(&self, path: &Path, zeroed: u64) -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        let zeros = vec![0; ZEROS.min(usize::try_from(zeroed).unwrap_or(ZEROS))];
        let mut left = zeroed;
        while left > 0 {
            let piece = zeros.len().min(usize::try_from(left).unwrap_or(ZEROS));
            file.write_all(&zeros[..piece])?;
            left -= piece as u64;
        }
        file.sync_all()?;
        self.delay();
        Ok(())
    }
}

impl Disk for FileDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A name that the store did not write is none of its files.
            if let Ok(name) = entry.file_name().into_string()
                && self.file_path(&name).is_ok()
                && entry.file_type()?.is_file()
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.file_path(name)?)?.len())
    }

    fn read_at(&self, name: &str, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let file = self.handle(name, false)?;
        let mut done = 0;
        while done < buffer.len() {
            match file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn create(&self, name: &str, zeroed: u64) -> io::Result<()> {
        let path = self.file_path(name)?;
        self.forget(name);
        let written = self.write_zeros(&path, zeroed);
        if written.is_err() {
            // The first error says what happened; a file that stays is replaced by the next try.
            let _ = fs::remove_file(&path);
        }
        written
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.handle(name, true)?.write_all_at(bytes, offset)
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let file = self.handle(name, false)?;
        file.sync_data()?;
        self.delay();
        let mut open = self.open_files();
        if let Some(index) = open.position(name) {
            open.files[index].dirty = false;
        }
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from_path, to_path) = (self.file_path(from)?, self.file_path(to)?);
        fs::rename(from_path, to_path)?;
        let mut open = self.open_files();
        open.files.retain(|file| file.name != to);
        if let Some(index) = open.position(from) {
            open.files[index].name = to.to_owned();
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let path = self.file_path(name)?;
        self.forget(name);
        fs::remove_file(path)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.directory.sync_all()?;
        self.delay();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let found = rustix::fs::fstatvfs(&self.directory)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }
}

impl OpenFiles {
    fn position(&self, name: &str) -> Option<usize> {
        self.files.iter().position(|file| file.name == name)
    }
}

fn parse_delay(text: &str) -> anyhow::Result<Duration> {
    let delay = text.parse().ok().map(Duration::from_millis);
    delay.filter(|delay| *delay <= MAX_SYNC_DELAY).with_context(|| {
        let most = MAX_SYNC_DELAY.as_millis();
        format!("{SYNC_DELAY_VARIABLE}={text}: must be whole milliseconds, 0 to {most}")
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::scratch::Scratch;

    fn disk(scratch: &Scratch) -> FileDisk {
        FileDisk::open(&scratch.path().join("a/log")).unwrap()
    }

    #[test]
    fn the_directory_and_its_files_are_for_their_owner_alone() {
        let scratch = Scratch::new();
        let disk = disk(&scratch);
        disk.create("seg", 10).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&scratch.path().join("a")), 0o700);
        assert_eq!(mode(&scratch.path().join("a/log")), 0o700);
        assert_eq!(mode(&scratch.path().join("a/log/seg")), 0o600);
    }

    #[test]
    fn a_new_file_holds_zeros_and_replaces_an_old_one() {
        let scratch = Scratch::new();
        let disk = disk(&scratch);
        let bytes = ZEROS as u64 + 17;
        disk.create("seg", bytes).unwrap();
        disk.write_at("seg", 5, b"old").unwrap();
        disk.create("seg", bytes).unwrap();
        assert_eq!(disk.len("seg").unwrap(), bytes);
        let mut buffer = vec![1; ZEROS + 100];
        assert_eq!(disk.read_at("seg", 0, &mut buffer).unwrap(), ZEROS + 17);
        assert!(buffer[..ZEROS + 17].iter().all(|b| *b == 0));
    }

    #[test]
    fn what_is_written_can_be_read_across_the_end() {
        let scratch = Scratch::new();
        let disk = disk(&scratch);
        disk.create("seg", 8).unwrap();
        disk.write_at("seg", 6, b"abcd").unwrap();
        disk.sync("seg").unwrap();
        let mut buffer = [9; 16];
        assert_eq!(disk.read_at("seg", 5, &mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"\0abcd");
        assert_eq!(disk.read_at("seg", 100, &mut buffer).unwrap(), 0);
    }

    #[test]
    fn a_renamed_file_keeps_its_content_and_replaces_the_other() {
        let scratch = Scratch::new();
        let disk = disk(&scratch);
        for (name, text) in [("seg.tmp", b"new"), ("seg", b"old")] {
            disk.create(name, 3).unwrap();
            disk.write_at(name, 0, text).unwrap();
        }
        disk.rename("seg.tmp", "seg").unwrap();
        disk.sync_dir().unwrap();
        let mut buffer = [0; 3];
        disk.read_at("seg", 0, &mut buffer).unwrap();
        assert_eq!(&buffer, b"new");
        assert_eq!(disk.list().unwrap(), ["seg"]);
    }

    #[test]
    fn a_removed_file_is_gone_though_it_was_open() {
        let scratch = Scratch::new();
        let disk = disk(&scratch);
        disk.create("seg", 3).unwrap();
        disk.write_at("seg", 0, b"abc").unwrap();
        disk.remove("seg").unwrap();
        let error = disk.read_at("seg", 0, &mut [0; 3]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert_eq!(disk.len("seg").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn no_name_leads_out_of_the_directory() {
        let scratch = Scratch::new();
        let disk = disk(&scratch);
        for name in ["", ".", "..", "../x", "a/b", "/etc/passwd", ".hidden", "a\0b", "ä"] {
            let error = disk.create(name, 1).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }

    #[test]
    fn the_list_is_sorted_and_leaves_out_what_is_no_store_file() {
        let scratch = Scratch::new();
        let disk = disk(&scratch);
        for name in ["b", "a", "c.tmp"] {
            disk.create(name, 0).unwrap();
        }
        fs::create_dir(scratch.path().join("a/log/directory")).unwrap();
        fs::write(scratch.path().join("a/log/.hidden"), b"").unwrap();
        assert_eq!(disk.list().unwrap(), ["a", "b", "c.tmp"]);
    }

    #[test]
    fn few_files_stay_open_and_unsynced_ones_are_kept() {
        let scratch = Scratch::new();
        let disk = disk(&scratch);
        disk.create("dirty", 1).unwrap();
        disk.write_at("dirty", 0, b"d").unwrap();
        for index in 0..3 * MAX_OPEN_FILES {
            let name = format!("seg-{index}");
            disk.create(&name, 1).unwrap();
            disk.read_at(&name, 0, &mut [0]).unwrap();
        }
        let open = disk.open_files();
        assert_eq!(open.files.len(), MAX_OPEN_FILES);
        assert!(open.position("dirty").is_some());
    }

    #[test]
    fn unsynced_files_beyond_the_limit_are_synced_and_closed() {
        let scratch = Scratch::new();
        let disk = disk(&scratch);
        for index in 0..MAX_OPEN_FILES + 3 {
            let name = format!("seg-{index}");
            disk.create(&name, 1).unwrap();
            disk.write_at(&name, 0, b"d").unwrap();
        }
        assert_eq!(disk.open_files().files.len(), MAX_OPEN_FILES);
        let mut buffer = [0];
        disk.read_at("seg-0", 0, &mut buffer).unwrap();
        assert_eq!(&buffer, b"d");
    }

    #[test]
    fn a_full_disk_leaves_no_half_made_file() {
        // Debian has no quota for tests; /dev/full stands in for the file that cannot grow.
        let scratch = Scratch::new();
        let disk = disk(&scratch);
        std::os::unix::fs::symlink("/dev/full", scratch.path().join("a/log/seg")).unwrap();
        let error = disk.create("seg", 10).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        assert!(fs::symlink_metadata(scratch.path().join("a/log/seg")).is_err());
    }

    #[test]
    fn the_file_system_says_how_much_is_free() {
        let scratch = Scratch::new();
        assert!(disk(&scratch).free_bytes().unwrap() > 0);
    }

    #[test]
    fn a_delay_is_whole_milliseconds() {
        assert_eq!(parse_delay("20").unwrap(), Duration::from_millis(20));
        for text in ["", "20ms", "-1", "10001", "1e3"] {
            let error = parse_delay(text).unwrap_err().to_string();
            assert!(error.ends_with("must be whole milliseconds, 0 to 10000"), "{error}");
        }
    }

    #[test]
    fn a_sync_takes_the_delay_that_was_asked_for() {
        let scratch = Scratch::new();
        let delay = Duration::from_millis(30);
        let disk = disk(&scratch).with_sync_delay(delay);
        let start = std::time::Instant::now();
        disk.create("seg", 1).unwrap();
        disk.sync("seg").unwrap();
        disk.sync_dir().unwrap();
        assert!(start.elapsed() >= 3 * delay);
    }
}
