//! Where things are in flash, what the device is, whom it trusts.

use tidegate_boot::{Identity, Kind, Layout, Part, Region, Trust};
use tidegate_wire::ed25519::PublicKey;
use tidegate_wire::message::capability;

const fn region(from: u32, to: u32) -> Region {
    Region { from, to }
}

/// One image, which the bootloader exchanges page by page: 192 KiB, and a page more.
static PARTS: [Part; 1] = [Part {
    id: 0,
    kind: Kind::Swapped,
    a: region(0x1_0000, 0x4_0000),
    b: region(0x4_0000, 0x7_1000),
}];

/// Where things are in flash. The bootloader has the 32 KiB before.
pub static LAYOUT: Layout<'static> = Layout {
    state: region(0x8000, 0xa000),
    keys: region(0xa000, 0xc000),
    ledgers: [region(0xc000, 0xe000), region(0xe000, 0x1_0000)],
    parts: &PARTS,
};

/// What the device is: one of its class, by the number that the chip has from its factory.
#[must_use]
pub fn identity() -> Identity {
    const NUMBER: *const [u32; 2] = 0x1000_0060 as *const [u32; 2];
    // SAFETY: FICR.DEVICEID, which is only ever read.
    let [low, high] = unsafe { NUMBER.read_volatile() };
    let mut device = [0x33; 16];
    device[..4].copy_from_slice(&low.to_le_bytes());
    device[4..8].copy_from_slice(&high.to_le_bytes());
    let capabilities = capability::HEATSHRINK | capability::DELTA | capability::KEY_SETS;
    Identity { vendor: [0x11; 16], class: [0x52; 16], device, capabilities }
}

/// Roots and the first key set. These keys are everybody's: make your own for devices that leave the desk.
#[must_use]
pub fn trust() -> Option<Trust<'static>> {
    let root = |key: &[u8; 32]| PublicKey::new(*key).ok();
    let first = root(include_bytes!("../../../keys/root-1.pub"))?;
    let second = root(include_bytes!("../../../keys/root-2.pub"))?;
    Some(Trust { roots: [first, second], factory: include_bytes!("../../../keys/factory.keyset") })
}
