//! `tidegate fn dead`: the records that a function gave up.

use std::io::Write;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use clap::{Args, Subcommand};
use tidegate_flow::DEAD_LETTER_STREAM;

use super::super::locate::Place;
use super::super::status::one_line;
use super::super::stream::shown_payload;
use super::Failure;
use crate::admin::{AdminClient, Control, MAX_LETTERS};
use crate::core_handle::{LetterAct, MAX_PAGE_RECORDS, TailRecord};
use crate::utc::Utc;

/// Pause before letters are redriven for which there was no room.
const PAUSE: Duration = Duration::from_millis(100);
/// Longest wait for room without any progress.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum DeadCommand {
    /// List the records that a function gave up, with the reasons
    #[command(after_help = "Example:\n  tidegate fn dead ls threshold --json")]
    Ls {
        /// The function's name
        name: String,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Give records to their function once more, for example after it was mended
    #[command(after_help = "Examples:\n  tidegate fn dead redrive threshold --seq 17 --seq 18\n  \
                      tidegate fn dead redrive threshold --all")]
    Redrive(LetterArguments),
    /// Give records up for good
    #[command(after_help = "Example:\n  tidegate fn dead purge threshold --all")]
    Purge(LetterArguments),
}

#[derive(Debug, Args)]
pub(in crate::cli) struct LetterArguments {
    /// The function's name
    name: String,
    /// The sequence in the stream dead-letters; once or several times
    #[arg(long, value_name = "SEQ", required_unless_present = "all", conflicts_with = "all")]
    seq: Vec<u64>,
    /// All that are there now
    #[arg(long)]
    all: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Carries a command out.
pub(super) fn dead(command: &DeadCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        DeadCommand::Ls { name, json, place } => {
            for_open(&mut place.connect()?, name, |record| show(record, *json, out))
        }
        DeadCommand::Redrive(arguments) => settle(arguments, LetterAct::Redrive, out),
        DeadCommand::Purge(arguments) => settle(arguments, LetterAct::Purge, out),
    }
}

/// Calls `act` for each letter of a function that is there now and not settled.
fn for_open(
    client: &mut AdminClient,
    name: &str,
    mut act: impl FnMut(&TailRecord) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let streams = client.status()?.streams;
    let stream = streams.iter().find(|stream| stream.name == DEAD_LETTER_STREAM);
    let end = stream.map_or(0, |stream| stream.durable_seq);
    let mut next = 1;
    while next < end {
        let page = client.tail(DEAD_LETTER_STREAM, Some(next), MAX_PAGE_RECORDS)?;
        for record in page.records.iter().filter(|record| record.seq < end) {
            let letter = record.dead_letter.as_ref();
            if letter.is_some_and(|letter| letter.function == name && !letter.settled) {
                act(record)?;
            }
        }
        if page.next <= next {
            break;
        }
        next = page.next;
    }
    Ok(())
}

fn show(record: &TailRecord, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        writeln!(out, "{}", serde_json::to_string(record)?)?;
        return Ok(());
    }
    let Some(letter) = &record.dead_letter else { return Ok(()) };
    let (topic, payload) = (one_line(&record.topic), shown_payload(&record.payload));
    writeln!(out, "{:>8}  {}  {topic}  {payload}", record.seq, Utc(record.unix_ms))?;
    let (stream, reason) = (one_line(&letter.stream), one_line(&letter.reason));
    let (seq, attempts) = (letter.seq, letter.attempts);
    writeln!(out, "          record {seq} of {stream}, attempts: {attempts}; {reason}")?;
    Ok(())
}

fn settle(arguments: &LetterArguments, act: LetterAct, out: &mut dyn Write) -> Result<(), Failure> {
    let mut client = arguments.place.connect()?;
    let name = arguments.name.as_str();
    let mut seqs = arguments.seq.clone();
    if arguments.all {
        for_open(&mut client, name, |record| {
            seqs.push(record.seq);
            Ok(())
        })?;
    }
    let (settled, failed) = settle_all(&mut client, name, &seqs, act)?;
    let done = match act {
        LetterAct::Redrive => "redriven",
        LetterAct::Purge => "purged",
    };
    if arguments.json {
        let failed: Vec<_> = failed
            .iter()
            .map(|(seq, reason)| serde_json::json!({ "seq": seq, "reason": reason }))
            .collect();
        let report = serde_json::json!({ "function": name, done: settled, "failed": failed });
        writeln!(out, "{report}")?;
    } else {
        for (seq, reason) in &failed {
            writeln!(out, "{seq} stays: {reason}")?;
        }
        writeln!(out, "{name}: {settled} {done}")?;
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::Said) }
}

/// How many were settled, and which were not.
type Settled = (u64, Vec<(u64, String)>);

fn settle_all(
    client: &mut AdminClient,
    name: &str,
    seqs: &[u64],
    act: LetterAct,
) -> Result<Settled, Failure> {
    let (mut settled, mut failed, mut at) = (0, Vec::new(), 0);
    let mut moved = Instant::now();
    while at < seqs.len() {
        let some = seqs[at..seqs.len().min(at + MAX_LETTERS)].to_vec();
        let (name_of, sent) = (name.to_owned(), some.len() as u64);
        let done = client.control(Control::Letters { name: name_of, seqs: some, act })?;
        let tried = sent.saturating_sub(done.left);
        at += usize::try_from(tried).unwrap_or(usize::MAX);
        settled += done.settled;
        failed.extend(done.failed);
        if tried > 0 {
            moved = Instant::now();
        } else if moved.elapsed() > PATIENCE {
            let text = format!(
                "{settled} are redriven, {} wait: the retry lane of {name} is full and does not \
                 empty; is it paused? The same command goes on",
                seqs.len() - at
            );
            return Err(anyhow!(text).into());
        }
        if done.left > 0 {
            sleep(PAUSE);
        }
    }
    Ok((settled, failed))
}
