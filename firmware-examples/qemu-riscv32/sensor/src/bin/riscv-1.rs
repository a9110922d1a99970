//! The first release.
#![no_std]
#![no_main]

#[riscv_rt::entry]
fn main() -> ! {
    qemu_riscv32_sensor::run("1.0.0", true)
}
