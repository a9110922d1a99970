//! `tidegate device twin`: what a device should be like, and is like.

use std::io::Write;

use anyhow::anyhow;
use clap::Subcommand;
use tidegate_flow::{TwinProperty, TwinStatus};

use super::super::locate::Place;
use super::super::table::Table;
use super::Failure;
use super::ls::unexpected;
use crate::admin::{Firmware, FirmwareTold};
use crate::cli::status::one_line;

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum TwinCommand {
    /// Show what a device should be like, and what it says that it is like
    #[command(after_help = "Example:\n  tidegate device twin get pump-7 --json")]
    Get {
        /// Its name
        device: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Change what a device should be like; it hears of it at once, or when it connects
    #[command(
        after_help = "Examples:\n  tidegate device twin set pump-7 interval_s=60 limit=21.5 mode=eco\n  \
                      tidegate device twin set pump-7 on=true 'label=\"60\"' mode=\n\n\
                      A value is true, false, a number or text; quotes make a number text; nothing removes."
    )]
    Set {
        /// Its name
        device: String,
        /// NAME=VALUE
        #[arg(required = true, value_name = "NAME=VALUE")]
        changes: Vec<String>,
        #[command(flatten)]
        place: Place,
    },
}

pub(super) fn execute(command: TwinCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        TwinCommand::Get { device, json, place } => {
            let twin = ask(&place, Firmware::Twin { device })?;
            if json {
                writeln!(out, "{}", serde_json::to_string(&twin)?)?;
                return Ok(());
            }
            write(&twin, out)
        }
        TwinCommand::Set { device, changes, place } => {
            let changes = changes.iter().map(|one| change(one)).collect::<Result<_, _>>()?;
            let twin = ask(&place, Firmware::ChangeTwin { device, changes })?;
            writeln!(out, "{} has version {} of what is desired", twin.device, twin.version)?;
            Ok(())
        }
    }
}

fn ask(place: &Place, request: Firmware) -> Result<TwinStatus, Failure> {
    let mut client = place.connect()?;
    match client.firmware(request)? {
        FirmwareTold::Twin(twin) => Ok(twin),
        told => Err(unexpected(&client, told)),
    }
}

fn change(text: &str) -> Result<(String, String), Failure> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| anyhow!("\"{text}\" is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn write(twin: &TwinStatus, out: &mut dyn Write) -> Result<(), Failure> {
    let heard = match twin.heard {
        None => "the device has not said anything".to_owned(),
        Some(heard) if heard == twin.version => "the device has heard it".to_owned(),
        Some(heard) => format!("the device has heard version {heard}"),
    };
    writeln!(out, "desired version {}; {heard}", twin.version)?;
    let mut names: Vec<&str> =
        twin.desired.iter().chain(&twin.reported).map(|one| one.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut table = Table::new();
    table.row(["PROPERTY", "DESIRED", "REPORTED"]);
    let value = |side: &[TwinProperty], name: &str| {
        let found = side.iter().find(|one| one.name == name);
        found.map_or_else(|| "-".to_owned(), |one| one_line(&one.value))
    };
    for name in names {
        let (desired, reported) = (value(&twin.desired, name), value(&twin.reported, name));
        table.row([one_line(name).as_str(), &desired, &reported]);
    }
    table.write(out)?;
    if let Some((name, why)) = &twin.refused {
        writeln!(out, "{} is not taken: {}", one_line(name), one_line(why))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_is_shown_for_people() {
        let property =
            |name: &str, value: &str| TwinProperty { name: name.into(), value: value.into() };
        let twin = TwinStatus {
            device: "pump-7".into(),
            version: 9,
            desired: vec![property("limit", "21.5"), property("mode", "\"eco\"")],
            heard: Some(8),
            reported: vec![property("limit", "20"), property("on", "true")],
            refused: Some(("mode".into(), "there is\nno eco".into())),
        };
        let mut out = Vec::new();
        write(&twin, &mut out).unwrap();
        let expected = "desired version 9; the device has heard version 8\n\
                        PROPERTY  DESIRED  REPORTED\n\
                        limit     21.5           20\n\
                        mode      \"eco\"    -\n\
                        on        -        true\n\
                        mode is not taken: there is no eco\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(change("a=b=c").unwrap(), ("a".to_owned(), "b=c".to_owned()));
        assert!(change("a").is_err());
    }
}
