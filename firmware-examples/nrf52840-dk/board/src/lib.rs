//! What bootloader and application share of a Nordic nRF52840 DK: where things are in flash, whom the device trusts, the
//! watchdog, the jump. The flash itself is `embassy_nrf::nvmc::Nvmc`.
//!
//! All unsafe code of this board's firmware is here.
#![no_std]

mod layout;

use cortex_m::peripheral::SCB;
use embassy_nrf::Peri;
use embassy_nrf::peripherals::WDT;
use embassy_nrf::wdt::{Config, Watchdog, WatchdogHandle};

pub use layout::{LAYOUT, identity, trust};

/// How long a program may be silent, in ticks of 32,768 Hz: 8 s. In software a signature takes one, a page of flash 0.1 s.
const PATIENCE: u32 = 8 * 32_768;

/// The watchdog, started: the bootloader does that, and the application goes on with it. It cannot be stopped. `None` when
/// it runs with other settings.
#[must_use]
pub fn watchdog(chip: Peri<'static, WDT>) -> Option<WatchdogHandle> {
    let mut config = Config::default();
    config.timeout_ticks = PATIENCE;
    let (_, [handle]) = Watchdog::try_new(chip, config).ok()?;
    Some(handle)
}

/// Starts the image at this offset in flash, which is its address. No interrupt may be on.
pub fn jump(entry: u32) -> ! {
    // SAFETY: the bootloader has found a whole image there, which begins with its vectors.
    unsafe {
        (*SCB::PTR).vtor.write(entry);
        cortex_m::asm::bootload(entry as *const u32)
    }
}
