//! `tidegate fn ls`, `tidegate fn rollback` and `tidegate fn rm`

use std::io::Write;

use tidegate_flow::FunctionEntry;

use super::super::locate::Place;
use super::super::table::Table;
use super::Failure;
use crate::utc::Utc;

/// Digits of a hash that people are shown.
const SHORT: usize = 12;

/// Lists all functions.
pub(super) fn list(place: &Place, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let functions = place.connect()?.functions()?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&functions)?)?;
        return Ok(());
    }
    table(&functions).write(out)?;
    for entry in &functions {
        if let Some(canary) = &entry.canary {
            let (version, percent) = (&canary.version.version, f64::from(canary.share) / 100.0);
            writeln!(
                out,
                "{} {version} is tried on {percent} % of the keys: {} records of {}, {} failed",
                entry.name, canary.records, canary.wanted, canary.errors
            )?;
        }
        if let Some(failed) = &entry.failed {
            let version = &failed.version.version;
            let (time, reason) = (Utc(failed.unix_ms), &failed.reason);
            writeln!(out, "{} {version} was taken back at {time}: {reason}", entry.name)?;
        }
    }
    Ok(())
}

fn table(functions: &[FunctionEntry]) -> Table {
    let mut table = Table::new();
    table.row(["FUNCTION", "VERSION", "HASH", "SINCE", "STATE", "FROM"]);
    for entry in functions {
        let version = entry.version.as_ref();
        let hash = version.map_or("", |version| version.package.get(..SHORT).unwrap_or_default());
        let since = entry.since_unix_ms.map(|ms| Utc(ms).to_string()).unwrap_or_default();
        let trial = if entry.on_trial { ", on trial" } else { "" };
        table.row([
            entry.name.as_str(),
            version.map_or("", |version| &version.version),
            hash,
            &since,
            &format!("{}{trial}", entry.state),
            &entry.source,
        ]);
    }
    table
}

/// Takes the version before back.
pub(super) fn roll_back(place: &Place, name: &str, out: &mut dyn Write) -> Result<(), Failure> {
    let installed = place.connect()?.roll_back(name)?;
    writeln!(out, "{} {} runs again", installed.name, installed.version)?;
    Ok(())
}

/// Takes a pushed function out.
pub(super) fn remove(place: &Place, name: &str, out: &mut dyn Write) -> Result<(), Failure> {
    place.connect()?.remove_function(name)?;
    writeln!(out, "{name} is removed; its state stays for a function of this name")?;
    Ok(())
}
