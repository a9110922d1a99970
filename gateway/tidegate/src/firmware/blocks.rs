//! Reads blocks of bundles on a thread of its own, which there is only while a campaign needs it.
//!
//! Invariant: from a bundle whose hash is not its name nothing is read.

use std::collections::BTreeSet;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use tidegate_firmware::Read;
use tidegate_wire::Digest;

use crate::packages::Shelf;

/// What is told of a block that was to be read.
type Tell = std::sync::Arc<dyn Fn(Read, Result<Vec<u8>, String>) + Send + Sync>;

/// See the module.
pub(crate) struct BlockReader {
    shelf: Shelf,
    tell: Tell,
    thread: Option<Sender<Read>>,
    /// Blocks that are being read; the desk has a limit.
    under_way: usize,
}

impl BlockReader {
    pub(crate) fn new(
        shelf: Shelf,
        tell: impl Fn(Read, Result<Vec<u8>, String>) + Send + Sync + 'static,
    ) -> BlockReader {
        BlockReader { shelf, tell: std::sync::Arc::new(tell), thread: None, under_way: 0 }
    }

    /// Has a block read; it is told of later.
    pub(crate) fn read(&mut self, read: Read) {
        self.under_way += 1;
        let left = match &self.thread {
            Some(thread) => thread.send(read).err().map(|unsent| unsent.0),
            None => Some(read),
        };
        let Some(read) = left else { return };
        match self.start() {
            Ok(thread) => {
                // It waits for nothing else.
                drop(thread.send(read));
                self.thread = Some(thread);
            }
            Err(error) => (self.tell)(read, Err(format!("there is no thread for it: {error}"))),
        }
    }

    /// One of them was told of.
    pub(crate) fn is_read(&mut self) {
        self.under_way = self.under_way.saturating_sub(1);
    }

    /// Whether there is a thread that has nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.thread.is_some() && self.under_way == 0
    }

    /// No campaign runs any more.
    pub(crate) fn rest(&mut self) {
        self.thread = None;
    }

    fn start(&self) -> std::io::Result<Sender<Read>> {
        let (sender, wanted) = channel::<Read>();
        let (shelf, tell) = (self.shelf.clone(), self.tell.clone());
        thread::Builder::new().name("firmware".to_owned()).spawn(move || {
            let mut whole = BTreeSet::new();
            while let Ok(read) = wanted.recv() {
                let block = block(&shelf, &mut whole, &read);
                tell(read, block);
            }
        })?;
        Ok(sender)
    }
}

fn block(shelf: &Shelf, whole: &mut BTreeSet<Digest>, read: &Read) -> Result<Vec<u8>, String> {
    if !whole.contains(&read.bundle) {
        shelf.check(read.bundle).map_err(|error| error.to_string())?;
        whole.insert(read.bundle);
    }
    let mut data = vec![0; read.length.into()];
    let length = shelf.read_at(read.bundle, read.at, &mut data);
    data.truncate(length.map_err(|error| error.to_string())?);
    Ok(data)
}
