//! `tidegate reload`

use std::io::Write;

use super::Failure;
use super::locate::Place;
use crate::reload::ReloadTold;

/// Lets a running gateway read its configuration again, and shows what came of it.
pub(super) fn reload(place: &Place, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let told = place.connect()?.reload()?;
    if json {
        serde_json::to_writer(&mut *out, &told)?;
        writeln!(out)?;
    }
    match told {
        ReloadTold::Done { changed } if !json => {
            match changed.is_empty() {
                true => writeln!(out, "reloaded: the file is the one that counts already")?,
                false => writeln!(out, "reloaded: what differed counts now")?,
            }
            for key in changed {
                writeln!(out, "  {key}")?;
            }
            Ok(())
        }
        ReloadTold::Done { .. } => Ok(()),
        ReloadTold::Mistakes(text) => Err(Failure::Wrong(format!(
            "{text}\nnothing was changed: the old configuration counts"
        ))),
        ReloadTold::Restart(keys) => {
            let keys = keys.join("\n  ");
            let text = format!(
                "nothing was changed: these keys differ and count from a start on only\n  {keys}\n\
                 restart the gateway, or take these changes back and reload"
            );
            Err(Failure::Failed(anyhow::Error::msg(text)))
        }
        ReloadTold::Refused(why) => {
            Err(Failure::Failed(anyhow::Error::msg(format!("nothing was changed: {why}"))))
        }
    }
}
