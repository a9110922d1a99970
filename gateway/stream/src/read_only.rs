//! A store that may be looked at and not touched.

use std::io;

use crate::disk::Disk;

/// Passes reading on to another disk and changes nothing on it. What [`Log::open`](crate::Log::open)
/// writes (the last frame, which is there already, and zeros behind it) counts as written and goes
/// nowhere, so that a log opens and is read as the next start will find it. Only its reads may be
/// carried out: nothing else that it asks for would come true.
pub struct ReadOnlyDisk<'d>(&'d dyn Disk);

impl<'d> ReadOnlyDisk<'d> {
    /// Guards `disk`.
    #[must_use]
    pub fn new(disk: &'d dyn Disk) -> ReadOnlyDisk<'d> {
        ReadOnlyDisk(disk)
    }
}

fn refused() -> io::Error {
    io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "the store is only looked at")
}

impl Disk for ReadOnlyDisk<'_> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn len(&self, name: &str) -> io::Result<u64> {
        self.0.len(name)
    }

    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(name, offset, buf)
    }

    fn create(&self, _name: &str, _zeroed: u64) -> io::Result<()> {
        Err(refused())
    }

    fn write_at(&self, _name: &str, _offset: u64, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self, _name: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, _from: &str, _to: &str) -> io::Result<()> {
        Err(refused())
    }

    fn remove(&self, _name: &str) -> io::Result<()> {
        Err(refused())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(0)
    }
}
