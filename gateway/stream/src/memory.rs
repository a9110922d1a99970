//! A disk in memory: nothing outlives the process, and nothing is lost before. For a gateway that
//! a function is tried on.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::Disk;

/// See the module. Clones share the same disk.
#[derive(Debug, Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl MemoryDisk {
    /// An empty disk without limit.
    #[must_use]
    pub fn new() -> MemoryDisk {
        MemoryDisk::default()
    }

    /// Bytes that all files together take.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.files().values().map(|file| file.len() as u64).sum()
    }

    fn files(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{name} does not exist"))
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))
}

impl Disk for MemoryDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.files().get(name).map(|file| file.len() as u64).ok_or_else(|| not_found(name))
    }

    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let files = self.files();
        let file = files.get(name).ok_or_else(|| not_found(name))?;
        let rest = file.get(place(offset)?..).unwrap_or_default();
        let read = rest.len().min(buf.len());
        buf[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn create(&self, name: &str, zeroed: u64) -> io::Result<()> {
        let mut files = self.files();
        if files.contains_key(name) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name} exists")));
        }
        files.insert(name.to_owned(), vec![0; place(zeroed)?]);
        Ok(())
    }

    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.files();
        let file = files.get_mut(name).ok_or_else(|| not_found(name))?;
        let start = place(offset)?;
        let end = start + bytes.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn sync(&self, name: &str) -> io::Result<()> {
        self.len(name).map(drop)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = self.files();
        let file = files.remove(from).ok_or_else(|| not_found(from))?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name).map(drop).ok_or_else(|| not_found(name))
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Log, LogOptions, ReadLimit, ReadOutcome, Record, Seq, StreamConfig};

    #[test]
    fn a_log_on_it_is_there_for_the_next_one() {
        #[expect(clippy::disallowed_methods, reason = "tests need some instant to start from")]
        let now = std::time::Instant::now();
        let disk = MemoryDisk::new();
        let (mut log, _) = Log::open(&disk, LogOptions::default(), now, 0, 1).unwrap();
        let stream = log.stream("s", StreamConfig::default()).unwrap();
        let record = Record { payload: b"x".to_vec(), ..Record::default() };
        log.append(now, stream, &record.as_ref()).unwrap();
        log.shut_down(now);
        while let Some(request) = log.poll_disk(now) {
            let reply = request.perform(&disk);
            log.handle_disk(now, reply);
        }
        assert!(disk.used() > 0);

        let (mut log, recovery) = Log::open(&disk, LogOptions::default(), now, 0, 2).unwrap();
        assert!(recovery.notes.is_empty(), "{:?}", recovery.notes);
        let stream = log.stream("s", StreamConfig::default()).unwrap();
        let mut found = Vec::new();
        loop {
            let limit = ReadLimit { records: 10, bytes: 1000 };
            let read = log.read(now, stream, Seq(1), limit, &mut |seq, _, record| {
                found.push((seq, record.payload.to_vec()));
            });
            if read != ReadOutcome::Fetching {
                break;
            }
            while let Some(request) = log.poll_disk(now) {
                let reply = request.perform(&disk);
                log.handle_disk(now, reply);
            }
        }
        assert_eq!(found, [(Seq(1), b"x".to_vec())]);
    }

    #[test]
    fn files_behave_as_files() {
        let disk = MemoryDisk::new();
        disk.create("a", 4).unwrap();
        assert_eq!(disk.create("a", 1).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        disk.write_at("a", 3, b"xyz").unwrap();
        disk.rename("a", "b").unwrap();
        let mut buf = [9; 8];
        assert_eq!(disk.read_at("b", 2, &mut buf).unwrap(), 4);
        assert_eq!(&buf[..4], b"\0xyz");
        assert_eq!((disk.len("b").unwrap(), disk.read_at("b", 9, &mut buf).unwrap()), (6, 0));
        disk.remove("b").unwrap();
        for error in [disk.sync("b"), disk.remove("b"), disk.rename("b", "c")] {
            assert_eq!(error.unwrap_err().kind(), io::ErrorKind::NotFound);
        }
        assert!(disk.list().unwrap().is_empty());
    }
}
