//! What a device should be like.

use super::{FORMAT, Properties, Property, key};
use crate::cbor::{Fields, FormError, Full, Reader, Writer, required};

/// See the module. The gateway keeps one for each device, and replaces it as a whole.
#[derive(Clone, Debug)]
pub struct Desired<'a> {
    /// Rises with each change, from 1.
    pub version: u64,
    /// Who has version `complete_from` or a newer one learns all changes since from
    /// [`Desired::since`], removals included; who has an older one has to begin anew.
    pub complete_from: u64,
    properties: Properties<'a>,
}

impl<'a> Desired<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// It is none of this version.
    pub fn read(bytes: &'a [u8]) -> Result<Desired<'a>, FormError> {
        let mut reader = Reader::new(bytes);
        let (mut format, mut version, mut properties) = (None, None, Properties::NONE);
        let mut complete_from = 0;
        let mut fields = Fields::of(&mut reader)?;
        while let Some(key) = fields.next_key()? {
            match key {
                key::FORMAT => format = Some(fields.number(FORMAT..=FORMAT)?),
                key::VERSION => version = Some(fields.number(1..=u64::MAX)?),
                key::PROPERTIES => properties = Properties::read(fields.value(), true)?,
                key::COMPLETE_FROM => complete_from = fields.value().uint()?,
                _ => fields.skip()?,
            }
        }
        reader.end()?;
        required(format, key::FORMAT)?;
        Ok(Desired { version: required(version, key::VERSION)?, complete_from, properties })
    }

    /// All properties, with those that were removed.
    #[must_use]
    pub fn properties(&self) -> Properties<'a> {
        self.properties.clone()
    }

    /// Those that have changed since this version.
    pub fn since(&self, version: u64) -> impl Iterator<Item = Property<'a>> {
        self.properties().filter(move |property| property.since > version)
    }
}

/// Writes it; answers its bytes. There are at most [`MAX_PROPERTIES`](super::MAX_PROPERTIES).
///
/// # Errors
/// The buffer is too small.
pub fn write_desired<'p>(
    out: &mut [u8],
    version: u64,
    complete_from: u64,
    properties: impl ExactSizeIterator<Item = Property<'p>>,
) -> Result<usize, Full> {
    let mut writer = Writer::new(out);
    writer.map(if complete_from > 0 { 4 } else { 3 })?;
    writer.uint(key::FORMAT)?;
    writer.uint(FORMAT)?;
    writer.uint(key::VERSION)?;
    writer.uint(version)?;
    writer.uint(key::PROPERTIES)?;
    writer.map(properties.len())?;
    for property in properties {
        writer.text(property.name)?;
        writer.array(2)?;
        writer.uint(property.since)?;
        property.value.write(&mut writer)?;
    }
    if complete_from > 0 {
        writer.uint(key::COMPLETE_FROM)?;
        writer.uint(complete_from)?;
    }
    Ok(writer.len())
}
