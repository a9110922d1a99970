//! Blocks, and what asks for them.

use super::{begin, bytes, kind, number};
use crate::cbor::{Field, Fields, FormError, Full, Writer};
use crate::digest::Digest8;
use crate::manifest::MAX_COMPONENTS;

/// Greatest tag: it travels in one byte.
pub const MAX_TAG: u8 = 23;
/// Most bytes of a block.
const MAX_BLOCK: u32 = 1_024;

/// The device wants these blocks, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// The manifest's SHA-256, its first 8 bytes.
    pub manifest: Digest8,
    /// Which entry of the manifest's components.
    pub entry: u8,
    /// The first block; block n begins at byte n times the size of a block.
    pub base: u32,
    /// Bit n asks for block `base + n`.
    pub bitmap: u32,
    /// How many blocks may be on the way at once.
    pub credit: u8,
    /// Comes back with each block; blocks with another one are dropped.
    pub tag: u8,
}

impl Request {
    const TABLE: [Field; 6] = [
        Field::bytes(1, 8..=8).required(),
        Field::number(2, 0..=MAX_COMPONENTS as u32 - 1).required(),
        Field::number(3, 0..=u32::MAX).required(),
        Field::number(4, 1..=u32::MAX).required(),
        Field::number(5, 1..=32).required(),
        Field::number(6, 0..=MAX_TAG as u32).required(),
    ];

    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Request, FormError> {
        let [manifest, entry, base, bitmap, credit, tag] = fields.rest(&Request::TABLE)?;
        Ok(Request {
            manifest: manifest.array(),
            entry: entry.byte(),
            base: base.number(),
            bitmap: bitmap.number(),
            credit: credit.byte(),
            tag: tag.byte(),
        })
    }

    /// Writes it as a message; answers the bytes written.
    ///
    /// # Errors
    /// `out` is too small.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, Full> {
        let mut writer = Writer::new(out);
        begin(&mut writer, kind::REQUEST, 6)?;
        bytes(&mut writer, 1, &self.manifest)?;
        let small = |byte: u8| u32::from(byte);
        let numbers =
            [small(self.entry), self.base, self.bitmap, small(self.credit), small(self.tag)];
        for (key, value) in (2..).zip(numbers) {
            number(&mut writer, key, value)?;
        }
        Ok(writer.len())
    }
}

/// One block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The tag of the request.
    pub tag: u8,
    /// Which block.
    pub index: u32,
    /// Its bytes: a whole block, except at the end of what travels.
    pub data: &'a [u8],
}

impl<'a> Block<'a> {
    const TABLE: [Field; 3] = [
        Field::number(1, 0..=MAX_TAG as u32).required(),
        Field::number(2, 0..=u32::MAX).required(),
        Field::bytes(3, 1..=MAX_BLOCK).required(),
    ];

    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Block<'a>, FormError> {
        let [tag, index, data] = fields.rest(&Block::TABLE)?;
        let data = data.bytes().unwrap_or_default();
        Ok(Block { tag: tag.byte(), index: index.number(), data })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        begin(writer, kind::BLOCK, 3)?;
        number(writer, 1, self.tag)?;
        number(writer, 2, self.index)?;
        bytes(writer, 3, self.data)
    }
}
