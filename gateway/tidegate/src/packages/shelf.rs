//! What was pushed, on the disk: packages of functions, and in a directory of their own bundles of firmware.
//! A directory has one file for each, called by its hash, and what has arrived so far of those that are
//! on their way.
//!
//! Invariants:
//! - a file called `HASH.tgpkg` (or `.tgfw`) is complete and has that hash: it gets its name when its content
//!   is on flash, so a power cut leaves it whole or leaves a `HASH.part`;
//! - all files together take at most the quota; what no function needs goes first. What is on its way
//!   counts with the size that it was announced with, and takes no byte more than that.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tidegate_stream::Disk;
use tidegate_wire::Digest;
use tidegate_wire::crypto::Sha256;

use super::package::{MAX_PACKAGE, sha256};
use crate::disk::FileDisk;
use crate::ring_crypto::RingSha256;

/// Ending of the names of what is not whole.
const PART: &str = ".part";
/// Bytes that are hashed at a time, of what is too large for memory.
const PIECE: usize = 64 * 1_024;
/// Largest block of an upload, in bytes.
pub(crate) const MAX_BLOCK: usize = 24 * 1024;
/// What an upload leaves free on the disk for the log.
const RESERVE: u64 = 16 << 20;
/// Uploads that can go on; for a further one another is forgotten.
const MAX_UPLOADS: usize = 8;

/// What is on a shelf.
#[derive(Debug)]
pub(crate) struct Goods {
    /// Ending of the names of what is whole.
    whole: &'static str,
    /// Most bytes of one.
    max: u64,
    /// What one is called.
    what: &'static str,
    /// The key of the quota, and what needs them.
    quota: &'static str,
    users: &'static str,
}

/// Packages of functions.
pub(crate) static PACKAGES: Goods = Goods {
    whole: ".tgpkg",
    max: MAX_PACKAGE,
    what: "package",
    quota: "functions.max_package_bytes, or remove functions with `tidegate fn rm`",
    users: "functions",
};

/// Bundles of firmware.
pub(crate) static BUNDLES: Goods = Goods {
    whole: ".tgfw",
    max: tidegate_firmware::MAX_BUNDLE,
    what: "bundle",
    quota: "firmware.max_bundle_bytes, or end campaigns with `tidegate device firmware cancel`",
    users: "campaigns",
};

/// See the module.
#[derive(Clone)]
pub(crate) struct Shelf {
    disk: Arc<dyn Disk>,
    goods: &'static Goods,
    max_bytes: u64,
    /// Uploads that were begun since the start of the gateway, with their sizes.
    announced: Arc<Mutex<BTreeMap<Digest, u64>>>,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shelf").field("goods", self.goods).finish_non_exhaustive()
    }
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
    #[error("a {} of {size} bytes; allowed: 1 to {}", .goods.what, .goods.max)]
    Size { goods: &'static Goods, size: u64 },
    #[error(
        "no room for {size} bytes: {}s may take {max} and {} need {used} of them; raise {}",
        .goods.what, .goods.users, .goods.quota
    )]
    Quota { goods: &'static Goods, size: u64, max: u64, used: u64 },
    #[error("the disk has {free} bytes left, and what was pushed would not leave the log enough")]
    DiskFull { free: u64 },
    #[error("the upload has {have} bytes; go on there")]
    Elsewhere { have: u64 },
    #[error("a block of {0} bytes; allowed: 1 to {MAX_BLOCK}")]
    Block(usize),
    #[error(
        "the upload was announced with {size} bytes, and this block ends at {end}; push it again"
    )]
    TooMuch { size: u64, end: u64 },
    #[error(
        "the upload was not begun since the gateway started; push it again, it goes on where it was"
    )]
    NotBegun,
    #[error("what arrived has another hash: it was damaged on its way; push it again")]
    Damaged,
    #[error("the {} {hash} is not on this gateway any more; push it again", .goods.what)]
    Missing { goods: &'static Goods, hash: Digest },
    #[error("cannot use the directory of what was pushed: {0}")]
    Io(#[from] io::Error),
}

impl Shelf {
    /// Opens the directory, and makes it when it is not there.
    pub(crate) fn open(path: &Path, goods: &'static Goods, max_bytes: u64) -> io::Result<Shelf> {
        Ok(Shelf::on(Arc::new(FileDisk::open(path)?), goods, max_bytes))
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, goods: &'static Goods, max_bytes: u64) -> Shelf {
        Shelf { disk, goods, max_bytes, announced: Arc::default() }
    }

    /// What is in the map is whole at any moment, so a panic elsewhere takes nothing from it.
    fn announced(&self) -> MutexGuard<'_, BTreeMap<Digest, u64>> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an upload, or finds where it goes on. `needed` are the packages that functions need.
    pub(crate) fn begin(
        &self,
        package: Digest,
        size: u64,
        needed: &BTreeSet<Digest>,
    ) -> Result<Progress, ShelfError> {
        if !(1..=self.goods.max).contains(&size) {
            return Err(ShelfError::Size { goods: self.goods, size });
        }
        let have = match (self.length(&self.whole(package))?, self.length(&part(package))?) {
            (Some(have), _) => return Ok(Progress { have, whole: true }),
            (None, Some(have)) if have <= size => {
                self.make_room(package, size, have, needed)?;
                have
            }
            (None, _) => {
                self.make_room(package, size, 0, needed)?;
                self.disk.create(&part(package), 0)?;
                0
            }
        };
        self.announced().insert(package, size);
        Ok(Progress { have, whole: false })
    }

    /// Adds a block; answers how much is there then.
    pub(crate) fn append(
        &self,
        package: Digest,
        offset: u64,
        block: &[u8],
    ) -> Result<u64, ShelfError> {
        let size = self.announced().get(&package).copied().ok_or(ShelfError::NotBegun)?;
        let have = self.length(&part(package))?.ok_or(ShelfError::NotBegun)?;
        if have != offset {
            return Err(ShelfError::Elsewhere { have });
        }
        if block.is_empty() || block.len() > MAX_BLOCK {
            return Err(ShelfError::Block(block.len()));
        }
        let end = offset + block.len() as u64;
        if end > size {
            return Err(ShelfError::TooMuch { size, end });
        }
        self.disk.write_at(&part(package), offset, block)?;
        Ok(end)
    }

    /// Puts a package that has arrived on the shelf, for good, and answers its bytes.
    pub(crate) fn finish(&self, package: Digest) -> Result<Vec<u8>, ShelfError> {
        if self.length(&self.whole(package))?.is_some() {
            return self.read(package);
        }
        let bytes = self.bytes(&part(package), package)?;
        if sha256(&bytes) != package {
            self.disk.remove(&part(package))?;
            return Err(ShelfError::Damaged);
        }
        self.disk.sync(&part(package))?;
        self.disk.rename(&part(package), &self.whole(package))?;
        self.disk.sync_dir()?;
        Ok(bytes)
    }

    /// The bytes of a package, as they were when it was put on the shelf.
    pub(crate) fn read(&self, package: Digest) -> Result<Vec<u8>, ShelfError> {
        let bytes = self.bytes(&self.whole(package), package)?;
        if sha256(&bytes) != package {
            // Bad flash. It is no package any more, and in the way of a new upload.
            self.disk.remove(&self.whole(package))?;
            return Err(ShelfError::Damaged);
        }
        Ok(bytes)
    }

    /// Removes packages that no function needs.
    pub(crate) fn collect(&self, needed: &BTreeSet<Digest>) -> Result<(), ShelfError> {
        for name in self.disk.list()? {
            let package = name.strip_suffix(self.goods.whole).and_then(Digest::parse);
            if package.is_some_and(|package| !needed.contains(&package)) {
                self.disk.remove(&name)?;
            }
        }
        Ok(())
    }

    /// Puts what has arrived on the shelf, for good, without having it in memory.
    pub(crate) fn settle(&self, goods: Digest) -> Result<(), ShelfError> {
        if self.length(&self.whole(goods))?.is_some() {
            return self.check(goods);
        }
        if self.hash(&part(goods), goods)? != goods {
            self.disk.remove(&part(goods))?;
            return Err(ShelfError::Damaged);
        }
        self.disk.sync(&part(goods))?;
        self.disk.rename(&part(goods), &self.whole(goods))?;
        self.disk.sync_dir()?;
        Ok(())
    }

    /// Holds what is on the shelf against its name.
    pub(crate) fn check(&self, goods: Digest) -> Result<(), ShelfError> {
        if self.hash(&self.whole(goods), goods)? != goods {
            // Bad flash, as in [`Shelf::read`].
            self.disk.remove(&self.whole(goods))?;
            return Err(ShelfError::Damaged);
        }
        Ok(())
    }

    /// Bytes of what is on the shelf.
    pub(crate) fn bytes_of(&self, goods: Digest) -> Result<u64, ShelfError> {
        self.length(&self.whole(goods))?.ok_or(self.missing(goods))
    }

    /// A part of what is on the shelf; answers the bytes that are there.
    pub(crate) fn read_at(
        &self,
        goods: Digest,
        at: u64,
        piece: &mut [u8],
    ) -> Result<usize, ShelfError> {
        Ok(self.disk.read_at(&self.whole(goods), at, piece)?)
    }

    fn hash(&self, name: &str, goods: Digest) -> Result<Digest, ShelfError> {
        let length = self.length(name)?.ok_or(self.missing(goods))?;
        let mut hash = RingSha256::default();
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < length {
            let read = self.disk.read_at(name, at, &mut piece)?;
            if read == 0 {
                break;
            }
            hash.update(piece.get(..read).unwrap_or_default());
            at += read as u64;
        }
        Ok(hash.finish())
    }

    fn missing(&self, hash: Digest) -> ShelfError {
        ShelfError::Missing { goods: self.goods, hash }
    }

    fn whole(&self, goods: Digest) -> String {
        format!("{goods}{}", self.goods.whole)
    }

    fn make_room(
        &self,
        package: Digest,
        size: u64,
        have: u64,
        needed: &BTreeSet<Digest>,
    ) -> Result<(), ShelfError> {
        let mut used = 0;
        let (mut spare, mut uploads) = (Vec::new(), Vec::new());
        for name in self.disk.list()? {
            let bytes = self.disk.len(&name)?;
            let found = name.strip_suffix(self.goods.whole).and_then(Digest::parse);
            let upload = name.strip_suffix(PART).and_then(Digest::parse);
            if found.is_some_and(|found| needed.contains(&found)) {
                used += bytes;
            } else if let Some(upload) = upload.filter(|upload| *upload != package) {
                let announced = self.announced().get(&upload).copied();
                uploads.push((name, announced.unwrap_or(0).max(bytes)));
            } else if name != part(package) {
                spare.push((name, bytes));
            }
        }
        while uploads.len() >= MAX_UPLOADS {
            let Some((name, _)) = uploads.pop() else { break };
            self.disk.remove(&name)?;
        }
        // What is whole goes before what is on its way.
        uploads.append(&mut spare);
        let mut spare = uploads;
        if used + size > self.max_bytes {
            let (goods, max) = (self.goods, self.max_bytes);
            return Err(ShelfError::Quota { goods, size, max, used });
        }
        let mut all = used + spare.iter().map(|(_, bytes)| bytes).sum::<u64>();
        while all + size > self.max_bytes {
            let Some((name, bytes)) = spare.pop() else { break };
            self.disk.remove(&name)?;
            all -= bytes;
        }
        let on_its_way = |upload: &Digest| spare.iter().any(|(name, _)| *name == part(*upload));
        self.announced().retain(|upload, _| on_its_way(upload));
        let free = self.disk.free_bytes()?;
        if free < size - have.min(size) + RESERVE {
            return Err(ShelfError::DiskFull { free });
        }
        Ok(())
    }

    fn bytes(&self, name: &str, package: Digest) -> Result<Vec<u8>, ShelfError> {
        let length = self.length(name)?.ok_or(self.missing(package))?;
        if length > self.goods.max {
            return Err(ShelfError::Size { goods: self.goods, size: length });
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

fn part(package: Digest) -> String {
    format!("{package}{PART}")
}

#[cfg(test)]
mod tests {
    use tidegate_stream::crash::CrashDisk;

    use super::*;

    fn shelf(disk: &CrashDisk) -> Shelf {
        Shelf::on(Arc::new(disk.clone()), &PACKAGES, 256 << 10)
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
        let before = shelf(&disk);
        let begun = before.begin(hash, 20_000, &none).unwrap();
        assert_eq!(begun, Progress { have: 0, whole: false });
        before.append(hash, 0, &bytes[..5_000]).unwrap();
        // The gateway is started again.
        let disk = disk.after_kill();
        let after = shelf(&disk);
        let early = after.append(hash, 5_000, &bytes[5_000..5_010]);
        assert!(matches!(early, Err(ShelfError::NotBegun)));
        assert_eq!(after.begin(hash, 20_000, &none).unwrap().have, 5_000);
        for offset in [0, 4_999, 5_001] {
            let refused = after.append(hash, offset, &bytes[..10]);
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
        let first = shelf(&disk);
        first.begin(hash, 3_000, &none).unwrap();
        first.append(hash, 0, &[&bytes[..2_999], &[!bytes[2_999]]].concat()).unwrap();
        assert!(matches!(first.finish(hash), Err(ShelfError::Damaged)));
        upload(&shelf(&disk), &bytes, hash, &none).unwrap();
        disk.damage(&shelf(&disk).whole(hash), 100, 1);
        assert!(matches!(shelf(&disk).read(hash), Err(ShelfError::Damaged)));
        assert!(matches!(shelf(&disk).read(hash), Err(ShelfError::Missing { .. })));
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
        assert!(matches!(shelf.read(two), Err(ShelfError::Missing { .. })), "it made room");
        let both = BTreeSet::from([one, three]);
        let full = shelf.begin(two, 100 << 10, &both).unwrap_err().to_string();
        assert!(full.contains("functions need 204800 of them"), "{full}");
        shelf.collect(&needed).unwrap();
        assert!(matches!(shelf.read(three), Err(ShelfError::Missing { .. })));
    }

    #[test]
    fn an_upload_takes_no_byte_more_than_it_was_announced_with() {
        let disk = CrashDisk::new();
        let (bytes, hash) = package(1, 20_000);
        let none = BTreeSet::new();
        let first = shelf(&disk);
        first.begin(hash, 6_000, &none).unwrap();
        first.append(hash, 0, &bytes[..5_000]).unwrap();
        let length = |shelf: &Shelf| shelf.begin(hash, 6_000, &none).unwrap().have;
        for shelf in [&first, &shelf(&disk.after_kill())] {
            assert_eq!(length(shelf), 5_000);
            let more = shelf.append(hash, 5_000, &bytes[5_000..6_001]);
            assert!(matches!(more, Err(ShelfError::TooMuch { size: 6_000, end: 6_001 })));
            assert_eq!(length(shelf), 5_000, "nothing of it is there");
        }
        first.append(hash, 5_000, &bytes[5_000..6_000]).unwrap();
        let more = first.append(hash, 6_000, &bytes[6_000..6_001]);
        assert!(matches!(more, Err(ShelfError::TooMuch { .. })));
        // What it is announced with later has to have room as well.
        assert!(matches!(first.begin(hash, 257 << 10, &none), Err(ShelfError::Quota { .. })));
    }

    #[test]
    fn what_is_on_its_way_counts_with_all_that_it_was_announced_with() {
        let disk = CrashDisk::new();
        let shelf = shelf(&disk);
        let none = BTreeSet::new();
        let ((bytes, one), (_, two)) = (package(1, 10), package(2, 10));
        shelf.begin(one, 150 << 10, &none).unwrap();
        shelf.append(one, 0, &bytes).unwrap();
        shelf.begin(two, 150 << 10, &none).unwrap();
        assert!(matches!(shelf.append(one, 10, &bytes), Err(ShelfError::NotBegun)), "it made room");
        shelf.append(two, 0, &bytes).unwrap();
        for seed in 3..30 {
            shelf.begin(package(seed, 10).1, 10, &none).unwrap();
        }
        assert!(disk.list().unwrap().len() <= MAX_UPLOADS);
        assert!(shelf.announced().len() <= MAX_UPLOADS);
    }

    #[test]
    fn sizes_and_blocks_beyond_their_limits_are_refused() {
        let shelf = shelf(&CrashDisk::new());
        let (_, hash) = package(1, 10);
        let none = BTreeSet::new();
        for size in [0, MAX_PACKAGE + 1] {
            assert!(matches!(shelf.begin(hash, size, &none), Err(ShelfError::Size { .. })));
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
                    Err(ShelfError::Missing { .. }) => {}
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
