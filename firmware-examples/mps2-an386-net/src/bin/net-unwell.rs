//! A release whose self-test fails: it must not stay.
#![no_std]
#![no_main]

#[cortex_m_rt::entry]
fn main() -> ! {
    mps2_an386_net::run("3.0.0", false)
}
