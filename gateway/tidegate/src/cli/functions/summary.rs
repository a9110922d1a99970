//! What came of a replay, for people and as JSON.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::Failure;
use super::differ::{Act, Differ, Span};

/// How often the progress is shown.
const PROGRESS: Duration = Duration::from_millis(500);

/// What has come of the replay so far.
pub(super) struct Summary {
    pub(super) records: u64,
    outputs: u64,
    dead: u64,
    /// What was shown, or is to be in the JSON object.
    shown: Vec<Value>,
    show: usize,
    differ: Option<Differ>,
    /// Of this version, and of the other one.
    pub(super) fuel: Vec<u64>,
    /// Keys of the state that differ at the end.
    pub(super) state_keys: usize,
}

impl Summary {
    /// Shows so many acts or differences in full.
    pub(super) fn new(show: usize, tolerance: f64, compares: bool) -> Summary {
        let differ = || Differ { kept: show, tolerance, ..Differ::default() };
        Summary {
            records: 0,
            outputs: 0,
            dead: 0,
            shown: Vec::new(),
            show,
            differ: compares.then(differ),
            fuel: Vec::new(),
            state_keys: 0,
        }
    }

    /// Counts, compares, and shows what is to be shown.
    pub(super) fn note(
        &mut self,
        span: Span,
        acts: &[Vec<Act>],
        json: bool,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let [is, rest @ ..] = acts else { return Ok(()) };
        for act in is {
            match act {
                Act::Published(_) => self.outputs += 1,
                Act::GaveUp(_) => self.dead += 1,
            }
        }
        match (&mut self.differ, rest) {
            (Some(differ), [was, ..]) => {
                let before = differ.first.len();
                differ.compare(span, was, is);
                if !json {
                    for differing in &differ.first[before..] {
                        write!(out, "{}", differing.text())?;
                    }
                }
            }
            (Some(_) | None, _) => {
                for act in is {
                    if self.show == self.shown.len() {
                        break;
                    }
                    let text = act.text();
                    if !json {
                        writeln!(out, "{}: {text}", span.text())?;
                    }
                    self.shown.push(json!({ "first": span.first, "last": span.last, "act": text }));
                }
            }
        }
        Ok(())
    }

    /// Whether the versions differ in anything.
    pub(super) fn differs(&self) -> bool {
        self.state_keys > 0 || self.differ.as_ref().is_some_and(|differ| differ.count() > 0)
    }

    pub(super) fn as_json(&self) -> Value {
        let fuel = &self.fuel;
        let mut value = json!({
            "records": self.records,
            "outputs": self.outputs,
            "dead_letters": self.dead,
            "fuel": fuel.first(),
        });
        match &self.differ {
            Some(differ) => {
                let first: Vec<Value> = differ.first.iter().map(|one| one.as_json()).collect();
                value["against"] = json!({
                    "same": differ.same,
                    "added": differ.added,
                    "missing": differ.missing,
                    "changed": differ.changed,
                    "state_keys": self.state_keys,
                    "fuel": fuel.get(1),
                    "differences": first,
                });
            }
            None => value["acts"] = Value::Array(self.shown.clone()),
        }
        value
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let (records, outputs, dead) = (self.records, self.outputs, self.dead);
        writeln!(out, "{records} records, {outputs} outputs, {dead} dead letters")?;
        let Some(differ) = &self.differ else { return Ok(()) };
        let Differ { same, added, missing, changed, .. } = differ;
        writeln!(out, "{same} the same, {added} added, {missing} missing, {changed} changed")?;
        let more = differ.count().saturating_sub(differ.first.len() as u64);
        if more > 0 {
            writeln!(out, "({more} differences are not shown; --show N shows more)")?;
        }
        if self.state_keys > 0 {
            writeln!(out, "{} keys of the state differ at the end", self.state_keys)?;
        }
        if let [is, was] = self.fuel.as_slice() {
            writeln!(out, "fuel: {is}, was {was}")?;
        }
        Ok(())
    }
}

/// A line that tells how far it is, on a terminal.
pub(super) struct Progress {
    shown: Option<Instant>,
    any: bool,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { shown: io::stderr().is_terminal().then(Instant::now), any: false }
    }

    pub(super) fn show(&mut self, summary: &Summary) -> io::Result<()> {
        let Some(shown) = &mut self.shown else { return Ok(()) };
        if shown.elapsed() < PROGRESS {
            return Ok(());
        }
        *shown = Instant::now();
        self.any = true;
        let differ = summary.differ.as_ref().map(|differ| format!(", {} differ", differ.count()));
        write!(io::stderr(), "\r{} records{} ", summary.records, differ.unwrap_or_default())
    }

    pub(super) fn end(&self) -> io::Result<()> {
        if self.any { write!(io::stderr(), "\r\x1b[K") } else { Ok(()) }
    }
}
