//! Bootloader of a Nordic nRF52840 DK: all its decisions are `tidegate_boot::start`'s.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m::peripheral::SCB;
use embassy_nrf::config::Config;
use embassy_nrf::nvmc::Nvmc;
use firmware_crypto::Salty;
use nrf52840_board::{LAYOUT, jump, trust, watchdog};

#[cortex_m_rt::entry]
fn main() -> ! {
    let chip = embassy_nrf::init(Config::default());
    // Whatever runs has to feed it.
    let (Some(trust), Some(mut watchdog)) = (trust(), watchdog(chip.WDT)) else { SCB::sys_reset() };
    let mut nor = Nvmc::new(chip.NVMC);
    match tidegate_boot::start(&mut nor, &LAYOUT, &trust, &Salty, &mut || watchdog.pet()) {
        Ok(started) => jump(started.entry),
        Err(_) => SCB::sys_reset(),
    }
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    SCB::sys_reset()
}
