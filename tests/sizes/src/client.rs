//! What the programs on three MQTT clients have in common: they connect, subscribe to one filter, publish a reading each second with
//! QoS 1, keep it until it is acknowledged, connect again when the connection is lost, and do what a command says.

pub mod turns;

use core::convert::Infallible;
use core::future::poll_fn;
use core::task::Poll;

use embedded_io_async::{ErrorType, Read, Write};

use crate::board::{self, Port};

/// Name of the session.
pub const DEVICE: &str = "pump-7";
/// Where readings go.
pub const TELEMETRY: &str = "sensors/pump-7/telemetry";
/// What is listened to.
pub const COMMANDS: &str = "commands/pump-7";
/// Seconds that the server keeps the session.
pub const EXPIRY: u32 = 86_400;
/// Seconds of silence that the server bears.
pub const KEEP_ALIVE: u16 = 60;
/// Milliseconds from one reading to the next.
pub const INTERVAL: u64 = 1_000;

/// Bytes for what comes in, and for what waits to be acknowledged.
pub const INPUT: usize = 256;
pub const WAITING: usize = 512;

/// A reading, as CBOR: `[number, value]`.
#[must_use]
pub fn reading(count: u32) -> [u8; 11] {
    let mut bytes = [0x82, 0x1a, 0, 0, 0, 0, 0x1a, 0, 0, 0, 0];
    bytes[2..6].copy_from_slice(&count.to_be_bytes());
    bytes[7..].copy_from_slice(&(board::millis() as u32).to_be_bytes());
    bytes
}

/// Does what a command says.
pub fn obey(command: &[u8]) {
    if let Some(first) = command.first() {
        // SAFETY: a register of the board's lamps.
        unsafe { (0x4002_8000 as *mut u32).write_volatile((*first).into()) };
    }
}

/// The port as a stream.
#[derive(Debug)]
pub struct Stream(pub Port);

impl ErrorType for Stream {
    type Error = Infallible;
}

impl Read for Stream {
    async fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        let Some(place) = bytes.first_mut() else { return Ok(0) };
        *place = poll_fn(|_| self.0.read().map_or(Poll::Pending, Poll::Ready)).await;
        Ok(1)
    }
}

impl Write for Stream {
    async fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        bytes.iter().for_each(|byte| self.0.write(*byte));
        Ok(bytes.len())
    }

    async fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}
