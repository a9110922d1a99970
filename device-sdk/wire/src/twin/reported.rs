//! What a device is like.

use super::{FORMAT, Properties, key};
use crate::cbor::{Fields, FormError, Full, Reader, Writer, required};

/// See the module. A device says it as a whole.
#[derive(Clone, Debug)]
pub struct Reported<'a> {
    /// The version of the desired side that the device has heard last; 0: none.
    pub desired: u64,
    properties: Properties<'a>,
    refused: Option<(&'a str, &'a str)>,
}

impl<'a> Reported<'a> {
    /// Reads it.
    ///
    /// # Errors
    /// It is none of this version.
    pub fn read(bytes: &'a [u8]) -> Result<Reported<'a>, FormError> {
        let mut reader = Reader::new(bytes);
        let (mut format, mut desired, mut properties) = (None, None, Properties::NONE);
        let mut refused = None;
        let mut fields = Fields::of(&mut reader)?;
        while let Some(key) = fields.next_key()? {
            match key {
                key::FORMAT => format = Some(fields.number(FORMAT..=FORMAT)?),
                key::VERSION => desired = Some(fields.value().uint()?),
                key::PROPERTIES => properties = Properties::read(fields.value(), false)?,
                key::REFUSED => {
                    if fields.value().array()? != 2 {
                        return Err(FormError::Range { key: 3 });
                    }
                    let name = fields.text(super::MAX_NAME)?;
                    refused = Some((name, fields.text(super::MAX_TEXT)?));
                }
                _ => fields.skip()?,
            }
        }
        reader.end()?;
        required(format, key::FORMAT)?;
        Ok(Reported { desired: required(desired, key::VERSION)?, properties, refused })
    }

    /// All properties.
    #[must_use]
    pub fn properties(&self) -> Properties<'a> {
        self.properties.clone()
    }

    /// The first desired property that it has not taken, and why.
    #[must_use]
    pub fn refused(&self) -> Option<(&'a str, &'a str)> {
        self.refused
    }
}

/// Writes what stands before the properties; answers its bytes. A map of names and values has to
/// follow, such as a record of `tidegate-telemetry` in CBOR, and then, with `refuses`, the key 3.
///
/// # Errors
/// The buffer is too small.
pub fn begin_reported(out: &mut [u8], desired: u64, refuses: bool) -> Result<usize, Full> {
    let mut writer = Writer::new(out);
    writer.map(if refuses { 4 } else { 3 })?;
    writer.uint(key::FORMAT)?;
    writer.uint(FORMAT)?;
    writer.uint(key::VERSION)?;
    writer.uint(desired)?;
    writer.uint(key::PROPERTIES)?;
    Ok(writer.len())
}

/// Writes which desired property was not taken; answers its bytes.
///
/// # Errors
/// The buffer is too small.
pub fn write_refused(out: &mut [u8], name: &str, why: &str) -> Result<usize, Full> {
    let mut writer = Writer::new(out);
    writer.uint(key::REFUSED)?;
    writer.array(2)?;
    writer.text(name)?;
    writer.text(why)?;
    Ok(writer.len())
}
