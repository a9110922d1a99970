//! One client: its task reads, and notices when it may or must not.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tidegate_broker::ConnId;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};

use super::socket::{Reader, Writer, split_pipe, split_tcp};
use super::{Arrived, Link};
use crate::core::{Core, clock};

/// Read buffer, shared by all connections: a read is handled before the next begins.
const READ_BYTES: usize = 64 * 1024;
/// The same before it is known who the client is: what it may make us keep.
const EARLY_BYTES: usize = 4 * 1024;
/// How long a connection that is being closed may take to send what it still holds, and then its
/// client to close its side.
const LINGER: Duration = Duration::from_secs(2);
/// How much a client may still send that is being closed. It goes nowhere, and no more than one
/// read of it is in memory.
const LINGER_BYTES: usize = 256 * 1024;

/// How long a client may take nothing of what waits for it before it counts as gone: one that is
/// slow takes some, and one whose connection died in silence would be kept for ever.
const STALL: Duration = Duration::from_secs(60);

/// Sends what is left in the outbox of a connection that the broker has closed.
async fn drain(core: &Core, conn: ConnId, link: &Link) {
    let sent = async {
        flush(core, conn, link).await;
        if let Some(wire) = &link.wire {
            wire.borrow_mut().say_goodbye();
            flush(core, conn, link).await;
        }
    };
    if tokio::time::timeout(LINGER, sent).await.is_err() {
        tracing::debug!(conn = conn.0, "closed with bytes unsent: the client does not read");
    }
}

async fn flush(core: &Core, conn: ConnId, link: &Link) {
    while core.flush(conn) && !link.broken.get() {
        if link.writer.writable().await.is_err() {
            return;
        }
    }
}

/// Whether the socket may hold more than was read.
enum More {
    Perhaps,
    No,
}

pub(super) struct Session {
    core: Rc<Core>,
    conn: ConnId,
    link: Rc<Link>,
    reader: Reader,
    /// Rings when the client has taken nothing for [`STALL`]; set while the socket is full.
    stall: Option<Pin<Box<Sleep>>>,
}

impl Session {
    pub(super) fn new(core: &Rc<Core>, stream: TcpStream, arrived: Arrived) -> Session {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(peer = %arrived.origin, %error, "cannot set TCP_NODELAY");
        }
        Session::of(core, split_tcp(stream), arrived)
    }

    /// A client behind a serial line.
    pub(super) fn behind(core: &Rc<Core>, stream: UnixStream, arrived: Arrived) -> Session {
        Session::of(core, split_pipe(stream), arrived)
    }

    fn of(core: &Rc<Core>, (reader, writer): (Reader, Writer), arrived: Arrived) -> Session {
        let since = arrived.since;
        let link = Rc::new(Link::new(writer, arrived));
        let conn = core.open(link.clone(), since);
        Session { core: core.clone(), conn, link, reader, stall: None }
    }

    /// Serves the client to its end; `early` has come in behind its handshake.
    pub(super) async fn serve(mut self, early: Vec<u8>) {
        let why = match self.take(&early) {
            Ok(()) => {
                drop(early);
                std::future::poll_fn(|cx| self.poll(cx)).await
            }
            Err(why) => why,
        };
        let says_why = self.link.closing.get() || self.link.wire.is_some();
        if says_why {
            drain(&self.core, self.conn, &self.link).await;
        }
        self.core.closed(self.conn, &why);
        if says_why {
            self.let_read().await;
        }
        self.core.forget(self.conn);
    }

    /// Gives a client that is closed the time to read why. Closing with bytes of its unread would
    /// reset the connection, and it could lose the reason, or fail while it still sends.
    async fn let_read(&mut self) {
        if self.link.writer.shut_down().is_err() {
            return;
        }
        let mut left = LINGER_BYTES;
        let gone = std::future::poll_fn(|cx| self.poll_gone(cx, &mut left));
        if tokio::time::timeout(LINGER, gone).await.is_err() {
            tracing::debug!(conn = self.conn.0, "closed; the client keeps its side open");
        }
    }

    /// Ready when the client has closed its side, or has sent more than `left`.
    fn poll_gone(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        loop {
            let mut buffer = self.core.read_buffer(READ_BYTES);
            let mut bytes = ReadBuf::new(&mut buffer);
            let read = ready!(Pin::new(&mut self.reader).poll_read(cx, &mut bytes));
            let length = bytes.filled().len();
            if read.is_err() || length == 0 || length > *left {
                return Poll::Ready(());
            }
            *left -= length;
        }
    }

    /// Bytes of the socket, or those that a handshake has left in the layers.
    fn take(&self, bytes: &[u8]) -> Result<(), String> {
        let Some(wire) = &self.link.wire else {
            if !bytes.is_empty() {
                self.core.received(clock::now(), self.conn, bytes);
            }
            return Ok(());
        };
        let now = clock::now();
        let mut wire = wire.borrow_mut();
        let taken = wire.receive(bytes, |bytes| self.core.received(now, self.conn, bytes));
        if wire.has_unsent() {
            drop(wire);
            self.core.flush(self.conn);
        }
        taken
    }

    /// Ready when the connection has ended, with the reason.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<String> {
        self.link.waker.replace(Some(cx.waker().clone()));
        loop {
            if self.link.closing.get() {
                return Poll::Ready(String::new());
            }
            if self.link.broken.get() {
                return Poll::Ready("the client no longer takes data".to_owned());
            }
            if self.link.full.get()
                && let Poll::Ready(ready) = self.link.writer.poll_write_ready(cx)
            {
                if let Err(error) = ready {
                    return Poll::Ready(error.to_string());
                }
                self.link.full.set(false);
                self.core.flush(self.conn);
                self.core.work.notify_one();
                if self.link.full.get() {
                    continue;
                }
            }
            if self.poll_stall(cx).is_ready() {
                return Poll::Ready(format!("it took no data for {} s", STALL.as_secs()));
            }
            if self.link.paused.get() || !self.core.wants_input() {
                return Poll::Pending;
            }
            match ready!(self.poll_read(cx)) {
                Ok(More::Perhaps) => {
                    // Others first: one busy publisher must not starve the rest.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(More::No) => {}
                Err(why) => return Poll::Ready(why),
            }
        }
    }

    /// Ready when the socket has been full for too long without taking a byte.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.link.full.get() {
            self.stall = None;
            return Poll::Pending;
        }
        if self.link.moved.replace(false) {
            self.stall = None;
        }
        self.stall.get_or_insert_with(|| Box::pin(sleep(STALL))).as_mut().poll(cx)
    }

    /// One read, straight into the core.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<More, String>> {
        let known = self.link.login.borrow().is_some() || !self.core.door.requires_login;
        let most = if known { READ_BYTES } else { EARLY_BYTES };
        let mut buffer = self.core.read_buffer(READ_BYTES);
        let mut bytes = ReadBuf::new(&mut buffer[..most]);
        match ready!(Pin::new(&mut self.reader).poll_read(cx, &mut bytes)) {
            Ok(()) if bytes.filled().is_empty() => {
                Poll::Ready(Err("the client closed the connection".to_owned()))
            }
            Ok(()) => {
                let full = bytes.remaining() == 0;
                let taken = self.take(bytes.filled());
                Poll::Ready(taken.map(|()| if full { More::Perhaps } else { More::No }))
            }
            Err(error) => Poll::Ready(Err(error.to_string())),
        }
    }
}
