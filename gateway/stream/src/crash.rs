//! A disk in memory that loses power, for the simulator and the tests.
//!
//! Only what was synced is sure to be there afterwards. Of what was written since, any subset of
//! the sectors may be there, and a sector may be torn: its beginning new, its end old. Of the
//! changes of names since the last `sync_dir` a beginning is there, in their order, as a
//! journalling file system does it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::Disk;

const SECTOR: usize = 512;

/// See the module. Clones share the same disk.
#[derive(Debug, Clone)]
pub struct CrashDisk(Arc<Mutex<State>>);

#[derive(Debug, Clone)]
struct File {
    /// As reads see it.
    now: Vec<u8>,
    /// As it is on the medium.
    synced: Vec<u8>,
    /// Sectors of `now` that may differ from `synced`.
    dirty: BTreeMap<usize, ()>,
}

impl File {
    /// Sectors reach the medium.
    fn reach(&mut self, sectors: Vec<usize>) {
        self.synced.resize(self.now.len(), 0);
        for sector in sectors {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.now.len());
            if start < end {
                self.synced[start..end].copy_from_slice(&self.now[start..end]);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum NameChange {
    Add(String, u64),
    Rename(String, String),
    Remove(String),
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<u64, File>,
    names: BTreeMap<String, u64>,
    synced_names: BTreeMap<String, u64>,
    changes: Vec<NameChange>,
    next_file: u64,
    capacity: Option<u64>,
    fail_syncs: u32,
    fail_writes: u32,
    /// Reads that still succeed before `fail_reads` counts.
    good_reads: u32,
    fail_reads: u32,
    bad_sectors: BTreeMap<(u64, usize), ()>,
    operations: u64,
    crash_at: Option<u64>,
    /// Operations from the first segment that is given up to the power cut.
    crash_after_release: Option<u64>,
    crashed: bool,
    counts: Counts,
}

/// What a disk was asked to do so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
    /// Syncs of files.
    pub syncs: u64,
}

impl Default for CrashDisk {
    fn default() -> CrashDisk {
        CrashDisk::new()
    }
}

impl CrashDisk {
    /// An empty disk without limit.
    #[must_use]
    pub fn new() -> CrashDisk {
        CrashDisk(Arc::new(Mutex::new(State::default())))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that all files together may take; `u64::MAX` for no limit.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().capacity = (bytes != u64::MAX).then_some(bytes);
    }

    /// Bytes that all files together take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.lock().used()
    }

    /// The next sync fails, and what it should have made durable may be lost for good although
    /// reads still show it.
    pub fn fail_next_sync(&self) {
        self.fail_syncs(1);
    }

    /// The next `count` syncs fail.
    pub fn fail_syncs(&self, count: u32) {
        self.lock().fail_syncs = count;
    }

    /// The next `count` writes fail half way.
    pub fn fail_writes(&self, count: u32) {
        self.lock().fail_writes = count;
    }

    /// The next `count` reads fail.
    pub fn fail_reads(&self, count: u32) {
        self.fail_reads_after(0, count);
    }

    /// After `good` reads, the next `count` fail.
    pub fn fail_reads_after(&self, good: u32, count: u32) {
        let mut state = self.lock();
        (state.good_reads, state.fail_reads) = (good, count);
    }

    /// Cuts a file short, on the medium.
    pub fn cut(&self, name: &str, len: usize) {
        let mut state = self.lock();
        let Some(id) = state.names.get(name).copied() else { return };
        if let Some(file) = state.files.get_mut(&id) {
            file.now.truncate(len);
            file.synced.truncate(len);
        }
    }

    /// From now on the sector with this byte cannot be read.
    pub fn make_unreadable(&self, name: &str, offset: usize) {
        let mut state = self.lock();
        if let Some(id) = state.names.get(name).copied() {
            state.bad_sectors.insert((id, offset / SECTOR), ());
        }
    }

    /// Operations that change something, so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.lock().operations
    }

    /// What it was asked to do so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Power fails in the middle of the operation with this number, counted from 1: it and
    /// all after it fail, and what it wrote is unsynced.
    pub fn crash_at(&self, operation: u64) {
        self.lock().crash_at = Some(operation);
    }

    /// Power fails so many operations after the next segment has been given up: it is renamed or
    /// removed, and what makes that right may not be durable yet.
    pub fn crash_after_release(&self, operations: u64) {
        self.lock().crash_after_release = Some(operations);
    }

    /// Whether power has failed.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.lock().crashed
    }

    /// The disk as found when power returns; `seed` chooses what survived of what was not
    /// synced. This disk stays as it is.
    #[must_use]
    pub fn crash(&self, seed: u64) -> CrashDisk {
        let state = self.lock();
        let mut random = Random(seed ^ 0x9e37_79b9_7f4a_7c15);
        let kept = random.below(state.changes.len() as u64 + 1) as usize;
        let mut names = state.synced_names.clone();
        for change in &state.changes[..kept] {
            apply(&mut names, change);
        }
        let mut files = BTreeMap::new();
        for id in names.values() {
            if let Some(file) = state.files.get(id) {
                files.insert(*id, survive(file, &mut random));
            }
        }
        let found = State {
            synced_names: names.clone(),
            names,
            files,
            next_file: state.next_file,
            bad_sectors: state.bad_sectors.clone(),
            capacity: state.capacity,
            ..State::default()
        };
        CrashDisk(Arc::new(Mutex::new(found)))
    }

    /// A copy in which nothing is lost: as after the process, not the power, has ended.
    #[must_use]
    pub fn after_kill(&self) -> CrashDisk {
        let state = self.lock();
        let copy = State {
            files: state.files.clone(),
            names: state.names.clone(),
            synced_names: state.synced_names.clone(),
            changes: state.changes.clone(),
            next_file: state.next_file,
            bad_sectors: state.bad_sectors.clone(),
            capacity: state.capacity,
            ..State::default()
        };
        CrashDisk(Arc::new(Mutex::new(copy)))
    }

    /// Changes a byte of a file, on the medium, by exclusive or.
    pub fn damage(&self, name: &str, offset: usize, mask: u8) {
        let mut state = self.lock();
        let Some(id) = state.names.get(name).copied() else { return };
        if let Some(file) = state.files.get_mut(&id) {
            for bytes in [&mut file.now, &mut file.synced] {
                if let Some(byte) = bytes.get_mut(offset) {
                    *byte ^= mask;
                }
            }
        }
    }
}

fn survive(file: &File, random: &mut Random) -> File {
    let mut bytes = file.synced.clone();
    if bytes.len() < file.now.len() {
        bytes.resize(file.now.len(), 0);
    } else {
        bytes.truncate(file.now.len());
    }
    // All, none, or any subset: the first two are too rare among subsets to leave to chance.
    let mode = random.below(4);
    for sector in file.dirty.keys() {
        let start = sector * SECTOR;
        let end = (start + SECTOR).min(bytes.len());
        if start >= end {
            continue;
        }
        let keep = match mode {
            0 => 0,
            1 => end - start,
            _ => match random.below(8) {
                0..4 => end - start,
                4..7 => 0,
                _ => random.below((end - start) as u64) as usize,
            },
        };
        bytes[start..start + keep].copy_from_slice(&file.now[start..start + keep]);
    }
    File { now: bytes.clone(), synced: bytes, dirty: BTreeMap::new() }
}

fn apply(names: &mut BTreeMap<String, u64>, change: &NameChange) {
    match change {
        NameChange::Add(name, id) => {
            names.insert(name.clone(), *id);
        }
        NameChange::Rename(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
        NameChange::Remove(name) => {
            names.remove(name);
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        if end == 0 { 0 } else { self.next() % end }
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name} does not exist"))
}

fn power_is_off() -> io::Error {
    io::Error::other("power is off")
}

impl State {
    /// Counts an operation; `Ok(true)` when power fails in the middle of it.
    fn operate(&mut self) -> io::Result<bool> {
        if self.crashed {
            return Err(power_is_off());
        }
        self.operations += 1;
        self.crashed = self.crash_at == Some(self.operations);
        Ok(self.crashed)
    }

    /// A file gets another name, or none.
    fn released(&mut self, name: &str) {
        if name.starts_with("seg-")
            && let Some(operations) = self.crash_after_release.take()
        {
            self.crash_at = Some(self.operations + operations);
        }
    }

    fn file(&mut self, name: &str) -> io::Result<&mut File> {
        let id = self.names.get(name).copied().ok_or_else(|| not_found(name))?;
        self.files.get_mut(&id).ok_or_else(|| not_found(name))
    }

    fn used(&self) -> u64 {
        let named = self.names.values().filter_map(|id| self.files.get(id));
        named.map(|file| file.now.len() as u64).sum()
    }

    fn need(&self, bytes: u64) -> io::Result<()> {
        if self.capacity.is_some_and(|capacity| self.used() + bytes > capacity) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn change(&mut self, change: NameChange) {
        apply(&mut self.names, &change);
        self.changes.push(change);
    }
}

impl Disk for CrashDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.lock().file(name).map(|file| file.now.len() as u64)
    }

    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.lock();
        if state.crashed {
            return Err(power_is_off());
        }
        if state.good_reads > 0 {
            state.good_reads -= 1;
        } else if state.fail_reads > 0 {
            state.fail_reads -= 1;
            return Err(io::Error::other("a read failed as asked"));
        }
        let id = state.names.get(name).copied().ok_or_else(|| not_found(name))?;
        let end = (offset as usize + buf.len()).div_ceil(SECTOR);
        let sectors = (id, offset as usize / SECTOR)..(id, end);
        if state.bad_sectors.range(sectors).next().is_some() {
            return Err(io::Error::other("a sector cannot be read"));
        }
        let bytes = &state.file(name)?.now;
        let start = (offset as usize).min(bytes.len());
        let len = buf.len().min(bytes.len() - start);
        buf[..len].copy_from_slice(&bytes[start..start + len]);
        state.counts.reads += 1;
        state.counts.read_bytes += len as u64;
        Ok(len)
    }

    fn create(&self, name: &str, zeroed: u64) -> io::Result<()> {
        let mut state = self.lock();
        let cut = state.operate()?;
        if state.names.contains_key(name) {
            return Err(io::Error::from(io::ErrorKind::AlreadyExists));
        }
        let full = state.need(zeroed);
        let id = state.next_file;
        state.next_file += 1;
        // When there is no room a part of the file is there all the same.
        let len = if cut || full.is_err() { zeroed / 2 } else { zeroed } as usize;
        let file = File { now: vec![0; len], synced: vec![0; len], dirty: BTreeMap::new() };
        state.files.insert(id, file);
        state.change(NameChange::Add(name.to_owned(), id));
        if cut { Err(power_is_off()) } else { full }
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        let cut = state.operate()?;
        let end = offset as usize + bytes.len();
        let grows = end.saturating_sub(state.file(name)?.now.len());
        state.need(grows as u64)?;
        let fails = state.fail_writes > 0;
        state.fail_writes = state.fail_writes.saturating_sub(1);
        let bytes = if fails { &bytes[..bytes.len() / 2] } else { bytes };
        let end = offset as usize + bytes.len();
        state.counts.writes += 1;
        state.counts.written_bytes += bytes.len() as u64;
        let file = state.file(name)?;
        if file.now.len() < end {
            file.now.resize(end, 0);
        }
        file.now[offset as usize..end].copy_from_slice(bytes);
        for sector in offset as usize / SECTOR..end.div_ceil(SECTOR) {
            file.dirty.insert(sector, ());
        }
        if cut {
            return Err(power_is_off());
        }
        if fails { Err(io::Error::other("a write failed as asked")) } else { Ok(()) }
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        if state.operate()? {
            return Err(power_is_off());
        }
        state.counts.syncs += 1;
        if state.fail_syncs > 0 {
            state.fail_syncs -= 1;
            // As Linux does it: the pages count as clean from now on, and no later sync
            // writes them, though reads go on showing them. Some did reach the medium.
            let file = state.file(name)?;
            let dirty = std::mem::take(&mut file.dirty).into_keys();
            let reached = dirty.filter(|sector| sector % 2 == 0).collect::<Vec<_>>();
            file.reach(reached);
            return Err(io::Error::other("a sync failed as asked"));
        }
        let file = state.file(name)?;
        let dirty = std::mem::take(&mut file.dirty).into_keys().collect();
        file.reach(dirty);
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        let cut = state.operate()?;
        state.file(from)?;
        state.released(from);
        state.change(NameChange::Rename(from.to_owned(), to.to_owned()));
        if cut { Err(power_is_off()) } else { Ok(()) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        let cut = state.operate()?;
        state.file(name)?;
        state.released(name);
        state.change(NameChange::Remove(name.to_owned()));
        if cut { Err(power_is_off()) } else { Ok(()) }
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut state = self.lock();
        if state.operate()? {
            return Err(power_is_off());
        }
        state.synced_names = state.names.clone();
        state.changes.clear();
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let state = self.lock();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }
}
