//! One device: its link on one side, its connection to the broker on the other.
//!
//! MQTT's bytes are a stream on channel 2, in messages of at most one frame. An empty message ends
//! a connection; the other side answers with one of its own, and drops what came before it.
//!
//! Channel 1 has the messages about firmware, which do not go through the broker.

use std::io::{self, ErrorKind};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use tidegate_link::{Event, SendError};
use tokio::net::UnixStream;

use crate::core::firmware::Mailbox;

/// Frames of up to 1,024 bytes and a window of 8: a device says how much less it takes. 22 KB each.
pub(super) type Link = tidegate_link::Link<1024, 8, 8192>;

/// The channel of MQTT's bytes.
const MQTT: u8 = 2;
/// The channel of the messages about firmware.
const FIRMWARE: u8 = tidegate_wire::message::CHANNEL;

/// See the module documentation.
pub(super) struct Device {
    name: Arc<str>,
    connection: Connection,
    /// Bytes of the device that the broker has not taken yet: of one message.
    up: Vec<u8>,
    /// Bytes of the broker that the link has not taken yet: of one message.
    down: Vec<u8>,
    /// The device is to be told that the connection has ended.
    ends: bool,
    /// What is said to the device about firmware, and what the link has not taken yet of the message
    /// that is under way.
    mailbox: Rc<Mailbox>,
    letter: Vec<u8>,
}

#[derive(Debug)]
enum Connection {
    /// There is none: the device's next bytes begin one.
    None,
    Open(UnixStream),
    /// The broker has ended it; what the device sends before it says so too belongs to it.
    Ending,
}

impl Device {
    pub(super) fn new(name: Arc<str>, mailbox: Rc<Mailbox>) -> Device {
        let (up, down, letter) = (Vec::new(), Vec::new(), Vec::new());
        Device { name, connection: Connection::None, up, down, ends: false, mailbox, letter }
    }

    /// Moves bytes both ways as far as the link and the broker take them; answers how many sessions
    /// have ended.
    pub(super) fn exchange(
        &mut self,
        link: &mut Link,
        line: &str,
        connect: impl Fn(&Arc<str>) -> io::Result<UnixStream>,
        firmware: impl Fn(&str, &[u8]),
    ) -> u64 {
        let mut ended = 0;
        while let Some(event) = link.take_event() {
            let device = &*self.name;
            match event {
                Event::Up => tracing::info!(line, device, "serial device is there"),
                Event::Down(why) => {
                    tracing::info!(line, device, ?why, "serial device is lost");
                    ended += 1;
                }
            }
            // In each session everything begins anew.
            self.mailbox.clear();
            *self = Device::new(self.name.clone(), self.mailbox.clone());
        }
        if link.is_up() {
            self.carry_up(link, &connect, &firmware);
            self.carry_letters(link);
            self.carry_down(link);
            self.carry_letters(link);
        } else {
            // What was said to nobody is said again when somebody is there.
            self.mailbox.clear();
        }
        ended
    }

    fn carry_up(
        &mut self,
        link: &mut Link,
        connect: &impl Fn(&Arc<str>) -> io::Result<UnixStream>,
        firmware: &impl Fn(&str, &[u8]),
    ) {
        loop {
            if !self.write_up() {
                return;
            }
            let Some(message) = link.receive() else { return };
            if message.channel == FIRMWARE {
                firmware(&self.name, message.bytes);
                continue;
            }
            if message.channel != MQTT {
                continue; // Of a later version, or of nobody here.
            }
            match (&self.connection, message.bytes.is_empty()) {
                (Connection::Open(_), true) => {
                    (self.connection, self.ends) = (Connection::None, true);
                    self.down.clear();
                }
                (Connection::Ending, true) => self.connection = Connection::None,
                (Connection::None, true) | (Connection::Ending, false) => {}
                (Connection::Open(_), false) => self.up.extend_from_slice(message.bytes),
                (Connection::None, false) => match connect(&self.name) {
                    Ok(pipe) => {
                        self.connection = Connection::Open(pipe);
                        self.up.extend_from_slice(message.bytes);
                    }
                    Err(error) => {
                        tracing::error!(device = &*self.name, %error, "cannot connect a device");
                        (self.connection, self.ends) = (Connection::Ending, true);
                    }
                },
            }
        }
    }

    /// True when the broker has taken everything.
    fn write_up(&mut self) -> bool {
        while !self.up.is_empty() {
            let Connection::Open(pipe) = &self.connection else {
                self.up.clear();
                break;
            };
            match pipe.try_write(&self.up) {
                Ok(count) => drop(self.up.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                // It has closed; what it said before is still there to be read.
                Err(_) => self.up.clear(),
            }
        }
        true
    }

    fn carry_letters(&mut self, link: &mut Link) {
        loop {
            if self.letter.is_empty() {
                match self.mailbox.take() {
                    Some(letter) => self.letter = letter,
                    None => return,
                }
            }
            match link.send(FIRMWARE, &self.letter) {
                Ok(0) | Err(SendError::Unfinished | SendError::NoRoom) => return,
                Ok(count) => drop(self.letter.drain(..count)),
                Err(SendError::Down | SendError::Channel) => self.letter.clear(),
            }
        }
    }

    fn carry_down(&mut self, link: &mut Link) {
        loop {
            if !self.down.is_empty() {
                match link.send(MQTT, &self.down) {
                    Ok(0) => return,
                    Ok(count) => drop(self.down.drain(..count)),
                    Err(SendError::Unfinished | SendError::NoRoom) => return,
                    Err(SendError::Down | SendError::Channel) => self.down.clear(),
                }
            } else if self.ends {
                match link.send(MQTT, &[]) {
                    Ok(_) => self.ends = false,
                    Err(SendError::Unfinished | SendError::NoRoom) => return,
                    Err(SendError::Down | SendError::Channel) => self.ends = false,
                }
            } else if !self.read_down(link.max_payload().unwrap_or(0)) {
                return;
            }
        }
    }

    /// True when there is something to say.
    fn read_down(&mut self, most: usize) -> bool {
        let Connection::Open(pipe) = &self.connection else { return false };
        self.down.resize(most, 0);
        let (count, ended) = match pipe.try_read(&mut self.down) {
            Ok(0) => (0, true),
            Ok(count) => (count, false),
            Err(error) => (0, error.kind() != ErrorKind::WouldBlock),
        };
        self.down.truncate(count);
        if ended {
            (self.connection, self.ends) = (Connection::Ending, true);
        }
        count > 0 || ended
    }

    /// Ready when the broker has bytes that the link could be given, or takes those that wait.
    pub(super) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.letter.is_empty() && self.mailbox.poll_fresh(cx).is_ready() {
            return Poll::Ready(());
        }
        let Connection::Open(pipe) = &self.connection else { return Poll::Pending };
        let reads = self.down.is_empty() && pipe.poll_read_ready(cx).is_ready();
        let writes = !self.up.is_empty() && pipe.poll_write_ready(cx).is_ready();
        if reads || writes { Poll::Ready(()) } else { Poll::Pending }
    }
}
