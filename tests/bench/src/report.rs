//! What a benchmark prints: the machine first, then one row a metric, as JSON lines or as a table.

use std::io::Write;

use anyhow::Result;
use serde::Serialize;

use crate::medium::Medium;
use crate::procfs;

/// The machine and the circumstances, the first line of the output.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    cores: usize,
    memory_bytes: u64,
    kernel: String,
    dir: String,
    file_system: String,
    sync_p50_ms: f64,
    sync_p99_ms: f64,
    /// Processor time of a lone write and sync after 20 ms of sleep.
    paced_sync_cpu_us: f64,
    /// How the figures came about; for a reader, not for a program.
    notes: Vec<String>,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn examine(medium: &Medium, notes: Vec<String>) -> Result<Machine> {
        let name = rustix::system::uname();
        Ok(Machine {
            cores: std::thread::available_parallelism()?.get(),
            memory_bytes: procfs::memory_bytes()?,
            kernel: name.release().to_string_lossy().into_owned(),
            dir: medium.dir.display().to_string(),
            file_system: medium.file_system.clone(),
            sync_p50_ms: rounded(medium.sync_p50.as_secs_f64() * 1e3),
            sync_p99_ms: rounded(medium.sync_p99.as_secs_f64() * 1e3),
            paced_sync_cpu_us: rounded(medium.paced_sync_cpu.as_secs_f64() * 1e6),
            notes,
        })
    }
}

/// One metric of one case. The names of the fields are an interface.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Row {
    bench: &'static str,
    case: String,
    metric: &'static str,
    unit: &'static str,
    ours: Option<f64>,
    peer: Option<String>,
    theirs: Option<f64>,
    bar: Option<String>,
    ok: Option<bool>,
}

/// What a figure of ours must reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bar {
    /// Not more than this share of the peer's.
    ShareOfPeer(f64),
    /// Not less than the peer's.
    PeerOrMore,
    /// Not less than so many times the peer's.
    TimesPeer(f64),
    /// Not more than this.
    UpTo(f64),
    /// Not less than this.
    From(f64),
}

impl Bar {
    fn words(self, peer: &str, unit: &str) -> String {
        match self {
            Bar::ShareOfPeer(share) => format!("at most {share} times {peer}"),
            Bar::PeerOrMore => format!("at least {peer}"),
            Bar::TimesPeer(times) => format!("at least {times} times {peer}"),
            Bar::UpTo(limit) => format!("at most {limit} {unit}"),
            Bar::From(limit) => format!("at least {limit} {unit}"),
        }
    }

    /// `None` where a figure is missing: no verdict without a measurement.
    fn verdict(self, ours: Option<f64>, theirs: Option<f64>) -> Option<bool> {
        let ours = ours?;
        Some(match self {
            Bar::ShareOfPeer(share) => ours <= theirs? * share,
            Bar::PeerOrMore => ours >= theirs?,
            Bar::TimesPeer(times) => ours >= theirs? * times,
            Bar::UpTo(limit) => ours <= limit,
            Bar::From(limit) => ours >= limit,
        })
    }
}

impl Row {
    /// A figure of ours alone.
    pub(crate) fn new(
        bench: &'static str,
        case: &str,
        metric: &'static str,
        unit: &'static str,
        ours: Option<f64>,
    ) -> Row {
        let (peer, theirs, bar, ok) = (None, None, None, None);
        Row { bench, case: case.to_owned(), metric, unit, ours, peer, theirs, bar, ok }
    }

    /// Beside a peer's.
    pub(crate) fn beside(mut self, peer: &str, theirs: Option<f64>) -> Row {
        self.peer = Some(peer.to_owned());
        self.theirs = theirs;
        self
    }

    /// With a bar; the verdict is on the figures as measured. Rounding is for showing.
    pub(crate) fn with_bar(mut self, bar: Option<Bar>) -> Row {
        if let Some(bar) = bar {
            self.bar = Some(bar.words(self.peer.as_deref().unwrap_or("the peer"), self.unit));
            self.ok = bar.verdict(self.ours, self.theirs);
        }
        self
    }

    fn shown(mut self) -> Row {
        self.ours = self.ours.map(rounded);
        self.theirs = self.theirs.map(rounded);
        self
    }

    fn judged_badly(&self) -> bool {
        self.bar.is_some() && self.ok != Some(true)
    }
}

/// Four significant digits, or whole numbers above that.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    if digits <= 0 {
        return value.round();
    }
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

/// Whether every bar was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// All of them.
    Met,
    /// At least one was not, or could not be judged.
    Missed,
}

/// Prints machine and rows, and says plainly which bars were missed.
pub(crate) fn print(machine: &Machine, rows: Vec<Row>, json: bool) -> Result<Judgement> {
    let mut out = std::io::stdout().lock();
    let rows: Vec<Row> = rows.into_iter().map(Row::shown).collect();
    let summary = summary(&rows);
    if json {
        writeln!(out, "{}", serde_json::to_string(machine)?)?;
        for row in &rows {
            writeln!(out, "{}", serde_json::to_string(row)?)?;
        }
        eprintln!("{summary}");
    } else {
        writeln!(out, "{}{}{summary}", heading(machine), table(&rows))?;
    }
    out.flush()?;
    let missed = rows.iter().any(Row::judged_badly);
    Ok(if missed { Judgement::Missed } else { Judgement::Met })
}

fn summary(rows: &[Row]) -> String {
    let bars = rows.iter().filter(|row| row.bar.is_some()).count();
    let missed: Vec<String> = rows.iter().filter(|row| row.judged_badly()).map(missed).collect();
    let mut text = format!("bars: {} of {bars} met", bars - missed.len());
    if !missed.is_empty() {
        text.push_str("; MISSED:\n");
        text.push_str(&missed.join("\n"));
    }
    text
}

fn missed(row: &Row) -> String {
    let Row { case, metric, unit, .. } = row;
    let bar = row.bar.as_deref().unwrap_or_default();
    let theirs = match (&row.peer, row.theirs) {
        (Some(peer), Some(theirs)) => format!(" ({peer}: {})", number(Some(theirs))),
        _ => String::new(),
    };
    format!("  {case}: {metric} is {} {unit}, bar {bar}{theirs}", number(row.ours))
}

fn heading(machine: &Machine) -> String {
    let Machine { cores, kernel, dir, file_system, sync_p50_ms, sync_p99_ms, .. } = machine;
    let paced = machine.paced_sync_cpu_us;
    let gib = rounded(machine.memory_bytes as f64 / f64::from(1 << 30));
    let mut text = format!(
        "{cores} cores, {gib} GiB of memory, Linux {kernel}\n\
         {dir} is on {file_system}: 4 KiB written and synced in {sync_p50_ms} ms (p50), \
         {sync_p99_ms} ms (p99); after 20 ms of sleep that takes {paced} us of processor time\n"
    );
    for note in &machine.notes {
        text.push_str(&format!("- {note}\n"));
    }
    text
}

fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut case = "";
    for row in rows {
        if row.case != case {
            case = &row.case;
            let peer = row.peer.as_deref().unwrap_or("");
            text.push_str(&format!("\n{case:<46}{:>12}{peer:>18}\n", "tidegate"));
        }
        let verdict = match (&row.bar, row.ok) {
            (None, _) => String::new(),
            (Some(bar), Some(true)) => format!("  ok: {bar}"),
            (Some(bar), Some(false)) => format!("  MISSED: {bar}"),
            (Some(bar), None) => format!("  NOT MEASURED: {bar}"),
        };
        let name = format!("  {}, {}", row.metric, row.unit);
        let (ours, theirs) = (number(row.ours), number(row.theirs));
        let theirs = if row.peer.is_some() { theirs } else { String::new() };
        text.push_str(&format!("{name:<46}{ours:>12}{theirs:>18}{verdict}\n"));
    }
    text.push('\n');
    text
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row::new("broker", "qos1, 10 publishers", "messages_per_second", "msg/s", Some(12_345.678))
    }

    #[test]
    fn a_row_has_exactly_the_fields_of_the_interface() {
        let full = row().beside("mosquitto 2.0.11", Some(8_000.0)).with_bar(Some(Bar::PeerOrMore));
        assert_eq!(
            serde_json::to_string(&full.shown()).unwrap(),
            r#"{"bench":"broker","case":"qos1, 10 publishers","metric":"messages_per_second","unit":"msg/s","ours":12346.0,"peer":"mosquitto 2.0.11","theirs":8000.0,"bar":"at least mosquitto 2.0.11","ok":true}"#
        );
        let alone = serde_json::to_value(row().with_bar(None)).unwrap();
        for field in ["peer", "theirs", "bar", "ok"] {
            assert!(alone[field].is_null(), "{field} is {}", alone[field]);
        }
    }

    #[test]
    fn a_bar_judges_what_was_measured_and_nothing_else() {
        let half = Bar::ShareOfPeer(0.5);
        assert_eq!(half.verdict(Some(0.5), Some(1.0)), Some(true));
        assert_eq!(half.verdict(Some(0.51), Some(1.0)), Some(false));
        assert_eq!(half.verdict(Some(0.1), None), None);
        assert_eq!(Bar::PeerOrMore.verdict(Some(2.0), Some(2.0)), Some(true));
        assert_eq!(Bar::UpTo(300.0).verdict(Some(300.1), None), Some(false));
        assert_eq!(Bar::From(20.0).verdict(Some(20.4), None), Some(true));
        assert_eq!(Bar::UpTo(300.0).verdict(None, None), None);
    }

    #[test]
    fn a_missed_or_unmeasured_bar_is_named_in_the_summary() {
        let missed = row().beside("mosquitto", Some(20_000.0)).with_bar(Some(Bar::PeerOrMore));
        let unmeasured = row().beside("mosquitto", None).with_bar(Some(Bar::PeerOrMore));
        let text = summary(&[row(), missed, unmeasured]);
        assert!(text.starts_with("bars: 0 of 2 met; MISSED:"), "{text}");
        assert!(text.contains("qos1, 10 publishers: messages_per_second is 12345.678"), "{text}");
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn figures_are_shown_with_four_digits() {
        let check = |value, shown| assert_eq!(rounded(value), shown);
        check(0.0, 0.0);
        check(0.123_456, 0.1235);
        check(12.345_6, 12.35);
        check(123_456.7, 123_457.0);
        check(9_999.9, 10_000.0);
        check(-0.001_234_56, -0.001_235);
    }
}
