//! Images, and who signs them.

use tidegate_wire::crypto::Sha256;
use tidegate_wire::digest::Digest;
use tidegate_wire::key_set::{KeySet, Keys, MAX_KEY_SET};
use tidegate_wire::manifest::{
    Component, Components, Devices, Encoding, MAX_ENVELOPE, MAX_MANIFEST, Manifest, Needs, Policy,
    Side,
};
use tidegate_wire::sign1::{Purpose, seal, seal_detached};

use crate::crypto::{HostHash, Key};
use crate::random::Random;

/// The vendor and the class of everything here.
pub const VENDOR: [u8; 16] = [0x11; 16];
/// See [`VENDOR`].
pub const CLASS: [u8; 16] = [0x22; 16];

/// An image that resembles code: runs, repetitions, and words that differ a little.
#[must_use]
pub fn image(seed: u64, size: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut image = Vec::new();
    while image.len() < size {
        match random.below(4) {
            0 => image.extend(random.bytes(24)),
            1 => image.extend([0, 0xbf].repeat(1 + random.below(12))),
            _ if image.len() > 64 => {
                let from = random.below(image.len() - 32);
                let mut again = image[from..from + 32].to_vec();
                again[random.below(32)] = random.number() as u8;
                image.extend(again);
            }
            _ => image.push(random.number() as u8),
        }
    }
    image.truncate(size);
    image
}

/// The next version of an image: some bytes changed, some put in, some taken out.
#[must_use]
pub fn changed(image: &[u8], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut changed = image.to_vec();
    for _ in 0..20 {
        let at = random.below(changed.len().saturating_sub(64).max(1));
        match random.below(3) {
            0 => changed[at] ^= 0x5a,
            1 => drop(changed.splice(at..at, random.bytes(12))),
            // A small image stays one.
            _ if changed.len() > 64 => drop(changed.drain(at..at + 8)),
            _ => changed[at] ^= 0x5a,
        }
    }
    changed
}

/// The digest of bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> Digest {
    HostHash::of(bytes)
}

/// An entry of a manifest, for an image as it is.
#[must_use]
pub fn component(id: u8, image: &[u8], side: Option<Side>) -> Component<'static> {
    Component {
        id,
        version: "2.0.0",
        size: image.len() as u32,
        digest: digest(image),
        encoding: Encoding::None,
        side,
    }
}

/// A manifest with nothing special.
///
/// # Panics
/// There are no components.
#[must_use]
pub fn manifest<'a>(sequence: u64, components: &'a [Component<'a>]) -> Manifest<'a> {
    Manifest {
        sequence,
        vendor: VENDOR,
        class: CLASS,
        devices: Devices::ALL,
        floor: 0,
        components: Components::new(components).expect("components"),
        current: (0, u64::MAX),
        needs: Needs::default(),
        not_after: None,
        policy: Policy::default(),
        label: "",
    }
}

/// A manifest in its envelope.
///
/// # Panics
/// It is too long.
#[must_use]
pub fn signed(manifest: &Manifest<'_>, key: &Key) -> Vec<u8> {
    sealed(&written(manifest), Purpose::FirmwareManifest, key)
}

/// A second signature.
///
/// # Panics
/// The manifest is too long.
#[must_use]
pub fn second(manifest: &Manifest<'_>, key: &Key) -> Vec<u8> {
    let mut out = [0; 128];
    let payload = written(manifest);
    let length = seal_detached(&payload, Purpose::FirmwareManifest, key, &mut out).expect("room");
    out[..length].to_vec()
}

/// The bytes that are signed.
///
/// # Panics
/// They are too long.
#[must_use]
pub fn written(manifest: &Manifest<'_>) -> Vec<u8> {
    let mut out = [0; MAX_MANIFEST];
    let length = manifest.write(&mut out).expect("a manifest that fits");
    out[..length].to_vec()
}

/// A key set in its envelope.
///
/// # Panics
/// There are no keys, or too many.
#[must_use]
pub fn key_set(
    version: u32,
    threshold: u8,
    keys: &[&Key],
    sequence_cap: u64,
    root: &Key,
) -> Vec<u8> {
    let keys: Vec<_> = keys.iter().map(|key| key.public()).collect();
    let keys = Keys::new(&keys).expect("one to four keys");
    let mut out = [0; MAX_KEY_SET];
    let set = KeySet { version, threshold, keys, sequence_cap };
    let length = set.write(&mut out).expect("room");
    sealed(&out[..length], Purpose::DeviceKeySet, root)
}

/// Any bytes in an envelope.
///
/// # Panics
/// They are too long.
#[must_use]
pub fn sealed(payload: &[u8], purpose: Purpose, key: &Key) -> Vec<u8> {
    let mut out = [0; MAX_ENVELOPE + 1_024];
    let length = seal(payload, purpose, key, &mut out).expect("room");
    out[..length].to_vec()
}
