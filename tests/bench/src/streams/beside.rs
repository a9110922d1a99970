//! The log beside the stores that it could have been built on, one thread each, on the same file
//! system in the same run.

use std::path::Path;

use anyhow::{Result, ensure};
use tidegate_volume::{Unavailable, Volume};

use super::store::{Engine, PAYLOAD_BYTES, STREAMS};
use super::worker::{Opened, Written, work};
use super::{BENCH, Settings};
use crate::directory::allocated_below;
use crate::leftovers::ScratchDir;
use crate::medium::Medium;
use crate::quantile::median;
use crate::report::{Bar, Row};

/// Records that share a sync.
const PER_SYNC: [usize; 3] = [1, 64, 512];
/// Of those, the ones whose bytes are counted at the device, with how many records.
const COUNTED: [(usize, u64); 2] = [(64, 64_000), (512, 256_000)];
/// Records to a sync in the store that is opened again.
const FILL_PER_SYNC: &str = "512";
/// Room for the largest store of `COUNTED`, several times.
const VOLUME_BYTES: u64 = 1 << 30;
const NO_LIMIT: &str = "600000";

/// All samples of one engine.
#[derive(Debug)]
struct Samples {
    engine: Engine,
    rates: [Vec<Written>; PER_SYNC.len()],
    counted: [Vec<Written>; COUNTED.len()],
    opened: Vec<Opened>,
    on_disk: Vec<f64>,
    /// Share of the store that the file system has again when all records are forgotten.
    given_back: Vec<f64>,
}

/// Rows of this benchmark.
pub(crate) fn run(settings: &Settings, medium: &Medium) -> Result<Vec<Row>> {
    let engines = [Engine::Tidegate].into_iter().chain(Engine::PEERS.iter().copied());
    let mut samples: Vec<Samples> = engines.map(Samples::new).collect();
    for run in 1..=settings.runs {
        // In turns within each case, so that whatever else the machine does meets all of them.
        for index in 0..PER_SYNC.len() {
            for samples in &mut samples {
                samples.measure_rate(index, settings, medium)?;
            }
        }
        for samples in &mut samples {
            samples.measure_opening(settings, medium)?;
        }
        for index in 0..COUNTED.len() {
            for samples in &mut samples {
                samples.measure_bytes(index, medium)?;
            }
        }
        for samples in &samples {
            let newest = |of: &Vec<Written>| of.last().map(Written::rate);
            let rates: Vec<f64> = samples.rates.iter().filter_map(newest).collect();
            let name = samples.engine.label();
            eprintln!("run {run} of {}: {name}: {rates:.0?} records/s", settings.runs);
        }
    }
    let Some((ours, peers)) = samples.split_first() else { return Ok(vec![]) };
    Ok(peers.iter().flat_map(|theirs| rows(settings, ours, theirs)).collect())
}

impl Samples {
    fn new(engine: Engine) -> Samples {
        Samples {
            engine,
            rates: Default::default(),
            counted: Default::default(),
            opened: vec![],
            on_disk: vec![],
            given_back: vec![],
        }
    }

    fn measure_rate(&mut self, index: usize, settings: &Settings, medium: &Medium) -> Result<()> {
        let (all, limit) = (u64::MAX.to_string(), settings.store_milliseconds.to_string());
        let scratch = ScratchDir::new(&medium.dir)?;
        let per_sync = PER_SYNC[index].to_string();
        let dir = scratch.path().join("store");
        self.rates[index].push(self.write(&dir, &per_sync, &all, &limit, &[])?);
        Ok(())
    }

    fn measure_bytes(&mut self, index: usize, medium: &Medium) -> Result<()> {
        let scratch = ScratchDir::new(&medium.dir)?;
        // Where there are none, the notes say so, once.
        let Ok(volume) = volume(scratch.path()) else { return Ok(()) };
        let (per_sync, records) = COUNTED[index];
        let (per_sync, records) = (per_sync.to_string(), records.to_string());
        let dir = volume.path().join("store");
        self.counted[index].push(self.write(&dir, &per_sync, &records, NO_LIMIT, &["--volume"])?);
        Ok(())
    }

    /// What a store of a fixed number of records takes, and how long it takes to open it after
    /// its process was killed.
    fn measure_opening(&mut self, settings: &Settings, medium: &Medium) -> Result<()> {
        let scratch = ScratchDir::new(&medium.dir)?;
        let dir = scratch.path().join("store");
        let records = settings.store_records.to_string();
        let written = self.write(&dir, FILL_PER_SYNC, &records, NO_LIMIT, &[])?;
        let payload = (written.total * PAYLOAD_BYTES as u64) as f64;
        let allocated = allocated_below(&dir)? as f64;
        self.on_disk.push(allocated / payload);
        let words = ["open", "--engine", &self.argument(), "--forget"];
        let (opened, worker): (Opened, _) = work(&dir, &words)?;
        worker.kill()?;
        self.given_back.extend(opened.kept_bytes.map(|kept| 1.0 - kept as f64 / allocated));
        let name = self.engine.label();
        ensure!(
            opened.records == written.total,
            "{name} kept {} records and has {} of them",
            written.total,
            opened.records
        );
        self.opened.push(opened);
        Ok(())
    }

    fn write(
        &self,
        dir: &Path,
        per_sync: &str,
        records: &str,
        milliseconds: &str,
        more: &[&str],
    ) -> Result<Written> {
        let engine = self.argument();
        let words = [
            "write",
            "--engine",
            &engine,
            "--per-sync",
            per_sync,
            "--records",
            records,
            "--milliseconds",
            milliseconds,
        ];
        let words: Vec<&str> = words.iter().chain(more).copied().collect();
        let (written, worker) = work(dir, &words)?;
        worker.kill()?;
        Ok(written)
    }

    /// The engine as the command line names it.
    fn argument(&self) -> String {
        use clap::ValueEnum;
        let value = self.engine.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// A file system of its own below `dir`, where nothing else writes.
fn volume(dir: &Path) -> Result<Volume, Unavailable> {
    Volume::new(&dir.join("image"), VOLUME_BYTES, &dir.join("mounted"))
}

impl Written {
    fn rate(&self) -> f64 {
        self.records as f64 / self.seconds
    }

    fn cpu_micros(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.records as f64
    }

    fn bytes_per_payload_byte(&self) -> f64 {
        self.device_bytes as f64 / (self.records * PAYLOAD_BYTES as u64) as f64
    }
}

fn rows(settings: &Settings, ours: &Samples, theirs: &Samples) -> Vec<Row> {
    let peer = theirs.engine.label();
    let row = |case: &str, metric, unit, ours: Option<f64>, theirs: Option<f64>| {
        Row::new(BENCH, &format!("{case}, beside {peer}"), metric, unit, ours).beside(peer, theirs)
    };
    let of = |written: &[Written], pick: fn(&Written) -> f64| median(written.iter().map(pick));
    let mut rows = Vec::new();
    for (index, per_sync) in PER_SYNC.into_iter().enumerate() {
        let plural = if per_sync == 1 { "" } else { "s" };
        let case = format!("{per_sync} record{plural} a sync, {STREAMS} streams");
        let (ours, theirs) = (&ours.rates[index], &theirs.rates[index]);
        let rate = row(
            &case,
            "records_per_second",
            "records/s",
            of(ours, Written::rate),
            of(theirs, Written::rate),
        );
        rows.push(rate.with_bar(Some(Bar::PeerOrMore)));
        let cpu = (of(ours, Written::cpu_micros), of(theirs, Written::cpu_micros));
        rows.push(row(&case, "cpu_per_record", "µs", cpu.0, cpu.1));
    }
    for (index, (per_sync, _)) in COUNTED.into_iter().enumerate() {
        let case = format!("{per_sync} records a sync, {STREAMS} streams");
        let bytes =
            |samples: &Samples| of(&samples.counted[index], Written::bytes_per_payload_byte);
        rows.push(row(
            &case,
            "device_bytes_per_payload_byte_while_growing",
            "bytes",
            bytes(ours),
            bytes(theirs),
        ));
    }
    let case = format!("store of {} records", settings.store_records);
    let opened = |samples: &Samples| median(samples.opened.iter().map(|one| one.seconds * 1e3));
    rows.push(row(&case, "open_after_sigkill", "ms", opened(ours), opened(theirs)));
    let disk = |samples: &Samples| median(samples.on_disk.iter().copied());
    rows.push(row(&case, "disk_bytes_per_payload_byte", "bytes", disk(ours), disk(theirs)));
    let back = |samples: &Samples| median(samples.given_back.iter().copied());
    let (ours, theirs) = (back(ours), back(theirs));
    rows.push(row(&case, "given_back_when_all_is_forgotten", "share", ours, theirs));
    rows
}
