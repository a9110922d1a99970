//! Makes an image of what travels: docs/formats/image-encodings.md.
//!
//! Invariant: whatever comes in, at most the image's bytes are put out, and the base is not read
//! beyond its end.

mod operations;
mod packed;

use embedded_storage::nor_flash::NorFlash;
use tidegate_boot::{FRAME, Flash, FlashFailed, Travels};

use crate::pages::Pages;
use operations::Operations;
use packed::Packed;

/// The content of a frame is not compressed.
const PLAIN: u16 = 1 << 15;

/// Why there is no image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Undecodable {
    /// The flash has failed.
    Flash(FlashFailed),
    /// What travels is not in the form that the manifest says.
    Content,
}

impl From<FlashFailed> for Undecodable {
    fn from(failed: FlashFailed) -> Undecodable {
        Undecodable::Flash(failed)
    }
}

/// Takes in what travels, byte by byte.
pub(crate) struct Decoder {
    travels: Travels,
    /// The first byte of a frame's head.
    head: Option<u8>,
    content_left: u16,
    is_packed: bool,
    /// Bytes of the image that this frame still has to make.
    due: u32,
    packed: Packed,
    operations: Operations,
}

/// Where bytes of the image go.
pub(crate) struct Out<'o, 'f, F> {
    pub(crate) flash: &'o mut Flash<'f, F>,
    pub(crate) pages: &'o mut Pages,
}

impl Decoder {
    pub(crate) const fn new(travels: Travels) -> Decoder {
        Decoder {
            travels,
            head: None,
            content_left: 0,
            is_packed: false,
            due: 0,
            packed: Packed::new(),
            operations: Operations::new(),
        }
    }

    /// The next byte that travels.
    pub(crate) fn take<F: NorFlash>(
        &mut self,
        byte: u8,
        out: &mut Out<'_, '_, F>,
    ) -> Result<(), Undecodable> {
        if self.travels == Travels::AsItIs {
            self.due = out.pages.left();
            return self.image(byte, out);
        }
        if self.content_left == 0 {
            return self.head(byte, out.pages);
        }
        self.content_left -= 1;
        if self.is_packed {
            self.packed.push(byte);
            while let Some(byte) = self.packed.next().map_err(|_| Undecodable::Content)? {
                self.content(byte, out)?;
            }
        } else {
            self.content(byte, out)?;
        }
        let ended = self.due == 0 && self.packed.is_at_end() && self.operations.is_at_end();
        if self.content_left == 0 && !ended { Err(Undecodable::Content) } else { Ok(()) }
    }

    fn head(&mut self, byte: u8, pages: &Pages) -> Result<(), Undecodable> {
        let Some(low) = self.head.take() else {
            self.head = Some(byte);
            return Ok(());
        };
        let head = u16::from_le_bytes([low, byte]);
        self.content_left = head & !PLAIN;
        self.is_packed = head & PLAIN == 0;
        self.due = pages.left().min(FRAME);
        self.packed = Packed::new();
        self.operations.begin(pages.at());
        if self.content_left == 0 || self.due == 0 { Err(Undecodable::Content) } else { Ok(()) }
    }

    fn content<F: NorFlash>(
        &mut self,
        byte: u8,
        out: &mut Out<'_, '_, F>,
    ) -> Result<(), Undecodable> {
        if self.travels == Travels::Packed {
            return self.image(byte, out);
        }
        self.operations.push(byte).map_err(|_| Undecodable::Content)?;
        while let Some(made) = self.operations.next() {
            let base = match made.base {
                Some(at) => out.pages.base(out.flash, at)?.ok_or(Undecodable::Content)?,
                None => 0,
            };
            self.image(base.wrapping_add(made.plus), out)?;
        }
        Ok(())
    }

    fn image<F: NorFlash>(
        &mut self,
        byte: u8,
        out: &mut Out<'_, '_, F>,
    ) -> Result<(), Undecodable> {
        self.due = self.due.checked_sub(1).ok_or(Undecodable::Content)?;
        Ok(out.pages.put(out.flash, byte)?)
    }
}
