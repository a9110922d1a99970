//! Writes a manifest, for the tool that signs it.

use super::{Devices, FORMAT, MAX_MANIFEST, Manifest, Policy, key};
use crate::cbor::{Full, Writer};

impl Manifest<'_> {
    /// Writes it; answers the bytes written. Values that mean nothing special are left out.
    ///
    /// # Errors
    /// `out`, or [`MAX_MANIFEST`], is too small.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, Full> {
        let devices = (self.devices != Devices::ALL).then_some(self.devices);
        let current = (self.current != (0, u64::MAX)).then_some(self.current);
        let needs = (self.needs != super::Needs::default()).then_some(self.needs);
        let policy = (self.policy != Policy::default()).then_some(self.policy);
        let label = (!self.label.is_empty()).then_some(self.label);
        let optional = [
            devices.is_some(),
            current.is_some(),
            needs.is_some(),
            self.not_after.is_some(),
            policy.is_some(),
            label.is_some(),
        ];
        let mut writer = Writer::new(out);
        writer.map(6 + optional.into_iter().filter(|there| *there).count())?;
        writer.uint(key::FORMAT)?;
        writer.uint(FORMAT.into())?;
        writer.uint(key::SEQUENCE)?;
        writer.uint(self.sequence)?;
        writer.uint(key::VENDOR)?;
        writer.bytes(&self.vendor)?;
        writer.uint(key::CLASS)?;
        writer.bytes(&self.class)?;
        if let Some(devices) = devices {
            writer.uint(key::DEVICES)?;
            writer.bytes(devices.0)?;
        }
        writer.uint(key::FLOOR)?;
        writer.uint(self.floor)?;
        writer.uint(key::COMPONENTS)?;
        writer.array(self.components.count())?;
        for component in self.components.iter() {
            component.write(&mut writer)?;
        }
        if let Some((least, most)) = current {
            pair(&mut writer, key::CURRENT, least, most)?;
        }
        if let Some(needs) = needs {
            pair(&mut writer, key::NEEDS, needs.capabilities, needs.boot_abi.into())?;
        }
        if let Some(not_after) = self.not_after {
            writer.uint(key::NOT_AFTER)?;
            writer.uint(not_after)?;
        }
        if let Some(policy) = policy {
            writer.uint(key::POLICY)?;
            policy.write(&mut writer)?;
        }
        if let Some(label) = label {
            writer.uint(key::LABEL)?;
            writer.text(label)?;
        }
        let length = writer.len();
        if length <= MAX_MANIFEST { Ok(length) } else { Err(Full) }
    }
}

fn pair(writer: &mut Writer<'_>, key: u64, first: u64, second: u64) -> Result<(), Full> {
    writer.uint(key)?;
    writer.array(2)?;
    writer.uint(first)?;
    writer.uint(second)
}
