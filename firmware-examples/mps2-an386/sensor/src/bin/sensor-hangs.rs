//! A release that does nothing, not even feed its watchdog: it must not stay.
#![no_std]
#![no_main]

use mps2_an386 as _;

#[cortex_m_rt::entry]
fn main() -> ! {
    loop {
        core::hint::spin_loop();
    }
}
