//! MQTT over TCP: accepts, reads, writes. Every socket of a client lives on the core's thread;
//! bytes go straight into the core, and out of its outboxes straight into the socket.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tidegate_broker::ConnId;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};

use super::{Core, clock};

/// Read buffer, shared by all connections: a read is handled before the next begins.
const READ_BYTES: usize = 64 * 1024;
/// How long a connection that is being closed may take to send what it still holds.
const LINGER: Duration = Duration::from_secs(2);
/// Pause after `accept` failed: out of descriptors does not get better by asking at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A client's socket as the core's thread knows it.
pub(crate) struct Link {
    peer: SocketAddr,
    writer: OwnedWriteHalf,
    /// The task that reads; woken when something below changes.
    waker: RefCell<Option<Waker>>,
    /// The socket's send buffer is full.
    full: Cell<bool>,
    /// It has taken bytes since somebody looked.
    moved: Cell<bool>,
    paused: Cell<bool>,
    closing: Cell<bool>,
    broken: Cell<bool>,
}

impl Link {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// The client's address.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.set(paused);
        self.wake();
    }

    /// Sends what is left, then ends.
    pub(crate) fn close(&self) {
        self.closing.set(true);
        self.wake();
    }

    /// Looks again at whether reading is allowed.
    pub(crate) fn reconsider(&self) {
        self.wake();
    }

    /// Sends what the outbox holds until it is empty or the socket is full.
    pub(crate) fn flush(&self, outbox: &mut tidegate_broker::Outbox) {
        while !outbox.as_slice().is_empty() {
            match self.writer.try_write(outbox.as_slice()) {
                Ok(sent) => {
                    outbox.consume(sent);
                    self.moved.set(true);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.full.replace(true) {
                        self.wake();
                    }
                    return;
                }
                Err(_) => {
                    // The reading side sees the same error and says why.
                    self.broken.set(true);
                    self.wake();
                    return;
                }
            }
        }
    }
}

/// How long a client may take nothing of what waits for it before it counts as gone: one that is
/// slow takes some, and one whose connection died in silence would be kept for ever.
const STALL: Duration = Duration::from_secs(60);

/// Accepts clients for ever, at most `max` at a time.
pub(crate) async fn accept(core: Rc<Core>, listener: TcpListener, max: usize) {
    let mut crowded = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) if core.connections() < max => {
                crowded = false;
                tokio::task::spawn_local(Session::new(&core, stream, peer).serve());
            }
            Ok((_, peer)) => {
                if !std::mem::replace(&mut crowded, true) {
                    tracing::warn!(%peer, max, "too many MQTT connections: refusing more");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an MQTT connection; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Sends what is left in the outbox of a connection that the broker has closed.
async fn drain(core: &Core, conn: ConnId, link: &Link) {
    let sent = async {
        while core.flush(conn) && !link.broken.get() {
            if link.writer.writable().await.is_err() {
                return;
            }
        }
    };
    if tokio::time::timeout(LINGER, sent).await.is_err() {
        tracing::debug!(conn = conn.0, "closed with bytes unsent: the client does not read");
    }
}

/// Whether the socket may hold more than was read.
enum More {
    Perhaps,
    No,
}

struct Session {
    core: Rc<Core>,
    conn: ConnId,
    link: Rc<Link>,
    reader: OwnedReadHalf,
    /// Rings when the client has taken nothing for [`STALL`]; set while the socket is full.
    stall: Option<Pin<Box<Sleep>>>,
}

impl Session {
    fn new(core: &Rc<Core>, stream: TcpStream, peer: SocketAddr) -> Session {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
        }
        let (reader, writer) = stream.into_split();
        let link = Rc::new(Link {
            peer,
            writer,
            waker: RefCell::new(None),
            full: Cell::new(false),
            moved: Cell::new(false),
            paused: Cell::new(false),
            closing: Cell::new(false),
            broken: Cell::new(false),
        });
        let conn = core.open(link.clone(), peer);
        Session { core: core.clone(), conn, link, reader, stall: None }
    }

    async fn serve(mut self) {
        let why = std::future::poll_fn(|cx| self.poll(cx)).await;
        if self.link.closing.get() {
            drain(&self.core, self.conn, &self.link).await;
        }
        self.core.closed(self.conn, &why);
        self.core.forget(self.conn);
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
                && let Poll::Ready(ready) = self.link.writer.as_ref().poll_write_ready(cx)
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
        let mut buffer = self.core.read_buffer(READ_BYTES);
        let mut bytes = ReadBuf::new(&mut buffer);
        match ready!(Pin::new(&mut self.reader).poll_read(cx, &mut bytes)) {
            Ok(()) if bytes.filled().is_empty() => {
                Poll::Ready(Err("the client closed the connection".to_owned()))
            }
            Ok(()) => {
                self.core.received(clock::now(), self.conn, bytes.filled());
                let full = bytes.remaining() == 0;
                Poll::Ready(Ok(if full { More::Perhaps } else { More::No }))
            }
            Err(error) => Poll::Ready(Err(error.to_string())),
        }
    }
}
