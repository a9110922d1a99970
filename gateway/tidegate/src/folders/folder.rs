//! A folder as the system has it: what is in it, what a file says, and where files go from there.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fstat, mkdirat, open, openat,
    renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use tidegate_flow::FileMark;

use crate::packages::sha256;

/// Names that are looked at in one look, each remembered for the next one: with the longest ones
/// some 500 KiB. What is beyond comes when these have gone.
const MAX_NAMES: usize = 1024;
/// Names that are tried before a file that was put away takes the place of an earlier one.
const MAX_SAME: u32 = 1000;

/// Where files are put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shelf {
    /// They are records.
    Done,
    /// They cannot be.
    Failed,
}

impl Shelf {
    /// Name of the folder in the folder.
    pub(super) fn name(self) -> &'static CStr {
        match self {
            Shelf::Done => c"done",
            Shelf::Failed => c"failed",
        }
    }
}

/// What two looks at a file compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    /// Time of the last change: seconds and nanoseconds since 1970.
    pub(super) modified: (i64, u64),
    pub(super) bytes: u64,
}

impl Shape {
    fn of(stat: &Stat) -> Shape {
        let bytes = u64::try_from(stat.st_size).unwrap_or(0);
        Shape { modified: (stat.st_mtime, number(stat.st_mtime_nsec)), bytes }
    }

    /// Milliseconds since 1970.
    pub(super) fn modified_ms(&self) -> i64 {
        let (seconds, nanoseconds) = self.modified;
        let ms = i64::try_from(nanoseconds / 1_000_000).unwrap_or(0);
        seconds.saturating_mul(1000).saturating_add(ms)
    }
}

/// Not of the same size on all machines.
fn number(field: impl Into<u64>) -> u64 {
    field.into()
}

/// Something in the folder that is no directory.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub(super) name: OsString,
    pub(super) shape: Shape,
    pub(super) is_regular: bool,
    inode: u64,
}

impl Found {
    /// Whether this is it, as it was.
    fn is(&self, stat: &Stat) -> bool {
        self.inode == inode(stat) && self.shape == Shape::of(stat)
    }
}

fn inode(stat: &Stat) -> u64 {
    number(stat.st_ino)
}

/// What was taken out of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// The file that was meant.
    Same,
    /// Another had taken its place meanwhile, and is back in the folder.
    Another,
}

/// What a file says.
#[derive(Debug)]
pub(super) struct Content {
    pub(super) mark: FileMark,
    pub(super) bytes: Vec<u8>,
}

/// Why a file was not read.
#[derive(Debug)]
pub(super) enum Unread {
    /// It is not there any more, or not what it was: somebody is at work on it.
    Changed,
    /// It cannot become a record; in words.
    Refused(String),
    /// The system fails; another time may do.
    Failed(io::Error),
}

/// An open folder.
#[derive(Debug)]
pub(super) struct Folder {
    directory: OwnedFd,
    done: OwnedFd,
    failed: OwnedFd,
}

impl Folder {
    /// Opens it, and makes the places in it where files are put.
    ///
    /// # Errors
    /// It is not there, or may not be written.
    pub(super) fn open(path: &Path) -> io::Result<Folder> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = open(path, flags, Mode::empty())?;
        let place = |shelf: Shelf| -> io::Result<OwnedFd> {
            match mkdirat(&directory, shelf.name(), Mode::from_raw_mode(0o750)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(openat(&directory, shelf.name(), flags | OFlags::NOFOLLOW, Mode::empty())?)
        };
        Ok(Folder { done: place(Shelf::Done)?, failed: place(Shelf::Failed)?, directory })
    }

    /// What is in it, but for directories, hidden names, and those that programs give to files that
    /// they are still writing; the least recently changed first.
    ///
    /// # Errors
    /// The system fails.
    pub(super) fn list(&self) -> io::Result<Vec<Found>> {
        let mut found = names_in(&self.directory, is_partial, MAX_NAMES)?;
        found.sort_by(|a, b| (a.shape.modified, &a.name).cmp(&(b.shape.modified, &b.name)));
        Ok(found)
    }

    /// Whether something of this name is in it.
    ///
    /// # Errors
    /// The system fails.
    pub(super) fn has(&self, name: &OsStr) -> io::Result<bool> {
        match statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a file, once it is on the disk as it is read: after a power cut it is the same, or is
    /// not there.
    pub(super) fn read(&self, found: &Found, max: usize) -> Result<Content, Unread> {
        if !found.is_regular {
            return Err(Unread::Refused("is no regular file".to_owned()));
        }
        let too_large =
            |bytes: u64| Unread::Refused(format!("has {bytes} bytes; max_file allows {max}"));
        if found.shape.bytes > max as u64 {
            return Err(too_large(found.shape.bytes));
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match openat(&self.directory, &found.name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::LOOP) => return Err(Unread::Changed),
            Err(Errno::ACCESS | Errno::PERM) => {
                return Err(Unread::Refused("may not be read".to_owned()));
            }
            Err(error) => return Err(Unread::Failed(error.into())),
        };
        let unchanged = || -> Result<bool, Unread> {
            let stat = fstat(&file).map_err(|error| Unread::Failed(error.into()))?;
            let is_regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
            Ok(is_regular && found.is(&stat))
        };
        if !unchanged()? {
            return Err(Unread::Changed);
        }
        file.sync_all().map_err(Unread::Failed)?;
        let mut bytes = Vec::with_capacity(found.shape.bytes as usize + MARKED_HEAD);
        bytes.extend(found.shape.bytes.to_le_bytes());
        bytes.extend(found.shape.modified.0.to_le_bytes());
        bytes.extend(found.shape.modified.1.to_le_bytes());
        let mut limited = (&file).take(max as u64 + 1);
        limited.read_to_end(&mut bytes).map_err(Unread::Failed)?;
        let as_large = (bytes.len() - MARKED_HEAD) as u64 == found.shape.bytes;
        if !as_large || !unchanged()? {
            return Err(Unread::Changed);
        }
        let mark = sha256(&bytes).0;
        bytes.drain(..MARKED_HEAD);
        Ok(Content { mark, bytes })
    }

    /// Takes a file out of the folder, for good when this returns, onto a shelf that keeps so many.
    ///
    /// # Errors
    /// The system fails; the file may be where it was.
    pub(super) fn put_away(&self, found: &Found, shelf: Shelf, keep: usize) -> io::Result<Left> {
        let place = match shelf {
            Shelf::Done => &self.done,
            Shelf::Failed => &self.failed,
        };
        let name = self.move_to(place, &found.name)?;
        if !found.is(&statat(place, &name, AtFlags::SYMLINK_NOFOLLOW)?) {
            // Where yet another is there already, this one stays on the shelf, to be seen there.
            renameat_with(place, &name, &self.directory, &found.name, RenameFlags::NOREPLACE)?;
            return Ok(Left::Another);
        }
        self.sync()?;
        clear(place, keep)?;
        Ok(Left::Same)
    }

    /// What has left the folder has done so for good when this returns.
    ///
    /// # Errors
    /// The system fails.
    pub(super) fn sync(&self) -> io::Result<()> {
        // The places before the folder: a power cut in between may leave a file in both.
        for directory in [&self.done, &self.failed, &self.directory] {
            rustix::fs::fsync(directory)?;
        }
        Ok(())
    }

    /// Answers the name that it has there.
    fn move_to(&self, place: &OwnedFd, name: &OsStr) -> io::Result<OsString> {
        for number in 1..=MAX_SAME {
            let mut to = name.to_owned();
            if number > 1 {
                to.push(format!(".{number}"));
            }
            let flags = RenameFlags::NOREPLACE;
            match renameat_with(&self.directory, name, place, &to, flags) {
                Ok(()) => return Ok(to),
                Err(Errno::EXIST) => {}
                // Not every file system can do this in one step; nobody else is at work there.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    match statat(place, &to, AtFlags::SYMLINK_NOFOLLOW) {
                        Err(Errno::NOENT) => {
                            renameat(&self.directory, name, place, &to)?;
                            return Ok(to);
                        }
                        Ok(_) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                Err(Errno::NAMETOOLONG) if number > 1 => break,
                Err(error) => return Err(error.into()),
            }
        }
        renameat(&self.directory, name, place, name)?;
        Ok(name.to_owned())
    }
}

/// What a mark is of, beside the bytes: size and time of the last change.
const MARKED_HEAD: usize = 24;

/// Removes what a shelf has beyond what it keeps, the oldest there first.
fn clear(place: &OwnedFd, keep: usize) -> io::Result<()> {
    let mut found = names_in(place, |_| false, usize::MAX)?;
    if found.len() <= keep {
        return Ok(());
    }
    // When a file came onto the shelf; its own time is older.
    let came = |found: &Found| {
        let stat = statat(place, &found.name, AtFlags::SYMLINK_NOFOLLOW);
        stat.map_or((0, 0), |stat| (stat.st_ctime, number(stat.st_ctime_nsec)))
    };
    found.sort_by_cached_key(|found| (came(found), found.name.clone()));
    let surplus = found.len() - keep;
    for found in &found[..surplus] {
        match unlinkat(place, &found.name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn names_in(
    directory: &OwnedFd,
    passes: impl Fn(&[u8]) -> bool,
    max: usize,
) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name: CString = entry.file_name().to_owned();
        let bytes = name.as_bytes();
        if bytes == b"." || bytes == b".." || passes(bytes) {
            continue;
        }
        let stat = match statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(error) => return Err(error.into()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            continue;
        }
        let is_regular = kind == FileType::RegularFile;
        let name = OsString::from_vec(name.into_bytes());
        let (shape, inode) = (Shape::of(&stat), inode(&stat));
        found.push(Found { name, shape, is_regular, inode });
        if found.len() >= max {
            break;
        }
    }
    Ok(found)
}

/// Whether a name says that the file is hidden, or still being written.
fn is_partial(name: &[u8]) -> bool {
    let ends = [&b".part"[..], b".partial", b".tmp", b".crdownload", b".filepart", b"~"];
    name.starts_with(b".") || ends.iter().any(|end| name.ends_with(end))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::scratch::Scratch;

    fn names(folder: &Folder) -> Vec<String> {
        let found = folder.list().unwrap();
        found.into_iter().map(|found| found.name.into_string().unwrap()).collect()
    }

    fn shelf(scratch: &Scratch, name: &str) -> Vec<String> {
        let entries = fs::read_dir(scratch.path().join(name)).unwrap();
        let mut found: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        found.sort();
        found
    }

    /// Two files that come within a tick of that clock are of the same age.
    fn until_the_clock_of_the_files_goes_on(scratch: &Scratch) {
        let tick = || {
            let path = scratch.path().join(".tick");
            fs::write(&path, "x").unwrap();
            fs::metadata(&path).unwrap().modified().unwrap()
        };
        let first = tick();
        while tick() == first {}
    }

    fn found(folder: &Folder, name: &str) -> Found {
        folder.list().unwrap().into_iter().find(|found| found.name == name).unwrap()
    }

    #[test]
    fn hidden_partial_and_nested_names_are_passed_over() {
        let scratch = Scratch::new();
        let folder = Folder::open(scratch.path()).unwrap();
        for name in [".hidden", "a.part", "b.tmp", "c~", "d.partial", "e.crdownload"] {
            fs::write(scratch.path().join(name), "x").unwrap();
        }
        fs::create_dir(scratch.path().join("deeper")).unwrap();
        fs::write(scratch.path().join("deeper/file"), "x").unwrap();
        assert!(names(&folder).is_empty());
        fs::write(scratch.path().join("e"), "x").unwrap();
        assert_eq!(names(&folder), ["e"]);
        assert!(Folder::open(&scratch.path().join("moon")).is_err());
    }

    #[test]
    fn only_what_is_a_file_of_the_folder_itself_is_read() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join("secret"), "outside").unwrap();
        let inside = scratch.path().join("in");
        fs::create_dir(&inside).unwrap();
        let folder = Folder::open(&inside).unwrap();
        symlink("../secret", inside.join("link")).unwrap();
        let link = found(&folder, "link");
        let Err(Unread::Refused(why)) = folder.read(&link, 100) else { panic!("a link was read") };
        assert_eq!(why, "is no regular file");
        // Also where it becomes one between the look and the reading.
        let swapped = Found { is_regular: true, ..link };
        assert!(matches!(folder.read(&swapped, 100), Err(Unread::Changed)));
        fs::write(inside.join("large"), "12345").unwrap();
        let Err(Unread::Refused(why)) = folder.read(&found(&folder, "large"), 4) else {
            panic!("it was read")
        };
        assert_eq!(why, "has 5 bytes; max_file allows 4");
        let large = found(&folder, "large");
        assert_eq!(folder.read(&large, 5).unwrap().bytes, b"12345");
        fs::write(inside.join("large"), "123456").unwrap();
        assert!(matches!(folder.read(&large, 9), Err(Unread::Changed)));
    }

    #[test]
    fn a_mark_tells_content_and_time_of_the_last_change() {
        let scratch = Scratch::new();
        let folder = Folder::open(scratch.path()).unwrap();
        let path = scratch.path().join("a");
        let at = |seconds| std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let mark = |content: &str, seconds| {
            fs::write(&path, content).unwrap();
            File::options().write(true).open(&path).unwrap().set_modified(at(seconds)).unwrap();
            folder.read(&found(&folder, "a"), 100).unwrap().mark
        };
        let first = mark("x", 1000);
        assert_eq!(first, mark("x", 1000));
        assert_ne!(first, mark("y", 1000));
        assert_ne!(first, mark("x", 1001));
    }

    #[test]
    fn files_of_one_name_stand_beside_each_other_and_the_oldest_go() {
        let scratch = Scratch::new();
        let folder = Folder::open(scratch.path()).unwrap();
        for round in 0..4 {
            fs::write(scratch.path().join("a"), round.to_string()).unwrap();
            folder.put_away(&found(&folder, "a"), Shelf::Done, 2).unwrap();
            until_the_clock_of_the_files_goes_on(&scratch);
        }
        let kept = shelf(&scratch, "done");
        assert_eq!(kept.len(), 2, "{kept:?}");
        let texts: Vec<String> = kept
            .iter()
            .map(|name| fs::read_to_string(scratch.path().join("done").join(name)).unwrap())
            .collect();
        assert!(texts.contains(&"2".to_owned()) && texts.contains(&"3".to_owned()), "{texts:?}");
        fs::write(scratch.path().join("b"), "x").unwrap();
        folder.put_away(&found(&folder, "b"), Shelf::Failed, 5).unwrap();
        assert_eq!(shelf(&scratch, "failed"), ["b"]);
        fs::write(scratch.path().join("c"), "x").unwrap();
        folder.put_away(&found(&folder, "c"), Shelf::Done, 0).unwrap();
        assert!(shelf(&scratch, "done").is_empty(), "and what was kept before goes too");
        assert!(names(&folder).is_empty());
    }

    #[test]
    fn a_file_that_took_the_place_of_the_one_that_was_read_stays_in_the_folder() {
        let scratch = Scratch::new();
        let folder = Folder::open(scratch.path()).unwrap();
        fs::write(scratch.path().join("a"), "1").unwrap();
        let read = found(&folder, "a");
        fs::write(scratch.path().join("other"), "2").unwrap();
        fs::rename(scratch.path().join("other"), scratch.path().join("a")).unwrap();
        assert_eq!(folder.put_away(&read, Shelf::Done, 5).unwrap(), Left::Another);
        assert_eq!(fs::read_to_string(scratch.path().join("a")).unwrap(), "2");
        assert!(shelf(&scratch, "done").is_empty());
    }
}
