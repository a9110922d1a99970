//! The two threads that touch the store: one writes and syncs, one reads, so that a drain of the
//! backlog never waits behind a sync.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Instant;

use tidegate_stream::{Disk, DiskRequest};
use tokio::sync::mpsc::UnboundedSender;

use super::Event;
use super::sync_times::SyncTimes;

/// Requests under way at once, per thread. The log has one write group and a few reads in
/// flight, so neither queue can fill.
const QUEUE: usize = 64;

/// Where the core puts its disk requests.
pub(crate) struct Disks {
    writer: SyncSender<DiskRequest>,
    reader: SyncSender<DiskRequest>,
}

impl Disks {
    /// Starts both threads; they end when this is dropped.
    pub(crate) fn start(
        disk: Arc<dyn Disk>,
        times: &SyncTimes,
        events: UnboundedSender<Event>,
    ) -> io::Result<Disks> {
        let start = |name: &str| {
            let (requests, queue) = sync_channel(QUEUE);
            let (disk, times, events) = (disk.clone(), times.clone(), events.clone());
            thread::Builder::new()
                .name(name.to_owned())
                .stack_size(256 * 1024)
                .spawn(move || serve(&*disk, &queue, &times, &events))?;
            Ok::<_, io::Error>(requests)
        };
        Ok(Disks { writer: start("disk-write")?, reader: start("disk-read")? })
    }

    /// Hands a request to its thread. False when that thread has died.
    #[must_use]
    pub(crate) fn submit(&self, request: DiskRequest) -> bool {
        let thread = if request.is_read() { &self.reader } else { &self.writer };
        thread.send(request).is_ok()
    }
}

fn serve(
    disk: &dyn Disk,
    queue: &Receiver<DiskRequest>,
    times: &SyncTimes,
    events: &UnboundedSender<Event>,
) {
    while let Ok(request) = queue.recv() {
        let (is_read, began) = (request.is_read(), Instant::now());
        let reply = request.perform(disk);
        if !is_read {
            times.add(began.elapsed());
        }
        if events.send(Event::Disk(reply)).is_err() {
            return;
        }
    }
}
