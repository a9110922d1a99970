//! `tidegate fn logs`

use std::io::{self, Write};
use std::thread::sleep;
use std::time::Duration;

use clap::Args;

use super::super::locate::Place;
use super::super::status::one_line;
use super::Failure;
use crate::admin::MAX_LOG_PAGE;
use crate::guest_log::{LineKind, LogLine};
use crate::utc::Utc;

/// Pause between questions of `--follow`.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(in crate::cli) struct LogsArguments {
    /// The function's name
    name: String,
    /// Wait for further lines, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// How many lines, the newest
    #[arg(short = 'n', long = "lines", value_name = "N", default_value_t = 50)]
    count: usize,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Shows what a function said last, and what failed.
pub(super) fn logs(arguments: &LogsArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut client = arguments.place.connect()?;
    let name = arguments.name.as_str();
    let mut page = client.logs(name, None, arguments.count.min(MAX_LOG_PAGE))?;
    loop {
        for line in &page.lines {
            show(line, arguments.json, out)?;
        }
        if !arguments.follow {
            return Ok(());
        }
        out.flush()?;
        if page.lines.is_empty() {
            sleep(FOLLOW_PAUSE);
        }
        let next = page.next;
        page = client.logs(name, Some(next), MAX_LOG_PAGE)?;
        if let Some(first) = page.lines.first().filter(|first| first.number > next) {
            let last = first.number - 1;
            writeln!(io::stderr(), "(lines {next} to {last} are not kept any more)")?;
        }
        // The daemon was started again, and counts from 1.
        if page.next < next {
            page.lines.clear();
        }
    }
}

fn show(line: &LogLine, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        writeln!(out, "{}", serde_json::to_string(line)?)?;
        return Ok(());
    }
    let kind = match line.kind {
        LineKind::Error => "error",
        LineKind::Warn => "warn",
        LineKind::Info => "info",
        LineKind::Debug => "debug",
        LineKind::Failure => "FAILED",
        LineKind::DeadLetter => "GIVEN UP",
        LineKind::Version => "VERSION",
    };
    writeln!(out, "{}  {kind:<8}  {}", Utc(line.unix_ms), one_line(&line.text))?;
    Ok(())
}
