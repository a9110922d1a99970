//! What a connection is written to and read from: a TCP socket, or the pipe to a serial line.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::net::Shutdown;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{TcpStream, UnixStream, tcp, unix};

/// The side that is written to.
#[derive(Debug)]
pub(super) enum Writer {
    Tcp(tcp::OwnedWriteHalf),
    Pipe(unix::OwnedWriteHalf),
}

/// The side that is read.
#[derive(Debug)]
pub(super) enum Reader {
    Tcp(tcp::OwnedReadHalf),
    Pipe(unix::OwnedReadHalf),
}

pub(super) fn split_tcp(stream: TcpStream) -> (Reader, Writer) {
    let (reader, writer) = stream.into_split();
    (Reader::Tcp(reader), Writer::Tcp(writer))
}

pub(super) fn split_pipe(stream: UnixStream) -> (Reader, Writer) {
    let (reader, writer) = stream.into_split();
    (Reader::Pipe(reader), Writer::Pipe(writer))
}

impl Writer {
    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Writer::Tcp(socket) => socket.try_write(bytes),
            Writer::Pipe(socket) => socket.try_write(bytes),
        }
    }

    pub(super) fn try_write_vectored(&self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Writer::Tcp(socket) => socket.try_write_vectored(bytes),
            Writer::Pipe(socket) => socket.try_write_vectored(bytes),
        }
    }

    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Writer::Tcp(socket) => socket.writable().await,
            Writer::Pipe(socket) => socket.writable().await,
        }
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Writer::Tcp(socket) => socket.as_ref().poll_write_ready(cx),
            Writer::Pipe(socket) => socket.as_ref().poll_write_ready(cx),
        }
    }

    /// Nothing more is written; the other side reads to the end.
    pub(super) fn shut_down(&self) -> io::Result<()> {
        match self {
            Writer::Tcp(socket) => rustix::net::shutdown(socket.as_ref(), Shutdown::Write)?,
            Writer::Pipe(socket) => rustix::net::shutdown(socket.as_ref(), Shutdown::Write)?,
        }
        Ok(())
    }
}

impl AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Reader::Tcp(socket) => Pin::new(socket).poll_read(cx, bytes),
            Reader::Pipe(socket) => Pin::new(socket).poll_read(cx, bytes),
        }
    }
}
