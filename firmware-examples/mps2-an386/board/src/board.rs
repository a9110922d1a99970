//! The board as a whole.

use core::panic::PanicInfo;

use cortex_m::peripheral::syst::SystClkSource;
use cortex_m::peripheral::{NVIC, SCB};

use crate::clock::Clock;
use crate::ethernet::Ethernet;
use crate::flash::{FLASH, Nor};
use crate::port::Port;
use crate::watchdog::Watchdog;

/// Ticks of 25 MHz between two looks at the time, while the processor sleeps: 5 ms.
const SLEEP: u32 = 125_000;

/// Everything, once.
pub struct Board {
    /// UART 0: the line to the gateway.
    pub line: Port,
    /// UART 1: what a human reads.
    pub console: Port,
    /// The network, which is off until it is started.
    pub ethernet: Ethernet,
    /// The time.
    pub clock: Clock,
    /// The flash.
    pub nor: Nor,
    /// The watchdog.
    pub watchdog: Watchdog,
    core: cortex_m::Peripherals,
}

impl Board {
    /// The board, the first time.
    #[must_use]
    pub fn take() -> Option<Board> {
        let mut core = cortex_m::Peripherals::take()?;
        core.SYST.set_clock_source(SystClkSource::Core);
        core.SYST.set_reload(SLEEP);
        core.SYST.clear_current();
        core.SYST.enable_counter();
        Some(Board {
            line: Port::new(0),
            console: Port::new(1),
            ethernet: Ethernet::default(),
            clock: Clock::default(),
            nor: Nor::default(),
            watchdog: Watchdog::default(),
            core,
        })
    }

    /// Sleeps until a byte comes in on the line or a frame from the network, 5 ms at most. Interrupts wake the
    /// processor, and are not served: what they tell is looked at anyway.
    pub fn sleep(&mut self) {
        cortex_m::interrupt::disable();
        self.core.SYST.enable_interrupt();
        // SAFETY: masked for good by the line above, so that no handler is ever entered.
        unsafe { NVIC::unmask(Interrupt::Line) };
        if self.ethernet.is_on() {
            // SAFETY: as above.
            unsafe { NVIC::unmask(Interrupt::Network) };
        }
        cortex_m::asm::wfi();
        self.line.clear_interrupt();
        NVIC::unpend(Interrupt::Line);
        if self.ethernet.is_on() {
            self.ethernet.clear_interrupt();
            NVIC::unpend(Interrupt::Network);
        }
        SCB::clear_pendst();
    }

    /// Starts the image at this offset in flash.
    pub fn jump(mut self, entry: u32) -> ! {
        let vectors = FLASH as u32 + entry;
        self.core.SYST.disable_counter();
        // SAFETY: the bootloader has found a whole image there, which begins with its vectors.
        unsafe {
            self.core.SCB.vtor.write(vectors);
            cortex_m::asm::bootload(vectors as *const u32)
        }
    }
}

/// Starts again.
pub fn restart() -> ! {
    SCB::sys_reset()
}

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    restart()
}

/// What wakes the processor.
#[derive(Clone, Copy)]
enum Interrupt {
    /// The line's receiver.
    Line = 0,
    /// The Ethernet controller.
    Network = 13,
}

// SAFETY: the board has these numbers for them.
unsafe impl cortex_m::interrupt::InterruptNumber for Interrupt {
    fn number(self) -> u16 {
        self as u16
    }
}
