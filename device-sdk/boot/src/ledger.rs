//! A release in flash: its manifest, and a journal of the pages that are there.

use embedded_storage::nor_flash::NorFlash;
use tidegate_wire::crc32c::{crc32c, extend};
use tidegate_wire::manifest::MAX_ENVELOPE;
use tidegate_wire::sign1::look_into;

use crate::flash::{Flash, FlashFailed, MAX_WORD};
use crate::layout::{JOURNAL, Region};

const MAGIC: [u8; 4] = *b"TGL1";
const HEADER: usize = 64;
const ENVELOPE: u32 = HEADER as u32;
const ENTRY: usize = 16;
const ENTRY_KIND: u8 = 0x50;

/// A ledger that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ledger {
    region: Region,
    /// Bytes of the manifest's envelope and of the second signature.
    envelope: u16,
    second: u16,
    /// Names the ledger in the checksums of its journal.
    seed: u32,
    /// The next free place of the journal.
    place: u32,
    /// Which rollout it belongs to.
    pub campaign: u64,
    /// Sequence that ran when it was taken.
    pub from: u64,
}

/// What a ledger is begun with.
#[derive(Clone, Copy, Debug)]
pub struct Taken<'a> {
    /// Which rollout it belongs to.
    pub campaign: u64,
    /// Sequence that runs.
    pub from: u64,
    /// The manifest in its envelope.
    pub envelope: &'a [u8],
    /// The second signature.
    pub second: Option<&'a [u8]>,
}

/// A page of a new image that is in flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageDone {
    /// Which part.
    pub part: u8,
    /// Which page of its image.
    pub page: u16,
    /// Bytes that had travelled at its end.
    pub travelled: u32,
    /// CRC-32C of the image's bytes in it.
    pub crc: u32,
}

impl Ledger {
    /// Begins a ledger: erases the region, writes the envelope, then the header.
    ///
    /// # Errors
    /// The flash has failed. An envelope that is too long was refused before by its reader.
    pub fn begin<F: NorFlash>(
        flash: &mut Flash<'_, F>,
        region: Region,
        taken: &Taken<'_>,
    ) -> Result<Ledger, FlashFailed> {
        let second = taken.second.unwrap_or_default();
        flash.erase(region.from, region.to)?;
        write_both(flash, region.from + ENVELOPE, taken.envelope, second)?;
        let header = header(taken);
        flash.write(region.from, &header)?;
        Ok(Ledger {
            region,
            envelope: first_half(taken.envelope.len()),
            second: first_half(second.len()),
            seed: seed(&header),
            place: 0,
            campaign: taken.campaign,
            from: taken.from,
        })
    }

    /// Opens a ledger; `None` when there is none that is whole.
    ///
    /// # Errors
    /// The flash has failed.
    pub fn open<F: NorFlash>(
        flash: &mut Flash<'_, F>,
        region: Region,
    ) -> Result<Option<Ledger>, FlashFailed> {
        let mut header = [0; HEADER];
        flash.read(region.from, &mut header)?;
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let (envelope, second) = (half(4), half(6));
        let length = u32::from(envelope) + u32::from(second);
        if header[..4] != MAGIC || crc32c(&header[..60]) != seed(&header) {
            return Ok(None);
        }
        if length > JOURNAL - ENVELOPE || usize::from(envelope) > MAX_ENVELOPE {
            return Ok(None);
        }
        let mut crc = 0;
        flash.each(region.from + ENVELOPE, length, |piece| crc = extend(crc, piece))?;
        if crc.to_le_bytes() != header[24..28] {
            return Ok(None);
        }
        let long = |at: usize| -> u64 {
            header
                .get(at..)
                .and_then(|rest| rest.first_chunk())
                .map_or(0, |b| u64::from_le_bytes(*b))
        };
        let (campaign, from) = (long(8), long(16));
        let seed = seed(&header);
        Ok(Some(Ledger { region, envelope, second, seed, place: 0, campaign, from }))
    }

    /// Makes it no ledger any more.
    ///
    /// # Errors
    /// The flash has failed.
    pub fn drop_from<F: NorFlash>(
        flash: &mut Flash<'_, F>,
        region: Region,
    ) -> Result<(), FlashFailed> {
        flash.erase(region.from, region.from + flash.unit())
    }

    /// Reads the envelope and the second signature into `buffer`.
    ///
    /// # Errors
    /// The flash has failed.
    pub fn release<'b, F: NorFlash>(
        &self,
        flash: &mut Flash<'_, F>,
        buffer: &'b mut [u8; Ledger::RELEASE],
    ) -> Result<(&'b [u8], Option<&'b [u8]>), FlashFailed> {
        let (envelope, second) = (usize::from(self.envelope), usize::from(self.second));
        let both = &mut buffer[..envelope + second];
        flash.read(self.region.from + ENVELOPE, both)?;
        let (envelope, second) = both.split_at(envelope);
        Ok((envelope, (!second.is_empty()).then_some(second)))
    }

    /// Opens a ledger and finds its manifest, **unverified**: to tell of it, and for nothing else. The
    /// manifest is empty where there is none in its envelope.
    ///
    /// # Errors
    /// The flash has failed.
    #[inline(never)]
    pub fn look_into<'b, F: NorFlash>(
        flash: &mut Flash<'_, F>,
        region: Region,
        buffer: &'b mut [u8; Ledger::RELEASE],
    ) -> Result<Option<(Ledger, &'b [u8])>, FlashFailed> {
        let Some(ledger) = Ledger::open(flash, region)? else { return Ok(None) };
        let (envelope, _) = ledger.release(flash, buffer)?;
        let manifest = look_into(envelope).map_or(&[][..], |(_, payload)| payload);
        Ok(Some((ledger, manifest)))
    }

    /// Most bytes of an envelope and a second signature.
    pub const RELEASE: usize = JOURNAL as usize - HEADER;

    /// The next page in the journal; `None` at its end. Records that are not valid are passed over.
    ///
    /// # Errors
    /// The flash has failed.
    pub fn next_done<F: NorFlash>(
        &mut self,
        flash: &mut Flash<'_, F>,
    ) -> Result<Option<PageDone>, FlashFailed> {
        while !self.is_full(flash) {
            let mut entry = [0; ENTRY];
            flash.read(self.entry_at(flash), &mut entry)?;
            if entry.iter().all(|byte| *byte == 0xff) {
                return Ok(None);
            }
            self.place += 1;
            let number = |at: usize| -> u32 {
                let bytes = entry.get(at..).and_then(|rest| rest.first_chunk());
                bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
            };
            if entry[0] == ENTRY_KIND && extend(self.seed, &entry[..12]) == number(12) {
                return Ok(Some(PageDone {
                    part: entry[1],
                    page: u16::from_le_bytes([entry[2], entry[3]]),
                    travelled: number(4),
                    crc: number(8),
                }));
            }
        }
        Ok(None)
    }

    /// Adds a page. Without room it is left out: after a start it has to travel again.
    ///
    /// # Errors
    /// The flash has failed.
    pub fn add<F: NorFlash>(
        &mut self,
        flash: &mut Flash<'_, F>,
        done: PageDone,
    ) -> Result<(), FlashFailed> {
        if self.is_full(flash) {
            return Ok(());
        }
        let mut entry = [0; ENTRY];
        entry[0] = ENTRY_KIND;
        entry[1] = done.part;
        entry[2..4].copy_from_slice(&done.page.to_le_bytes());
        entry[4..8].copy_from_slice(&done.travelled.to_le_bytes());
        entry[8..12].copy_from_slice(&done.crc.to_le_bytes());
        let crc = extend(self.seed, &entry[..12]);
        entry[12..].copy_from_slice(&crc.to_le_bytes());
        let at = self.entry_at(flash);
        self.place += 1;
        flash.write(at, &entry)
    }

    fn is_full<F: NorFlash>(&self, flash: &Flash<'_, F>) -> bool {
        self.entry_at(flash) + stride(flash) > self.region.to
    }

    fn entry_at<F: NorFlash>(&self, flash: &Flash<'_, F>) -> u32 {
        self.region.from + JOURNAL + self.place * stride(flash)
    }
}

/// Bytes from one record of a journal to the next.
fn stride<F: NorFlash>(flash: &Flash<'_, F>) -> u32 {
    flash.word().max(ENTRY as u32)
}

/// Lengths of envelopes fit: they are bounded by the journal's place.
fn first_half(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// Writes one behind the other: the word that they share is written once.
fn write_both<F: NorFlash>(
    flash: &mut Flash<'_, F>,
    at: u32,
    first: &[u8],
    second: &[u8],
) -> Result<(), FlashFailed> {
    let word = flash.word() as usize;
    let (whole, tail) = first.split_at(first.len() - first.len() % word);
    let (head, rest) = second.split_at(second.len().min(word - tail.len()));
    let mut shared = [0xff; MAX_WORD];
    let places = shared.iter_mut().zip(tail.iter().chain(head));
    places.for_each(|(place, byte)| *place = *byte);
    flash.write(at, whole)?;
    let at = at + whole.len() as u32;
    flash.write(at, shared.get(..tail.len() + head.len()).unwrap_or_default())?;
    flash.write(at + word as u32, rest)
}

fn header(taken: &Taken<'_>) -> [u8; HEADER] {
    let mut header = [0; HEADER];
    header[..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&first_half(taken.envelope.len()).to_le_bytes());
    let second = taken.second.unwrap_or_default();
    header[6..8].copy_from_slice(&first_half(second.len()).to_le_bytes());
    header[8..16].copy_from_slice(&taken.campaign.to_le_bytes());
    header[16..24].copy_from_slice(&taken.from.to_le_bytes());
    header[24..28].copy_from_slice(&extend(crc32c(taken.envelope), second).to_le_bytes());
    let crc = crc32c(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    header
}

fn seed(header: &[u8; HEADER]) -> u32 {
    u32::from_le_bytes([header[60], header[61], header[62], header[63]])
}
