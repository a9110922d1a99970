//! `tidegate stream losses`

use std::io::Write;

use serde::Serialize;
use tidegate_flow::status::{LossRange, LossReport, SessionLossStatus};

use super::Failure;
use super::locate::Place;
use super::status::amount;
use super::table::Table;
use crate::utc::Utc;

/// The report as `--json` prints it: the daemon's, with the time also for people.
#[derive(Serialize)]
struct Shown<'a> {
    stream: &'a str,
    records: u64,
    bytes: u64,
    forgotten_records: u64,
    forgotten_bytes: u64,
    ranges: Vec<ShownRange<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sessions: Vec<ShownSession<'a>>,
}

#[derive(Serialize)]
struct ShownRange<'a> {
    #[serde(flatten)]
    range: &'a LossRange,
    time: String,
}

#[derive(Serialize)]
struct ShownSession<'a> {
    #[serde(flatten)]
    session: &'a SessionLossStatus,
    time: String,
}

/// A client in words.
pub(super) fn client_name(client: &str) -> &str {
    if client.is_empty() { "(others)" } else { client }
}

/// Shows what the loss ledger says of a stream.
pub(super) fn show(
    place: &Place,
    name: &str,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let report = place.connect()?.losses(name)?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&shown(&report))?)?;
        return Ok(());
    }
    write(&report, out)
}

fn shown(report: &LossReport) -> Shown<'_> {
    let range = |range| ShownRange { range, time: Utc(range.unix_ms).to_string() };
    Shown {
        stream: &report.stream,
        records: report.records,
        bytes: report.bytes,
        forgotten_records: report.forgotten_records,
        forgotten_bytes: report.forgotten_bytes,
        ranges: report.ranges.iter().map(range).collect(),
        sessions: report.sessions.iter().map(shown_session).collect(),
    }
}

fn shown_session(session: &SessionLossStatus) -> ShownSession<'_> {
    ShownSession { session, time: Utc(session.unix_ms).to_string() }
}

fn write(report: &LossReport, out: &mut dyn Write) -> Result<(), Failure> {
    if !report.ranges.is_empty() {
        let mut table = Table::new();
        table.row(["FIRST", "LAST", "RECORDS", "SIZE", "REASON", "TIME (UTC)"]);
        for range in &report.ranges {
            table.row([
                range.first.to_string().as_str(),
                &range.last.to_string(),
                &range.records.to_string(),
                &amount(range.bytes),
                &range.reason,
                &Utc(range.unix_ms).to_string(),
            ]);
        }
        table.write(out)?;
        writeln!(out)?;
    }
    if !report.sessions.is_empty() {
        write_sessions(&report.sessions, out)?;
    }
    let (records, size) = (report.records, amount(report.bytes));
    writeln!(out, "{}: {records} records lost since it was made, {size}", report.stream)?;
    if report.forgotten_records > 0 {
        let (records, size) = (report.forgotten_records, amount(report.forgotten_bytes));
        writeln!(out, "{records} of them, {size}, are older than what the ledger names")?;
    }
    Ok(())
}

fn write_sessions(sessions: &[SessionLossStatus], out: &mut dyn Write) -> Result<(), Failure> {
    let mut table = Table::new();
    table.row(["CLIENT", "MESSAGES", "SIZE", "REASON", "LAST (UTC)"]);
    for session in sessions {
        table.row([
            client_name(&session.client),
            &session.records.to_string(),
            &amount(session.bytes),
            &session.reason,
            &Utc(session.unix_ms).to_string(),
        ]);
    }
    table.write(out)?;
    writeln!(out)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    #[test]
    fn losses_are_shown_for_people_with_what_the_ledger_has_forgotten() {
        let mut out = Vec::new();
        write(&sample::losses(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "FIRST  LAST  RECORDS  SIZE     REASON   TIME (UTC)\n   \
             31    70       40  3.9 KiB  quota    2023-11-14T22:13:20.000Z\n   \
             90    90        1  100 B    refused  2023-11-14T22:13:20.000Z\n\n\
             telemetry: 71 records lost since it was made, 6.9 KiB\n\
             30 of them, 2.9 KiB, are older than what the ledger names\n"
        );
    }

    #[test]
    fn what_sessions_lost_is_shown_by_client() {
        let mut out = Vec::new();
        write(&sample::session_losses(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let words: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(words[1][..3], ["(others)", "2", "400"]);
        assert_eq!(words[2][..3], ["dash-7", "10", "1.9"]);
        assert_eq!(words[2][4], "slow-subscriber");
    }

    #[test]
    fn a_stream_without_losses_says_so() {
        let report = LossReport {
            records: 0,
            bytes: 0,
            forgotten_records: 0,
            forgotten_bytes: 0,
            ranges: Vec::new(),
            ..sample::losses()
        };
        let mut out = Vec::new();
        write(&report, &mut out).unwrap();
        assert_eq!(out, b"telemetry: 0 records lost since it was made, 0 B\n");
    }
}
