//! The packages on the disk: a directory with one file a package, called by its hash, and with
//! what has arrived so far of those that are on their way.
//!
//! Invariants:
//! - a file called `HASH.tgpkg` is complete and has that hash: it gets its name when its content
//!   is on flash, so a power cut leaves it whole or leaves a `HASH.part`;
//! - all files together take at most the quota; what no function needs goes first.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use tidegate_stream::Disk;
use tidegate_wire::Digest;

use super::package::{MAX_PACKAGE, sha256};
use crate::disk::FileDisk;

/// Endings of the names.
const WHOLE: &str = ".tgpkg";
const PART: &str = ".part";
/// Largest block of an upload, in bytes.
pub(crate) const MAX_BLOCK: usize = 24 * 1024;
/// What an upload leaves free on the disk for the log.
const RESERVE: u64 = 16 << 20;

/// See the module.
#[derive(Clone)]
pub(crate) struct Shelf {
    disk: Arc<dyn Disk>,
    max_bytes: u64,
}

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Bytes that are there; the next block begins here.
    pub(crate) have: u64,
    /// The package is on the shelf.
    pub(crate) whole: bool,
}

/// Why a package is not taken or not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShelfError {
    #[error("a package of {0} bytes; allowed: 1 to {MAX_PACKAGE}")]
    Size(u64),
    #[error(
        "no room for {size} bytes: packages may take {max} and functions need {used} of them; raise \
         functions.max_package_bytes, or remove functions with `tidegate fn rm`"
    )]
    Quota { size: u64, max: u64, used: u64 },
    #[error("the disk has {free} bytes left, and the package would not leave the log enough")]
    DiskFull { free: u64 },
    #[error("the upload has {have} bytes; go on there")]
    Elsewhere { have: u64 },
    #[error("a block of {0} bytes; allowed: 1 to {MAX_BLOCK}, within the package")]
    Block(usize),
    #[error("what arrived has another hash: it was damaged on its way; push it again")]
    Damaged,
    #[error("the package {0} is not on this gateway any more; push it again")]
    Missing(Digest),
    #[error("cannot use the directory of packages: {0}")]
    Io(#[from] io::Error),
}

impl Shelf {
    /// Opens the directory, and makes it when it is not there.
    pub(crate) fn open(path: &Path, max_bytes: u64) -> io::Result<Shelf> {
        Ok(Shelf::on(Arc::new(FileDisk::open(path)?), max_bytes))
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, max_bytes: u64) -> Shelf {
        Shelf { disk, max_bytes }
    }

    /// Begins an upload, or finds where it goes on. `needed` are the packages that functions need.
    pub(crate) fn begin(
        &self,
        package: Digest,
        size: u64,
        needed: &BTreeSet<Digest>,
    ) -> Result<Progress, ShelfError> {
        if !(1..=MAX_PACKAGE).contains(&size) {
            return Err(ShelfError::Size(size));
        }
        let have = match (self.length(&whole(package))?, self.length(&part(package))?) {
            (Some(have), _) => return Ok(Progress { have, whole: true }),
            (None, Some(have)) if have <= size => have,
            (None, _) => {
                self.make_room(package, size, needed)?;
                self.disk.create(&part(package), 0)?;
                0
            }
        };
        Ok(Progress { have, whole: false })
    }

    /// Adds a block; answers how much is there then.
    pub(crate) fn append(
        &self,
        package: Digest,
        offset: u64,
        block: &[u8],
    ) -> Result<u64, ShelfError> {
        let have = self.length(&part(package))?.ok_or(ShelfError::Elsewhere { have: 0 })?;
        if have != offset {
            return Err(ShelfError::Elsewhere { have });
        }
        let end = offset + block.len() as u64;
        if block.is_empty() || block.len() > MAX_BLOCK || end > MAX_PACKAGE {
            return Err(ShelfError::Block(block.len()));
        }
        self.disk.write_at(&part(package), offset, block)?;
        Ok(end)
    }

    /// Puts a package that has arrived on the shelf, for good, and answers its bytes.
    pub(crate) fn finish(&self, package: Digest) -> Result<Vec<u8>, ShelfError> {
        if self.length(&whole(package))?.is_some() {
            return self.read(package);
        }
        let bytes = self.bytes(&part(package), package)?;
        if sha256(&bytes) != package {
            self.disk.remove(&part(package))?;
            return Err(ShelfError::Damaged);
        }
        self.disk.sync(&part(package))?;
        self.disk.rename(&part(package), &whole(package))?;
        self.disk.sync_dir()?;
        Ok(bytes)
    }

    /// The bytes of a package, as they were when it was put on the shelf.
    pub(crate) fn read(&self, package: Digest) -> Result<Vec<u8>, ShelfError> {
        let bytes = self.bytes(&whole(package), package)?;
        if sha256(&bytes) != package {
            // Bad flash. It is no package any more, and in the way of a new upload.
            self.disk.remove(&whole(package))?;
            return Err(ShelfError::Damaged);
        }
        Ok(bytes)
    }

    /// Removes packages that no function needs.
    pub(crate) fn collect(&self, needed: &BTreeSet<Digest>) -> Result<(), ShelfError> {
        for name in self.disk.list()? {
            let package = name.strip_suffix(WHOLE).and_then(Digest::parse);
            if package.is_some_and(|package| !needed.contains(&package)) {
                self.disk.remove(&name)?;
            }
        }
        Ok(())
    }

    fn make_room(
        &self,
        package: Digest,
        size: u64,
        needed: &BTreeSet<Digest>,
    ) -> Result<(), ShelfError> {
        let mut used = 0;
        let mut spare = Vec::new();
        for name in self.disk.list()? {
            let bytes = self.disk.len(&name)?;
            let found = name.strip_suffix(WHOLE).and_then(Digest::parse);
            if found.is_some_and(|found| needed.contains(&found)) {
                used += bytes;
            } else if name != part(package) {
                spare.push((name, bytes));
            }
        }
        if used + size > self.max_bytes {
            return Err(ShelfError::Quota { size, max: self.max_bytes, used });
        }
        let mut all = used + spare.iter().map(|(_, bytes)| bytes).sum::<u64>();
        while all + size > self.max_bytes {
            let Some((name, bytes)) = spare.pop() else { break };
            self.disk.remove(&name)?;
            all -= bytes;
        }
        let free = self.disk.free_bytes()?;
        if free < size + RESERVE {
            return Err(ShelfError::DiskFull { free });
        }
        Ok(())
    }

    fn bytes(&self, name: &str, package: Digest) -> Result<Vec<u8>, ShelfError> {
        let length = self.length(name)?.ok_or(ShelfError::Missing(package))?;
        if length > MAX_PACKAGE {
            return Err(ShelfError::Size(length));
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let read = self.disk.read_at(name, 0, &mut bytes)?;
        bytes.truncate(read);
        Ok(bytes)
    }

    fn length(&self, name: &str) -> io::Result<Option<u64>> {
        match self.disk.len(name) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn whole(package: Digest) -> String {
    format!("{package}{WHOLE}")
}

fn part(package: Digest) -> String {
    format!("{package}{PART}")
}

#[cfg(test)]
mod tests {
    use tidegate_stream::crash::CrashDisk;

    use super::*;

    fn shelf(disk: &CrashDisk) -> Shelf {
        Shelf::on(Arc::new(disk.clone()), 256 << 10)
    }

    fn package(seed: u8, bytes: usize) -> (Vec<u8>, Digest) {
        let bytes: Vec<u8> = (0..bytes).map(|at| (at as u8).wrapping_mul(7) ^ seed).collect();
        let hash = sha256(&bytes);
        (bytes, hash)
    }

    /// Uploads until it is done, or the disk fails.
    fn upload(
        shelf: &Shelf,
        bytes: &[u8],
        hash: Digest,
        needed: &BTreeSet<Digest>,
    ) -> Result<u64, ShelfError> {
        let size = bytes.len() as u64;
        let begun = shelf.begin(hash, size, needed)?;
        let mut have = begun.have;
        while have < size && !begun.whole {
            let end = bytes.len().min(have as usize + 5_000);
            have = shelf.append(hash, have, &bytes[have as usize..end])?;
        }
        shelf.finish(hash)?;
        Ok(begun.have)
    }

    #[test]
    fn an_upload_goes_on_where_it_ended() {
        let disk = CrashDisk::new();
        let (bytes, hash) = package(1, 20_000);
        let none = BTreeSet::new();
        let begun = shelf(&disk).begin(hash, 20_000, &none).unwrap();
        assert_eq!(begun, Progress { have: 0, whole: false });
        shelf(&disk).append(hash, 0, &bytes[..5_000]).unwrap();
        // The gateway is started again.
        let disk = disk.after_kill();
        assert_eq!(shelf(&disk).begin(hash, 20_000, &none).unwrap().have, 5_000);
        for offset in [0, 4_999, 5_001] {
            let refused = shelf(&disk).append(hash, offset, &bytes[..10]);
            assert!(matches!(refused, Err(ShelfError::Elsewhere { have: 5_000 })));
        }
        assert_eq!(upload(&shelf(&disk), &bytes, hash, &none).unwrap(), 5_000);
        assert_eq!(shelf(&disk).read(hash).unwrap(), bytes);
        assert!(shelf(&disk).begin(hash, 20_000, &none).unwrap().whole);
    }

    #[test]
    fn what_arrived_damaged_is_thrown_away_and_can_be_sent_again() {
        let disk = CrashDisk::new();
        let (bytes, hash) = package(1, 3_000);
        let none = BTreeSet::new();
        shelf(&disk).begin(hash, 3_000, &none).unwrap();
        shelf(&disk).append(hash, 0, &[&bytes[..2_999], &[!bytes[2_999]]].concat()).unwrap();
        assert!(matches!(shelf(&disk).finish(hash), Err(ShelfError::Damaged)));
        upload(&shelf(&disk), &bytes, hash, &none).unwrap();
        disk.damage(&whole(hash), 100, 1);
        assert!(matches!(shelf(&disk).read(hash), Err(ShelfError::Damaged)));
        assert!(matches!(shelf(&disk).read(hash), Err(ShelfError::Missing(_))));
    }

    #[test]
    fn what_functions_need_stays_and_what_they_do_not_need_makes_room() {
        let disk = CrashDisk::new();
        let shelf = shelf(&disk);
        let (first, one) = package(1, 100 << 10);
        let (second, two) = package(2, 100 << 10);
        let (third, three) = package(3, 100 << 10);
        let needed = BTreeSet::from([one]);
        upload(&shelf, &first, one, &needed).unwrap();
        upload(&shelf, &second, two, &needed).unwrap();
        upload(&shelf, &third, three, &needed).unwrap();
        assert_eq!(shelf.read(one).unwrap(), first);
        assert!(matches!(shelf.read(two), Err(ShelfError::Missing(_))), "it made room");
        let both = BTreeSet::from([one, three]);
        let full = shelf.begin(two, 100 << 10, &both).unwrap_err().to_string();
        assert!(full.contains("functions need 204800 of them"), "{full}");
        shelf.collect(&needed).unwrap();
        assert!(matches!(shelf.read(three), Err(ShelfError::Missing(_))));
    }

    #[test]
    fn sizes_and_blocks_beyond_their_limits_are_refused() {
        let shelf = shelf(&CrashDisk::new());
        let (_, hash) = package(1, 10);
        let none = BTreeSet::new();
        for size in [0, MAX_PACKAGE + 1] {
            assert!(matches!(shelf.begin(hash, size, &none), Err(ShelfError::Size(_))));
        }
        shelf.begin(hash, 10, &none).unwrap();
        for block in [&[][..], &[0; MAX_BLOCK + 1]] {
            assert!(matches!(shelf.append(hash, 0, block), Err(ShelfError::Block(_))));
        }
    }

    /// What has its name is whole, at any moment of the upload, and an upload after the power cut
    /// ends well.
    #[test]
    fn a_power_cut_at_any_operation_leaves_a_whole_package_or_none() {
        let (bytes, hash) = package(9, 20_000);
        let none = BTreeSet::new();
        let disk = CrashDisk::new();
        upload(&shelf(&disk), &bytes, hash, &none).unwrap();
        let operations = disk.operations();
        assert!(operations > 6, "{operations}");
        for operation in 1..=operations {
            for seed in 0..16 {
                let disk = CrashDisk::new();
                disk.crash_at(operation);
                let _ = upload(&shelf(&disk), &bytes, hash, &none);
                let disk = disk.crash(seed);
                match shelf(&disk).read(hash) {
                    Ok(found) => assert_eq!(found, bytes),
                    Err(ShelfError::Missing(_)) => {}
                    Err(error) => panic!("operation {operation}, seed {seed}: {error}"),
                }
                // A part whose end never reached the flash is found out by its hash.
                let again = upload(&shelf(&disk), &bytes, hash, &none);
                if matches!(again, Err(ShelfError::Damaged)) {
                    upload(&shelf(&disk), &bytes, hash, &none).unwrap();
                } else {
                    again.unwrap();
                }
                assert_eq!(shelf(&disk).read(hash).unwrap(), bytes);
            }
        }
    }
}
