//! `tidegate fn pause`, `resume`, `drain` and `reset`

use std::io::Write;
use std::thread::sleep;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use tidegate_flow::ResetTo;

use super::super::locate::Place;
use super::Failure;
use super::records::End;
use crate::admin::Control;
use crate::core_handle::ControlDone;

/// Pause between questions whether a function has drained.
const PAUSE: Duration = Duration::from_millis(200);

/// A function of a running gateway.
#[derive(Debug, Args)]
pub(in crate::cli) struct Named {
    /// The function's name
    name: String,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct DrainArguments {
    /// Do not wait until it has drained
    #[arg(long)]
    no_wait: bool,
    #[command(flatten)]
    named: Named,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct ResetArguments {
    /// Where its cursor goes: `start`, `end`, a sequence, or a time of receipt such as
    /// 2026-01-01T00:00:00Z
    #[arg(long, value_name = "WHERE")]
    to: Target,
    /// The stream, where the function reads several
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    #[command(flatten)]
    named: Named,
}

/// Where a cursor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Target(ResetTo);

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        Ok(Target(match text {
            "start" => ResetTo::Start,
            "end" => ResetTo::End,
            _ => match text.parse::<End>() {
                Ok(End::Seq(seq)) => ResetTo::Seq(seq),
                Ok(End::Time(unix_ms)) => ResetTo::Time(unix_ms),
                Err(why) => return Err(format!("{why}, nor `start` or `end`")),
            },
        }))
    }
}

/// Stops a function; what comes for it waits.
pub(super) fn pause(named: &Named, out: &mut dyn Write) -> Result<(), Failure> {
    let name = named.name.clone();
    named.place.connect()?.control(Control::Pause { name })?;
    told(named, "paused", "is paused; what comes for it waits, also over a restart", out)
}

/// Lets it go on.
pub(super) fn resume(named: &Named, out: &mut dyn Write) -> Result<(), Failure> {
    let name = named.name.clone();
    named.place.connect()?.control(Control::Resume { name })?;
    told(named, "resumed", "goes on", out)
}

/// Lets it do what is there, and waits until it is paused.
pub(super) fn drain(arguments: &DrainArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let named = &arguments.named;
    let mut client = named.place.connect()?;
    client.control(Control::Drain { name: named.name.clone() })?;
    if arguments.no_wait {
        return told(named, "draining", "does what is there, and is paused then", out);
    }
    loop {
        let functions = client.functions()?;
        let entry = functions.into_iter().find(|entry| entry.name == named.name);
        let entry = entry.ok_or_else(|| anyhow!("{} was removed meanwhile", named.name))?;
        match entry.state.as_str() {
            "draining" => sleep(PAUSE),
            "paused" => {
                return told(named, "drained", "has done what was there; it is paused", out);
            }
            state => return Err(anyhow!("{} does not drain any more: {state}", named.name).into()),
        }
    }
}

/// Moves its cursor.
pub(super) fn reset(arguments: &ResetArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let (named, Target(to)) = (&arguments.named, arguments.to);
    let (name, stream) = (named.name.clone(), arguments.stream.clone());
    let mut client = named.place.connect()?;
    let ControlDone { stream, from, to, .. } =
        client.control(Control::Reset { name, stream, to })?;
    if named.json {
        let reset = serde_json::json!({
            "function": named.name, "done": "reset", "stream": stream, "from": from, "to": to
        });
        writeln!(out, "{reset}")?;
        return Ok(());
    }
    let way = if to < from { "comes again" } else { "is skipped" };
    writeln!(out, "{}: {stream} {from} -> {to}; what is between {way}", named.name)?;
    Ok(())
}

fn told(named: &Named, done: &str, sentence: &str, out: &mut dyn Write) -> Result<(), Failure> {
    if named.json {
        writeln!(out, "{}", serde_json::json!({ "function": named.name, "done": done }))?;
    } else {
        writeln!(out, "{} {sentence}", named.name)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_end_of_the_stream_a_sequence_or_a_time() {
        for (text, to) in [
            ("start", ResetTo::Start),
            ("end", ResetTo::End),
            ("17", ResetTo::Seq(17)),
            ("2026-01-01T00:00:00Z", ResetTo::Time(1_767_225_600_000)),
        ] {
            assert_eq!(text.parse(), Ok(Target(to)));
        }
        let error = "yesterday".parse::<Target>().unwrap_err();
        assert!(error.ends_with("nor `start` or `end`"), "{error}");
    }
}
