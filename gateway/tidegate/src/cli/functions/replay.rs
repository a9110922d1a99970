//! `tidegate fn replay`

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::Args;
use serde_json::{Value, json};
use tidegate_stream::{ReadOnlyDisk, Record};

use super::super::Failure;
use super::super::export::OfflineStore;
use super::super::locate::Place;
use super::differ::{Act, Differ, Span};
use super::records::{End, Range, Records};
use super::test::load_part;
use crate::config::{self, MANIFEST_FILE, Manifest, STORE_DIR};
use crate::data_dir::LookedAt;
use crate::disk::FileDisk;
use crate::rehearsal::{Cast, Stage};

/// Bytes taken in after which what was passed is given back.
const TRIM_BYTES: usize = 4 << 20;
/// What the commits for one batch take beside its payloads, at most: a block for each.
const COMMITS_BYTES: usize = 3 << 12;
/// Of a longer pause between records only the first and the last hour pass second by second.
const LONG_PAUSE_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;
/// The most time that a record may take to be handled or given up, retries included.
const PATIENCE_MS: i64 = 2 * HOUR_MS;
/// How often the progress is shown.
const PROGRESS: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// Folder of the function, with its function.toml
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Another module than the one in function.toml
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Compare with this: another module with the same configuration, or the folder of a function
    #[arg(long, value_name = "FILE|DIR")]
    against: Option<PathBuf>,
    /// The stream that has the records [default: what the function reads]
    #[arg(long, value_name = "NAME", conflicts_with = "from_file")]
    stream: Option<String>,
    /// The records of an export, in place of a gateway's
    #[arg(long, value_name = "FILE", conflicts_with_all = ["config", "data_dir", "offline"])]
    from_file: Option<PathBuf>,
    /// Read the data directory of a gateway that does not run, and change nothing in it
    #[arg(long)]
    offline: bool,
    /// First record: a sequence, or a time such as 2026-01-01T00:00:00Z
    #[arg(long, value_name = "SEQ|TIME")]
    from: Option<End>,
    /// Last record
    #[arg(long, value_name = "SEQ|TIME")]
    to: Option<End>,
    /// Records that are handed over together
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// Outputs, or differences, that are shown in full
    #[arg(long, value_name = "N", default_value = "20")]
    show: usize,
    /// Numbers that differ by so much are the same
    #[arg(long, value_name = "D", default_value = "0")]
    tolerance: f64,
    /// One JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Runs a function over records, and beside it another version.
pub(super) fn replay(arguments: &ReplayArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let manifest = config::load_manifest(&arguments.dir.join(MANIFEST_FILE))?;
    let range = Range { from: arguments.from, to: arguments.to };
    if let Some(file) = &arguments.from_file {
        return run(arguments, &manifest, Records::of_file(file, range)?, out);
    }
    let stream = arguments.stream.as_deref().unwrap_or(&manifest.function.input);
    if arguments.offline {
        let data_dir = arguments.place.data_dir()?;
        let _lock = LookedAt::lock(&data_dir)?;
        let store = data_dir.join(STORE_DIR);
        let disk = FileDisk::open_read_only(&store)
            .with_context(|| format!("cannot read the store in {}", store.display()))?;
        let disk = ReadOnlyDisk::new(&disk);
        let mut store = OfflineStore::open(disk, String::new(), stream, None)?;
        let pages = Box::new(|from, max| store.page(from, max));
        return run(arguments, &manifest, Records::of_pages(pages, range), out);
    }
    let mut client = arguments.place.connect()?;
    let pages = Box::new(|from, max| Ok(client.export(stream, from, max)?));
    run(arguments, &manifest, Records::of_pages(pages, range), out)
}

fn run(
    arguments: &ReplayArguments,
    manifest: &Manifest,
    mut records: Records<'_>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let module = arguments.module.as_ref().unwrap_or(&manifest.function.module);
    let is = cast(manifest, module, arguments.batch)?;
    let was = match &arguments.against {
        Some(path) => Some(against(manifest, path, arguments.batch)?),
        None => None,
    };
    let first = records.next()?;
    let began = first.as_ref().map_or(0, |record| record.unix_ms);
    let mut runs = vec![Replayed::open(is, began)?];
    if let Some(was) = was {
        runs.push(Replayed::open(was, began)?);
    }
    let mut summary = Summary::new(arguments);
    let mut progress = Progress::new();
    let mut waiting = first;
    loop {
        let mut batch = Vec::new();
        let mut span = None;
        while batch.len() < usize::from(arguments.batch) {
            let next = match waiting.take() {
                Some(record) => Some(record),
                None => records.next()?,
            };
            let Some(record) = next else { break };
            let seq = record.seq;
            span = Some(Span { first: span.map_or(seq, |span: Span| span.first), last: seq });
            let record = record.into_plain_record();
            batch.push(record.map_err(|why| anyhow::anyhow!("record {seq}: {why}"))?);
        }
        let Some(span) = span else { break };
        summary.records += batch.len() as u64;
        let acts = runs
            .iter_mut()
            .map(|run| run.take(&batch).with_context(|| span.text()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        summary.note(span, &acts, arguments.json, out)?;
        progress.show(&summary)?;
    }
    progress.end()?;
    summary.finish(&mut runs, arguments, out)
}

fn cast(manifest: &Manifest, module: &Path, batch: u16) -> Result<Cast, Failure> {
    let part = load_part(&manifest.function, module)?;
    let mut plan = manifest.function.plan();
    plan.batch_records = plan.batch_records.max(batch.into());
    Ok(Cast::alone(plan, part))
}

/// The other version: a module under the same configuration, or a folder with its own.
fn against(manifest: &Manifest, path: &Path, batch: u16) -> Result<Cast, Failure> {
    if !path.is_dir() {
        return cast(manifest, path, batch);
    }
    let other = config::load_manifest(&path.join(MANIFEST_FILE))?;
    cast(&other, &other.function.module.clone(), batch)
}

/// One version under replay.
struct Replayed {
    stage: Stage,
    taken: usize,
    notes: Vec<String>,
}

impl Replayed {
    fn open(cast: Cast, began: i64) -> anyhow::Result<Replayed> {
        Ok(Replayed { stage: Stage::open(cast, began)?, taken: 0, notes: Vec::new() })
    }

    /// Hands records over at the time of the newest, and lets time pass until they are handled.
    fn take(&mut self, records: &[Record]) -> anyhow::Result<Vec<Act>> {
        let newest = records.iter().map(|record| record.unix_ms).max().unwrap_or(0);
        let now = self.stage.unix_ms();
        if newest.saturating_sub(now) > LONG_PAUSE_MS {
            self.stage.advance_to(now + HOUR_MS)?;
            self.stage.jump_to(newest - HOUR_MS)?;
        }
        self.stage.advance_to(newest)?;
        self.stage.take(records.to_vec())?;
        let patience = self.stage.unix_ms() + PATIENCE_MS;
        while let Some(why) = self.stage.waits() {
            let now = self.stage.unix_ms();
            anyhow::ensure!(now < patience, "{why}");
            self.stage.advance_to(now + 1_000)?;
        }
        self.taken += records.iter().map(|record| record.payload.len()).sum::<usize>();
        self.taken += COMMITS_BYTES;
        if self.taken > TRIM_BYTES {
            self.taken = 0;
            self.stage.trim()?;
        }
        // The first lines say most; the rest would be kept for nothing.
        let notes = self.stage.notes();
        let room = MAX_NOTES.saturating_sub(self.notes.len());
        self.notes.extend(notes.into_iter().take(room));
        let published = self.stage.outputs().into_iter().map(Act::Published);
        Ok(published.chain(self.stage.dead().into_iter().map(Act::GaveUp)).collect())
    }
}

/// Lines of a function's log that are kept.
const MAX_NOTES: usize = 10;

/// What has come of the replay so far.
struct Summary {
    records: u64,
    outputs: u64,
    dead: u64,
    /// What was shown, or is to be in the JSON object.
    shown: Vec<Value>,
    show: usize,
    differ: Option<Differ>,
}

impl Summary {
    fn new(arguments: &ReplayArguments) -> Summary {
        let (kept, tolerance) = (arguments.show, arguments.tolerance);
        let differ = || Differ { kept, tolerance, ..Differ::default() };
        Summary {
            records: 0,
            outputs: 0,
            dead: 0,
            shown: Vec::new(),
            show: arguments.show,
            differ: arguments.against.as_ref().map(|_| differ()),
        }
    }

    /// Counts, compares, and shows what is to be shown.
    fn note(
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

    fn finish(
        &self,
        runs: &mut [Replayed],
        arguments: &ReplayArguments,
        out: &mut dyn Write,
    ) -> Result<(), Failure> {
        let mut states = Vec::new();
        for run in runs.iter_mut() {
            states.push(run.stage.state(None).map_err(anyhow::Error::msg)?);
        }
        let state_differs = match states.as_slice() {
            [is, was] => {
                let changed = is.iter().filter(|(key, value)| was.get(*key) != Some(value)).count();
                changed + was.keys().filter(|key| !is.contains_key(*key)).count()
            }
            _ => 0,
        };
        let fuel: Vec<u64> =
            runs.iter().map(|run| run.stage.costs().map(|c| c.fuel).sum()).collect();
        if arguments.json {
            writeln!(out, "{}", self.as_json(&fuel, state_differs))?;
        } else {
            self.write(&fuel, state_differs, out)?;
            for note in runs.iter().flat_map(|run| &run.notes).take(MAX_NOTES) {
                writeln!(out, "log: {}", note.replace('\n', " "))?;
            }
        }
        let differ = self.differ.as_ref().map_or(0, Differ::count);
        if differ > 0 || state_differs > 0 { Err(Failure::Said) } else { Ok(()) }
    }

    fn as_json(&self, fuel: &[u64], state_differs: usize) -> Value {
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
                    "state_keys": state_differs,
                    "fuel": fuel.get(1),
                    "differences": first,
                });
            }
            None => value["acts"] = Value::Array(self.shown.clone()),
        }
        value
    }

    fn write(&self, fuel: &[u64], state_differs: usize, out: &mut dyn Write) -> io::Result<()> {
        let (records, outputs, dead) = (self.records, self.outputs, self.dead);
        writeln!(out, "{records} records, {outputs} outputs, {dead} dead letters")?;
        let Some(differ) = &self.differ else { return Ok(()) };
        let Differ { same, added, missing, changed, .. } = differ;
        writeln!(out, "{same} the same, {added} added, {missing} missing, {changed} changed")?;
        let more = differ.count().saturating_sub(differ.first.len() as u64);
        if more > 0 {
            writeln!(out, "({more} differences are not shown; --show N shows more)")?;
        }
        if state_differs > 0 {
            writeln!(out, "{state_differs} keys of the state differ at the end")?;
        }
        if let [is, was] = fuel {
            writeln!(out, "fuel: {is}, was {was}")?;
        }
        Ok(())
    }
}

/// A line that tells how far it is, on a terminal.
struct Progress {
    shown: Option<Instant>,
    any: bool,
}

impl Progress {
    fn new() -> Progress {
        Progress { shown: io::stderr().is_terminal().then(Instant::now), any: false }
    }

    fn show(&mut self, summary: &Summary) -> io::Result<()> {
        let Some(shown) = &mut self.shown else { return Ok(()) };
        if shown.elapsed() < PROGRESS {
            return Ok(());
        }
        *shown = Instant::now();
        self.any = true;
        let differ = summary.differ.as_ref().map(|differ| format!(", {} differ", differ.count()));
        write!(io::stderr(), "\r{} records{} ", summary.records, differ.unwrap_or_default())
    }

    fn end(&self) -> io::Result<()> {
        if self.any { write!(io::stderr(), "\r\x1b[K") } else { Ok(()) }
    }
}
