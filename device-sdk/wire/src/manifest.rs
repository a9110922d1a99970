//! What a firmware release is, for whom, and how it is taken in: docs/formats/manifest.md.
//!
//! Invariants:
//! - [`Manifest::read`] takes what [`Manifest::write`] makes, and keys from 0 that it does not
//!   know; everything else is refused, so that each table's range holds for every value here.
//! - A manifest proves nothing. On a device only what [`crate::sign1::open`] has let through is
//!   read, and what a device demands of it is decided in its agent and again in its bootloader.
//!
//! Not here: signatures, conditions against the state of a device.

mod component;
mod policy;
mod write;

#[cfg(test)]
mod tests;

pub use component::{
    Component, Components, Encoding, MAX_COMPONENTS, MAX_ID, MAX_IMAGE, MAX_VERSION, Side,
};
pub use policy::{Apply, Policy};

use crate::cbor::{Field, Fields, FormError, Reader, Value};

/// Version of the table, key 0.
pub const FORMAT: u32 = 1;
/// Most bytes of a manifest without its envelope.
pub const MAX_MANIFEST: usize = 1_024;
/// Most bytes of a manifest in its envelope.
pub const MAX_ENVELOPE: usize = MAX_MANIFEST + crate::sign1::OVERHEAD + 3;
/// Most devices that a manifest names.
pub const MAX_DEVICES: usize = 16;
/// Bytes of a device's name in a manifest: the first of the SHA-256 of its identity.
pub const DEVICE_BYTES: usize = 16;
/// Most bytes of a label.
pub const MAX_LABEL: usize = 64;

/// Names of the keys, as the format's table numbers them.
pub(crate) mod key {
    pub(crate) const FORMAT: u64 = 0;
    pub(crate) const SEQUENCE: u64 = 1;
    pub(crate) const VENDOR: u64 = 2;
    pub(crate) const CLASS: u64 = 3;
    pub(crate) const DEVICES: u64 = 4;
    pub(crate) const FLOOR: u64 = 5;
    pub(crate) const COMPONENTS: u64 = 6;
    pub(crate) const CURRENT: u64 = 7;
    pub(crate) const NEEDS: u64 = 8;
    pub(crate) const NOT_AFTER: u64 = 9;
    pub(crate) const POLICY: u64 = 10;
    pub(crate) const LABEL: u64 = 11;
}

/// A vendor's or a class's name: a UUID (RFC 4122), of a class in version 5.
pub type Uuid = [u8; 16];

/// A firmware release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest<'a> {
    /// Rises with every release of a class; never 0.
    pub sequence: u64,
    /// Who made the device.
    pub vendor: Uuid,
    /// What kind of device it is.
    pub class: Uuid,
    /// Which devices of the class; all when there are none.
    pub devices: Devices<'a>,
    /// Once this release is confirmed, the device takes no release below this sequence any more.
    pub floor: u64,
    /// Its images.
    pub components: Components<'a>,
    /// Sequence that the device has to run now, smallest and greatest.
    pub current: (u64, u64),
    /// What the device must be able to do.
    pub needs: Needs,
    /// Seconds since 1970 after which a device that knows the time takes it no more.
    pub not_after: Option<u64>,
    /// How it is taken in.
    pub policy: Policy,
    /// For people.
    pub label: &'a str,
}

/// What a device must be able to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Bits of [`crate::message::capability`] that all have to be there.
    pub capabilities: u64,
    /// Least version of the contract between bootloader and image.
    pub boot_abi: u32,
}

/// Names of devices, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Devices<'a>(&'a [u8]);

impl<'a> Devices<'a> {
    /// Every device of the class.
    pub const ALL: Devices<'static> = Devices(&[]);

    /// The names, one behind the other; `None` when they are none, too many, or cut short.
    #[must_use]
    pub fn new(names: &'a [u8]) -> Option<Devices<'a>> {
        let whole = names.len().is_multiple_of(DEVICE_BYTES);
        let fits = (1..=MAX_DEVICES * DEVICE_BYTES).contains(&names.len());
        (whole && fits).then_some(Devices(names))
    }

    /// Whether the device of this name is meant.
    #[must_use]
    pub fn contains(&self, device: &[u8; DEVICE_BYTES]) -> bool {
        self.0.is_empty() || self.0.chunks_exact(DEVICE_BYTES).any(|name| name == device)
    }
}

const TABLE: [Field; 12] = [
    Field::number(key::FORMAT, FORMAT..=FORMAT).required(),
    Field::long(key::SEQUENCE, 1).required(),
    Field::bytes(key::VENDOR, 16..=16).required(),
    Field::bytes(key::CLASS, 16..=16).required(),
    Field::bytes(key::DEVICES, 1..=(MAX_DEVICES * DEVICE_BYTES) as u32),
    Field::long(key::FLOOR, 0).required(),
    Field::item(key::COMPONENTS).required(),
    Field::item(key::CURRENT),
    Field::item(key::NEEDS),
    Field::long(key::NOT_AFTER, 0),
    Field::item(key::POLICY),
    Field::text(key::LABEL, MAX_LABEL),
];

impl<'a> Manifest<'a> {
    /// Reads a manifest.
    ///
    /// # Errors
    /// See [`FormError`]; its keys are those of the manifest, of a component or of the policy.
    pub fn read(bytes: &'a [u8]) -> Result<Manifest<'a>, FormError> {
        let mut reader = Reader::new(bytes);
        let values = Fields::read(&mut reader, &TABLE)?;
        reader.end()?;
        // By reference, here and elsewhere: taken apart by value they are copied, one by one.
        let [_, sequence, vendor, class, devices, floor, components, current, needs, rest @ ..] =
            &values;
        let [not_after, policy, label] = rest;
        let (sequence, floor) = (sequence.long(), floor.long());
        // A release below its own floor could never be installed twice, nor be reverted to.
        if floor > sequence {
            return Err(FormError::range(key::FLOOR));
        }
        let current = read_pair(current, key::CURRENT)?.unwrap_or((0, u64::MAX));
        if current.0 > current.1 {
            return Err(FormError::range(key::CURRENT));
        }
        let (capabilities, boot_abi) = read_pair(needs, key::NEEDS)?.unwrap_or_default();
        let boot_abi = u32::try_from(boot_abi).map_err(|_| FormError::range(key::NEEDS))?;
        let devices = match devices.bytes() {
            Some(names) => Devices::new(names).ok_or(FormError::range(key::DEVICES))?,
            None => Devices::ALL,
        };
        Ok(Manifest {
            sequence,
            vendor: vendor.array(),
            class: class.array(),
            devices,
            floor,
            components: Components::read(components, key::COMPONENTS)?,
            current,
            needs: Needs { capabilities, boot_abi },
            not_after: not_after.found(),
            policy: Policy::read(policy)?,
            label: label.text(),
        })
    }
}

/// A list of two numbers, if it is there.
fn read_pair(value: &Value<'_>, key: u64) -> Result<Option<(u64, u64)>, FormError> {
    let Some(mut reader) = value.item() else { return Ok(None) };
    if reader.array()? != 2 {
        return Err(FormError::range(key));
    }
    Ok(Some((reader.uint()?, reader.uint()?)))
}
