//! Free ports of the loopback interface.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Result, bail};

/// Below the range from which the kernel takes the ports of outgoing connections: from there one
/// may take a port that was free a moment ago, or even connect to itself while nothing listens.
const FIRST: u16 = 10_000;
const COUNT: u16 = 20_000;

static NEXT: AtomicU16 = AtomicU16::new(0);

/// An address that nothing listens on at this moment, a different one at each call.
///
/// # Errors
/// When none of the ports is free.
pub fn free() -> Result<SocketAddr> {
    // Processes begin at different places, so that they do not ask for the same port at once.
    let start = (std::process::id().wrapping_mul(7_919) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let offset = (u32::from(start) + u32::from(step)) % u32::from(COUNT);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, FIRST + offset as u16));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("none of the ports {FIRST} to {} is free", FIRST + COUNT - 1)
}
