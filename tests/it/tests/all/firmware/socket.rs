//! MQTT 3.1.1 as a device has it, over TCP: connects again when the connection is lost.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{Carried, Transport};

/// See the module.
pub(super) struct Socket {
    address: SocketAddr,
    name: &'static str,
    stream: Option<TcpStream>,
    unread: Vec<u8>,
    /// The gateway has let it in.
    admitted: bool,
    /// What is said before that.
    waiting: Vec<Vec<u8>>,
}

fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut left = body.len();
    loop {
        let more = left > 127;
        packet.push((left & 127) as u8 | if more { 128 } else { 0 });
        left >>= 7;
        if !more {
            break;
        }
    }
    packet.extend(body);
    packet
}

impl Socket {
    pub(super) fn new(address: SocketAddr, name: &'static str) -> Socket {
        let (unread, waiting) = (Vec::new(), Vec::new());
        Socket { address, name, stream: None, unread, admitted: false, waiting }
    }

    fn connect(&mut self) {
        (self.unread, self.admitted) = (Vec::new(), false);
        let Ok(mut stream) = TcpStream::connect(self.address) else { return };
        stream.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut body = b"\0\x04MQTT\x04\x02\0\x05".to_vec();
        text(&mut body, self.name);
        let mut filters = vec![0, 1];
        for said in ["offer", "blk", "cmd"] {
            text(&mut filters, &format!("tg/{}/ota/{said}", self.name));
            filters.push(0);
        }
        let hello = [packet(0x10, &body), packet(0x82, &filters)].concat();
        if stream.write_all(&hello).is_ok() {
            self.stream = Some(stream);
        }
    }

    fn publish(&mut self, message: &[u8]) {
        // Key 0 of a message says what it is.
        let said = match message.get(2) {
            Some(4) => "req",
            Some(7) => "report",
            _ => "state",
        };
        let mut body = Vec::new();
        text(&mut body, &format!("tg/{}/ota/{said}", self.name));
        body.extend(message);
        let lost = self
            .stream
            .as_mut()
            .is_some_and(|stream| stream.write_all(&packet(0x30, &body)).is_err());
        if lost {
            self.stream = None;
        }
    }

    fn read(&mut self) {
        let Some(stream) = &mut self.stream else {
            std::thread::sleep(Duration::from_millis(20)); // There is nothing to wait for.
            return;
        };
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            Ok(0) => self.stream = None,
            Ok(count) => self.unread.extend(&bytes[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.stream = None,
        }
    }

    fn first_packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let (mut length, mut at) = (0_usize, 1);
        loop {
            let byte = *self.unread.get(at)?;
            length |= usize::from(byte & 127) << (7 * (at - 1));
            at += 1;
            if byte & 128 == 0 {
                break;
            }
        }
        let body = self.unread.get(at..at + length)?.to_vec();
        let first = self.unread[0];
        self.unread.drain(..at + length);
        Some((first, body))
    }
}

impl Transport for Socket {
    fn carry(&mut self, says: Vec<Vec<u8>>, fresh: bool) -> Carried {
        if fresh {
            self.stream = None;
            self.waiting.clear();
        }
        if self.stream.is_none() {
            self.connect();
        }
        self.waiting.extend(says);
        if self.admitted {
            for message in std::mem::take(&mut self.waiting) {
                self.publish(&message);
            }
        }
        self.read();
        let (mut heard, mut connected) = (VecDeque::new(), false);
        while let Some((first, body)) = self.first_packet() {
            match first >> 4 {
                // SUBACK: from now on what is said to it is heard.
                9 => (self.admitted, connected) = (true, true),
                3 => {
                    let topic = usize::from(u16::from_be_bytes([body[0], body[1]]));
                    heard.push_back(body[2 + topic..].to_vec());
                }
                2 => assert_eq!(body[1], 0, "not let in"),
                _ => {}
            }
        }
        Carried { heard, connected }
    }
}
