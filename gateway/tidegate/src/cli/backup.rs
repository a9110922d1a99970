//! `tidegate backup` and `tidegate restore`

use std::io::Write;
use std::path::Path;

use super::Failure;
use super::locate::Place;
use super::status::amount;
use super::table::Table;
use crate::backup;
use crate::utc::Utc;

/// Copies the data directory of a gateway, whether it runs or not.
pub(super) fn back_up(place: &Place, to: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let (data_dir, config) = (place.data_dir()?, place.config_file());
    let made = backup::back_up(&data_dir, config.as_deref(), to)?;
    let (files, bytes) = (made.files, amount(made.bytes));
    writeln!(out, "backed up {} to {}: {files} files, {bytes}", data_dir.display(), to.display())?;
    if config.is_none() {
        writeln!(out, "the configuration is not in it: it was not named")?;
    }
    Ok(())
}

/// Makes a data directory from a backup.
pub(super) fn restore(from: &Path, to: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    let restored = backup::restore(from, to)?;
    let made = Utc(i64::try_from(restored.made_unix_ms).unwrap_or(i64::MAX));
    writeln!(out, "restored {} of {made} to {}", from.display(), to.display())?;
    writeln!(out, "new records get epoch {}", restored.epoch)?;
    let mut table = Table::new();
    table.row(["STREAM", "FIRST", "NEXT"]);
    for (name, first, next) in &restored.streams {
        table.row([name.as_str(), &first.to_string(), &next.to_string()]);
    }
    writeln!(out)?;
    table.write(out)?;
    for note in &restored.notes {
        writeln!(out, "{note}")?;
    }
    writeln!(
        out,
        "\nnext:  the gateway must not run elsewhere under the same id; name the directory \
                   as gateway.data_dir and start it"
    )?;
    Ok(())
}
