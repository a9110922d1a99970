//! The core thread: one [`Gateway`], every client's socket, and the loop that carries out what
//! the gateway decides. Disk, functions, uplinks, HTTP and administration are on other threads
//! and talk to it by bounded channels.

mod asked;
mod assembly;
mod changes;
pub(crate) mod clock;
mod closing_notes;
mod controls;
mod descriptors;
mod disks;
mod files;
mod firmware;
mod functions;
mod imports;
mod links;
mod logins;
mod pump;
mod reload;
mod requests;
mod serial;
mod sync_times;
#[cfg(test)]
mod tests;
mod timer;
mod uplinks;
mod versions;

use std::cell::{Cell, RefCell, RefMut};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

use tidegate_broker::{Caller, ConnId};
use tidegate_flow::{CallId, CallResult, Gateway, Now};
use tidegate_stream::DiskReply;
use tokio::sync::Notify;

pub(crate) use assembly::load as load_module;
pub use assembly::run;

use crate::links::{Checked, News};
use firmware::Mailboxes;
use links::Link;
use logins::Doorkeeper;

/// What other threads tell the core.
pub(crate) enum Event {
    /// A disk request is done.
    Disk(DiskReply),
    /// A function call has ended.
    Called(CallId, CallResult),
    /// A pushed function could not be loaded.
    NotStarted(usize, String),
    /// A password has been checked.
    Checked(Checked),
    /// Certificates or users have changed.
    News(Box<News>),
    /// A block of firmware has been read, or cannot be.
    Block(tidegate_firmware::Read, Result<Vec<u8>, String>),
}

/// The gateway and the sockets around it, shared by the tasks of the core thread.
pub(crate) struct Core {
    gateway: RefCell<Gateway>,
    links: RefCell<BTreeMap<ConnId, Rc<Link>>>,
    door: Doorkeeper,
    /// The way to devices on serial lines.
    mailboxes: Mailboxes,
    /// Serial lines, in the order of the configuration.
    lines: RefCell<Vec<Rc<RefCell<serial::Tally>>>>,
    /// There may be something to carry out.
    work: Notify,
    buffer: RefCell<Vec<u8>>,
    next_conn: Cell<u64>,
    /// The log's memory is full.
    congested: Cell<bool>,
    /// The daemon is on its way down: no more input.
    stopping: Cell<bool>,
}

impl Core {
    fn new(gateway: Gateway, door: Doorkeeper) -> Rc<Core> {
        Rc::new(Core {
            gateway: RefCell::new(gateway),
            links: RefCell::new(BTreeMap::new()),
            door,
            mailboxes: Mailboxes::default(),
            lines: RefCell::default(),
            work: Notify::new(),
            buffer: RefCell::new(Vec::new()),
            next_conn: Cell::new(1),
            congested: Cell::new(false),
            stopping: Cell::new(false),
        })
    }

    /// A client whose socket was accepted at `since`.
    fn open(&self, link: Rc<Link>, since: Instant) -> ConnId {
        let conn = ConnId(self.next_conn.get());
        self.next_conn.set(conn.0 + 1);
        let (peer, address) = (link.origin().to_string(), link.origin().address());
        self.links.borrow_mut().insert(conn, link);
        self.gateway.borrow_mut().handle_caller(
            clock::now(),
            conn,
            Caller { peer, address, since },
        );
        self.work.notify_one();
        conn
    }

    fn received(&self, now: Now, conn: ConnId, bytes: &[u8]) {
        self.gateway.borrow_mut().handle_bytes(now, conn, bytes);
        self.work.notify_one();
    }

    fn closed(&self, conn: ConnId, why: &str) {
        self.gateway.borrow_mut().handle_closed(clock::now(), conn, why);
        self.work.notify_one();
    }

    fn forget(&self, conn: ConnId) {
        self.links.borrow_mut().remove(&conn);
        self.door.pending.borrow_mut().remove(&conn);
    }

    /// Connections there are, those included that only send what is left.
    fn connections(&self) -> usize {
        self.links.borrow().len()
    }

    fn link(&self, conn: ConnId) -> Option<Rc<Link>> {
        self.links.borrow().get(&conn).cloned()
    }

    /// Sends what the connection's outbox holds. True when something is left.
    fn flush(&self, conn: ConnId) -> bool {
        let Some(link) = self.link(conn) else { return false };
        let mut gateway = self.gateway.borrow_mut();
        let Some(outbox) = gateway.unsent(conn) else { return false };
        link.flush(outbox)
    }

    fn wants_input(&self) -> bool {
        !self.congested.get() && !self.stopping.get()
    }

    fn read_buffer(&self, len: usize) -> RefMut<'_, Vec<u8>> {
        let mut buffer = self.buffer.borrow_mut();
        buffer.resize(len, 0);
        buffer
    }
}
