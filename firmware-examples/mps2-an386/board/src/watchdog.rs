//! The watchdog (CMSDK APB): at the second time that it runs out, the board starts again.

use crate::write;

const LOAD: usize = 0x4000_8000;
const CONTROL: usize = 0x4000_8008;
const CLEAR: usize = 0x4000_800c;
const LOCK: usize = 0x4000_8c00;

const UNLOCK: u32 = 0x1acc_e551;
const INTERRUPT_AND_RESET: u32 = 3;
/// 2 s of 25 MHz; twice that until the reset.
const PATIENCE: u32 = 50_000_000;

/// Has to be fed every two seconds, once it was armed.
#[derive(Debug, Default)]
pub struct Watchdog(());

impl Watchdog {
    /// From now on.
    pub fn arm(&mut self) {
        write(LOCK, UNLOCK);
        write(LOAD, PATIENCE);
        write(CONTROL, INTERRUPT_AND_RESET);
        write(LOCK, 0);
    }

    /// All is well. It does no harm to one that is not armed.
    pub fn feed(&mut self) {
        write(LOCK, UNLOCK);
        write(CLEAR, 1);
        write(LOCK, 0);
    }
}
