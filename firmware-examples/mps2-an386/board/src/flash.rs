//! NOR flash. The board has none that QEMU can write: its PSRAM stands in, which QEMU keeps in a file, so
//! that it outlives the emulator. Words can only lose ones, and take as long as those of a real flash.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

use crate::clock::Clock;

/// Where it is mapped to.
pub(crate) const FLASH: usize = 0x2100_0000;
const BYTES: usize = 1 << 20;
const UNIT: usize = 4_096;
const WORD: usize = 4;
/// Microseconds of an erase and of the write of 64 words.
const ERASE_TIME: u32 = 4_000;
const WRITE_TIME: u32 = 250;

/// The flash.
#[derive(Debug, Default)]
pub struct Nor(());

impl Nor {
    /// How often the board has been started, counted in flash: one word a start.
    ///
    /// # Errors
    /// The flash has failed.
    pub fn count_start(&mut self) -> Result<u32, NorFlashErrorKind> {
        let at = crate::layout::STARTS;
        let mut rounds = [0; WORD];
        self.read(at, &mut rounds)?;
        let mut word = [0; WORD];
        for n in 1..(UNIT / WORD) as u32 {
            self.read(at + n * WORD as u32, &mut word)?;
            if word == [0xff; WORD] {
                self.write(at + n * WORD as u32, &[0; WORD])?;
                return Ok(u32::from_le_bytes(rounds).wrapping_mul(UNIT as u32).wrapping_add(n));
            }
        }
        self.erase(at, at + UNIT as u32)?;
        let next = u32::from_le_bytes(rounds).wrapping_add(1);
        self.write(at, &next.to_le_bytes())?;
        Ok(next.wrapping_mul(UNIT as u32))
    }
}

impl ErrorType for Nor {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        check_read(self, offset, bytes.len())?;
        let from = FLASH + offset as usize;
        for (n, byte) in bytes.iter_mut().enumerate() {
            // SAFETY: within the flash, to which no reference exists.
            *byte = unsafe { ((from + n) as *const u8).read_volatile() };
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        BYTES
    }
}

impl NorFlash for Nor {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = UNIT;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        check_erase(self, from, to)?;
        let (at, length) = (FLASH + from as usize, (to - from) as usize);
        for word in (0..length).step_by(WORD) {
            if word.is_multiple_of(UNIT) {
                Clock::wait(ERASE_TIME);
            }
            crate::write(at + word, u32::MAX);
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        let at = FLASH + offset as usize;
        for (n, word) in bytes.chunks_exact(WORD).enumerate() {
            if n.is_multiple_of(64) {
                Clock::wait(WRITE_TIME);
            }
            let wanted = word.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte));
            let address = at + n * WORD;
            if crate::read(address) & wanted != wanted {
                return Err(NorFlashErrorKind::Other);
            }
            crate::write(address, wanted);
        }
        Ok(())
    }
}
