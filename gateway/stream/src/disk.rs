//! The only place that touches bytes: what a log needs of a directory, and requests for it that
//! another thread can carry out.

use std::io;

use bytes::Bytes;

/// A directory of files. Calls block. Nothing is durable before `sync` (content) and `sync_dir`
/// (names) have returned.
pub trait Disk: Send + Sync {
    /// Names of all files.
    ///
    /// # Errors
    /// When the directory cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Length of a file in bytes.
    ///
    /// # Errors
    /// `NotFound` and what the file system reports.
    fn len(&self, name: &str) -> io::Result<u64>;
    /// Reads at most `buf.len()` bytes at `offset`; fewer only at the end of the file.
    ///
    /// # Errors
    /// What the file system reports.
    fn read_at(&self, name: &str, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Makes a new file of `zeroed` zero bytes, written and synced (its content, not its name).
    ///
    /// # Errors
    /// What the file system reports; `StorageFull` when there is no room.
    fn create(&self, name: &str, zeroed: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`; the file grows when they end behind its end.
    ///
    /// # Errors
    /// What the file system reports; then any part may have been written.
    fn write_at(&self, name: &str, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes the content durable (fdatasync).
    ///
    /// # Errors
    /// What the file system reports; then nothing is known about what was written since the
    /// last sync.
    fn sync(&self, name: &str) -> io::Result<()>;
    /// Renames a file.
    ///
    /// # Errors
    /// What the file system reports.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// What the file system reports.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the directory's names durable.
    ///
    /// # Errors
    /// What the file system reports.
    fn sync_dir(&self) -> io::Result<()>;
    /// Bytes that can still be allocated.
    ///
    /// # Errors
    /// What the file system reports.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// Something for a disk thread to do. At most one write is under way at a time; reads are
/// separate, and may overtake.
#[derive(Debug)]
pub struct DiskRequest(pub(crate) Request);

#[derive(Debug)]
pub(crate) enum Request {
    Write { steps: Vec<Step> },
    Read { id: u64, name: String, offset: u64, len: usize },
}

/// One operation of a write. All are carried out in order; the first that fails ends the
/// request, unless it may fail.
#[derive(Debug)]
pub(crate) enum Step {
    NeedFree(u64),
    Create {
        name: String,
        zeroed: u64,
    },
    Write {
        name: String,
        offset: u64,
        bytes: Bytes,
    },
    Sync(String),
    Rename {
        from: String,
        to: String,
    },
    Remove(String),
    SyncDir,
    /// A step whose failure harms nobody.
    MayFail(Box<Step>),
}

/// What came of a request.
#[derive(Debug)]
pub struct DiskReply(pub(crate) Reply);

#[derive(Debug)]
pub(crate) enum Reply {
    Write { result: Result<(), Failure> },
    Read { id: u64, result: io::Result<Bytes> },
}

impl DiskReply {
    /// Whether it answers a read.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self.0, Reply::Read { .. })
    }
}

/// A failed step.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) what: String,
    pub(crate) error: io::Error,
}

impl Failure {
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl DiskRequest {
    /// Whether this is a read: those may run on another thread than the writes.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self.0, Request::Read { .. })
    }

    /// Carries the request out, and waits for it.
    #[must_use]
    pub fn perform(self, disk: &dyn Disk) -> DiskReply {
        match self.0 {
            Request::Write { steps } => {
                let result = steps.into_iter().try_for_each(|step| step.perform(disk));
                DiskReply(Reply::Write { result })
            }
            Request::Read { id, name, offset, len } => {
                let mut buf = vec![0; len];
                let result = read_full(disk, &name, offset, &mut buf).map(|read| {
                    buf.truncate(read);
                    Bytes::from(buf)
                });
                DiskReply(Reply::Read { id, result })
            }
        }
    }
}

/// Reads until `buf` is full or the file ends.
pub(crate) fn read_full(
    disk: &dyn Disk,
    name: &str,
    offset: u64,
    buf: &mut [u8],
) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match disk.read_at(name, offset + done as u64, &mut buf[done..])? {
            0 => break,
            read => done += read,
        }
    }
    Ok(done)
}

impl Step {
    pub(crate) fn may_fail(self) -> Step {
        Step::MayFail(Box::new(self))
    }

    fn perform(self, disk: &dyn Disk) -> Result<(), Failure> {
        let failed = |what: String| move |error: io::Error| Failure { what, error };
        match self {
            Step::NeedFree(bytes) => {
                let free = disk.free_bytes().map_err(failed("ask for free space".into()))?;
                if free >= bytes {
                    return Ok(());
                }
                let what = format!("make room for {bytes} bytes, {free} are free");
                Err(Failure { what, error: io::Error::from(io::ErrorKind::StorageFull) })
            }
            Step::Create { name, zeroed } => disk
                .create(&name, zeroed)
                .map_err(failed(format!("create {name} of {zeroed} bytes"))),
            Step::Write { name, offset, bytes } => disk
                .write_at(&name, offset, &bytes)
                .map_err(failed(format!("write {} bytes at {offset} of {name}", bytes.len()))),
            Step::Sync(name) => disk.sync(&name).map_err(failed(format!("sync {name}"))),
            Step::Rename { from, to } => {
                disk.rename(&from, &to).map_err(failed(format!("rename {from} to {to}")))
            }
            Step::Remove(name) => disk.remove(&name).map_err(failed(format!("remove {name}"))),
            Step::SyncDir => disk.sync_dir().map_err(failed("sync the directory".into())),
            Step::MayFail(step) => {
                // By definition of this step: what it would have saved is found out again at
                // the next open.
                let _harmless = step.perform(disk);
                Ok(())
            }
        }
    }
}
