//! A serial cable: a pseudo-terminal with devices at its far end, which speak the link of the SDK
//! and MQTT in it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tidegate_link::{Config, Event, Micros, Role, Turns};

use crate::setup::PATIENCE;

/// The link as a small device has it.
pub(crate) type DeviceLink = tidegate_link::Link<256, 4, 1280>;

const MQTT: u8 = 2;
const FIRMWARE: u8 = 1;

/// One device.
pub(crate) struct Device {
    pub(crate) link: DeviceLink,
    /// What is to be sent, message by message, with its channel.
    out: VecDeque<(u8, Vec<u8>)>,
    /// What came in on the MQTT channel and is no whole packet yet.
    unread: Vec<u8>,
    /// Packets that came in: first byte and what follows the length.
    pub(crate) packets: VecDeque<(u8, Vec<u8>)>,
    /// Messages about firmware that came in.
    pub(crate) firmware: VecDeque<Vec<u8>>,
    /// How often the gateway has ended the MQTT connection.
    pub(crate) ends: usize,
    pub(crate) ups: usize,
}

impl Device {
    /// Says something in MQTT.
    pub(crate) fn say(&mut self, packet: &[u8]) {
        self.out.extend(packet.chunks(200).map(|part| (MQTT, part.to_vec())));
    }

    /// Ends the MQTT connection from this side.
    pub(crate) fn end(&mut self) {
        self.out.push_back((MQTT, Vec::new()));
    }

    /// Says something about firmware.
    pub(crate) fn say_firmware(&mut self, message: &[u8]) {
        self.out.push_back((FIRMWARE, message.to_vec()));
    }

    fn exchange(&mut self) {
        while let Some(event) = self.link.take_event() {
            self.ups += usize::from(event == Event::Up);
            self.out.clear();
            self.unread.clear();
        }
        while let Some(message) = self.link.receive() {
            if message.channel == FIRMWARE {
                self.firmware.push_back(message.bytes.to_vec());
                continue;
            }
            assert_eq!(message.channel, MQTT);
            self.ends += usize::from(message.bytes.is_empty());
            self.unread.extend_from_slice(message.bytes);
        }
        while let Some(packet) = first_packet(&mut self.unread) {
            self.packets.push_back(packet);
        }
        while let Some((channel, message)) = self.out.front_mut() {
            match self.link.send(*channel, message) {
                Ok(count) if count == message.len() => drop(self.out.pop_front()),
                Ok(0) => return,
                Ok(count) => drop(message.drain(..count)),
                Err(_) => return,
            }
        }
    }
}

fn first_packet(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let (mut length, mut at) = (0_usize, 1);
    loop {
        let byte = *bytes.get(at)?;
        length |= usize::from(byte & 127) << (7 * (at - 1));
        at += 1;
        if byte & 128 == 0 {
            break;
        }
    }
    if bytes.len() < at + length {
        return None;
    }
    let first = bytes[0];
    let body = bytes[at..at + length].to_vec();
    bytes.drain(..at + length);
    Some((first, body))
}

/// The cable, and the devices at its end.
pub(crate) struct Wire {
    /// The end of the devices; `None` while it is unplugged.
    end: Option<OwnedFd>,
    path: PathBuf,
    began: Instant,
    pub(crate) devices: Vec<Device>,
}

impl Wire {
    /// A cable whose other end is at `path`, with a device at each address.
    pub(crate) fn new(path: &Path, addresses: &[u8]) -> Wire {
        let turns = if addresses.len() > 1 { Turns::Shared } else { Turns::Free };
        let device = |address: &u8| Device {
            link: DeviceLink::new(
                Config { role: Role::Device, address: *address, turns },
                0x5eed + u64::from(*address),
            ),
            out: VecDeque::new(),
            unread: Vec::new(),
            packets: VecDeque::new(),
            firmware: VecDeque::new(),
            ends: 0,
            ups: 0,
        };
        let devices = addresses.iter().map(device).collect();
        let mut wire = Wire { end: None, path: path.to_owned(), began: Instant::now(), devices };
        wire.plug();
        wire
    }

    /// Puts the plug in.
    pub(crate) fn plug(&mut self) {
        let end = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&end).unwrap();
        unlockpt(&end).unwrap();
        let name = ptsname(&end, Vec::new()).unwrap();
        let name = Path::new(name.to_str().unwrap());
        // As a line, not as a terminal: nothing is echoed before the gateway sets it up itself.
        let port =
            rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
                .unwrap();
        let mut attributes = tcgetattr(&port).unwrap();
        attributes.make_raw();
        tcsetattr(&port, OptionalActions::Now, &attributes).unwrap();
        let flags = rustix::fs::fcntl_getfl(&end).unwrap();
        rustix::fs::fcntl_setfl(&end, flags | OFlags::NONBLOCK).unwrap();
        let fresh = self.path.with_extension("new");
        std::os::unix::fs::symlink(name, &fresh).unwrap();
        std::fs::rename(&fresh, &self.path).unwrap();
        self.end = Some(end);
    }

    /// Pulls it.
    pub(crate) fn unplug(&mut self) {
        self.end = None;
        std::fs::remove_file(&self.path).unwrap();
    }

    fn now(&self) -> Micros {
        Micros(self.began.elapsed().as_micros() as u64)
    }

    /// Lets the devices run until `done`, or for as long as anything may take.
    pub(crate) fn run_until(&mut self, what: &str, mut done: impl FnMut(&mut Wire) -> bool) {
        let give_up = Instant::now() + PATIENCE;
        while !done(self) {
            let links = || self.devices.iter().map(|one| (one.ups, one.link.counters()));
            assert!(Instant::now() < give_up, "never: {what}; {:?}", links().collect::<Vec<_>>());
            self.step();
        }
    }

    /// One round: everything that is there is read and written; then waits for a little.
    pub(crate) fn step(&mut self) {
        let now = self.now();
        let mut frame = [0; DeviceLink::MAX_OUTPUT];
        for at in 0..self.devices.len() {
            loop {
                self.devices[at].exchange();
                let length = self.devices[at].link.poll_output(now, &mut frame);
                if length == 0 {
                    break;
                }
                self.write(&frame[..length]);
            }
            self.devices[at].exchange();
        }
        let Some(end) = &self.end else {
            std::thread::sleep(Duration::from_millis(1)); // There is nothing to wait for.
            return;
        };
        let mut waits = [PollFd::new(end, PollFlags::IN)];
        let short = Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        poll(&mut waits, Some(&short)).unwrap();
        let mut bytes = [0; 4096];
        match rustix::io::read(end.as_fd(), &mut bytes) {
            Ok(count) => {
                let now = self.now();
                for device in &mut self.devices {
                    device.link.handle_input(now, &bytes[..count]);
                    device.exchange();
                }
            }
            // EIO: nobody has the other end open.
            Err(error) => assert!(
                [rustix::io::Errno::AGAIN, rustix::io::Errno::IO].contains(&error),
                "{error}"
            ),
        }
    }

    fn write(&self, mut bytes: &[u8]) {
        let Some(end) = &self.end else { return };
        while !bytes.is_empty() {
            match rustix::io::write(end, bytes) {
                Ok(count) => bytes = &bytes[count..],
                // What does not fit is lost, as on a line that nobody reads.
                Err(error) => {
                    assert_eq!(io::Error::from(error).kind(), io::ErrorKind::WouldBlock);
                    return;
                }
            }
        }
    }
}
