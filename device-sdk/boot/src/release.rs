//! Whether a device may take a release, and which of its images. The agent asks before it erases
//! anything, the bootloader asks again before it starts anything.

use embedded_storage::nor_flash::NorFlash;
use tidegate_wire::crypto::Sha256;
use tidegate_wire::digest::Digest;
use tidegate_wire::key_set::KeySet;
use tidegate_wire::manifest::{Component, DEVICE_BYTES, Encoding, Manifest, Side, Uuid};
use tidegate_wire::message::{Refusal, capability};

use crate::flash::{Flash, FlashFailed};
use crate::layout::{Kind, Layout, MAX_PARTS, Part, Region};
use crate::state::State;

/// What a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Who made it.
    pub vendor: Uuid,
    /// What kind of device it is.
    pub class: Uuid,
    /// Its name in manifests: the first 16 bytes of the SHA-256 of its identity.
    pub device: [u8; DEVICE_BYTES],
    /// Bits of [`capability`]. Of the image that runs: the bootloader needs none of them.
    pub capabilities: u64,
}

/// One image to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which entry of the manifest.
    pub entry: u8,
    /// Which part it is for.
    pub part: u8,
    /// Where it is written.
    pub to: Region,
    /// Bytes of the image, and that travel.
    pub size: u32,
    /// Bytes that travel.
    pub travelling: u32,
    /// Its SHA-256.
    pub digest: Digest,
    /// How it travels.
    pub travels: Travels,
}

/// How an image travels, as far as a device needs to know it from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Travels {
    /// As it is.
    AsItIs,
    /// Compressed.
    Packed,
    /// As changes to the image that runs, compressed.
    Changes {
        /// Bytes of that image.
        base_size: u32,
    },
}

impl From<Encoding> for Travels {
    fn from(encoding: Encoding) -> Travels {
        match encoding {
            Encoding::None => Travels::AsItIs,
            Encoding::Heatshrink { .. } => Travels::Packed,
            Encoding::Delta { base_size, .. } => Travels::Changes { base_size },
        }
    }
}

/// The images to take, one for each component of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan(pub [Option<Choice>; MAX_PARTS]);

impl Plan {
    /// The images.
    pub fn iter(&self) -> impl Iterator<Item = &Choice> {
        self.0.iter().flatten()
    }
}

/// Holds a manifest, whose signature is right, against what the device is and its state.
///
/// # Errors
/// Why it must not be taken.
pub fn judge(
    manifest: &Manifest<'_>,
    identity: &Identity,
    state: &State,
    keys: &KeySet,
    time: Option<u64>,
) -> Result<(), Refusal> {
    let needs = manifest.needs;
    let (least, most) = manifest.current;
    // One after the other: as a list of all of them they took devices 0.2 KB more.
    demand(manifest.vendor == identity.vendor, Refusal::Vendor)?;
    demand(manifest.class == identity.class, Refusal::Class)?;
    demand(manifest.devices.contains(&identity.device), Refusal::Device)?;
    judge_sequence(manifest.sequence, state, keys)?;
    demand((least..=most).contains(&state.sequence), Refusal::Current)?;
    demand(needs.capabilities & !identity.capabilities == 0, Refusal::Needs)?;
    demand(needs.boot_abi <= crate::BOOT_ABI, Refusal::Needs)?;
    let in_time = manifest.not_after.zip(time).is_none_or(|(end, now)| now <= end);
    demand(in_time, Refusal::Expired)
}

/// That part of [`judge`] that the bootloader repeats.
pub(crate) fn judge_sequence(sequence: u64, state: &State, keys: &KeySet) -> Result<(), Refusal> {
    demand(sequence >= state.floor, Refusal::Floor)?;
    demand(sequence > state.sequence, Refusal::Sequence)?;
    demand(sequence <= keys.sequence_cap, Refusal::SequenceCap)
}

fn demand(holds: bool, refusal: Refusal) -> Result<(), Refusal> {
    if holds { Ok(()) } else { Err(refusal) }
}

/// Chooses an image for each component: the first entry that this device can use. `is_base` says
/// whether the image that a part runs has this size and digest.
///
/// # Errors
/// A component has no place here, or no entry that can be used.
#[inline(never)]
pub fn choose(
    manifest: &Manifest<'_>,
    identity: &Identity,
    layout: &Layout<'_>,
    state: &State,
    mut is_base: impl FnMut(usize, u32, &Digest) -> Result<bool, FlashFailed>,
) -> Result<Result<Plan, Refusal>, FlashFailed> {
    let mut plan = Plan([None; MAX_PARTS]);
    let mut wanted = [false; MAX_PARTS];
    for (entry, component) in manifest.components.iter().enumerate() {
        let Some((n, part)) = layout.part(component.id) else { return Ok(Err(Refusal::Component)) };
        if component.size > part.room() {
            return Ok(Err(Refusal::Size));
        }
        let (side, to) = target(n, part, state);
        let fits = component.side.is_none_or(|wanted| wanted == side);
        let usable = fits
            && can_decode(&component, identity.capabilities)
            && match component.encoding {
                Encoding::Delta { base_size, base, .. } => is_base(n, base_size, &base)?,
                Encoding::None | Encoding::Heatshrink { .. } => true,
            };
        let (Some(place), Some(wanted)) = (plan.0.get_mut(n), wanted.get_mut(n)) else {
            return Ok(Err(Refusal::Component));
        };
        *wanted = true;
        if place.is_none() && usable {
            *place = Some(Choice {
                entry: entry as u8,
                part: n as u8,
                to,
                size: component.size,
                travelling: component.travelling(),
                digest: component.digest,
                travels: component.encoding.into(),
            });
        }
    }
    let complete = plan.0.iter().zip(&wanted).all(|(choice, wanted)| choice.is_some() || !wanted);
    Ok(if complete { Ok(plan) } else { Err(Refusal::Component) })
}

/// Where a new image of a part goes, and the side at which it will run.
pub(crate) fn target(n: usize, part: &Part, state: &State) -> (Side, Region) {
    match (part.kind, state.sides >> n & 1) {
        (Kind::Swapped, _) => (Side::A, part.b),
        (Kind::InPlace, 0) => (Side::B, part.b),
        (Kind::InPlace, _) => (Side::A, part.a),
    }
}

fn can_decode(component: &Component<'_>, capabilities: u64) -> bool {
    let needs = match component.encoding {
        Encoding::None => 0,
        Encoding::Heatshrink { .. } => capability::HEATSHRINK,
        Encoding::Delta { .. } => capability::HEATSHRINK | capability::DELTA,
    };
    needs & !capabilities == 0
}

/// The SHA-256 of bytes in flash.
///
/// # Errors
/// The flash has failed.
#[inline(never)]
pub fn digest_of<F: NorFlash, H: Sha256>(
    flash: &mut Flash<'_, F>,
    at: u32,
    length: u32,
) -> Result<Digest, FlashFailed> {
    let mut hash = H::default();
    flash.each(at, length, |piece| hash.update(piece))?;
    Ok(hash.finish())
}
