//! The bit stream of heatshrink.

const WINDOW_BITS: u8 = 9;
const LENGTH_BITS: u8 = 5;
const WINDOW: usize = 1 << WINDOW_BITS;

/// A match goes back beyond the beginning.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Beyond;

/// Unpacks the content of one frame.
pub(super) struct Packed {
    window: [u8; WINDOW],
    /// Bytes that were unpacked.
    made: usize,
    bits: u32,
    count: u8,
    /// A match that is being copied: how far back, how many bytes are left.
    copying: (usize, u8),
}

impl Packed {
    pub(super) const fn new() -> Packed {
        Packed { window: [0; WINDOW], made: 0, bits: 0, count: 0, copying: (0, 0) }
    }

    /// More of the stream. Everything before it has to be unpacked.
    pub(super) fn push(&mut self, byte: u8) {
        self.bits = self.bits << 8 | u32::from(byte);
        self.count += 8;
    }

    /// The next byte; `None` when more of the stream is needed.
    pub(super) fn next(&mut self) -> Result<Option<u8>, Beyond> {
        if self.copying.1 == 0 {
            if self.count == 0 {
                return Ok(None);
            }
            if self.bits >> (self.count - 1) & 1 == 1 {
                return Ok(self.take(1 + 8).map(|byte| self.keep(byte as u8)));
            }
            let Some(pair) = self.take(1 + WINDOW_BITS + LENGTH_BITS) else { return Ok(None) };
            let back = (pair >> LENGTH_BITS) as usize + 1;
            if back > self.made {
                return Err(Beyond);
            }
            self.copying = (back, (pair & ((1 << LENGTH_BITS) - 1)) as u8 + 1);
        }
        self.copying.1 -= 1;
        let from = (self.made - self.copying.0) % WINDOW;
        let byte = self.window.get(from).copied().unwrap_or_default();
        Ok(Some(self.keep(byte)))
    }

    /// Whether the stream may end here: what is left is padding.
    pub(super) fn is_at_end(&self) -> bool {
        self.count < 8 && self.bits == 0 && self.copying.1 == 0
    }

    /// Takes so many bits, and answers them without the first.
    fn take(&mut self, bits: u8) -> Option<u32> {
        let left = self.count.checked_sub(bits)?;
        let value = self.bits >> left & ((1 << (bits - 1)) - 1);
        self.count = left;
        self.bits &= (1 << left) - 1;
        Some(value)
    }

    fn keep(&mut self, byte: u8) -> u8 {
        if let Some(place) = self.window.get_mut(self.made % WINDOW) {
            *place = byte;
        }
        self.made += 1;
        byte
    }
}
