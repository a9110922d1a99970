//! A device says what it is and runs.

use super::{begin, bytes, kind, number, text};
use crate::cbor::{Field, Fields, FormError, Full, Reader, Value, Writer};
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

    fn read(value: &Value<'a>, key: u64) -> Result<InstalledList<'a>, FormError> {
        let refused = FormError::range(key);
        let mut reader = value.item().ok_or(refused)?;
        let count = reader.array()?;
        let mut list = [None; MAX_INSTALLED];
        for at in 0..count {
            *list.get_mut(at).ok_or(refused)? = Some(Installed::read(&mut reader)?);
        }
        list[0].map(|_| InstalledList(list)).ok_or(refused)
    }
}

impl<'a> Installed<'a> {
    const TABLE: [Field; 5] = [
        Field::number(0, 0..=crate::manifest::MAX_ID as u32).required(),
        Field::text(1, MAX_VERSION).required(),
        Field::bytes(2, 8..=8).required(),
        Field::number(3, 0..=u32::MAX).required(),
        Field::number(4, 0..=1),
    ];

    fn read(reader: &mut Reader<'a>) -> Result<Installed<'a>, FormError> {
        let [id, version, digest, room, side] = Fields::read(reader, &Installed::TABLE)?;
        Ok(Installed {
            id: id.byte(),
            version: version.text(),
            digest: digest.array(),
            room: room.number(),
            side: Side::read(&side),
        })
    }

    fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        writer.map(4 + usize::from(self.side.is_some()))?;
        number(writer, 0, self.id)?;
        text(writer, 1, self.version)?;
        bytes(writer, 2, &self.digest)?;
        number(writer, 3, self.room)?;
        match self.side {
            Some(Side::A) => number(writer, 4, 0u8),
            Some(Side::B) => number(writer, 4, 1u8),
            None => Ok(()),
        }
    }
}

impl<'a> Hello<'a> {
    const TABLE: [Field; 15] = [
        Field::number(1, 1..=u8::MAX as u32).required(),
        Field::text(2, MAX_VERSION).required(),
        Field::bytes(3, 16..=16).required(),
        Field::bytes(4, 16..=16).required(),
        Field::number(5, 64..=u16::MAX as u32).required(),
        Field::number(6, 32..=1_024).required(),
        Field::long(7, 0).required(),
        Field::number(8, 0..=u32::MAX).required(),
        Field::long(9, 0).required(),
        Field::long(10, 0).required(),
        Field::number(11, 0..=u32::MAX).required(),
        Field::item(12).required(),
        Field::number(13, 0..=u8::MAX as u32).required(),
        Field::number(14, 0..=u8::MAX as u32),
        Field::bytes(15, 8..=8),
    ];

    pub(super) fn read(fields: &mut Fields<'_, 'a>) -> Result<Hello<'a>, FormError> {
        let [protocol, sdk, vendor, class, message, block, more @ ..] =
            fields.rest(&Hello::TABLE)?;
        let [capabilities, boot_abi, sequence, floor, key_set, components, reason, trial, pending] =
            more;
        Ok(Hello {
            protocol: protocol.byte(),
            sdk: sdk.text(),
            vendor: vendor.array(),
            class: class.array(),
            message: message.number() as u16,
            block: block.number() as u16,
            capabilities: capabilities.long(),
            boot_abi: boot_abi.number(),
            sequence: sequence.long(),
            floor: floor.long(),
            key_set: key_set.number(),
            components: InstalledList::read(&components, 12)?,
            reason: Reason::of(reason.byte()),
            trial: trial.is_there().then(|| trial.byte()),
            pending: pending.is_there().then(|| pending.array()),
        })
    }

    /// Writes it as a message; answers the bytes written.
    ///
    /// # Errors
    /// `out` is too small.
    pub fn write(&self, out: &mut [u8]) -> Result<usize, Full> {
        let mut writer = Writer::new(out);
        let writer = &mut writer;
        let more = usize::from(self.trial.is_some()) + usize::from(self.pending.is_some());
        begin(writer, kind::HELLO, 13 + more)?;
        number(writer, 1, self.protocol)?;
        text(writer, 2, self.sdk)?;
        bytes(writer, 3, &self.vendor)?;
        bytes(writer, 4, &self.class)?;
        let numbers: [u64; 7] = [
            self.message.into(),
            self.block.into(),
            self.capabilities,
            self.boot_abi.into(),
            self.sequence,
            self.floor,
            self.key_set.into(),
        ];
        for (key, value) in (5..).zip(numbers) {
            number(writer, key, value)?;
        }
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
        Ok(writer.len())
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
    const TABLE: [Field; 2] = [Field::number(1, 1..=u8::MAX as u32).required(), Field::long(2, 0)];

    pub(super) fn read(fields: &mut Fields<'_, '_>) -> Result<Welcome, FormError> {
        let [protocol, time] = fields.rest(&Welcome::TABLE)?;
        Ok(Welcome { protocol: protocol.byte(), time: time.found() })
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
