//! The board as a whole.

use core::arch::asm;
use core::panic::PanicInfo;

use embedded_storage::nor_flash::{NorFlashErrorKind, ReadNorFlash};

use crate::clock::Clock;
use crate::flash::Nor;
use crate::line::Line;
use crate::{read, write};

/// What ends the emulator, or begins anew.
const TEST: usize = 0x10_0000;
const RESET: u32 = 0x7777;

/// The controller of interrupts: the line's is number 10.
const PRIORITIES: usize = 0x0c00_0000;
const ENABLED: usize = 0x0c00_2000;
const THRESHOLD: usize = 0x0c20_0000;
const CLAIM: usize = 0x0c20_0004;
const LINE: u32 = 10;

/// Interrupts of the timer and of devices, in the processor's `mie`.
const WAKE: usize = 1 << 7 | 1 << 11;
/// Longest sleep: 5 ms.
const SLEEP: u64 = 5_000;

/// Where an application runs.
const PROGRAM: usize = 0x8010_0000;

/// Everything, once.
#[derive(Debug)]
pub struct Board {
    /// The line to the gateway.
    pub line: Line,
    /// The time.
    pub clock: Clock,
    /// The flash.
    pub nor: Nor,
}

impl Board {
    /// The board. To be called once.
    #[must_use]
    pub fn take() -> Board {
        write(PRIORITIES + 4 * LINE as usize, 1);
        write(ENABLED, 1 << LINE);
        write(THRESHOLD, 0);
        Board { line: Line::new(), clock: Clock::default(), nor: Nor::default() }
    }

    /// Sleeps until a byte comes in on the line, 5 ms at most. Interrupts wake the processor, and are not
    /// served: what they tell is looked at anyway.
    pub fn sleep(&mut self) {
        self.clock.wake_at(self.clock.micros() + SLEEP);
        // SAFETY: interrupts are off as a whole, so that no handler is ever entered.
        unsafe { asm!("csrs mie, {wake}", "wfi", wake = in(reg) WAKE) };
        let claimed = read(CLAIM);
        if claimed != 0 {
            write(CLAIM, claimed);
        }
    }

    /// Copies the image at this offset in flash, and starts it.
    ///
    /// # Errors
    /// The flash has failed.
    pub fn jump(
        mut self,
        entry: u32,
        bytes: usize,
    ) -> Result<core::convert::Infallible, NorFlashErrorKind> {
        // SAFETY: the application's RAM, which the bootloader's own is no part of.
        let place = unsafe { core::slice::from_raw_parts_mut(PROGRAM as *mut u8, bytes) };
        self.nor.read(entry, place)?;
        // SAFETY: the bootloader has found a whole image, which begins with its first instruction.
        unsafe { asm!("fence.i", "jr {program}", program = in(reg) PROGRAM, options(noreturn)) }
    }
}

/// Starts again.
pub fn restart() -> ! {
    write(TEST, RESET);
    loop {
        core::hint::spin_loop();
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    restart()
}

/// Where the processor goes after a mistake of the program.
#[unsafe(no_mangle)]
extern "C" fn abort() -> ! {
    restart()
}
