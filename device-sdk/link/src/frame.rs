//! One frame.

use tidegate_wire::crc32c;

use crate::cobs::Encoder;

/// Bytes of a frame beside its payload.
pub const OVERHEAD: usize = HEADER + CRC;
/// Address of all devices.
pub const BROADCAST: u8 = 255;
/// Greatest channel.
pub const MAX_CHANNEL: u8 = 15;

/// Channel of control messages.
pub(crate) const CONTROL: u8 = 0;
/// Smallest and greatest frame.
pub(crate) const MIN_MTU: u16 = 64;
pub(crate) const MAX_MTU: u16 = 1_024;

const HEADER: usize = 7;
const CRC: usize = 4;
const VERSION: u8 = 1 << 6;
const VERSION_MASK: u8 = 0b1100_0011;

mod flag {
    pub(super) const FROM_DEVICE: u8 = 1 << 5;
    pub(super) const TURN: u8 = 1 << 4;
    pub(super) const RELIABLE: u8 = 1 << 3;
    pub(super) const MORE: u8 = 1 << 2;
}

/// What is in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) from_device: bool,
    pub(crate) turn: bool,
    pub(crate) reliable: bool,
    pub(crate) more: bool,
    pub(crate) address: u8,
    pub(crate) credit: u8,
    pub(crate) channel: u8,
    pub(crate) seq: u8,
    pub(crate) ack: u8,
}

/// A frame of the right form; whether it belongs to a session, its CRC says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) header: Header,
    pub(crate) payload: &'a [u8],
    covered: &'a [u8],
    crc: u32,
}

impl<'a> Frame<'a> {
    /// `None` when it has not the form of a frame.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Frame<'a>> {
        let (covered, crc) = bytes.split_last_chunk::<CRC>()?;
        let (head, payload) = covered.split_first_chunk::<HEADER>()?;
        let [flags, address, credit_channel, seq, ack, low, high] = *head;
        let length = usize::from(u16::from_le_bytes([low, high]));
        if flags & VERSION_MASK != VERSION || length != payload.len() || address == 0 {
            return None;
        }
        let header = Header {
            from_device: flags & flag::FROM_DEVICE != 0,
            turn: flags & flag::TURN != 0,
            reliable: flags & flag::RELIABLE != 0,
            more: flags & flag::MORE != 0,
            address,
            credit: credit_channel >> 4,
            channel: credit_channel & 0x0f,
            seq,
            ack,
        };
        Some(Frame { header, payload, covered, crc: u32::from_le_bytes(*crc) })
    }

    /// Whether it is whole, and of this session; 0 for frames of none.
    pub(crate) fn is_of(&self, session: u32) -> bool {
        crc32c::extend(session, self.covered) == self.crc
    }
}

impl Header {
    /// Writes a frame as it goes on the line; answers its bytes, `None` when `out` is too small.
    pub(crate) fn write(&self, session: u32, payload: &[u8], out: &mut [u8]) -> Option<usize> {
        let bit = |set, bit| if set { bit } else { 0 };
        let flags = VERSION
            | bit(self.from_device, flag::FROM_DEVICE)
            | bit(self.turn, flag::TURN)
            | bit(self.reliable, flag::RELIABLE)
            | bit(self.more, flag::MORE);
        let [low, high] = u16::try_from(payload.len()).ok()?.to_le_bytes();
        let credit_channel = self.credit << 4 | self.channel;
        let head = [flags, self.address, credit_channel, self.seq, self.ack, low, high];
        let crc = crc32c::extend(crc32c::extend(session, &head), payload);
        let mut encoder = Encoder::new(out)?;
        encoder.push(&head)?;
        encoder.push(payload)?;
        encoder.push(&crc.to_le_bytes())?;
        encoder.finish()
    }
}
