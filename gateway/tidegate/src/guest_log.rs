//! The last log lines and failures of each function, for `tidegate fn logs`.
//!
//! Limits: [`MAX_LINES`] and [`MAX_BYTES`] for each function, [`MAX_TOTAL`] bytes for all together;
//! the oldest lines go, with the total those of the function that has most. A line is cut at
//! [`MAX_LINE`] bytes. In memory only: a restart begins anew.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tidegate_flow::Notice;

use crate::utc::Utc;

/// Lines kept of a function.
pub const MAX_LINES: usize = 512;
/// Bytes of them, [`LINE_COST`] included for each.
pub const MAX_BYTES: usize = 64 << 10;
/// Bytes kept of all functions.
pub const MAX_TOTAL: usize = 2 << 20;
/// Longest line, in bytes.
pub const MAX_LINE: usize = 4 << 10;
/// What a line costs beside its text.
const LINE_COST: usize = 64;

/// A line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number among the lines of the function, from 1 on.
    pub number: u64,
    /// When it came, in milliseconds since 1970.
    pub unix_ms: i64,
    /// What it is.
    pub kind: LineKind,
    /// What it says.
    pub text: String,
}

/// What a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LineKind {
    /// The function says that something is wrong.
    Error,
    /// The function warns.
    Warn,
    /// The function tells.
    Info,
    /// The function tells in detail.
    Debug,
    /// A call failed.
    Failure,
    /// A record was given up.
    DeadLetter,
    /// Another version runs, or cannot.
    Version,
}

/// Lines of a function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPage {
    /// In order. Numbers that are missing at the beginning are of lines that went.
    pub lines: Vec<LogLine>,
    /// The number of the next line.
    pub next: u64,
}

/// The lines of all functions; a clone is the same.
#[derive(Debug, Clone, Default)]
pub struct GuestLog(Arc<Mutex<Rings>>);

#[derive(Debug, Default)]
struct Rings {
    of: BTreeMap<String, Ring>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<LogLine>,
    bytes: usize,
    count: u64,
}

impl Ring {
    /// The oldest goes; answers what it took.
    fn drop_oldest(&mut self) -> usize {
        let bytes = self.lines.pop_front().map_or(0, |line| line.text.len() + LINE_COST);
        self.bytes -= bytes;
        bytes
    }
}

impl GuestLog {
    /// One more line.
    pub fn push(&self, function: &str, kind: LineKind, text: &str) {
        let text = &text[..text.floor_char_boundary(MAX_LINE)];
        let mut rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Rings { of, bytes } = &mut *rings;
        if !of.contains_key(function) {
            of.insert(function.to_owned(), Ring::default());
        }
        let Some(ring) = of.get_mut(function) else { return };
        ring.count += 1;
        let (number, unix_ms, text) = (ring.count, Utc::now().0, text.to_owned());
        ring.bytes += text.len() + LINE_COST;
        *bytes += text.len() + LINE_COST;
        ring.lines.push_back(LogLine { number, unix_ms, kind, text });
        while ring.lines.len() > MAX_LINES || ring.bytes > MAX_BYTES {
            *bytes -= ring.drop_oldest();
        }
        while *bytes > MAX_TOTAL {
            let Some(largest) = of.values_mut().max_by_key(|ring| ring.bytes) else { return };
            *bytes -= largest.drop_oldest();
        }
    }

    /// The lines of a function from a number on, or the last `max`; `None` when there never was
    /// one.
    pub fn page(&self, function: &str, from: Option<u64>, max: usize) -> Option<LogPage> {
        let rings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ring = rings.of.get(function)?;
        let newest = ring.lines.len().saturating_sub(max);
        let skipped = match from {
            Some(from) => ring.lines.partition_point(|line| line.number < from),
            None => newest,
        };
        let lines: Vec<LogLine> = ring.lines.iter().skip(skipped).take(max).cloned().collect();
        let next = lines.last().map_or(ring.count, |line| line.number) + 1;
        Some(LogPage { lines, next })
    }

    /// What the gateway says of a function.
    pub(crate) fn note(&self, notice: &Notice) {
        match notice {
            Notice::FunctionLog { function, level, text } => {
                let kind = match level {
                    1 => LineKind::Error,
                    2 => LineKind::Warn,
                    3 => LineKind::Info,
                    _ => LineKind::Debug,
                };
                self.push(function, kind, text);
            }
            Notice::CallFailed { function, records, failure } => {
                let text = format!("a call with {records} records failed: {failure}");
                self.push(function, LineKind::Failure, &text);
            }
            Notice::RequestFailed { function, route, failure } => {
                let text = format!("the call of a request to {route} failed: {failure}");
                self.push(function, LineKind::Failure, &text);
            }
            Notice::DeadLettered { function, stream, seq, reason } => {
                let text = format!("record {seq} of {stream} is given up: {reason}");
                self.push(function, LineKind::DeadLetter, &text);
            }
            Notice::RolledBack { function, version, to, reason } => {
                let to = to.as_deref().map_or_else(String::new, |to| format!("; {to} runs again"));
                let text = format!("{version} is taken back{to}: {reason}");
                self.push(function, LineKind::Version, &text);
            }
            Notice::VersionWaits { function, why } => {
                let text =
                    format!("failed on trial, and stands still until the log has room: {why}");
                self.push(function, LineKind::Version, &text);
            }
            Notice::ClientConnected { .. }
            | Notice::ClientDisconnected { .. }
            | Notice::Denied { .. }
            | Notice::UplinkConnected { .. }
            | Notice::UplinkDown { .. }
            | Notice::Setback { .. }
            | Notice::SessionsWait { .. }
            | Notice::LossesWait { .. }
            | Notice::FirmwareNotKept { .. }
            | Notice::DeviceForgotten { .. }
            | Notice::Rejected { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(page: &LogPage) -> (Vec<u64>, u64) {
        (page.lines.iter().map(|line| line.number).collect(), page.next)
    }

    #[test]
    fn a_page_begins_where_it_is_asked_from_or_so_that_it_ends_with_the_newest() {
        let log = GuestLog::default();
        assert_eq!(log.page("f", None, 10), None);
        for number in 1..=5 {
            log.push("f", LineKind::Info, &number.to_string());
        }
        let page = |from, max| numbers(&log.page("f", from, max).unwrap());
        assert_eq!(page(None, 2), (vec![4, 5], 6));
        assert_eq!(page(Some(2), 2), (vec![2, 3], 4));
        assert_eq!(page(Some(6), 2), (vec![], 6));
    }

    #[test]
    fn the_oldest_lines_of_a_function_go_and_those_of_another_stay() {
        let log = GuestLog::default();
        log.push("quiet", LineKind::Error, "once");
        for _ in 0..2 * MAX_LINES {
            log.push("loud", LineKind::Debug, "again");
        }
        assert_eq!(log.page("loud", Some(1), usize::MAX).unwrap().lines.len(), MAX_LINES);
        assert_eq!(log.page("quiet", None, 9).unwrap().lines[0].text, "once");
        log.push("long", LineKind::Info, &"°".repeat(MAX_LINE));
        assert_eq!(log.page("long", None, 1).unwrap().lines[0].text.len(), MAX_LINE);
    }

    #[test]
    fn all_lines_together_have_a_limit_that_the_loudest_pay_for() {
        let log = GuestLog::default();
        log.push("quiet", LineKind::Error, "once");
        for function in 0..50 {
            for _ in 0..20 {
                log.push(&format!("f{function}"), LineKind::Info, &"x".repeat(MAX_LINE));
            }
        }
        assert!(log.0.lock().unwrap().bytes <= MAX_TOTAL);
        assert!(log.page("f0", None, 99).unwrap().lines.len() < MAX_BYTES / MAX_LINE);
        assert_eq!(log.page("quiet", None, 9).unwrap().lines.len(), 1);
    }
}
