//! The climate sensor on a Raspberry Pi Pico: the BME280 at GP4 (SDA) and GP5 (SCL), the line at GP0 (out) and GP1 (in).
#![no_std]
#![no_main]

use embassy_executor::Spawner;
use embassy_rp::bind_interrupts;
use embassy_rp::clocks::RoscRng;
use embassy_rp::i2c::{self, I2c};
use embassy_rp::peripherals::{I2C0, UART0};
use embassy_rp::uart::{self, BufferedUart};

bind_interrupts!(struct Interrupts {
    I2C0_IRQ => i2c::InterruptHandler<I2C0>;
    UART0_IRQ => uart::BufferedInterruptHandler<UART0>;
});

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    let board = embassy_rp::init(embassy_rp::config::Config::default());
    let bus =
        I2c::new_async(board.I2C0, board.PIN_5, board.PIN_4, Interrupts, i2c::Config::default());
    let (mut receive, mut send) = ([0; 512], [0; 512]);
    let port = BufferedUart::new(
        board.UART0,
        board.PIN_0,
        board.PIN_1,
        Interrupts,
        &mut send,
        &mut receive,
        uart::Config::default(), // 115,200 baud.
    );
    firmware_climate::run(bus, port, RoscRng.next_u64(), ()).await
}
