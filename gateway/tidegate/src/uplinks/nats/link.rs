//! One connection to a NATS server: bytes in, bytes out, and TLS where the protocol begins it.
//!
//! Nothing is lost when a call here is given up half-way: what was read and what is to be written
//! lie in the link, not in the call. What is to be written is bounded by the uplink's window.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::protocol::{Incoming, ProtocolError, ServerOp};

/// Room made for each read.
const READ: usize = 32 * 1024;

/// A TCP connection, with TLS or without.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Socket for T {}

/// Why a connection cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("closed the connection")]
    Closed,
    #[error("cannot be reached any more: {0}")]
    Io(#[from] io::Error),
    #[error("does not speak the NATS protocol: {0}")]
    Protocol(#[from] ProtocolError),
}

pub(super) struct Link {
    socket: Box<dyn Socket>,
    incoming: Incoming,
    /// What is to be written.
    pub(super) out: BytesMut,
    /// Something was written that TLS may still hold.
    unflushed: bool,
}

impl Link {
    pub(super) fn new(socket: Box<dyn Socket>) -> Link {
        let (incoming, out) = (Incoming::default(), BytesMut::new());
        Link { socket, incoming, out, unflushed: false }
    }

    /// The socket, for TLS; `None` when bytes have arrived that were not meant for it.
    pub(super) fn into_socket(self) -> Option<Box<dyn Socket>> {
        (self.incoming.bytes.is_empty() && self.out.is_empty()).then_some(self.socket)
    }

    /// The next thing that the server says; writes meanwhile.
    pub(super) async fn hear(&mut self) -> Result<ServerOp, Broken> {
        loop {
            if let Some(op) = self.incoming.next()? {
                return Ok(op);
            }
            if poll_fn(|cx| self.poll(cx)).await? == 0 {
                return Err(Broken::Closed);
            }
        }
    }

    /// What the server has said already.
    pub(super) fn heard(&mut self) -> Result<Option<ServerOp>, Broken> {
        Ok(self.incoming.next()?)
    }

    /// Writes everything.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_write(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Err(error)) = self.poll_write(cx) {
            return Poll::Ready(Err(error));
        }
        self.incoming.bytes.reserve(READ);
        pin!(self.socket.read_buf(&mut self.incoming.bytes)).poll(cx)
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.out.is_empty() {
            let count = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.out))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.out.advance(count);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
