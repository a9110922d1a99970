//! One image of a release, and how it travels.

use crate::cbor::{Field, Fields, FormError, Full, Reader, Value, Writer};
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

    /// 0 or 1, if it is there.
    pub(crate) fn read(value: &Value<'_>) -> Option<Side> {
        value.found().map(|second| if second == 1 { Side::B } else { Side::A })
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
        let values = Fields::read(reader, &TABLE)?;
        let [id, version, size, digest, encoding, more @ .., side] = &values;
        // Of the keys from 5 to 8 an encoding has none, two or all.
        let wanted = 2 * usize::from(encoding.byte());
        for (n, value) in more.iter().enumerate() {
            match (n < wanted, value.is_there()) {
                (true, true) | (false, false) => {}
                (true, false) => {
                    return Err(FormError::missing(key::ENCODED_SIZE + n as u64));
                }
                (false, true) => return Err(FormError::range(key::ENCODING)),
            }
        }
        let [encoded_size, encoded_digest, base_size, base] = more;
        let (travelling, encoded) = (encoded_size.number(), Digest(encoded_digest.array()));
        Ok(Component {
            id: id.byte(),
            version: version.text(),
            size: size.number(),
            digest: Digest(digest.array()),
            encoding: match encoding.byte() {
                0 => Encoding::None,
                1 => Encoding::Heatshrink { size: travelling, digest: encoded },
                _ => Encoding::Delta {
                    size: travelling,
                    digest: encoded,
                    base_size: base_size.number(),
                    base: Digest(base.array()),
                },
            },
            side: Side::read(side),
        })
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

const TABLE: [Field; 10] = [
    Field::number(key::ID, 0..=MAX_ID as u32).required(),
    Field::text(key::VERSION, MAX_VERSION).required(),
    Field::number(key::SIZE, 1..=MAX_IMAGE).required(),
    Field::bytes(key::DIGEST, 32..=32).required(),
    Field::number(key::ENCODING, 0..=2).required(),
    Field::number(key::ENCODED_SIZE, 1..=MAX_IMAGE),
    Field::bytes(key::ENCODED_DIGEST, 32..=32),
    Field::number(key::BASE_SIZE, 1..=MAX_IMAGE),
    Field::bytes(key::BASE_DIGEST, 32..=32),
    Field::number(key::SIDE, 0..=1),
];

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

    pub(super) fn read(value: &Value<'a>, key: u64) -> Result<Components<'a>, FormError> {
        let mut reader = value.item().ok_or(FormError::missing(key))?;
        let count = reader.array()?;
        if !(1..=MAX_COMPONENTS).contains(&count) {
            return Err(FormError::range(key));
        }
        let bytes = reader.rest();
        for _ in 0..count {
            Component::read(&mut reader)?;
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
