//! A Cortex-M4 with a serial port, a clock, and NOR flash that is mapped into memory.

use core::panic::PanicInfo;
use core::ptr;

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};

unsafe extern "C" {
    static mut _data_from: u32;
    static mut _data_to: u32;
    static _data_image: u32;
    static mut _bss_from: u32;
    static mut _bss_to: u32;
    fn main() -> !;
}

/// Where the processor begins: fills the memory, and goes on.
///
/// # Safety
/// Only the processor calls it, at its start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn reset() -> ! {
    // SAFETY: the linker's symbols bound memory that nobody uses yet.
    unsafe {
        let mut to = &raw mut _data_from;
        let mut from = &raw const _data_image;
        while to < &raw mut _data_to {
            to.write_volatile(from.read_volatile());
            (to, from) = (to.add(1), from.add(1));
        }
        let mut to = &raw mut _bss_from;
        while to < &raw mut _bss_to {
            to.write_volatile(0);
            to = to.add(1);
        }
        main()
    }
}

/// Begins anew.
pub fn restart() -> ! {
    const CONTROL: *mut u32 = 0xe000_ed0c as *mut u32;
    // SAFETY: a register of the processor; this is its request for a reset.
    unsafe { CONTROL.write_volatile(0x05fa_0004) };
    loop {}
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// UART 0.
#[derive(Debug)]
pub struct Port(());

impl Port {
    const DATA: *mut u32 = 0x4000_4000 as *mut u32;
    const STATE: *const u32 = 0x4000_4004 as *const u32;
    const FULL: u32 = 1 << 1;

    /// A byte that has come in.
    pub fn read(&mut self) -> Option<u8> {
        // SAFETY: registers of the UART.
        unsafe {
            (Port::STATE.read_volatile() & Port::FULL != 0)
                .then(|| Port::DATA.read_volatile() as u8)
        }
    }

    /// Sends a byte.
    pub fn write(&mut self, byte: u8) {
        // SAFETY: a register of the UART.
        unsafe { Port::DATA.write_volatile(byte.into()) }
    }

    /// Makes it send, in QEMU, where nothing is ever full.
    pub fn open(&mut self) {
        // SAFETY: registers of the UART: the smallest divisor, and its sender on.
        unsafe {
            (0x4000_4010 as *mut u32).write_volatile(16);
            (0x4000_4008 as *mut u32).write_volatile(1);
        }
    }

    /// Sends text.
    pub fn write_text(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.write(byte));
    }

    /// Sends a number's digits.
    pub fn write_number(&mut self, number: u32) {
        if number > 9 {
            self.write_number(number / 10);
        }
        self.write(b'0' + (number % 10) as u8);
    }
}

/// What counts time: milliseconds since the start, in two words.
#[derive(Debug)]
pub struct Clock(());

impl Clock {
    const COUNT: *const u64 = 0x4000_0000 as *const u64;

    /// Milliseconds since the start.
    pub fn millis(&self) -> u64 {
        millis()
    }
}

/// Milliseconds since the start.
#[inline(never)]
pub fn millis() -> u64 {
    // SAFETY: registers of a timer.
    unsafe { Clock::COUNT.read_volatile() }
}

/// NOR flash of 4 KiB units and 4-byte words, mapped into memory.
#[derive(Debug)]
pub struct Nor(());

impl Nor {
    const AT: *mut u8 = 0x2100_0000 as *mut u8;
    const BYTES: usize = 1 << 20;
}

/// Everything, once.
#[derive(Debug)]
pub struct Board {
    /// The serial port.
    pub port: Port,
    /// The time.
    pub clock: Clock,
    /// The flash.
    pub nor: Nor,
}

impl Board {
    /// The board. Call it once, or again when nothing is left of the one before.
    #[must_use]
    pub fn take() -> Board {
        Board { port: Port(()), clock: Clock(()), nor: Nor(()) }
    }
}

impl ErrorType for Nor {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Nor {
    const READ_SIZE: usize = 1;

    #[inline(never)]
    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        let offset = offset as usize;
        if offset > Nor::BYTES || bytes.len() > Nor::BYTES - offset {
            return Err(NorFlashErrorKind::OutOfBounds);
        }
        // SAFETY: within the flash, which no reference points into.
        unsafe { ptr::copy_nonoverlapping(Nor::AT.add(offset), bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    fn capacity(&self) -> usize {
        Nor::BYTES
    }
}

impl NorFlash for Nor {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4_096;

    #[inline(never)]
    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorFlashErrorKind> {
        let (from, to) = (from as usize, to as usize);
        if from > to || to > Nor::BYTES {
            return Err(NorFlashErrorKind::OutOfBounds);
        }
        // SAFETY: as above.
        unsafe { ptr::write_bytes(Nor::AT.add(from), 0xff, to - from) };
        Ok(())
    }

    #[inline(never)]
    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        let offset = offset as usize;
        if offset > Nor::BYTES || bytes.len() > Nor::BYTES - offset {
            return Err(NorFlashErrorKind::OutOfBounds);
        }
        // SAFETY: as above.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), Nor::AT.add(offset), bytes.len()) };
        Ok(())
    }
}
