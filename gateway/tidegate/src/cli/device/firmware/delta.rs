//! `tidegate device firmware delta`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use tidegate_wire::manifest::MAX_IMAGE;

use super::keyset::write_new;
use super::{Failure, read};

#[derive(Debug, Args)]
pub(in crate::cli) struct DeltaArguments {
    /// The image that devices run
    base: PathBuf,
    /// The new one
    image: PathBuf,
    /// Write what would travel here; `sign --base` makes it by itself
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Shows the ways an image can travel.
pub(super) fn delta(arguments: &DeltaArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let read = |file| read::file(file, "an image", MAX_IMAGE.into());
    let (base, image) = (read(&arguments.base)?, read(&arguments.image)?);
    let delta = tidegate_patch::delta(&base, &image);
    let percent = |bytes: usize| bytes as f64 * 100.0 / image.len() as f64;
    let packed = tidegate_patch::compressed(&image).len();
    writeln!(out, "as it is     {} bytes", image.len())?;
    writeln!(out, "heatshrink   {packed} bytes, {:.1} %", percent(packed))?;
    writeln!(out, "delta        {} bytes, {:.1} %", delta.len(), percent(delta.len()))?;
    if let Some(file) = &arguments.output {
        write_new(file, &delta)?;
    }
    Ok(())
}
