//! `tidegate stream ls` and `tidegate stream tail`

use std::io::{self, Write};
use std::time::Duration;

use anyhow::anyhow;
use tidegate_flow::status::StreamStatus;

use super::locate::Place;
use super::status::{amount, one_line};
use super::table::Table;
use super::{Failure, TailArguments};
use crate::core_handle::{MAX_PAGE_RECORDS, TailRecord};
use crate::hex;
use crate::utc::Utc;

/// Records shown when no number is asked for.
const DEFAULT_RECORDS: u64 = 10;
/// Pause between questions of `--follow`.
const FOLLOW_PAUSE: Duration = Duration::from_millis(200);

/// Lists the streams.
pub(super) fn list(place: &Place, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let streams = place.connect()?.status()?.streams;
    if json {
        writeln!(out, "{}", serde_json::to_string(&streams)?)?;
    } else {
        streams_table(&streams).write(out)?;
    }
    Ok(())
}

pub(super) fn streams_table(streams: &[StreamStatus]) -> Table {
    let mut table = Table::new();
    table.row(["STREAM", "RECORDS", "FIRST", "NEXT", "SIZE", "QUOTA", "LOST", "READERS"]);
    for stream in streams {
        table.row([
            stream.name.as_str(),
            &stream.next_seq.saturating_sub(stream.first_seq).to_string(),
            &stream.first_seq.to_string(),
            &stream.next_seq.to_string(),
            &amount(stream.bytes),
            &amount(stream.max_bytes),
            &stream.lost.to_string(),
            &readers(stream),
        ]);
    }
    table
}

fn readers(stream: &StreamStatus) -> String {
    let reader = |reader: &tidegate_flow::status::ReaderStatus| match reader.lag {
        0 => reader.name.clone(),
        lag => format!("{} ({lag} behind)", reader.name),
    };
    stream.readers.iter().map(reader).collect::<Vec<_>>().join(", ")
}

/// Shows the records of a stream.
pub(super) fn tail(arguments: &TailArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut client = arguments.place.connect()?;
    let streams = client.status()?.streams;
    let Some(stream) = streams.iter().find(|stream| stream.name == arguments.name) else {
        let known: Vec<&str> = streams.iter().map(|stream| stream.name.as_str()).collect();
        let text = format!("no stream \"{}\"; there is: {}", arguments.name, known.join(", "));
        return Err(Failure::Failed(anyhow!(text)));
    };
    let end = stream.durable_seq;
    let (mut next, mut left) = match (arguments.from, arguments.count) {
        (Some(from), count) => (from.max(1), count.unwrap_or(u64::MAX)),
        (None, count) => {
            let count = count.unwrap_or(DEFAULT_RECORDS);
            let left = if arguments.follow { u64::MAX } else { count };
            (end.saturating_sub(count).max(stream.first_seq), left)
        }
    };
    while left > 0 && (arguments.follow || next < end) {
        let max = usize::try_from(left).unwrap_or(MAX_PAGE_RECORDS).min(MAX_PAGE_RECORDS);
        let page = client.tail(&arguments.name, Some(next), max)?;
        for record in &page.records {
            if record.seq > next {
                report_gap(next, record.seq)?;
            }
            show(record, arguments.json, out)?;
            next = record.seq + 1;
            left -= 1;
        }
        next = next.max(page.next);
        if page.records.is_empty() {
            if !arguments.follow {
                break;
            }
            out.flush()?;
            std::thread::sleep(FOLLOW_PAUSE);
        }
    }
    Ok(())
}

fn report_gap(first: u64, next: u64) -> io::Result<()> {
    let last = next - 1;
    writeln!(io::stderr(), "(records {first} to {last} are not kept any more)")
}

fn show(record: &TailRecord, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        writeln!(out, "{}", serde_json::to_string(record)?)?;
        return Ok(());
    }
    let payload = shown_payload(&record.payload);
    let (topic, client) = (one_line(&record.topic), one_line(&record.client));
    let time = Utc(record.unix_ms);
    writeln!(out, "{:>8}  {time}  {topic}  {client}  {payload}", record.seq)?;
    if let Some(note) = &record.dead_letter {
        let reason = one_line(&note.reason);
        let (function, stream) = (one_line(&note.function), one_line(&note.stream));
        writeln!(
            out,
            "          {function} gave up record {} of {stream} after {} attempts: {reason}",
            note.seq, note.attempts
        )?;
    }
    Ok(())
}

/// A payload as a terminal may show it.
pub(super) fn shown_payload(payload: &[u8]) -> String {
    match std::str::from_utf8(payload) {
        Ok(text) => text.chars().map(escaped).collect(),
        Err(_) => format!("0x{}", hex::encode(payload)),
    }
}

/// A character as a terminal may show it.
fn escaped(character: char) -> String {
    if character.is_control() {
        character.escape_default().to_string()
    } else {
        character.to_string()
    }
}
