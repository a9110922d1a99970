//! An image on its way into flash, page by page.

use embedded_storage::nor_flash::NorFlash;
use tidegate_boot::{Flash, FlashFailed, Region};
use tidegate_wire::crc32c::extend;

/// Bytes that are written at once.
const PIECE: usize = 256;
/// Bytes of the base that are read at once.
const CACHE: usize = 64;

/// A page that is whole in flash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whole {
    pub(crate) page: u16,
    pub(crate) crc: u32,
}

/// Where an image is written, and the base that it is made from.
pub(crate) struct Pages {
    to: Region,
    size: u32,
    /// Bytes of the image so far; those that are not in flash yet are in `piece`.
    at: u32,
    piece: [u8; PIECE],
    filled: usize,
    crc: u32,
    whole: Option<Whole>,
    base: Region,
    cache: [u8; CACHE],
    cached: Option<u32>,
    /// Pages that were erased since the last look.
    erased: u32,
}

impl Pages {
    /// An image of which the pages before `at` are there. `base` is empty when there is none.
    pub(crate) const fn new(to: Region, size: u32, at: u32, base: Region) -> Pages {
        Pages {
            to,
            size,
            at,
            piece: [0; PIECE],
            filled: 0,
            crc: 0,
            whole: None,
            base,
            cache: [0; CACHE],
            cached: None,
            erased: 0,
        }
    }

    /// Bytes of the image so far.
    pub(crate) fn at(&self) -> u32 {
        self.at
    }

    /// Bytes that are missing.
    pub(crate) fn left(&self) -> u32 {
        self.size.saturating_sub(self.at)
    }

    /// The page that has just become whole, once.
    pub(crate) fn take_whole(&mut self) -> Option<Whole> {
        self.whole.take()
    }

    /// How many pages were erased since the last call.
    pub(crate) fn take_erased(&mut self) -> u32 {
        core::mem::take(&mut self.erased)
    }

    /// The next byte of the image. There has to be one left.
    pub(crate) fn put<F: NorFlash>(
        &mut self,
        flash: &mut Flash<'_, F>,
        byte: u8,
    ) -> Result<(), FlashFailed> {
        let page = flash.page();
        if self.at.is_multiple_of(page) {
            let from = self.to.from + self.at;
            flash.erase(from, from + page)?;
            self.erased += 1;
            self.crc = 0;
        }
        if let Some(place) = self.piece.get_mut(self.filled) {
            *place = byte;
        }
        self.filled += 1;
        self.at += 1;
        let ends = self.at == self.size || self.at.is_multiple_of(page);
        if ends || self.filled == PIECE {
            let piece = self.piece.get(..self.filled).unwrap_or_default();
            flash.write(self.to.from + self.at - piece.len() as u32, piece)?;
            self.crc = extend(self.crc, piece);
            self.filled = 0;
        }
        if ends {
            // Images have at most 16 MiB, pages at least 4,096 bytes.
            let page = ((self.at - 1) / page) as u16;
            self.whole = Some(Whole { page, crc: self.crc });
        }
        Ok(())
    }

    /// A byte of the base; `None` outside of it.
    pub(crate) fn base<F: NorFlash>(
        &mut self,
        flash: &mut Flash<'_, F>,
        at: u32,
    ) -> Result<Option<u8>, FlashFailed> {
        if at >= self.base.length() {
            return Ok(None);
        }
        let begin = at - at % CACHE as u32;
        if self.cached != Some(begin) {
            let length = (self.base.length() - begin).min(CACHE as u32) as usize;
            flash.read(self.base.from + begin, &mut self.cache[..length])?;
            self.cached = Some(begin);
        }
        Ok(self.cache.get((at - begin) as usize).copied())
    }
}
