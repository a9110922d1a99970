//! Folders whose files become records, each file one record, once (`[files.NAME]`).
//!
//! A thread looks into them from time to time: the kernel's notices would save a look and be lost
//! with a restart. It exists only where folders are configured.
//!
//! Invariants:
//! - a file leaves its folder when its record is on flash, and not before; its note in the log goes
//!   when its leaving is on the disk too;
//! - only regular files directly in the folder are opened, by descriptors: no link leads elsewhere;
//! - what cannot become a record is put aside with a reason, and holds up nothing.
//!
//! Not here: the note in the log, and what a file is told from another by there
//! ([`tidegate_flow::FileDrop`]).

mod folder;
mod inbox;

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tidegate_flow::{FileDrop, FileError};

use self::inbox::Inbox;
use crate::config::FolderSettings;
use crate::core_handle::{CoreHandle, FileRequest};

/// Stack of the thread: what it reads of a file is on the heap.
const STACK: usize = 128 << 10;
/// Longest wait for the next look, so that an end is noticed; a look is due by its own time.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The thread that looks into the folders.
#[derive(Debug)]
pub(crate) struct Folders {
    /// Dropped to end it.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Folders {
    /// Starts the thread, where there are folders.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(
        settings: &[FolderSettings],
        core: CoreHandle,
    ) -> io::Result<Option<Folders>> {
        if settings.is_empty() {
            return Ok(None);
        }
        let mut inboxes: Vec<Inbox> = settings.iter().cloned().map(Inbox::new).collect();
        let (stop, stopped) = channel::<()>();
        let serve = move || {
            loop {
                for inbox in &mut inboxes {
                    inbox.look_when_due(Instant::now(), &core);
                }
                let next = inboxes.iter().map(Inbox::next_look).min();
                let wait = next.map(|at| at.saturating_duration_since(Instant::now()));
                let wait = wait.unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT);
                match stopped.recv_timeout(wait) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        };
        let thread = thread::Builder::new().name("files".to_owned()).stack_size(STACK);
        Ok(Some(Folders { stop, thread: thread.spawn(serve)? }))
    }

    /// Ends it; to be called when the core is gone, so that nothing waits for an answer.
    pub(crate) fn stop(self) {
        drop(self.stop);
        if self.thread.join().is_err() {
            tracing::error!("the thread that looks into folders has panicked");
        }
    }
}

/// What takes files in: the core, or a test.
trait Taker {
    /// Names of files that are in the log and were left in this folder.
    fn left(&self, folder: &str) -> Result<Vec<String>, Gone>;
    /// Takes a file in; answers when it is on flash.
    fn take(&self, file: FileDrop) -> Result<Result<(), FileError>, Gone>;
    /// The file has left its folder.
    fn forget(&self, folder: &str, name: &str) -> Result<(), Gone>;
    /// A file was put aside.
    fn refused(&self, folder: &str, why: String) -> Result<(), Gone>;
}

/// The core has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gone;

impl Taker for CoreHandle {
    fn left(&self, folder: &str) -> Result<Vec<String>, Gone> {
        let folder = folder.to_owned();
        self.ask_blocking(|reply| FileRequest::Left { folder, reply }).ok_or(Gone)
    }

    fn take(&self, file: FileDrop) -> Result<Result<(), FileError>, Gone> {
        let file = Box::new(file);
        self.ask_blocking(|reply| FileRequest::Take { file, reply }).ok_or(Gone)
    }

    fn forget(&self, folder: &str, name: &str) -> Result<(), Gone> {
        let (folder, name) = (folder.to_owned(), name.to_owned());
        self.ask_blocking(|reply| FileRequest::Forget { folder, name, reply }).ok_or(Gone)
    }

    fn refused(&self, folder: &str, why: String) -> Result<(), Gone> {
        let folder = folder.to_owned();
        self.ask_blocking(|reply| FileRequest::Refused { folder, why, reply }).ok_or(Gone)
    }
}
