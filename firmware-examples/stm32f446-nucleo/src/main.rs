//! The climate sensor on an ST Nucleo-F446RE: the BME280 at PB9 (SDA, D14) and PB8 (SCL, D15), the line by the debugger's
//! USB.
#![no_std]
#![no_main]

use cortex_m as _; // Its critical section.
use embassy_executor::Spawner;
use embassy_stm32::i2c::{self, I2c};
use embassy_stm32::peripherals::{DMA1_CH0, DMA1_CH6, I2C1, USART2};
use embassy_stm32::usart::{self, BufferedUart};
use embassy_stm32::{bind_interrupts, dma, uid};
use embassy_time as _; // Its resolution.

bind_interrupts!(struct Interrupts {
    DMA1_STREAM0 => dma::InterruptHandler<DMA1_CH0>;
    DMA1_STREAM6 => dma::InterruptHandler<DMA1_CH6>;
    I2C1_ER => i2c::ErrorInterruptHandler<I2C1>;
    I2C1_EV => i2c::EventInterruptHandler<I2C1>;
    USART2 => usart::BufferedInterruptHandler<USART2>;
});

#[embassy_executor::main]
async fn main(_spawner: Spawner) {
    let board = embassy_stm32::init(embassy_stm32::Config::default());
    let bus = I2c::new(
        board.I2C1,
        board.PB8,
        board.PB9,
        board.DMA1_CH6,
        board.DMA1_CH0,
        Interrupts,
        i2c::Config::default(),
    );
    let (mut receive, mut send) = ([0; 512], [0; 512]);
    let port = BufferedUart::new(
        board.USART2,
        board.PA3,
        board.PA2,
        &mut send,
        &mut receive,
        Interrupts,
        usart::Config::default(), // 115,200 baud.
    );
    let Ok(port) = port else { panic!("115,200 baud are no speed of this port") };
    // It has no source of random numbers: its serial number, and a clock that nothing has set.
    let serial = uid::uid().iter().fold(0, |sum: u64, byte| sum.rotate_left(7) ^ u64::from(*byte));
    firmware_climate::run(bus, port, serial, ()).await
}
