//! A device says what it is and runs.

use super::{begin, bytes, kind, number};
use crate::cbor::{Fields, FormError, Full, Reader, Writer, required};
use crate::digest::Digest8;
use crate::manifest::{Side, Uuid};

/// Most components of a device.
const MAX_INSTALLED: usize = 4;
/// Most bytes of a version.
const MAX_VERSION: usize = 24;

/// Why a device has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Power, or nothing that it knows of.
    Power,
    /// Its application, or its watchdog.
    Reset,
    /// To start a release on trial.
    Trial,
    /// A release was taken back.
    Reverted,
    /// Something that a later version knows.
    Other(u8),
}

impl Reason {
    fn code(self) -> u8 {
        match self {
            Reason::Power => 0,
            Reason::Reset => 1,
            Reason::Trial => 2,
            Reason::Reverted => 3,
            Reason::Other(code) => code,
        }
    }

    fn of(code: u8) -> Reason {
        match code {
            0 => Reason::Power,
            1 => Reason::Reset,
            2 => Reason::Trial,
            3 => Reason::Reverted,
            other => Reason::Other(other),
        }
    }
}

/// What runs as one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Installed<'a> {
    /// Which one.
    pub id: u8,
    /// Its version; empty when the device does not know.
    pub version: &'a str,
    /// The first 8 bytes of the SHA-256 of its image; zeros when the device does not know.
    pub digest: Digest8,
    /// Largest image that fits.
    pub room: u32,
    /// Where a new image will be, if that matters.
    pub side: Option<Side>,
}

/// Said after each start of a session, and whenever something of it has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// Greatest version of the protocol that the device speaks; it speaks the one below as well.
    pub protocol: u8,
    /// Version of the SDK.
    pub sdk: &'a str,
    /// Who made it.
    pub vendor: Uuid,
    /// What kind of device it is.
    pub class: Uuid,
    /// Most bytes of a message that it takes.
    pub message: u16,
    /// Bytes of a block.
    pub block: u16,
    /// Bits of [`super::capability`].
    pub capabilities: u64,
    /// Version of the contract between bootloader and image.
    pub boot_abi: u32,
    /// Sequence that is confirmed.
    pub sequence: u64,
    /// Its floor.
    pub floor: u64,
    /// Version of its key set.
    pub key_set: u32,
    /// What runs.
    pub components: InstalledList<'a>,
    /// Why it has started.
    pub reason: Reason,
    /// Starts left, when what runs is on trial.
    pub trial: Option<u8>,
    /// The manifest that it is in the middle of: its SHA-256, the first 8 bytes.
    pub pending: Option<Digest8>,
}

/// One to four components.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstalledList<'a>([Option<Installed<'a>>; MAX_INSTALLED]);

impl<'a> InstalledList<'a> {
    /// `None` when they are none or too many.
    pub fn new(components: impl IntoIterator<Item = Installed<'a>>) -> Option<InstalledList<'a>> {
        let mut list = [None; MAX_INSTALLED];
        for (at, component) in components.into_iter().enumerate() {
            *list.get_mut(at)? = Some(component);
        }
        list[0].map(|_| InstalledList(list))
    }

    /// The components.
    pub fn iter(&self) -> impl Iterator<Item = &Installed<'a>> {
        self.0.iter().flatten()
    }

    fn read(reader: &mut Reader<'a>, key: u64) -> Result<InstalledList<'a>, FormError> {
        let refused = FormError::Range { key };
        let count = reader.array()?;
        let mut list = [None; MAX_INSTALLED];
        for at in 0..count {
            *list.get_mut(at).ok_or(refused)? = Some(Installed::read(reader)?);
        }
        list[0].map(|_| InstalledList(list)).ok_or(refused)
    }
}

impl<'a> Installed<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Installed<'a>, FormError> {
        let (mut id, mut version, mut digest) = (None, None, None);
        let (mut room, mut side) = (None, None);
        let mut fields = Fields::of(reader)?;
        while let Some(key) = fields.next_key()? {
            match key {
                0 => id = Some(fields.number(0..=crate::manifest::MAX_ID)?),
                1 => version = Some(fields.text(MAX_VERSION)?),
                2 => digest = Some(*fields.array()?),
                3 => room = Some(fields.number(0..=u32::MAX)?),
                4 => {
                    let second = fields.number(0..=1u8)? == 1;
                    side = Some(if second { Side::B } else { Side::A });
                }
                _ => fields.skip()?,
            }
        }
        Ok(Installed {
            id: required(id, 0)?,
            version: required(version, 1)?,
            digest: required(digest, 2)?,
            room: required(room, 3)?,
            side,
        })
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.map(4 + usize::from(self.side.is_some()))?;
        number(writer, 0, self.id)?;
        writer.uint(1)?;
        writer.text(self.version)?;
        bytes(writer, 2, &self.digest)?;
        number(writer, 3, self.room)?;
        match self.side {
            Some(Side::A) => number(writer, 4, 0u8),
            Some(Side::B) => number(writer, 4, 1u8),
            None => Ok(()),
        }
    }
}

/// Values of the keys so far.
#[derive(Default)]
struct Found<'a> {
    protocol: Option<u8>,
    sdk: Option<&'a str>,
    vendor: Option<Uuid>,
    class: Option<Uuid>,
    message: Option<u16>,
    block: Option<u16>,
    capabilities: Option<u64>,
    boot_abi: Option<u32>,
    sequence: Option<u64>,
    floor: Option<u64>,
    key_set: Option<u32>,
    components: Option<InstalledList<'a>>,
    reason: Option<Reason>,
    trial: Option<u8>,
    pending: Option<Digest8>,
}

impl<'a> Found<'a> {
    fn take(&mut self, key: u64, fields: &mut Fields<'_, 'a>) -> Result<(), FormError> {
        match key {
            1 => self.protocol = Some(fields.number(1..=u8::MAX)?),
            2 => self.sdk = Some(fields.text(MAX_VERSION)?),
            3 => self.vendor = Some(*fields.array()?),
            4 => self.class = Some(*fields.array()?),
            5 => self.message = Some(fields.number(64..=u16::MAX)?),
            6 => self.block = Some(fields.number(32..=1_024)?),
            7 => self.capabilities = Some(fields.value().uint()?),
            8 => self.boot_abi = Some(fields.number(0..=u32::MAX)?),
            9 => self.sequence = Some(fields.value().uint()?),
            10 => self.floor = Some(fields.value().uint()?),
            11 => self.key_set = Some(fields.number(0..=u32::MAX)?),
            12 => self.components = Some(InstalledList::read(fields.value(), key)?),
            13 => self.reason = Some(Reason::of(fields.number(0..=u8::MAX)?)),
            14 => self.trial = Some(fields.number(0..=u8::MAX)?),
            15 => self.pending = Some(*fields.array()?),
            _ => fields.skip()?,
        }
        Ok(())
    }
}

impl<'a> Hello<'a> {
    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Hello<'a>, FormError> {
        let mut found = Found::default();
        while let Some(key) = fields.next_key()? {
            found.take(key, fields)?;
        }
        Ok(Hello {
            protocol: required(found.protocol, 1)?,
            sdk: required(found.sdk, 2)?,
            vendor: required(found.vendor, 3)?,
            class: required(found.class, 4)?,
            message: required(found.message, 5)?,
            block: required(found.block, 6)?,
            capabilities: required(found.capabilities, 7)?,
            boot_abi: required(found.boot_abi, 8)?,
            sequence: required(found.sequence, 9)?,
            floor: required(found.floor, 10)?,
            key_set: required(found.key_set, 11)?,
            components: required(found.components, 12)?,
            reason: required(found.reason, 13)?,
            trial: found.trial,
            pending: found.pending,
        })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        let more = usize::from(self.trial.is_some()) + usize::from(self.pending.is_some());
        begin(writer, kind::HELLO, 13 + more)?;
        number(writer, 1, self.protocol)?;
        writer.uint(2)?;
        writer.text(self.sdk)?;
        bytes(writer, 3, &self.vendor)?;
        bytes(writer, 4, &self.class)?;
        number(writer, 5, self.message)?;
        number(writer, 6, self.block)?;
        number(writer, 7, self.capabilities)?;
        number(writer, 8, self.boot_abi)?;
        number(writer, 9, self.sequence)?;
        number(writer, 10, self.floor)?;
        number(writer, 11, self.key_set)?;
        writer.uint(12)?;
        writer.array(self.components.iter().count())?;
        for component in self.components.iter() {
            component.write(writer)?;
        }
        number(writer, 13, self.reason.code())?;
        if let Some(trial) = self.trial {
            number(writer, 14, trial)?;
        }
        if let Some(pending) = self.pending {
            bytes(writer, 15, &pending)?;
        }
        Ok(())
    }
}

/// The gateway's answer to a hello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Version of the protocol that both speak from now on.
    pub protocol: u8,
    /// Seconds since 1970, if the gateway trusts its clock.
    pub time: Option<u64>,
}

impl Welcome {
    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Welcome, FormError> {
        let (mut protocol, mut time) = (None, None);
        while let Some(key) = fields.next_key()? {
            match key {
                1 => protocol = Some(fields.number(1..=u8::MAX)?),
                2 => time = Some(fields.value().uint()?),
                _ => fields.skip()?,
            }
        }
        Ok(Welcome { protocol: required(protocol, 1)?, time })
    }

    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        begin(writer, kind::WELCOME, 1 + usize::from(self.time.is_some()))?;
        number(writer, 1, self.protocol)?;
        match self.time {
            Some(time) => number(writer, 2, time),
            None => Ok(()),
        }
    }
}
