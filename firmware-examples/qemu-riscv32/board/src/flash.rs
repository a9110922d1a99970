//! NOR flash with commands of Intel's kind (CFI), two chips of 16 bits side by side. QEMU keeps it in a file.

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash, check_erase, check_read, check_write,
};

/// Where it is mapped to.
const FLASH: usize = 0x2200_0000;
const BYTES: usize = 32 << 20;
const UNIT: usize = 256 << 10;
const WORD: usize = 4;

const ERASE: u32 = 0x20;
const PROGRAM: u32 = 0x40;
const CLEAR: u32 = 0x50;
const CONFIRM: u32 = 0xd0;
const SHOW: u32 = 0xff;
const READY: u32 = both(0x80);
/// It could not erase, or write, or is locked.
const FAILED: u32 = both(0x20 | 0x10 | 0x02);

/// For both chips.
const fn both(command: u32) -> u32 {
    command << 16 | command
}

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
        let words = (UNIT / WORD) as u32;
        let free = (0..words).find(|n| crate::read(FLASH + (at + n * 4) as usize) == u32::MAX);
        match free {
            Some(n) => self.write(at + n * 4, &[0; WORD]).map(|()| n),
            None => self.erase(at, at + UNIT as u32).map(|()| words),
        }
    }
}

/// Gives a command, and waits until it is done. What is read after that is the state, not the content.
fn act(at: usize, command: u32, then: u32) -> Result<(), NorFlashErrorKind> {
    crate::write(at, both(command));
    crate::write(at, then);
    let mut state = crate::read(at);
    while state & READY != READY {
        state = crate::read(at);
    }
    if state & FAILED == 0 { Ok(()) } else { Err(NorFlashErrorKind::Other) }
}

/// Shows the content again.
fn show(at: usize) {
    crate::write(at, both(CLEAR));
    crate::write(at, both(SHOW));
}

fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u32::from(*byte))
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
            *byte = crate::read_byte(from + n);
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
        let mut units = (0..length).step_by(UNIT);
        let erased = units.try_for_each(|unit| act(at + unit, ERASE, both(CONFIRM)));
        show(at);
        erased
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        check_write(self, offset, bytes.len())?;
        let at = FLASH + offset as usize;
        let words = || (at..).step_by(WORD).zip(bytes.chunks_exact(WORD).map(word));
        // QEMU would set ones, which no flash does.
        if words().any(|(address, wanted)| crate::read(address) & wanted != wanted) {
            return Err(NorFlashErrorKind::Other);
        }
        // From one to the next without a look at the content: that takes QEMU a millisecond.
        let mut to_write = words().filter(|(_, wanted)| *wanted != u32::MAX);
        let written = to_write.try_for_each(|(address, wanted)| act(address, PROGRAM, wanted));
        show(at);
        written
    }
}
