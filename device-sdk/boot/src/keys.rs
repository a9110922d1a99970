//! The key set that counts.

use embedded_storage::nor_flash::NorFlash;
use tidegate_wire::crc32c::crc32c;
use tidegate_wire::crypto::Crypto;
use tidegate_wire::ed25519::PublicKey;
use tidegate_wire::key_set::{KeySet, MAX_KEY_SET};

use crate::flash::{Flash, FlashFailed};
use crate::layout::{Layout, Region};
use crate::state::State;

const MAGIC: [u8; 4] = *b"TGK1";
const HEADER: usize = 64;

/// What a bootloader is built with.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'t> {
    /// Keys that sign key sets. Two, so that one can be lost; both may be the same.
    pub roots: [PublicKey; 2],
    /// The first key set, in its envelope.
    pub factory: &'t [u8],
}

/// Key sets in flash.
#[derive(Clone, Copy, Debug)]
pub struct KeyStore;

impl KeyStore {
    /// The key set that the state names; `None` when there is none that a root has signed, so that
    /// no release can be taken.
    ///
    /// # Errors
    /// The flash has failed.
    #[inline(never)]
    pub fn load<F: NorFlash, C: Crypto>(
        flash: &mut Flash<'_, F>,
        layout: &Layout<'_>,
        trust: &Trust<'_>,
        state: &State,
        crypto: &C,
    ) -> Result<Option<KeySet>, FlashFailed> {
        let open = |envelope: &[u8]| KeySet::open(envelope, &trust.roots, crypto).ok()?.ok();
        if state.key_set == 0 {
            return Ok(open(trust.factory));
        }
        for page in pages(layout) {
            let mut envelope = [0; MAX_KEY_SET];
            if let Some(length) = read(flash, page, state.key_set, &mut envelope)?
                && let Some(set) = open(&envelope[..length])
                && set.version == state.key_set
            {
                return Ok(Some(set));
            }
        }
        Ok(None)
    }

    /// Stores a key set that was opened, beside the one that counts. It counts when the state says so.
    ///
    /// # Errors
    /// The flash has failed.
    #[inline(never)]
    pub fn store<F: NorFlash>(
        flash: &mut Flash<'_, F>,
        layout: &Layout<'_>,
        state: &State,
        version: u32,
        envelope: &[u8],
    ) -> Result<(), FlashFailed> {
        let [first, second] = pages(layout);
        let mut old = [0; MAX_KEY_SET];
        let counts = read(flash, first, state.key_set, &mut old)?.is_some();
        let page = if counts { second } else { first };
        flash.erase(page.from, page.to)?;
        flash.write(page.from + HEADER as u32, envelope)?;
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&MAGIC);
        // Bounded by the reader of the envelope.
        header[4..6].copy_from_slice(&(envelope.len() as u16).to_le_bytes());
        header[8..12].copy_from_slice(&version.to_le_bytes());
        header[12..16].copy_from_slice(&crc32c(envelope).to_le_bytes());
        let crc = crc32c(&header[..60]);
        header[60..].copy_from_slice(&crc.to_le_bytes());
        flash.write(page.from, &header)
    }
}

fn pages(layout: &Layout<'_>) -> [Region; 2] {
    let Region { from, to } = layout.keys;
    let middle = from + layout.keys.length() / 2;
    [Region { from, to: middle }, Region { from: middle, to }]
}

/// The length of the envelope of this version, if the page has it.
fn read<F: NorFlash>(
    flash: &mut Flash<'_, F>,
    page: Region,
    version: u32,
    envelope: &mut [u8; MAX_KEY_SET],
) -> Result<Option<usize>, FlashFailed> {
    let mut header = [0; HEADER];
    flash.read(page.from, &mut header)?;
    let length = usize::from(u16::from_le_bytes([header[4], header[5]]));
    let right = header[..4] == MAGIC
        && crc32c(&header[..60]).to_le_bytes() == header[60..]
        && header[8..12] == version.to_le_bytes();
    let Some(envelope) = envelope.get_mut(..length).filter(|_| right) else { return Ok(None) };
    flash.read(page.from + HEADER as u32, envelope)?;
    Ok((crc32c(envelope).to_le_bytes() == header[12..16]).then_some(length))
}
