//! One blocking MQTT connection: connect, send, receive with a deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::mqtt::{self, Connect, Decoder, Packet};

/// A write that does not get through within this time ends the connection.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);
/// Read timeouts are never shorter: zero would mean "for ever".
const SHORTEST_READ: Duration = Duration::from_micros(200);

/// A connection that has had its CONNACK.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    decoder: Decoder,
    chunk: Vec<u8>,
}

impl Link {
    /// Connects and waits for the CONNACK, both within `timeout`.
    ///
    /// # Errors
    /// When the broker cannot be reached, refuses, or answers with anything else.
    pub fn open(address: SocketAddr, connect: &Connect<'_>, timeout: Duration) -> Result<Link> {
        let deadline = Instant::now() + timeout;
        let stream = TcpStream::connect_timeout(&address, timeout)
            .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let decoder = Decoder::new(connect.version);
        let mut link = Link { stream, decoder, chunk: vec![0; 64 * 1024] };
        let mut bytes = Vec::new();
        mqtt::encode_connect(&mut bytes, connect);
        link.send(&bytes)?;
        match link.receive(deadline)? {
            Some(Packet::ConnAck { code: 0 }) => Ok(link),
            Some(Packet::ConnAck { code }) => {
                bail!("{address} refused the connection of {}: code {code:#04x}", connect.client)
            }
            Some(other) => bail!("{address} answered CONNECT with {other:?}"),
            None => bail!("{address} did not answer CONNECT within {timeout:?}"),
        }
    }

    /// Sends encoded packets.
    ///
    /// # Errors
    /// When the connection has ended or takes nothing for 20 s.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("the connection takes no more bytes")
    }

    /// The next packet, or `None` when none is there at the deadline.
    ///
    /// # Errors
    /// When the connection has ended or carries something malformed.
    pub fn receive(&mut self, deadline: Instant) -> Result<Option<Packet>> {
        loop {
            if let Some(packet) = self.decoder.next_packet()? {
                return Ok(Some(packet));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            self.stream.set_read_timeout(Some(left.max(SHORTEST_READ)))?;
            match self.stream.read(&mut self.chunk) {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(count) => self.decoder.feed(&self.chunk[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if Instant::now() >= deadline {
                        return Ok(None);
                    }
                }
                Err(error) => return Err(error).context("the connection broke"),
            }
        }
    }

    /// A packet that has already been read, without waiting for the socket.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn buffered(&mut self) -> Result<Option<Packet>> {
        self.decoder.next_packet()
    }
}
