//! Where things are in flash, what the device is, whom it trusts.

use tidegate_boot::{Identity, Kind, Layout, Part, Region, Trust};
use tidegate_wire::ed25519::PublicKey;
use tidegate_wire::message::capability;

const fn region(from: u32, to: u32) -> Region {
    Region { from, to }
}

/// The unit in which starts are counted.
pub(crate) const STARTS: u32 = 0x18_0000;

/// One image, which the bootloader exchanges as one page of 256 KiB, and a page more.
static PARTS: [Part; 1] = [Part {
    id: 0,
    kind: Kind::Swapped,
    a: region(0x20_0000, 0x24_0000),
    b: region(0x24_0000, 0x2c_0000),
}];

/// Where things are in flash, in units of 256 KiB.
pub static LAYOUT: Layout<'static> = Layout {
    state: region(0, 0x8_0000),
    keys: region(0x8_0000, 0x10_0000),
    ledgers: [region(0x10_0000, 0x14_0000), region(0x14_0000, 0x18_0000)],
    parts: &PARTS,
};

/// What the device is.
pub const IDENTITY: Identity = Identity {
    vendor: [0x11; 16],
    class: [0x24; 16],
    device: [0x33; 16],
    capabilities: capability::HEATSHRINK | capability::DELTA | capability::KEY_SETS,
};

/// Roots and the first key set. These keys are everybody's: make your own for devices that leave the desk.
#[must_use]
pub fn trust() -> Option<Trust<'static>> {
    let root = |key: &[u8; 32]| PublicKey::new(*key).ok();
    let first = root(include_bytes!("../../../keys/root-1.pub"))?;
    let second = root(include_bytes!("../../../keys/root-2.pub"))?;
    Some(Trust { roots: [first, second], factory: include_bytes!("../../../keys/factory.keyset") })
}
