//! `tidegate fn push`

use std::io::Write;
use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::Args;
use tidegate_flow::MAX_SHARE;
use tidegate_wire::Digest;

use super::super::locate::Place;
use super::Failure;
use super::inspect::read_package;
use crate::admin::AdminClient;
use crate::packages::{Canary, Installed, MAX_BLOCK, look_into};

/// Pause between questions how the trial goes.
const PAUSE: Duration = Duration::from_millis(200);
/// How much longer than its trial a version is watched.
const BEYOND: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(in crate::cli) struct PushArguments {
    /// What `tidegate fn pack` wrote
    package: PathBuf,
    /// Try it on a share of the keys, beside the version that runs; it is promoted or taken back
    /// by how it does there
    #[arg(long, value_name = "PERCENT")]
    canary: Option<Share>,
    /// With --canary: records that it must have been given before it is promoted
    #[arg(long, value_name = "N", default_value_t = 200, requires = "canary")]
    records: u32,
    /// Do not wait for the end of the trial
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    place: Place,
}

/// A share of the keys, in hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Share(u16);

impl std::str::FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let percent: Option<f64> = text.strip_suffix('%').unwrap_or(text).trim().parse().ok();
        let share = percent.map(|percent| (percent * 100.0).round());
        let share = share.filter(|share| (1.0..=f64::from(MAX_SHARE)).contains(share));
        let share = share.map(|share| Share(share as u16));
        share.ok_or_else(|| "a share is 0.01% to 50%, such as 10%".to_owned())
    }
}

/// Brings a package to a gateway, goes on where an earlier push ended, and waits for the end of
/// the trial.
pub(super) fn push(arguments: &PushArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let (place, file) = (&arguments.place, arguments.package.as_path());
    let bytes = read_package(file)?;
    // What is no package need not travel.
    let contents = look_into(&bytes).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    let mut client = place.connect()?;
    upload(&mut client, contents.hash, &bytes, out)?;
    let records = arguments.records;
    let canary = arguments.canary.map(|Share(share)| Canary { share, records });
    let installed = client.push_end(contents.hash, canary)?;
    let Installed { name, version, .. } = &installed;
    if installed.trial_ms == 0 {
        writeln!(out, "{name} {version} runs already")?;
        return Ok(());
    }
    let trial = Duration::from_millis(installed.trial_ms);
    if let Some(Canary { share, .. }) = canary {
        let (percent, s) = (f64::from(share) / 100.0, trial.as_secs());
        writeln!(
            out,
            "{name} {version} gets {percent} % of the keys, for {s} s and {records} records at least"
        )?;
        out.flush()?;
        return if arguments.no_wait { Ok(()) } else { watch(&mut client, &installed, None, out) };
    }
    writeln!(out, "{name} {version} is installed, on trial for {} s", trial.as_secs())?;
    out.flush()?;
    if arguments.no_wait {
        return Ok(());
    }
    watch(&mut client, &installed, Some(Instant::now() + trial + BEYOND), out)
}

fn upload(
    client: &mut AdminClient,
    hash: Digest,
    bytes: &[u8],
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let size = bytes.len();
    let (have, whole) = client.push_begin(hash, size as u64)?;
    if whole {
        return Ok(());
    }
    if have > 0 {
        writeln!(out, "going on at byte {have} of {size}")?;
        out.flush()?;
    }
    let mut have = usize::try_from(have).unwrap_or(usize::MAX);
    while have < size {
        let block = &bytes[have..size.min(have + MAX_BLOCK)];
        let after = client.push_block(hash, have as u64, block)?;
        have = usize::try_from(after).unwrap_or(usize::MAX);
    }
    Ok(())
}

/// Waits until the version is kept or taken back; a canary for as long as it takes.
fn watch(
    client: &mut AdminClient,
    installed: &Installed,
    until: Option<Instant>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Installed { name, version, package, .. } = installed;
    while until.is_none_or(|until| Instant::now() < until) {
        let functions = client.functions()?;
        let entry = functions.into_iter().find(|entry| entry.name == *name);
        let entry = entry.ok_or_else(|| anyhow!("{name} was removed meanwhile"))?;
        let is_this = |found: &str| found == package;
        if let Some(failed) = entry.failed.filter(|failed| is_this(&failed.version.package)) {
            let back = entry.version.map_or_else(
                || "nothing runs in its place".to_owned(),
                |back| format!("{} runs again", back.version),
            );
            let reason = failed.reason;
            return Err(anyhow!("{name} {version} was taken back, {back}: {reason}").into());
        }
        if entry.canary.is_some_and(|canary| is_this(&canary.version.package)) {
            sleep(PAUSE);
            continue;
        }
        match entry.version {
            Some(current) if is_this(&current.package) && !entry.on_trial => {
                writeln!(out, "{name} {version} is kept")?;
                return Ok(());
            }
            Some(current) if is_this(&current.package) => {}
            _ => return Err(anyhow!("{name} has another version by now").into()),
        }
        sleep(PAUSE);
    }
    Err(anyhow!("{name} {version} is still on trial; see `tidegate fn ls`").into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_percentage_up_to_a_half() {
        for (text, share) in [("10%", 1_000), ("0.5 %", 50), ("50", 5_000), ("0.01%", 1)] {
            assert_eq!(text.parse(), Ok(Share(share)), "{text}");
        }
        for text in ["0%", "51%", "-1%", "ten", "", "NaN"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
