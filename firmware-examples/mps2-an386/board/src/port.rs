//! Serial ports (CMSDK UART).

use core::fmt;

use crate::{read, write};

const DATA: usize = 0x0;
const STATE: usize = 0x4;
const CONTROL: usize = 0x8;
const INTERRUPT: usize = 0xc;
const DIVIDER: usize = 0x10;

const SENDER_FULL: u32 = 1;
const RECEIVER_FULL: u32 = 2;
const RECEIVER_INTERRUPT: u32 = 2;
/// Both directions, and an interrupt for what comes in.
const ENABLE: u32 = 1 | 2 | 8;
/// 25 MHz by this is 115,200 baud.
const BAUD_115200: u32 = 217;

/// One of the ports.
#[derive(Debug)]
pub struct Port(usize);

impl Port {
    pub(crate) fn new(number: usize) -> Port {
        let port = Port(0x4000_4000 + number * 0x1000);
        write(port.0 + DIVIDER, BAUD_115200);
        write(port.0 + CONTROL, ENABLE);
        port
    }

    /// A byte that has come in.
    pub fn read(&mut self) -> Option<u8> {
        (read(self.0 + STATE) & RECEIVER_FULL != 0).then(|| read(self.0 + DATA) as u8)
    }

    /// Sends bytes, and waits until they are gone.
    pub fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            while read(self.0 + STATE) & SENDER_FULL != 0 {}
            write(self.0 + DATA, (*byte).into());
        }
    }

    pub(crate) fn clear_interrupt(&mut self) {
        write(self.0 + INTERRUPT, RECEIVER_INTERRUPT);
    }
}

impl fmt::Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}
