//! `tidegate device ls` and `tidegate device rm`

use std::io::Write;

use super::super::locate::Place;
use super::super::table::Table;
use super::Failure;
use crate::admin::{AdminClient, Firmware, FirmwareTold};
use crate::utc::Utc;

/// Lists the devices that have said hello.
pub(super) fn list(place: &Place, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut client = place.connect()?;
    let devices = match client.firmware(Firmware::Devices)? {
        FirmwareTold::Devices(devices) => devices,
        told => return Err(unexpected(&client, told)),
    };
    if json {
        writeln!(out, "{}", serde_json::to_string(&devices)?)?;
        return Ok(());
    }
    let mut table = Table::new();
    table.row(["DEVICE", "VERSION", "SEQUENCE", "KEYS", "CLASS", "VIA", "SEEN", "STATE"]);
    for device in &devices {
        let (sequence, keys) = (device.sequence.to_string(), device.key_set.to_string());
        let seen = Utc(device.seen_unix_ms).to_string();
        table.row([
            device.device.as_str(),
            &device.version,
            &sequence,
            &keys,
            &device.class,
            &device.via,
            &seen,
            if device.on_trial { "on trial" } else { "" },
        ]);
    }
    table.write(out)?;
    Ok(())
}

/// Forgets a device that is gone for good.
pub(super) fn remove(place: &Place, device: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let mut client = place.connect()?;
    match client.firmware(Firmware::Forget { device: device.to_owned() })? {
        FirmwareTold::Done => {}
        told => return Err(unexpected(&client, told)),
    }
    writeln!(out, "{device} is forgotten; it comes back when it says hello")?;
    Ok(())
}

pub(super) fn unexpected(client: &AdminClient, told: FirmwareTold) -> Failure {
    Failure::Failed(client.unexpected(told).into())
}
