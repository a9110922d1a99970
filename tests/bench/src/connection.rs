//! One non-blocking MQTT connection: bytes gathered to be written at once, packets parsed where
//! they were read.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::event::epoll::{self, EventData, EventFlags};

use crate::packet::{self, Packet};

/// Tells which connections can be read or written.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// A new one.
    pub(crate) fn new() -> Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("cannot create an epoll")?;
        Ok(Poller { epoll })
    }

    /// Waits up to `limit` and returns the numbers of the connections that are ready.
    pub(crate) fn wait(&self, limit: Duration, ready: &mut Vec<usize>) -> Result<()> {
        let mut events =
            [epoll::Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; MAX_EVENTS];
        let limit = rustix::event::Timespec::try_from(limit).context("a wait beyond all time")?;
        ready.clear();
        match epoll::wait(&self.epoll, &mut events, Some(&limit)) {
            Ok(count) => {
                ready.extend(events[..count].iter().map(|event| {
                    // The events are packed: a copy first.
                    let data = event.data;
                    data.u64() as usize
                }));
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot wait for sockets"),
        }
        Ok(())
    }
}

const MAX_EVENTS: usize = 128;

/// A connection with a completed CONNECT.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    number: usize,
    inbox: Vec<u8>,
    filled: usize,
    outbox: Vec<u8>,
    sent: usize,
    max_unsent: usize,
    interest: EventFlags,
}

/// What a connection may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// Most bytes read at once, and so of a packet from the broker.
    pub(crate) inbox: usize,
    /// With so many bytes that the broker does not take, nothing more is read from it, as a
    /// client does that writes before it reads on.
    pub(crate) unsent: usize,
}

impl Connection {
    /// Connects as `client`; `number` is what the poller will report. Blocks until the CONNACK.
    pub(crate) fn open(
        poller: &Poller,
        number: usize,
        address: SocketAddr,
        client: &str,
        room: Room,
    ) -> Result<Connection> {
        let stream = TcpStream::connect(address)
            .with_context(|| format!("{client} cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut connection = Connection {
            stream,
            number,
            inbox: vec![0; room.inbox],
            filled: 0,
            outbox: Vec::new(),
            sent: 0,
            max_unsent: room.unsent,
            interest: EventFlags::IN,
        };
        packet::encode_connect(&mut connection.outbox, client);
        match connection.ask().with_context(|| format!("{client} got no CONNACK"))? {
            Answer::ConnAck(0) => {}
            other => bail!("{client} got {other:?} for its CONNECT"),
        }
        let data = EventData::new_u64(number as u64);
        epoll::add(&poller.epoll, &connection.stream, data, EventFlags::IN)?;
        Ok(connection)
    }

    /// Subscribes; blocks until the SUBACK grants the QoS.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: packet::Qos) -> Result<()> {
        packet::encode_subscribe(&mut self.outbox, filter, qos);
        match self.ask().context("no SUBACK")? {
            Answer::SubAck(code) if code == qos.level() => Ok(()),
            other => bail!("SUBSCRIBE to {filter:?} at {qos:?} got {other:?}"),
        }
    }

    /// The poller reports nothing of it any more.
    pub(crate) fn ignore(&self, poller: &Poller) -> Result<()> {
        Ok(epoll::delete(&poller.epoll, &self.stream)?)
    }

    /// From here on neither reads nor writes block.
    pub(crate) fn stop_blocking(&mut self) -> Result<()> {
        Ok(self.stream.set_nonblocking(true)?)
    }

    /// Where packets to be sent are appended; [`flush`](Self::flush) sends them.
    pub(crate) fn outbox(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Bytes not yet taken by the kernel.
    pub(crate) fn unsent(&self) -> usize {
        self.outbox.len() - self.sent
    }

    /// Writes what the kernel takes and asks the poller for the rest.
    pub(crate) fn flush(&mut self, poller: &Poller) -> Result<()> {
        while self.sent < self.outbox.len() {
            match (&self.stream).write(&self.outbox[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(error).context(format!("connection {} cannot write", self.number));
                }
            }
        }
        if self.sent == self.outbox.len() {
            self.outbox.clear();
            self.sent = 0;
        }
        let interest = match self.unsent() {
            0 => EventFlags::IN,
            unsent if unsent < self.max_unsent => EventFlags::IN | EventFlags::OUT,
            _ => EventFlags::OUT,
        };
        if interest != self.interest {
            let data = EventData::new_u64(self.number as u64);
            epoll::modify(&poller.epoll, &self.stream, data, interest)?;
            self.interest = interest;
        }
        Ok(())
    }

    /// Whether the broker takes too little of what was sent to it to read on.
    pub(crate) fn is_congested(&self) -> bool {
        self.unsent() >= self.max_unsent
    }

    /// Reads once and hands over every complete packet, with the outbox for answers.
    pub(crate) fn receive(&mut self, mut each: impl FnMut(Packet<'_>, &mut Vec<u8>)) -> Result<()> {
        match (&self.stream).read(&mut self.inbox[self.filled..]) {
            Ok(0) => bail!("the broker closed connection {}", self.number),
            Ok(count) => self.filled += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => {
                return Err(error).context(format!("connection {} cannot read", self.number));
            }
        }
        let mut used = 0;
        while let Some((packet, length)) = packet::decode(&self.inbox[used..self.filled])? {
            each(packet, &mut self.outbox);
            used += length;
        }
        if used == 0 && self.filled == self.inbox.len() {
            bail!("connection {} got a packet of more than {} bytes", self.number, self.filled);
        }
        self.inbox.copy_within(used..self.filled, 0);
        self.filled -= used;
        Ok(())
    }

    /// Sends the outbox and waits for one answer.
    fn ask(&mut self) -> Result<Answer> {
        (&self.stream).write_all(&self.outbox)?;
        self.outbox.clear();
        let mut answer = None;
        while answer.is_none() {
            self.receive(|packet, _| {
                answer = match packet {
                    Packet::ConnAck { code } => Some(Answer::ConnAck(code)),
                    Packet::SubAck { code, .. } => Some(Answer::SubAck(code)),
                    Packet::PubAck { .. } | Packet::Publish { .. } | Packet::PingResp => {
                        Some(Answer::Other)
                    }
                };
            })?;
        }
        answer.context("no answer")
    }
}

/// What came back to CONNECT or SUBSCRIBE.
#[derive(Debug)]
enum Answer {
    ConnAck(u8),
    SubAck(u8),
    Other,
}
