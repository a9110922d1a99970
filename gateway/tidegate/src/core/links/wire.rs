//! What is between a socket and the bytes of MQTT: nothing, TLS, WebSocket, or both.

use std::io::{self, BufRead, Write};

use rustls::ServerConnection;
use tidegate_broker::Outbox;

use super::socket::Writer;
use crate::links::{Frames, frame_header};

/// Bytes of an outbox that are encrypted or framed at a time: one TLS record, with the header of
/// a frame. No more than this waits behind a full socket.
const PIECE: usize = 16 * 1024 - 16;

/// The layers of one connection.
#[derive(Debug)]
pub(crate) struct Wire {
    tls: Option<Box<ServerConnection>>,
    frames: Option<Frames>,
    /// Frames that wait for the socket or for TLS.
    framed: Vec<u8>,
}

/// How far sending went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Everything is with the kernel.
    All,
    /// The socket is full.
    Full,
    /// The socket is broken.
    Broken,
}

impl Wire {
    pub(crate) fn new(tls: Option<Box<ServerConnection>>, websocket: bool) -> Wire {
        let frames = websocket.then(Frames::default);
        Wire { tls, frames, framed: Vec::new() }
    }

    pub(crate) fn tls(&self) -> Option<&ServerConnection> {
        self.tls.as_deref()
    }

    /// Whether something other than an outbox waits to be sent.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.framed.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Bytes from the socket, or none to take what TLS has decrypted already. The bytes of MQTT
    /// in them go to `deliver`.
    ///
    /// # Errors
    /// The connection has ended, in words.
    pub(crate) fn receive(
        &mut self,
        mut bytes: &[u8],
        mut deliver: impl FnMut(&[u8]),
    ) -> Result<(), String> {
        let Wire { tls, frames, framed } = self;
        let Some(tls) = tls else { return unframed(frames, framed, bytes, &mut deliver) };
        loop {
            if !bytes.is_empty() {
                tls.read_tls(&mut bytes).map_err(|error| error.to_string())?;
            }
            let state = tls.process_new_packets().map_err(|error| format!("TLS: {error}"))?;
            let mut left = state.plaintext_bytes_to_read();
            while left > 0 {
                let mut reader = tls.reader();
                let chunk = reader.fill_buf().map_err(|error| error.to_string())?;
                let length = chunk.len();
                unframed(frames, framed, chunk, &mut deliver)?;
                reader.consume(length);
                left = left.saturating_sub(length.max(1));
            }
            if state.peer_has_closed() {
                return Err("the client closed the connection".to_owned());
            }
            if bytes.is_empty() {
                return Ok(());
            }
        }
    }

    /// Sends what waits, then what the outbox holds, until the socket is full. `moved` is called
    /// when the socket has taken something.
    pub(crate) fn send(
        &mut self,
        socket: &Writer,
        outbox: &mut Outbox,
        mut moved: impl FnMut(),
    ) -> Sent {
        loop {
            let more = match self.push(socket, &mut moved) {
                Ok(()) if outbox.as_slice().is_empty() => return Sent::All,
                Ok(()) => self.load(outbox),
                Err(error) => Err(error),
            };
            match more {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Sent::Full,
                Err(_) => return Sent::Broken,
            }
        }
    }

    /// Says that nothing more comes, in the words of each layer.
    pub(crate) fn say_goodbye(&mut self) {
        if self.frames.is_some() {
            crate::links::goodbye(&mut self.framed);
        }
        if let Some(tls) = &mut self.tls {
            let framed = std::mem::take(&mut self.framed);
            // What does not fit is a goodbye that nobody waits for.
            let _ = tls.writer().write_all(&framed);
            tls.send_close_notify();
        }
    }

    /// Takes a piece of the outbox into the next layer.
    fn load(&mut self, outbox: &mut Outbox) -> io::Result<()> {
        let piece = outbox.as_slice();
        let piece = &piece[..piece.len().min(PIECE)];
        match (&mut self.tls, self.frames.is_some()) {
            (_, true) => {
                frame_header(piece.len(), &mut self.framed);
                self.framed.extend_from_slice(piece);
            }
            (Some(tls), false) => tls.writer().write_all(piece)?,
            (None, false) => self.framed.extend_from_slice(piece),
        }
        let length = piece.len();
        outbox.consume(length);
        Ok(())
    }

    /// Brings what the layers hold to the socket.
    fn push(&mut self, socket: &Writer, moved: &mut impl FnMut()) -> io::Result<()> {
        let Some(tls) = &mut self.tls else {
            while !self.framed.is_empty() {
                let sent = socket.try_write(&self.framed)?;
                self.framed.drain(..sent);
                moved();
            }
            self.framed.shrink_to(0);
            return Ok(());
        };
        loop {
            while tls.wants_write() {
                tls.write_tls(&mut Nonblocking(socket))?;
                moved();
            }
            if self.framed.is_empty() {
                return Ok(());
            }
            tls.writer().write_all(&self.framed)?;
            self.framed = Vec::new();
        }
    }
}

fn unframed(
    frames: &mut Option<Frames>,
    answers: &mut Vec<u8>,
    bytes: &[u8],
    deliver: &mut impl FnMut(&[u8]),
) -> Result<(), String> {
    match frames {
        None => {
            if !bytes.is_empty() {
                deliver(bytes);
            }
            Ok(())
        }
        Some(frames) => frames
            .take(bytes, answers, deliver)
            .map_err(|ending| format!("WebSocket: {} ({})", ending.why, ending.status)),
    }
}

/// A socket that takes what fits.
struct Nonblocking<'a>(&'a Writer);

impl Write for Nonblocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, bytes: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
