//! The Ethernet controller (LAN9118).

use crate::{read, write};

const CONTROLLER: usize = 0x4020_0000;
const RECEIVED: usize = CONTROLLER;
const TO_SEND: usize = CONTROLLER + 0x20;
const RECEIVED_STATUS: usize = CONTROLLER + 0x40;
const SENT_STATUS: usize = CONTROLLER + 0x48;
const INTERRUPT: usize = CONTROLLER + 0x54;
const INTERRUPT_STATUS: usize = CONTROLLER + 0x58;
const INTERRUPT_ENABLE: usize = CONTROLLER + 0x5c;
const RECEIVER: usize = CONTROLLER + 0x6c;
const SENDER: usize = CONTROLLER + 0x70;
const HARDWARE: usize = CONTROLLER + 0x74;
const RECEIVED_COUNT: usize = CONTROLLER + 0x7c;
const SENT_COUNT: usize = CONTROLLER + 0x80;
const MAC_COMMAND: usize = CONTROLLER + 0xa4;
const MAC_DATA: usize = CONTROLLER + 0xa8;

const RESET: u32 = 1;
const SENDER_ON: u32 = 2;
/// The interrupt is on, active high, driven.
const INTERRUPT_ON: u32 = 1 << 8 | 1 << 4 | 1;
/// A frame has come in.
const FRAME: u32 = 1 << 3;
const MAC_BUSY: u32 = 1 << 31;
/// Registers of the MAC behind the controller's own.
const MAC_CONTROL: u32 = 1;
const MAC_ADDRESS_HIGH: u32 = 2;
const MAC_ADDRESS_LOW: u32 = 3;
/// Full duplex, sender and receiver.
const MAC_ON: u32 = 1 << 20 | 1 << 3 | 1 << 2;
/// The first and the last piece of a frame.
const WHOLE: u32 = 1 << 13 | 1 << 12;
/// The checksum at the end of a frame that has come in.
const CHECKSUM: usize = 4;

/// Longest frame without its checksum.
pub const FRAME_BYTES: usize = 1_514;

/// The controller.
#[derive(Debug, Default)]
pub struct Ethernet {
    on: bool,
}

impl Ethernet {
    /// Sends and receives from now on, under this address.
    pub fn start(&mut self, address: [u8; 6]) {
        write(HARDWARE, RESET);
        while read(HARDWARE) & RESET != 0 {}
        let [a, b, c, d, e, f] = address;
        write_mac(MAC_ADDRESS_LOW, u32::from_le_bytes([a, b, c, d]));
        write_mac(MAC_ADDRESS_HIGH, u32::from_le_bytes([e, f, 0, 0]));
        write_mac(MAC_CONTROL, MAC_ON);
        write(SENDER, SENDER_ON);
        write(RECEIVER, 0);
        write(INTERRUPT, INTERRUPT_ON);
        write(INTERRUPT_ENABLE, FRAME);
        self.on = true;
    }

    /// A frame that has come in, without its checksum; its length. What does not fit is cut off.
    pub fn receive(&mut self, frame: &mut [u8; FRAME_BYTES]) -> Option<usize> {
        if !self.on || read(RECEIVED_COUNT) >> 16 & 0xff == 0 {
            return None;
        }
        let length = (read(RECEIVED_STATUS) >> 16 & 0x3fff) as usize;
        for word in 0..length.div_ceil(4) {
            let bytes = read(RECEIVED).to_le_bytes();
            for (place, byte) in frame.iter_mut().skip(4 * word).zip(bytes) {
                *place = byte;
            }
        }
        Some(length.saturating_sub(CHECKSUM).min(FRAME_BYTES))
    }

    /// Sends a frame without its checksum, of at most [`FRAME_BYTES`].
    pub fn send(&mut self, frame: &[u8]) {
        let length = frame.len().min(FRAME_BYTES) as u32;
        write(TO_SEND, WHOLE | length);
        write(TO_SEND, length << 16 | length);
        for piece in frame.chunks(4) {
            let word = piece.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            write(TO_SEND, word);
        }
        // How it went nobody asks; the places have to be free for the next.
        while read(SENT_COUNT) >> 16 & 0xff != 0 {
            read(SENT_STATUS);
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on
    }

    pub(crate) fn clear_interrupt(&mut self) {
        write(INTERRUPT_STATUS, FRAME);
    }
}

fn write_mac(register: u32, value: u32) {
    write(MAC_DATA, value);
    write(MAC_COMMAND, MAC_BUSY | register);
    while read(MAC_COMMAND) & MAC_BUSY != 0 {}
}
