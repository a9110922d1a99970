//! The link and the MQTT client over a port of `embedded-io` 0.7: a UART, a USB serial port, a TCP socket. For
//! programs without an executor, which call [`Port`] in their loop. `no_std`, no allocation.
//!
//! ```
//! use tidegate_embedded_io::{Error, Port};
//! use tidegate_link::{Config, Link, Micros, Role};
//! use tidegate_mqtt::{Client, Incoming, Line};
//! # use tidegate_embedded_io::example::Uart;
//!
//! # fn run(uart: Uart, now: impl Fn() -> Micros) -> Result<(), Error<core::convert::Infallible>> {
//! type Serial = Link<256, 4, 1280>;
//! let mut link = Serial::new(Config::new(Role::Device, 7), 0x5eed);
//! let (mut shelf, mut input) = ([0; 512], [0; 256]);
//! let mut client = Client::new(tidegate_mqtt::Config::new("pump-7"), &mut shelf, &mut input);
//! let mut line = Line::new(7);
//!
//! // `uart` reads and writes, and tells whether there is something to be read.
//! let mut frame = [0; Serial::MAX_OUTPUT];
//! let mut port = Port::new(uart, &mut frame);
//! # for _ in 0..3 {
//! // In the main loop, or whenever the UART or a timer has woken the processor:
//! port.carry_line(now(), &mut link, &mut line, &mut client, |incoming| match incoming {
//!     Incoming::Mqtt(event) => { /* a command, an acknowledgement */ }
//!     Incoming::Other { channel, bytes } => { /* channel 1: firmware */ }
//!     Incoming::LinkUp | Incoming::LinkDown => {}
//! })?;
//! # }
//! # Ok(())
//! # }
//! # run(Uart::default(), || Micros(0)).unwrap();
//! ```
//!
//! Invariants:
//! - reading never waits: [`embedded_io::ReadReady`] is asked first. Writing waits until the port has
//!   taken the bytes;
//! - one call takes at most [`MOST_READS`] times 64 bytes, so that a port that never falls silent holds
//!   nobody up.
//!
//! Not here: clocks, opening ports, TLS. For async programs there is `tidegate-embassy`.
#![no_std]

#[cfg(test)]
extern crate std;

#[doc(hidden)]
pub mod example;
#[cfg(test)]
mod tests;

use core::fmt;

use embedded_io::{Read, ReadReady, Write};
use tidegate_link::{Link, Micros};
use tidegate_mqtt::{Client, Event, Incoming, Line};

/// Most reads of one call.
pub const MOST_READS: usize = 16;
/// Bytes of one read.
const READ: usize = 64;

/// What is wrong with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Error<E> {
    /// It says so itself.
    Port(E),
    /// The other side has closed it: connect again.
    Closed,
    /// The buffer is shorter than [`Link::MAX_OUTPUT`].
    Buffer,
}

impl<E> From<E> for Error<E> {
    fn from(error: E) -> Error<E> {
        Error::Port(error)
    }
}

impl<E: fmt::Debug> fmt::Display for Error<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Port(error) => write!(f, "the port has failed: {error:?}"),
            Error::Closed => f.write_str("the other side has closed the port; connect again"),
            Error::Buffer => f.write_str("the buffer is shorter than Link::MAX_OUTPUT"),
        }
    }
}

impl<E: fmt::Debug> core::error::Error for Error<E> {}

/// A port, and a buffer for one frame.
#[derive(Debug)]
pub struct Port<'f, T> {
    io: T,
    frame: &'f mut [u8],
}

impl<'f, T: Read + ReadReady + Write> Port<'f, T> {
    /// For a link, `frame` has to have [`Link::MAX_OUTPUT`] bytes; a client on its own needs none.
    pub fn new(io: T, frame: &'f mut [u8]) -> Port<'f, T> {
        Port { io, frame }
    }

    /// The port again.
    pub fn into_inner(self) -> T {
        self.io
    }

    /// Gives the link what has come in, and the port what the link has to say.
    ///
    /// # Errors
    /// See [`Error`]. The link lives on: what was lost is sent again.
    pub fn carry_link<
        const FRAME: usize,
        const WINDOW: usize,
        const MESSAGE: usize,
        const OUT: usize,
    >(
        &mut self,
        now: Micros,
        link: &mut Link<FRAME, WINDOW, MESSAGE, OUT>,
    ) -> Result<(), Error<T::Error>> {
        self.read(|bytes| link.handle_input(now, bytes))?;
        self.send_frames(now, link)?;
        Ok(self.io.flush()?)
    }

    /// The same, with the MQTT client that speaks over the link; hands over what has come in for it.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn carry_line<
        const FRAME: usize,
        const WINDOW: usize,
        const MESSAGE: usize,
        const OUT: usize,
    >(
        &mut self,
        now: Micros,
        link: &mut Link<FRAME, WINDOW, MESSAGE, OUT>,
        line: &mut Line,
        client: &mut Client<'_>,
        mut take: impl FnMut(Incoming<'_>),
    ) -> Result<(), Error<T::Error>> {
        self.read(|bytes| {
            link.handle_input(now, bytes);
            line.exchange(now, link, client, &mut take);
        })?;
        loop {
            // What was sent has made room for more.
            line.exchange(now, link, client, &mut take);
            if self.send_frames(now, link)? == 0 {
                break;
            }
        }
        Ok(self.io.flush()?)
    }

    /// Gives an MQTT client on a stream of its own, such as TCP, what has come in, and the stream what the
    /// client has to say; hands over events. After [`Event::Refused`] and [`Event::Down`], and
    /// after an error, close the stream, say [`Client::disconnected`] and connect again later.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn carry_client(
        &mut self,
        now: Micros,
        client: &mut Client<'_>,
        mut take: impl FnMut(Event<'_>),
    ) -> Result<(), Error<T::Error>> {
        self.read(|mut bytes| feed(now, client, &mut bytes, &mut take))?;
        // A deadline may have passed.
        feed(now, client, &mut &[][..], &mut take);
        loop {
            let bytes = client.output(now);
            if bytes.is_empty() {
                break;
            }
            self.io.write_all(bytes)?;
            let count = bytes.len();
            client.sent(now, count);
        }
        Ok(self.io.flush()?)
    }

    fn read(&mut self, mut take: impl FnMut(&[u8])) -> Result<(), Error<T::Error>> {
        let mut bytes = [0; READ];
        for _ in 0..MOST_READS {
            if !self.io.read_ready()? {
                break;
            }
            match self.io.read(&mut bytes)? {
                0 => return Err(Error::Closed),
                count => take(bytes.get(..count).unwrap_or_default()),
            }
        }
        Ok(())
    }

    /// How many there were.
    fn send_frames<
        const FRAME: usize,
        const WINDOW: usize,
        const MESSAGE: usize,
        const OUT: usize,
    >(
        &mut self,
        now: Micros,
        link: &mut Link<FRAME, WINDOW, MESSAGE, OUT>,
    ) -> Result<usize, Error<T::Error>> {
        if self.frame.len() < Link::<FRAME, WINDOW, MESSAGE>::MAX_OUTPUT {
            return Err(Error::Buffer);
        }
        let mut frames = 0;
        loop {
            let length = link.poll_output(now, self.frame);
            if length == 0 {
                return Ok(frames);
            }
            self.io.write_all(self.frame.get(..length).unwrap_or_default())?;
            frames += 1;
        }
    }
}

fn feed(now: Micros, client: &mut Client<'_>, bytes: &mut &[u8], take: &mut impl FnMut(Event<'_>)) {
    while let Some(event) = client.handle_input(now, bytes) {
        take(event);
    }
}
