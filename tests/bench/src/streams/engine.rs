//! The log with its two disk threads, as the daemon has it: one writes and syncs, one reads.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use tidegate::disk::FileDisk;
use tidegate_stream::{DiskReply, DiskRequest, Log};

use super::ours::open_log;

/// A log and who carries out its requests. The threads end with the process.
pub(crate) struct Threaded {
    /// The log. Call [`Threaded::step`] after each change.
    pub(crate) log: Log,
    writer: Sender<DiskRequest>,
    reader: Sender<DiskRequest>,
    replies: Receiver<DiskReply>,
}

impl Threaded {
    /// Opens the store in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Threaded> {
        let disk = Arc::new(FileDisk::open(dir)?);
        let log = open_log(&disk)?;
        let (answers, replies) = channel();
        let writer = start("disk-write", &disk, &answers)?;
        let reader = start("disk-read", &disk, &answers)?;
        Ok(Threaded { log, writer, reader, replies })
    }

    /// Hands out what the log asks for, and takes replies, until it is `until` or, with `None`,
    /// as far as there are any.
    pub(crate) fn step(&mut self, until: Option<Instant>) -> Result<()> {
        loop {
            self.hand_out()?;
            let now = Instant::now();
            let wake = match (until, self.log.poll_timeout()) {
                (None, _) => now,
                (Some(until), None) => until,
                (Some(until), Some(due)) => until.min(due),
            };
            match self.replies.recv_timeout(wake.saturating_duration_since(now)) {
                Ok(reply) => {
                    self.log.handle_disk(Instant::now(), reply);
                    // The caller may have waited for it.
                    return self.hand_out();
                }
                Err(RecvTimeoutError::Timeout) if until.is_none_or(|at| at <= wake) => {
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the disk threads have died"),
            }
        }
    }

    fn hand_out(&mut self) -> Result<()> {
        while let Some(request) = self.log.poll_disk(Instant::now()) {
            let thread = if request.is_read() { &self.reader } else { &self.writer };
            thread.send(request).context("a disk thread has died")?;
        }
        Ok(())
    }
}

fn start(
    name: &str,
    disk: &Arc<FileDisk>,
    answers: &Sender<DiskReply>,
) -> Result<Sender<DiskRequest>> {
    let (requests, queue) = channel::<DiskRequest>();
    let (disk, answers) = (disk.clone(), answers.clone());
    let serve = move || {
        queue
            .iter()
            .map(|request| request.perform(&*disk))
            .try_for_each(|reply| answers.send(reply))
    };
    thread::Builder::new().name(name.to_owned()).stack_size(256 << 10).spawn(serve)?;
    Ok(requests)
}
