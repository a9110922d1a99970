//! The device that all programs are for.

use tidegate_agent::{Budget, Config, Obedience};
use tidegate_boot::{Identity, Kind, Layout, Part, Region, Trust};
use tidegate_wire::ed25519::PublicKey;
use tidegate_wire::message::capability;

const fn region(from: u32, to: u32) -> Region {
    Region { from, to }
}

/// One image, exchanged by the bootloader.
const PARTS: [Part; 1] = [Part {
    id: 0,
    kind: Kind::Swapped,
    a: region(0x1_0000, 0x8_0000),
    b: region(0x8_0000, 0xf_1000),
}];

/// Where things are in flash.
pub const LAYOUT: Layout<'static> = Layout {
    state: region(0, 0x2000),
    keys: region(0x2000, 0x4000),
    ledgers: [region(0x4000, 0x6000), region(0x6000, 0x8000)],
    parts: &PARTS,
};

const fn root(key: [u8; 32]) -> PublicKey {
    match PublicKey::new(key) {
        Ok(key) => key,
        Err(_) => panic!("a weak key"),
    }
}

/// Roots and the first key set.
pub const TRUST: Trust<'static> =
    Trust { roots: [root([0x11; 32]), root([0x22; 32])], factory: &FACTORY };
/// The key set that the factory puts in.
const FACTORY: [u8; 320] = [0x55; 320];

/// What an agent is built with.
pub static CONFIG: Config<'static> = Config {
    layout: LAYOUT,
    trust: TRUST,
    identity: Identity {
        vendor: [1; 16],
        class: [2; 16],
        device: [3; 16],
        capabilities: capability::HEATSHRINK | capability::DELTA | capability::KEY_SETS,
    },
    factory_version: "1.0.0",
    block: 472,
    window: 4,
    message: 1_280,
    budget: Budget { erases: 512, tries: 8 },
    obedience: Obedience::Gateway,
};
