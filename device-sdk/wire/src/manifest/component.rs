//! One image of a release, and how it travels.

use crate::cbor::{Fields, FormError, Full, Reader, Writer, required};
use crate::digest::Digest;

/// Most entries of a manifest. Several of one id are alternatives.
pub const MAX_COMPONENTS: usize = 8;
/// Greatest id.
pub const MAX_ID: u8 = 3;
/// Most bytes of a version.
pub const MAX_VERSION: usize = 24;
/// Largest image, and largest encoded one: 16 MiB.
pub const MAX_IMAGE: u32 = 1 << 24;

mod key {
    pub(super) const ID: u64 = 0;
    pub(super) const VERSION: u64 = 1;
    pub(super) const SIZE: u64 = 2;
    pub(super) const DIGEST: u64 = 3;
    pub(super) const ENCODING: u64 = 4;
    pub(super) const ENCODED_SIZE: u64 = 5;
    pub(super) const ENCODED_DIGEST: u64 = 6;
    pub(super) const BASE_SIZE: u64 = 7;
    pub(super) const BASE_DIGEST: u64 = 8;
    pub(super) const SIDE: u64 = 9;
}

/// Which of the two places of a component an image is linked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Side {
        match self {
            Side::A => Side::B,
            Side::B => Side::A,
        }
    }
}

/// How an image travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    None,
    /// Compressed.
    Heatshrink {
        /// Bytes that travel.
        size: u32,
        /// Their SHA-256.
        digest: Digest,
    },
    /// As changes to the image that the device runs, compressed.
    Delta {
        /// Bytes that travel.
        size: u32,
        /// Their SHA-256.
        digest: Digest,
        /// Bytes of the image that is changed.
        base_size: u32,
        /// Its SHA-256.
        base: Digest,
    },
}

/// One image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Component<'a> {
    /// Which part of the device it is for, 0 to [`MAX_ID`]; 0 is what is started.
    pub id: u8,
    /// For people, and in what the device says of itself.
    pub version: &'a str,
    /// Bytes of the image.
    pub size: u32,
    /// Its SHA-256.
    pub digest: Digest,
    /// How it travels.
    pub encoding: Encoding,
    /// Where it has to be; `None` when it may be at either place.
    pub side: Option<Side>,
}

impl<'a> Component<'a> {
    /// Bytes that travel.
    #[must_use]
    pub fn travelling(&self) -> u32 {
        match self.encoding {
            Encoding::None => self.size,
            Encoding::Heatshrink { size, .. } | Encoding::Delta { size, .. } => size,
        }
    }

    fn read(reader: &mut Reader<'a>) -> Result<Component<'a>, FormError> {
        let mut found = Found::default();
        let mut fields = Fields::of(reader)?;
        while let Some(key) = fields.next_key()? {
            found.take(key, &mut fields)?;
        }
        found.finish()
    }

    /// Writes it.
    ///
    /// # Errors
    /// The buffer is too small.
    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        let (number, encoded, base) = match self.encoding {
            Encoding::None => (0, None, None),
            Encoding::Heatshrink { size, digest } => (1, Some((size, digest)), None),
            Encoding::Delta { size, digest, base_size, base } => {
                (2, Some((size, digest)), Some((base_size, base)))
            }
        };
        let pairs = [encoded.is_some(), base.is_some()].map(|there| 2 * usize::from(there));
        writer.map(5 + pairs[0] + pairs[1] + usize::from(self.side.is_some()))?;
        writer.uint(key::ID)?;
        writer.uint(self.id.into())?;
        writer.uint(key::VERSION)?;
        writer.text(self.version)?;
        writer.uint(key::SIZE)?;
        writer.uint(self.size.into())?;
        writer.uint(key::DIGEST)?;
        writer.bytes(&self.digest.0)?;
        writer.uint(key::ENCODING)?;
        writer.uint(number)?;
        for ((size, digest), key) in [(encoded, key::ENCODED_SIZE), (base, key::BASE_SIZE)]
            .into_iter()
            .filter_map(|(pair, key)| pair.map(|pair| (pair, key)))
        {
            writer.uint(key)?;
            writer.uint(size.into())?;
            writer.uint(key + 1)?;
            writer.bytes(&digest.0)?;
        }
        if let Some(side) = self.side {
            writer.uint(key::SIDE)?;
            writer.uint(match side {
                Side::A => 0,
                Side::B => 1,
            })?;
        }
        Ok(())
    }
}

/// Values of the keys so far.
#[derive(Default)]
struct Found<'a> {
    id: Option<u8>,
    version: Option<&'a str>,
    size: Option<u32>,
    digest: Option<Digest>,
    encoding: Option<u8>,
    encoded_size: Option<u32>,
    encoded_digest: Option<Digest>,
    base_size: Option<u32>,
    base_digest: Option<Digest>,
    side: Option<Side>,
}

impl<'a> Found<'a> {
    fn take(&mut self, key: u64, fields: &mut Fields<'_, 'a>) -> Result<(), FormError> {
        match key {
            key::ID => self.id = Some(fields.number(0..=MAX_ID)?),
            key::VERSION => self.version = Some(fields.text(MAX_VERSION)?),
            key::SIZE => self.size = Some(fields.number(1..=MAX_IMAGE)?),
            key::DIGEST => self.digest = Some(Digest(*fields.array()?)),
            key::ENCODING => self.encoding = Some(fields.number(0..=2)?),
            key::ENCODED_SIZE => self.encoded_size = Some(fields.number(1..=MAX_IMAGE)?),
            key::ENCODED_DIGEST => self.encoded_digest = Some(Digest(*fields.array()?)),
            key::BASE_SIZE => self.base_size = Some(fields.number(1..=MAX_IMAGE)?),
            key::BASE_DIGEST => self.base_digest = Some(Digest(*fields.array()?)),
            key::SIDE => {
                let second = fields.number(0..=1u8)? == 1;
                self.side = Some(if second { Side::B } else { Side::A });
            }
            _ => fields.skip()?,
        }
        Ok(())
    }

    fn finish(self) -> Result<Component<'a>, FormError> {
        let encoding = match required(self.encoding, key::ENCODING)? {
            0 => Encoding::None,
            1 => Encoding::Heatshrink {
                size: required(self.encoded_size, key::ENCODED_SIZE)?,
                digest: required(self.encoded_digest, key::ENCODED_DIGEST)?,
            },
            _ => Encoding::Delta {
                size: required(self.encoded_size, key::ENCODED_SIZE)?,
                digest: required(self.encoded_digest, key::ENCODED_DIGEST)?,
                base_size: required(self.base_size, key::BASE_SIZE)?,
                base: required(self.base_digest, key::BASE_DIGEST)?,
            },
        };
        let allowed = match encoding {
            Encoding::None => [false, false],
            Encoding::Heatshrink { .. } => [true, false],
            Encoding::Delta { .. } => [true, true],
        };
        let encoded = self.encoded_size.is_some() || self.encoded_digest.is_some();
        let based = self.base_size.is_some() || self.base_digest.is_some();
        if (encoded && !allowed[0]) || (based && !allowed[1]) {
            return Err(FormError::Range { key: key::ENCODING });
        }
        Ok(Component {
            id: required(self.id, key::ID)?,
            version: required(self.version, key::VERSION)?,
            size: required(self.size, key::SIZE)?,
            digest: required(self.digest, key::DIGEST)?,
            encoding,
            side: self.side,
        })
    }
}

/// The images of a release. Several entries of one id are alternatives, best first: a device takes
/// the first that it can use.
#[derive(Clone, Copy, Debug)]
pub struct Components<'a>(Source<'a>);

#[derive(Clone, Copy, Debug)]
enum Source<'a> {
    /// Read already once, without an error.
    Encoded { bytes: &'a [u8], count: usize },
    /// Given, to be written.
    Listed(&'a [Component<'a>]),
}

impl<'a> Components<'a> {
    /// To be written; `None` when they are none or too many.
    #[must_use]
    pub fn new(list: &'a [Component<'a>]) -> Option<Components<'a>> {
        (1..=MAX_COMPONENTS).contains(&list.len()).then_some(Components(Source::Listed(list)))
    }

    /// How many entries there are.
    #[must_use]
    pub fn count(&self) -> usize {
        match self.0 {
            Source::Encoded { count, .. } => count,
            Source::Listed(list) => list.len(),
        }
    }

    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = Component<'a>> + use<'a> {
        let mut source = self.0;
        core::iter::from_fn(move || match &mut source {
            Source::Listed(list) => {
                let (first, rest) = list.split_first()?;
                *list = rest;
                Some(*first)
            }
            Source::Encoded { bytes, count } => {
                *count = count.checked_sub(1)?;
                let mut reader = Reader::new(bytes);
                // It was read once, so it can be read again.
                let component = Component::read(&mut reader).ok()?;
                *bytes = bytes.get(reader.position()..)?;
                Some(component)
            }
        })
    }

    pub(super) fn read(reader: &mut Reader<'a>, key: u64) -> Result<Components<'a>, FormError> {
        let count = reader.array()?;
        if !(1..=MAX_COMPONENTS).contains(&count) {
            return Err(FormError::Range { key });
        }
        let bytes = reader.rest();
        for _ in 0..count {
            Component::read(reader)?;
        }
        Ok(Components(Source::Encoded { bytes, count }))
    }
}

impl PartialEq for Components<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Components<'_> {}
