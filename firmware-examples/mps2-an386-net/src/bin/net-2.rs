//! The second release.
#![no_std]
#![no_main]

#[cortex_m_rt::entry]
fn main() -> ! {
    mps2_an386_net::run("2.0.0", true)
}
