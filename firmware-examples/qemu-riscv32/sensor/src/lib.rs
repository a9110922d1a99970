//! The pump sensor on QEMU's `virt` with a RISC-V.
#![no_std]

use firmware_pump::Device;
use qemu_riscv32::{Board, IDENTITY, LAYOUT, Nor, restart, trust};

struct Pump(Board);

impl firmware_pump::Board for Pump {
    type Nor = Nor;

    fn micros(&mut self) -> u64 {
        self.0.clock.micros()
    }

    fn read(&mut self) -> Option<u8> {
        self.0.line.read()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.line.write(bytes);
    }

    fn nor(&mut self) -> &mut Nor {
        &mut self.0.nor
    }

    fn feed_watchdog(&mut self) {}

    fn sleep(&mut self) {
        self.0.sleep();
    }
}

/// Runs until the device has to start again. Releases whose self-test fails must not stay.
pub fn run(version: &'static str, self_test: bool) -> ! {
    let mut board = Board::take();
    let (Some(trust), Ok(starts)) = (trust(), board.nor.count_start()) else { restart() };
    let device = Device { layout: LAYOUT, trust, identity: IDENTITY, starts };
    firmware_pump::run(&mut Pump(board), &device, version, self_test);
    restart()
}
