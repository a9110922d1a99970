//! What a program of QEMU's `mps2-an386` takes of time and stack.

use core::arch::asm;

unsafe extern "C" {
    static mut _bss_to: u32;
}

/// Timer 0 of the board, which counts down at 25 MHz.
#[derive(Debug)]
pub struct Timer(());

impl Timer {
    const CONTROL: *mut u32 = 0x4000_0000 as *mut u32;
    const VALUE: *mut u32 = 0x4000_0004 as *mut u32;
    const RELOAD: *mut u32 = 0x4000_0008 as *mut u32;
    /// Nanoseconds of a count, which are instructions where each takes one.
    const COUNT: u32 = 40;

    /// Starts it.
    #[must_use]
    pub fn start() -> Timer {
        // SAFETY: registers of the timer.
        unsafe {
            Timer::RELOAD.write_volatile(u32::MAX);
            Timer::VALUE.write_volatile(u32::MAX);
            Timer::CONTROL.write_volatile(1);
        }
        Timer(())
    }

    /// Instructions since some moment. They begin anew after 4 billion.
    #[must_use]
    pub fn instructions(&self) -> u32 {
        // SAFETY: a register of the timer.
        unsafe { (u32::MAX - Timer::VALUE.read_volatile()).wrapping_mul(Timer::COUNT) }
    }
}

const PAINT: u32 = 0xa5a5_5a5a;
/// Bytes below the stack's end that are the painter's own.
const OWN: usize = 64;

/// The free stack, painted: what has been used is not of that colour any more.
#[derive(Debug)]
pub struct Painted {
    from: *mut u32,
    to: *mut u32,
}

impl Painted {
    /// Paints it, from the memory's other contents to the stack's end here.
    #[must_use]
    #[inline(never)]
    pub fn new() -> Painted {
        let end: usize;
        // SAFETY: only reads the stack pointer.
        unsafe { asm!("mov {}, sp", out(reg) end) };
        let painted = Painted { from: &raw mut _bss_to, to: (end - OWN) as *mut u32 };
        let mut at = painted.from;
        while at < painted.to {
            // SAFETY: below the stack's end, where nothing is.
            unsafe {
                at.write_volatile(PAINT);
                at = at.add(1);
            }
        }
        painted
    }

    /// Bytes that were used of it.
    #[must_use]
    #[inline(never)]
    pub fn used(&self) -> u32 {
        let mut at = self.from;
        // SAFETY: as above.
        while at < self.to && unsafe { at.read_volatile() } == PAINT {
            at = unsafe { at.add(1) };
        }
        (self.to as usize - at as usize + OWN) as u32
    }
}

impl Default for Painted {
    fn default() -> Painted {
        Painted::new()
    }
}
