//! `tidegate fn push`

use std::io::Write;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use tidegate_wire::Digest;

use super::super::locate::Place;
use super::Failure;
use super::inspect::read_package;
use crate::admin::AdminClient;
use crate::packages::{Installed, MAX_BLOCK, look_into};

/// Pause between questions how the trial goes.
const PAUSE: Duration = Duration::from_millis(200);
/// How much longer than its trial a version is watched.
const BEYOND: Duration = Duration::from_secs(30);

/// Brings a package to a gateway, goes on where an earlier push ended, and waits for the end of
/// the trial.
pub(super) fn push(
    place: &Place,
    file: &Path,
    wait: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let bytes = read_package(file)?;
    // What is no package need not travel.
    let contents = look_into(&bytes).map_err(|error| anyhow!("{}: {error}", file.display()))?;
    let mut client = place.connect()?;
    upload(&mut client, contents.hash, &bytes, out)?;
    let installed = client.push_end(contents.hash)?;
    let Installed { name, version, .. } = &installed;
    if installed.trial_ms == 0 {
        writeln!(out, "{name} {version} runs already")?;
        return Ok(());
    }
    let trial = Duration::from_millis(installed.trial_ms);
    writeln!(out, "{name} {version} is installed, on trial for {} s", trial.as_secs())?;
    out.flush()?;
    if wait { watch(&mut client, &installed, trial, out) } else { Ok(()) }
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

/// Waits until the version is kept or taken back.
fn watch(
    client: &mut AdminClient,
    installed: &Installed,
    trial: Duration,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let Installed { name, version, package, .. } = installed;
    let until = Instant::now() + trial + BEYOND;
    while Instant::now() < until {
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
