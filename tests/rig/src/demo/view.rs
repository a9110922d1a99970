//! What the user sees: a panel that is drawn anew each second on a terminal, plain lines
//! elsewhere.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::DemoOptions;
use super::verdict::{Counts, Evidence};
use crate::proxy::Mode;

const BAR: u64 = 30;
/// Longest line of the panel.
const WIDTH: usize = 96;

/// Everything at one moment.
#[derive(Debug, Clone)]
pub(super) struct Snapshot {
    pub(super) elapsed: Duration,
    pub(super) phase: String,
    pub(super) link: Mode,
    pub(super) published: u64,
    pub(super) per_second: u64,
    pub(super) acknowledged: u64,
    pub(super) delivered: u64,
    pub(super) alerts: u64,
    pub(super) received: u64,
    pub(super) buffered: Option<u64>,
    /// This machine's own reading.
    pub(super) host: String,
    pub(super) connected: bool,
    pub(super) uplink: String,
}

/// Where progress goes: standard output, or standard error when the counts go to the former.
pub(super) struct View {
    to_stderr: bool,
    terminal: bool,
    panel: std::cell::Cell<usize>,
    most_buffered: u64,
    delivered_before: u64,
    started: Instant,
}

impl View {
    pub(super) fn new(to_stderr: bool) -> View {
        let terminal = if to_stderr {
            std::io::stderr().is_terminal()
        } else {
            std::io::stdout().is_terminal()
        };
        View {
            to_stderr,
            terminal,
            panel: std::cell::Cell::new(0),
            most_buffered: 0,
            delivered_before: 0,
            started: Instant::now(),
        }
    }

    pub(super) fn title(&self, options: &DemoOptions) {
        let length = match options.run_time {
            Some(time) => format!("{} s", time.as_secs()),
            None => "until Ctrl-C".to_owned(),
        };
        self.print(&format!("Tidegate demo, {length}\n"));
    }

    /// A line that stays.
    pub(super) fn event(&self, what: &str) {
        self.erase();
        let time = self.started.elapsed().as_secs();
        let line = if self.terminal {
            format!("\x1b[2m{time:>4} s\x1b[0m  \x1b[1m{what}\x1b[0m\n")
        } else {
            format!("{time:>4} s  -- {what}\n")
        };
        self.print(&line);
    }

    /// The state of things, once a second.
    pub(super) fn show(&mut self, now: &Snapshot) {
        self.most_buffered = self.most_buffered.max(now.buffered.unwrap_or(0)).max(1);
        let arriving = now.delivered.saturating_sub(self.delivered_before);
        self.delivered_before = now.delivered;
        if !self.terminal {
            return self.print(&line(now, arriving, self.started.elapsed()));
        }
        self.erase();
        let panel = self.draw(now, arriving);
        self.panel.set(panel.lines().count());
        self.print(&panel);
    }

    fn draw(&self, now: &Snapshot, arriving: u64) -> String {
        let (link, colour) = match now.link {
            Mode::Pass => ("────────", 32),
            Mode::Cut => ("── ✂  ──", 31),
            Mode::BlackHole => ("── ?  ──", 33),
        };
        let buffered = now.buffered.unwrap_or(0);
        let filled = (buffered * BAR).div_ceil(self.most_buffered).min(BAR) as usize;
        let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR as usize - filled));
        let mut panel = String::new();
        let mut row = |text: String| {
            panel.push_str(&text);
            panel.push('\n');
        };
        row(String::new());
        row(format!(
            "        sensors ────▶ gateway \x1b[{colour}m{link}▶\x1b[0m cloud      {}, {} s",
            now.phase,
            now.elapsed.as_secs()
        ));
        row(String::new());
        row(format!("  published     {:>9}   +{}/s", grouped(now.published), now.per_second));
        row(format!("  acknowledged  {:>9}   each one on disk", grouped(now.acknowledged)));
        row(format!("  buffered      {:>9}   \x1b[36m{bar}\x1b[0m", grouped(buffered)));
        row(format!("  delivered     {:>9}   +{arriving}/s", grouped(now.delivered)));
        row(format!("  alerts        {:>9}   by the function `threshold`", grouped(now.alerts)));
        row(format!("  uplink        {}", clip(&now.uplink)));
        row(format!("  this machine  {}", clip(&now.host)));
        panel
    }

    /// Takes the panel away, so that a line can stand in its place.
    fn erase(&self) {
        let lines = self.panel.replace(0);
        if lines > 0 {
            self.print(&format!("\x1b[{lines}A\x1b[J"));
        }
    }

    /// The counts, and what is wrong with them.
    pub(super) fn verdict(&self, counts: &Counts, problems: &[String], evidence: &Evidence) {
        self.panel.set(0);
        let mut text = String::from("\n");
        for (name, count, note) in [
            ("published", counts.published, "readings, by 6 sensors"),
            ("acknowledged", counts.acknowledged, "by the gateway, each after it was on disk"),
            ("delivered", counts.delivered, "distinct readings at the cloud"),
            ("lost", counts.lost, "acknowledged and not delivered"),
            ("duplicates", counts.duplicates, "after the dedupe by record identity"),
            ("alerts", counts.alerts, "delivered, each for the right reading"),
        ] {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {name:<13} {:>9}   {note}", grouped(count));
        }
        let _ = writeln!(
            text,
            "  outage        {:>7.1} s   {} repetitions discarded by the dedupe",
            counts.outage_s, evidence.discarded
        );
        text.push('\n');
        if problems.is_empty() {
            text.push_str(&self.coloured(32, "Everything arrived, exactly once."));
        } else {
            text.push_str(&self.coloured(31, "Not as promised:"));
            for problem in problems {
                let _ = write!(text, "\n  - {problem}");
            }
        }
        text.push('\n');
        self.print(&text);
    }

    fn coloured(&self, colour: u8, text: &str) -> String {
        if self.terminal { format!("\x1b[1;{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn print(&self, text: &str) {
        // Nobody looks any more: the demo still counts.
        if self.to_stderr {
            let _ = std::io::stderr().write_all(text.as_bytes());
        } else {
            let mut out = std::io::stdout();
            let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
    }
}

/// One second in one plain line.
fn line(now: &Snapshot, arriving: u64, time: Duration) -> String {
    let link = match now.link {
        Mode::Pass => "up",
        Mode::Cut => "CUT",
        Mode::BlackHole => "DEAD",
    };
    let buffered = now.buffered.map_or("?".to_owned(), grouped);
    format!(
        "{:>4} s  {:<12} link {link:<4}  published {:>7}  acknowledged {:>7}  buffered {:>6}  \
         delivered {:>7} (+{arriving}/s)  alerts {:>3}  this machine: {}  uplink {}\n",
        time.as_secs(),
        now.phase,
        grouped(now.published),
        grouped(now.acknowledged),
        buffered,
        grouped(now.delivered),
        now.alerts,
        now.host,
        clip(&now.uplink)
    )
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The first line, not too long.
fn clip(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(WIDTH - 16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let shown = [0, 999, 1000, 12_345, 1_234_567].map(grouped);
        assert_eq!(shown, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
