//! `tidegate fn replay`

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::Args;
use tidegate_stream::{ReadOnlyDisk, Record};

use super::super::Failure;
use super::super::export::OfflineStore;
use super::super::locate::Place;
use super::candidate::Candidate;
use super::differ::{Act, Span};
use super::records::{End, Range, Records};
use super::summary::{Progress, Summary};
use crate::config::STORE_DIR;
use crate::data_dir::LookedAt;
use crate::disk::FileDisk;
use crate::export::CarriedRecord;
use crate::rehearsal::{Cast, Stage};

/// Bytes taken in after which what was passed is given back.
const TRIM_BYTES: usize = 4 << 20;
/// What the commits for one batch take beside its payloads, at most: a block for each.
const COMMITS_BYTES: usize = 3 << 12;
/// Bytes that are handed over together at most, and one record more.
const BATCH_BYTES: usize = 1 << 20;
/// Of a longer pause between records only the first and the last hour pass second by second.
const LONG_PAUSE_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;
/// The most time that a record may take to be handled or given up, retries included.
const PATIENCE_MS: i64 = 2 * HOUR_MS;

#[derive(Debug, Args)]
pub(crate) struct ReplayArguments {
    /// Folder of the function, with its function.toml; or a package
    #[arg(value_name = "DIR|PACKAGE", default_value = ".")]
    dir: PathBuf,
    /// In place of a folder: this function, in a version that was pushed to the gateway
    #[arg(long, value_name = "NAME", requires = "version", conflicts_with = "module")]
    function: Option<String>,
    /// With --function: the version, or the beginning of its package's hash
    #[arg(long, value_name = "VERSION", requires = "function")]
    version: Option<String>,
    /// Another module than the one in function.toml
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Compare with this: another module with the same configuration, the folder of a function, or
    /// a package
    #[arg(long, value_name = "FILE|DIR|PACKAGE")]
    against: Option<PathBuf>,
    /// Compare with this version of the function, which was pushed to the gateway; or the
    /// beginning of its package's hash
    #[arg(long, value_name = "VERSION", conflicts_with = "against")]
    against_version: Option<String>,
    /// The stream that has the records [default: what the function reads]
    #[arg(long, value_name = "NAME", conflicts_with = "from_file")]
    stream: Option<String>,
    /// The records of an export, in place of a gateway's
    #[arg(long, value_name = "FILE", conflicts_with = "offline")]
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
    let own = subject(arguments)?;
    let range = Range { from: arguments.from, to: arguments.to };
    if let Some(file) = &arguments.from_file {
        return run(arguments, &own, Records::of_file(file, range)?, out);
    }
    let stream = arguments.stream.as_deref().or(own.input());
    let stream = stream.context("the function reads no stream; name one with --stream")?;
    if arguments.offline {
        let data_dir = arguments.place.data_dir()?;
        let _lock = LookedAt::lock(&data_dir)?;
        let store = data_dir.join(STORE_DIR);
        let disk = FileDisk::open_read_only(&store)
            .with_context(|| format!("cannot read the store in {}", store.display()))?;
        let disk = ReadOnlyDisk::new(&disk);
        let mut store = OfflineStore::open(disk, String::new(), stream, None)?;
        let pages = Box::new(|from, max| store.page(from, max));
        return run(arguments, &own, Records::of_pages(pages, range), out);
    }
    let mut client = arguments.place.connect()?;
    let pages = Box::new(|from, max| Ok(client.export(stream, from, max)?));
    run(arguments, &own, Records::of_pages(pages, range), out)
}

/// The version that is looked at.
fn subject(arguments: &ReplayArguments) -> Result<Candidate, Failure> {
    if let (Some(name), Some(version)) = (&arguments.function, &arguments.version) {
        return Candidate::of_gateway(&arguments.place.data_dir()?, name, version);
    }
    let own = Candidate::of_path(&arguments.dir)?;
    match &arguments.module {
        Some(module) => own.with_module(module),
        None => Ok(own),
    }
}

/// The version that it is compared with.
fn other(arguments: &ReplayArguments, own: &Candidate) -> Result<Option<Candidate>, Failure> {
    if let Some(version) = &arguments.against_version {
        let data_dir = arguments.place.data_dir()?;
        return Candidate::of_gateway(&data_dir, own.name(), version).map(Some);
    }
    arguments.against.as_ref().map(|path| own.against(path)).transpose()
}

fn run(
    arguments: &ReplayArguments,
    own: &Candidate,
    mut records: Records<'_>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let is = own.cast(arguments.batch)?;
    let was = other(arguments, own)?.map(|was| was.cast(arguments.batch)).transpose()?;
    let compares = was.is_some();
    let first = records.next()?;
    let began = first.as_ref().map_or(0, |record| record.unix_ms);
    let mut runs = vec![Replayed::open(is, began)?];
    if let Some(was) = was {
        runs.push(Replayed::open(was, began)?);
    }
    let mut summary = Summary::new(arguments.show, arguments.tolerance, compares);
    let mut progress = Progress::new();
    let mut waiting = first;
    while let Some((span, batch)) = next_batch(&mut records, &mut waiting, arguments.batch.into())?
    {
        summary.records += batch.len() as u64;
        let acts = runs
            .iter_mut()
            .map(|run| run.take(&batch).with_context(|| span.text()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        summary.note(span, &acts, arguments.json, out)?;
        progress.show(&summary)?;
    }
    progress.end()?;
    finish(&mut summary, runs, arguments.json, out)
}

/// The records that are handed over next, no more of them than fit; `None` behind the last one.
fn next_batch(
    records: &mut Records<'_>,
    waiting: &mut Option<CarriedRecord>,
    max: usize,
) -> Result<Option<(Span, Vec<Record>)>, Failure> {
    let mut batch = Vec::new();
    let mut bytes = 0;
    let mut span: Option<Span> = None;
    while batch.len() < max && bytes < BATCH_BYTES {
        let next = match waiting.take() {
            Some(record) => Some(record),
            None => records.next()?,
        };
        let Some(record) = next else { break };
        let seq = record.seq;
        bytes += record.bytes();
        span = Some(Span { first: span.map_or(seq, |span| span.first), last: seq });
        let record = record.into_plain_record();
        batch.push(record.map_err(|why| anyhow!("record {seq}: {why}"))?);
    }
    Ok(span.map(|span| (span, batch)))
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

/// Reports; that the versions differ is a failure.
fn finish(
    summary: &mut Summary,
    mut runs: Vec<Replayed>,
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut states = Vec::new();
    for run in &mut runs {
        states.push(run.stage.state(None).map_err(anyhow::Error::msg)?);
        summary.fuel.push(run.stage.costs().map(|cost| cost.fuel).sum());
    }
    if let [is, was] = states.as_slice() {
        let changed = is.iter().filter(|(key, value)| was.get(*key) != Some(value)).count();
        let gone = was.keys().filter(|key| !is.contains_key(*key)).count();
        summary.state_keys = changed + gone;
    }
    if json {
        writeln!(out, "{}", summary.as_json())?;
    } else {
        summary.write(out)?;
        for note in runs.iter().flat_map(|run| &run.notes).take(MAX_NOTES) {
            writeln!(out, "log: {}", note.replace('\n', " "))?;
        }
    }
    if summary.differs() { Err(Failure::Said) } else { Ok(()) }
}
