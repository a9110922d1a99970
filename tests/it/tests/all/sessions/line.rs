//! One blocking connection of a device that the test has in its hands, packet by packet.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tidegate_peer::Version;
use tidegate_peer::decode::{self, Packet};
use tidegate_peer::encode::Connect;

/// Longest wait for the gateway in the middle of a connection before the device looks up.
const TURN: Duration = Duration::from_millis(5);
/// Turns without a CONNACK before the device tries anew.
const CONNECT_TURNS: u32 = 2_000;

pub(crate) struct Line {
    stream: TcpStream,
    version: Version,
    /// Bytes that make no whole packet yet.
    rest: Vec<u8>,
}

impl Line {
    /// Connects; answers whether the gateway had the session, and the packets behind CONNACK.
    pub(crate) fn open(
        address: SocketAddr,
        connect: &Connect,
    ) -> io::Result<(Line, bool, Vec<Packet>)> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TURN))?;
        let mut line = Line { stream, version: connect.version, rest: Vec::new() };
        line.send(&connect.bytes())?;
        for _ in 0..CONNECT_TURNS {
            let mut packets = line.receive()?;
            if packets.is_empty() {
                continue;
            }
            let first = packets.remove(0);
            let Packet::Connack { present, code: 0, .. } = first else {
                panic!("CONNECT was answered with {first:?}");
            };
            return Ok((line, present, packets));
        }
        Err(io::Error::new(ErrorKind::TimedOut, "no CONNACK"))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// What has come; nothing after a while in which nothing came.
    pub(crate) fn receive(&mut self) -> io::Result<Vec<Packet>> {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => self.rest.extend_from_slice(&chunk[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
        let whole = whole_packets(&self.rest);
        let bytes: Vec<u8> = self.rest.drain(..whole).collect();
        Ok(decode::packets(self.version, &bytes))
    }
}

/// How many of the bytes are whole packets.
fn whole_packets(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some(next) = end_of_first(&bytes[whole..]) {
        whole += next;
    }
    whole
}

/// Where the first packet ends, if it is all there.
fn end_of_first(bytes: &[u8]) -> Option<usize> {
    let mut length = 0;
    for at in 1..5 {
        let byte = bytes.get(at)?;
        length |= usize::from(byte & 0x7F) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            return Some(at + 1 + length).filter(|end| *end <= bytes.len());
        }
    }
    panic!("a packet length of the gateway has five bytes");
}
