//! A release whose self-test fails: it must not stay.
#![no_std]
#![no_main]

#[riscv_rt::entry]
fn main() -> ! {
    qemu_riscv32_sensor::run("3.0.0", false)
}
