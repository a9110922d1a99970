//! `[serial.NAME]`: lines with devices.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use toml::de::DeValue;

use super::document::{Section, Spot};
use super::keys::{Kind, MAX_NAME, line};
use super::mistakes::Mistakes;
use super::sections::{Reader, check_name, small};
use super::value::is_name;

/// Most lines of one gateway, each with a port and a buffer.
const MAX_LINES: usize = 16;

/// The greatest address of a device; 255 is all of them.
const MAX_ADDRESS: i64 = 254;

/// One serial line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialSettings {
    /// NAME.
    pub name: Arc<str>,
    /// The port.
    pub device: PathBuf,
    /// Bits a second.
    pub baud: u32,
    /// Address and name of each device, in order of the addresses.
    pub devices: Vec<(u8, Arc<str>)>,
    /// Devices speak only when they have the turn.
    pub shared: bool,
}

/// Reads all lines. No port is on two lines, and no device either.
pub(super) fn read(reader: &Reader<'_>, out: &mut Mistakes) -> Vec<SerialSettings> {
    let sections = Section::several(reader.source, reader.root, &line::SECTION, out);
    let mut lines: Vec<SerialSettings> = Vec::new();
    for (name, section) in &sections {
        check_name(name, section, lines.len(), MAX_LINES, out);
        let device = reader.base.join(section.text(&line::DEVICE, out).unwrap_or_default());
        if let Some(spot) = section.spot(&line::DEVICE)
            && let Some(other) = lines.iter().find(|other| other.device == device)
        {
            spot.wrong(out, &format!("is the port of [serial.{}] already", other.name));
        }
        let devices = devices(section, &lines, out);
        let shared = section.flag_if_set(&line::SHARED, out);
        if let (Some(false), Some(spot)) = (shared, section.spot(&line::SHARED))
            && devices.len() > 1
        {
            spot.wrong(out, "several devices on a line have to be given turns; leave it out");
        }
        lines.push(SerialSettings {
            name: (*name).into(),
            device,
            baud: small(section.count(&line::BAUD, out)),
            shared: shared.unwrap_or(devices.len() > 1),
            devices,
        });
    }
    lines
}

fn devices(
    section: &Section<'_>,
    lines: &[SerialSettings],
    out: &mut Mistakes,
) -> Vec<(u8, Arc<str>)> {
    let Some(spot) = section.spot(&line::DEVICES) else {
        section.missing(&line::DEVICES, out);
        return Vec::new();
    };
    let Kind::Devices { max } = line::DEVICES.kind else { return Vec::new() };
    let entries = spot.entries().unwrap_or_default();
    if entries.is_empty() || entries.len() > max {
        spot.wrong(out, "must be a table of names and addresses, such as { \"pump-7\" = 1 }");
        return Vec::new();
    }
    let mut found: BTreeMap<u8, Arc<str>> = BTreeMap::new();
    for (name, entry) in &entries {
        if !is_name(name) {
            let why = format!("not a name; allowed: 1 to {MAX_NAME} of A-Z a-z 0-9 _ -");
            entry.wrong(out, &why);
        }
        let known = |line: &&SerialSettings| line.devices.iter().any(|(_, one)| &**one == *name);
        if let Some(other) = lines.iter().find(known) {
            entry.wrong(out, &format!("is on [serial.{}] already", other.name));
        }
        let Some(address) = address(entry, out) else { continue };
        if let Some(other) = found.insert(address, (*name).into()) {
            entry.wrong(out, &format!("is the address of {other} already"));
        }
    }
    found.into_iter().collect()
}

fn address(entry: &Spot<'_>, out: &mut Mistakes) -> Option<u8> {
    if let DeValue::Integer(number) = entry.value
        && let Ok(address @ 1..=MAX_ADDRESS) = i64::from_str_radix(number.as_str(), number.radix())
    {
        return u8::try_from(address).ok();
    }
    entry.wrong(out, "must be an address, 1 to 254");
    None
}
