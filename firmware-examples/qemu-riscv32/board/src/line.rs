//! The serial port (16550).

use crate::{read_byte, write_byte};

const PORT: usize = 0x1000_0000;
const DATA: usize = PORT;
const INTERRUPT: usize = PORT + 1;
const QUEUES: usize = PORT + 2;
const FORM: usize = PORT + 3;
const STATE: usize = PORT + 5;

const RECEIVED: u8 = 1;
const CAN_SEND: u8 = 1 << 5;
/// Eight bits, no parity.
const EIGHT_BITS: u8 = 3;

/// The port; QEMU takes any speed.
#[derive(Debug)]
pub struct Line(());

impl Line {
    pub(crate) fn new() -> Line {
        write_byte(FORM, EIGHT_BITS);
        write_byte(QUEUES, 1);
        write_byte(INTERRUPT, RECEIVED);
        Line(())
    }

    /// A byte that has come in.
    pub fn read(&mut self) -> Option<u8> {
        (read_byte(STATE) & RECEIVED != 0).then(|| read_byte(DATA))
    }

    /// Sends bytes, and waits until they are gone.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            while read_byte(STATE) & CAN_SEND == 0 {}
            write_byte(DATA, *byte);
        }
    }
}
