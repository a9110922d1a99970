//! `tidegate device firmware push`

use std::io::Write;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use tidegate_firmware::{MAX_BUNDLE, Release};

use super::super::ls::unexpected;
use super::status::watch;
use super::{Failure, read};
use crate::admin::{AdminClient, Firmware, FirmwareTold, Halt};
use crate::cli::locate::Place;
use crate::hex;
use crate::packages::{MAX_BLOCK, sha256};
use crate::ring_crypto::RingSha256;

#[derive(Debug, Args)]
pub(in crate::cli) struct PushArguments {
    /// What `tidegate device firmware sign` wrote
    bundle: PathBuf,
    /// Only these devices, by name [default: all of the release's class, those that come later too]
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    devices: Option<Vec<String>>,
    /// So many have to be confirmed before others are offered it
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    first: Option<u32>,
    /// So many failures end it: a number of devices, or a percentage of those it is for
    #[arg(long, value_name = "N|PERCENT%", default_value = "1")]
    halt_at: HaltAt,
    /// Show how it goes until all that are known have come to an end
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    place: Place,
}

/// How many failures are too many.
#[derive(Debug, Clone, Copy)]
struct HaltAt(Halt);

impl std::str::FromStr for HaltAt {
    type Err = String;

    fn from_str(text: &str) -> Result<HaltAt, String> {
        let halt = match text.strip_suffix('%') {
            Some(percent) => {
                percent.parse().ok().filter(|one| (1..=100).contains(one)).map(Halt::Percent)
            }
            None => text.parse().ok().filter(|one| *one > 0).map(Halt::Devices),
        };
        halt.map(HaltAt).ok_or_else(|| "a number from 1, or 1% to 100%".to_owned())
    }
}

/// Brings a bundle to a gateway, goes on where an earlier push ended, and begins a campaign.
pub(super) fn push(arguments: &PushArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let file = arguments.bundle.as_path();
    let bytes = read::file(file, "a bundle", MAX_BUNDLE)?;
    // What is no bundle need not travel.
    let release = Release::of_bundle::<RingSha256>(&bytes);
    let release = release.map_err(|error| anyhow!("{}: {error}", file.display()))?;
    let mut client = arguments.place.connect()?;
    let bundle = sha256(&bytes).to_string();
    upload(&mut client, &bundle, &bytes, out)?;
    let (devices, first) = (arguments.devices.clone(), arguments.first);
    let start = Firmware::Start { bundle, devices, first, halt_at: arguments.halt_at.0 };
    let campaign = match client.firmware(start)? {
        FirmwareTold::Started { campaign } => campaign,
        told => return Err(unexpected(&client, told)),
    };
    let sequence = release.sequence();
    writeln!(out, "campaign {campaign} brings sequence {sequence} to devices")?;
    out.flush()?;
    if arguments.watch { watch(&mut client, campaign, out) } else { Ok(()) }
}

fn upload(
    client: &mut AdminClient,
    bundle: &str,
    bytes: &[u8],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let size = bytes.len();
    let begin = Firmware::Begin { bundle: bundle.to_owned(), size: size as u64 };
    let (mut have, whole) = match client.firmware(begin)? {
        FirmwareTold::Uploaded { have, whole } => (have, whole),
        told => return Err(unexpected(client, told)),
    };
    if whole {
        return Ok(());
    }
    if have > 0 {
        writeln!(out, "going on at byte {have} of {size}")?;
        out.flush()?;
    }
    while (have as usize) < size {
        let from = have as usize;
        let block = hex::encode(&bytes[from..size.min(from + MAX_BLOCK)]);
        let block = Firmware::Block { bundle: bundle.to_owned(), offset: have, block };
        have = match client.firmware(block)? {
            FirmwareTold::Uploaded { have, .. } => have,
            told => return Err(unexpected(client, told)),
        };
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_halt_is_a_number_of_devices_or_a_percentage() {
        let halt = |text: &str| text.parse::<HaltAt>().map(|HaltAt(halt)| halt);
        assert_eq!(halt("3"), Ok(Halt::Devices(3)));
        assert_eq!(halt("5%"), Ok(Halt::Percent(5)));
        for text in ["0", "0%", "101%", "-1", "some", "", "%"] {
            assert!(halt(text).is_err(), "{text}");
        }
    }
}
