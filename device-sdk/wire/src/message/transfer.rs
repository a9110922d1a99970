//! Blocks, and what asks for them.

use super::{begin, bytes, kind, number};
use crate::cbor::{Fields, FormError, Full, Writer, required};
use crate::digest::Digest8;
use crate::manifest::MAX_COMPONENTS;

/// Greatest tag: it travels in one byte.
pub const MAX_TAG: u8 = 23;
/// Most bytes of a block.
const MAX_BLOCK: usize = 1_024;

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
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Request, FormError> {
        let (mut manifest, mut entry, mut base) = (None, None, None);
        let (mut bitmap, mut credit, mut tag) = (None, None, None);
        while let Some(key) = fields.next_key()? {
            match key {
                1 => manifest = Some(*fields.array()?),
                2 => entry = Some(fields.number(0..=MAX_COMPONENTS as u8 - 1)?),
                3 => base = Some(fields.number(0..=u32::MAX)?),
                4 => bitmap = Some(fields.number(1..=u32::MAX)?),
                5 => credit = Some(fields.number(1..=32)?),
                6 => tag = Some(fields.number(0..=MAX_TAG)?),
                _ => fields.skip()?,
            }
        }
        Ok(Request {
            manifest: required(manifest, 1)?,
            entry: required(entry, 2)?,
            base: required(base, 3)?,
            bitmap: required(bitmap, 4)?,
            credit: required(credit, 5)?,
            tag: required(tag, 6)?,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        begin(writer, kind::REQUEST, 6)?;
        bytes(writer, 1, &self.manifest)?;
        number(writer, 2, self.entry)?;
        number(writer, 3, self.base)?;
        number(writer, 4, self.bitmap)?;
        number(writer, 5, self.credit)?;
        number(writer, 6, self.tag)
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
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Block<'a>, FormError> {
        let (mut tag, mut index, mut data) = (None, None, None);
        while let Some(key) = fields.next_key()? {
            match key {
                1 => tag = Some(fields.number(0..=MAX_TAG)?),
                2 => index = Some(fields.number(0..=u32::MAX)?),
                3 => {
                    let block = fields.value().bytes()?;
                    if !(1..=MAX_BLOCK).contains(&block.len()) {
                        return Err(FormError::Range { key });
                    }
                    data = Some(block);
                }
                _ => fields.skip()?,
            }
        }
        Ok(Block { tag: required(tag, 1)?, index: required(index, 2)?, data: required(data, 3)? })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        begin(writer, kind::BLOCK, 3)?;
        number(writer, 1, self.tag)?;
        number(writer, 2, self.index)?;
        bytes(writer, 3, self.data)
    }
}
