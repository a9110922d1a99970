//! The climate sensor on a Nordic nRF52840 DK: the BME280 at P0.26 (SDA) and P0.27 (SCL), the line by the debugger's USB.
//! It takes signed upgrades; `nrf52840-dk-boot` has to be at the beginning of the flash.
#![no_std]
#![no_main]

use cortex_m::peripheral::SCB;
use embassy_executor::Spawner;
use embassy_nrf::buffered_uarte::{self, BufferedUarte};
use embassy_nrf::nvmc::Nvmc;
use embassy_nrf::peripherals::{RNG, TWISPI0, UARTE0};
use embassy_nrf::rng::{self, Rng};
use embassy_nrf::twim::{self, Twim};
use embassy_nrf::{bind_interrupts, uarte};
use firmware_climate::Upgrading;
use nrf52840_board::{LAYOUT, identity, trust, watchdog};

bind_interrupts!(struct Interrupts {
    RNG => rng::InterruptHandler<RNG>;
    TWISPI0 => twim::InterruptHandler<TWISPI0>;
    UARTE0 => buffered_uarte::InterruptHandler<UARTE0>;
});

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    let board = embassy_nrf::init(embassy_nrf::config::Config::default());
    let mut seed = [0; 8];
    Rng::new(board.RNG, Interrupts).fill_bytes(&mut seed).await;
    let mut written = [0; 16];
    let bus = Twim::new(
        board.TWISPI0,
        Interrupts,
        board.P0_26,
        board.P0_27,
        twim::Config::default(),
        &mut written,
    );
    // While a page is erased, for 85 ms, nobody takes anything out: half of it is filled meanwhile.
    let (mut receive, mut send) = ([0; 4096], [0; 512]);
    let port = BufferedUarte::new(
        board.UARTE0,
        board.TIMER0,
        board.PPI_CH0,
        board.PPI_CH1,
        board.PPI_GROUP0,
        board.P0_08,
        board.P0_06,
        Interrupts,
        uarte::Config::default(), // 115,200 baud.
        &mut receive,
        &mut send,
    );
    let (Some(trust), Some(mut watchdog)) = (trust(), watchdog(board.WDT)) else {
        SCB::sys_reset()
    };
    let config = firmware_climate::config(LAYOUT, trust, identity());
    let nor = Nvmc::new(board.NVMC);
    let upgrading = Upgrading::start(&config, nor, || watchdog.pet());
    firmware_climate::run(bus, port, u64::from_le_bytes(seed), upgrading).await
}
