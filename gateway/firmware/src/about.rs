//! What a device says of itself, as it is kept.

use tidegate_wire::cbor::{Fields, FormError, Full, Reader, Writer, required};
use tidegate_wire::manifest::Uuid;
use tidegate_wire::message::Hello;

/// Version of the table.
const FORMAT: u64 = 1;
/// Most bytes of a version.
const MAX_VERSION: usize = 24;
/// Most bytes of an entry: 200 and what is added later.
const MAX_ENTRY: usize = 256;

mod key {
    pub(super) const FORMAT: u64 = 0;
    pub(super) const VENDOR: u64 = 1;
    pub(super) const CLASS: u64 = 2;
    pub(super) const SDK: u64 = 3;
    pub(super) const VERSION: u64 = 4;
    pub(super) const MESSAGE: u64 = 5;
    pub(super) const BLOCK: u64 = 6;
    pub(super) const SEQUENCE: u64 = 7;
    pub(super) const FLOOR: u64 = 8;
    pub(super) const KEY_SET: u64 = 9;
    pub(super) const SEEN: u64 = 10;
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct About {
    pub(crate) vendor: Uuid,
    pub(crate) class: Uuid,
    pub(crate) sdk: String,
    /// Version of component 0.
    pub(crate) version: String,
    /// Most bytes of a message that it takes.
    pub(crate) message: u16,
    /// Bytes of a block.
    pub(crate) block: u16,
    pub(crate) sequence: u64,
    pub(crate) floor: u64,
    pub(crate) key_set: u32,
    /// When it said so, in milliseconds since 1970.
    pub(crate) seen_unix_ms: i64,
}

impl About {
    pub(crate) fn of(hello: &Hello<'_>, seen_unix_ms: i64) -> About {
        let started = hello.components.iter().find(|component| component.id == 0);
        About {
            vendor: hello.vendor,
            class: hello.class,
            sdk: hello.sdk.to_owned(),
            version: started.map_or("", |component| component.version).to_owned(),
            message: hello.message,
            block: hello.block,
            sequence: hello.sequence,
            floor: hello.floor,
            key_set: hello.key_set,
            seen_unix_ms,
        }
    }

    /// Whether the same is said, whenever that was.
    pub(crate) fn says_the_same(&self, other: &About) -> bool {
        *self == About { seen_unix_ms: self.seen_unix_ms, ..other.clone() }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>, Full> {
        let mut out = [0; MAX_ENTRY];
        let mut writer = Writer::new(&mut out);
        writer.map(11)?;
        writer.uint(key::FORMAT)?;
        writer.uint(FORMAT)?;
        writer.uint(key::VENDOR)?;
        writer.bytes(&self.vendor)?;
        writer.uint(key::CLASS)?;
        writer.bytes(&self.class)?;
        writer.uint(key::SDK)?;
        writer.text(&self.sdk)?;
        writer.uint(key::VERSION)?;
        writer.text(&self.version)?;
        let numbers = [
            (key::MESSAGE, self.message.into()),
            (key::BLOCK, self.block.into()),
            (key::SEQUENCE, self.sequence),
            (key::FLOOR, self.floor),
            (key::KEY_SET, self.key_set.into()),
            (key::SEEN, self.seen_unix_ms.max(0) as u64),
        ];
        for (key, number) in numbers {
            writer.uint(key)?;
            writer.uint(number)?;
        }
        let length = writer.len();
        Ok(out.get(..length).unwrap_or_default().to_vec())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<About, FormError> {
        let mut reader = Reader::new(bytes);
        let (mut format, mut vendor, mut class) = (None, None, None);
        let (mut sdk, mut version, mut message, mut block) = (None, None, None, None);
        let (mut sequence, mut floor, mut key_set, mut seen) = (None, None, None, None);
        let mut fields = Fields::of(&mut reader)?;
        while let Some(key) = fields.next_key()? {
            match key {
                key::FORMAT => format = Some(fields.number(FORMAT..=FORMAT)?),
                key::VENDOR => vendor = Some(*fields.array()?),
                key::CLASS => class = Some(*fields.array()?),
                key::SDK => sdk = Some(fields.text(MAX_VERSION)?.to_owned()),
                key::VERSION => version = Some(fields.text(MAX_VERSION)?.to_owned()),
                key::MESSAGE => message = Some(fields.number(0..=u16::MAX)?),
                key::BLOCK => block = Some(fields.number(1..=u16::MAX)?),
                key::SEQUENCE => sequence = Some(fields.value().uint()?),
                key::FLOOR => floor = Some(fields.value().uint()?),
                key::KEY_SET => key_set = Some(fields.number(0..=u32::MAX)?),
                key::SEEN => seen = Some(fields.number(0..=i64::MAX as u64)?),
                _ => fields.skip()?,
            }
        }
        reader.end()?;
        required(format, key::FORMAT)?;
        Ok(About {
            vendor: required(vendor, key::VENDOR)?,
            class: required(class, key::CLASS)?,
            sdk: required(sdk, key::SDK)?,
            version: required(version, key::VERSION)?,
            message: required(message, key::MESSAGE)?,
            block: required(block, key::BLOCK)?,
            sequence: required(sequence, key::SEQUENCE)?,
            floor: required(floor, key::FLOOR)?,
            key_set: required(key_set, key::KEY_SET)?,
            // At most `i64::MAX`, as read above.
            seen_unix_ms: required(seen, key::SEEN)? as i64,
        })
    }
}
