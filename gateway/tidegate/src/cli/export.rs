//! `tidegate stream export`

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, anyhow};
use tidegate_flow::PartitionKey;
use tidegate_stream::{
    Log, LogOptions, ReadLimit, ReadOnlyDisk, ReadOutcome, Recovery, Seq, StreamId,
};

use super::{ExportArguments, Failure};
use crate::admin::AdminClient;
use crate::config::STORE_DIR;
use crate::core_handle::{ExportPage, MAX_PAGE_BYTES, MAX_PAGE_RECORDS};
use crate::data_dir::LookedAt;
use crate::disk::FileDisk;
use crate::export::{CarriedRecord, End, Header, Item, VERSION, encode};
use crate::hex;
use crate::utc::Utc;

/// Writes the records of a stream, a page in memory at a time.
pub(super) fn export(arguments: &ExportArguments, out: &mut dyn Write) -> Result<(), Failure> {
    if let (Some(from), Some(to)) = (arguments.from, arguments.to)
        && from > to
    {
        return Err(Failure::Wrong(format!("--from {from} is behind --to {to}")));
    }
    if arguments.offline {
        return export_offline(arguments, out);
    }
    let mut client: AdminClient = arguments.place.connect()?;
    let mut pages = |from, max| Ok(client.export(&arguments.name, from, max)?);
    to_output(arguments, out, &mut pages)
}

fn export_offline(arguments: &ExportArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let data_dir = arguments.place.data_dir()?;
    let named = match &arguments.gateway {
        Some(gateway) => Some(gateway.clone()),
        None => arguments.place.gateway()?,
    };
    let gateway = match named {
        Some(gateway) => gateway,
        None => {
            let text = "a data directory does not hold the gateway's id: name it with --gateway, \
                        or the configuration with --config";
            return Err(Failure::Wrong(text.to_owned()));
        }
    };
    let _lock = LookedAt::lock(&data_dir)?;
    let store = data_dir.join(STORE_DIR);
    let disk = FileDisk::open_read_only(&store)
        .with_context(|| format!("cannot read the store in {}", store.display()))?;
    let key = arguments.place.partition_key(&arguments.name)?;
    let disk = ReadOnlyDisk::new(&disk);
    let mut store = OfflineStore::open(disk, gateway, &arguments.name, key)?;
    to_output(arguments, out, &mut |from, max| store.page(from, max))
}

/// Gives the records from a sequence on, at most so many.
type Pages<'p> = &'p mut dyn FnMut(u64, usize) -> Result<ExportPage, Failure>;

/// To standard output, or to a file that has its name only when it is complete.
fn to_output(
    arguments: &ExportArguments,
    out: &mut dyn Write,
    pages: Pages<'_>,
) -> Result<(), Failure> {
    let Some(path) = &arguments.output else { return write(arguments, out, pages).map(drop) };
    let partial = partial_name(path);
    let failed = |what: &str| format!("cannot {what} {}", partial.display());
    let file = File::create(&partial).with_context(|| failed("create"))?;
    let mut file = BufWriter::new(file);
    let written = write(arguments, &mut file, pages).and_then(|end| {
        let file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all().with_context(|| failed("write"))?;
        fs::rename(&partial, path).with_context(|| failed("rename"))?;
        Ok(end)
    });
    match written {
        Ok(end) => {
            let (records, stream) = (end.records, &arguments.name);
            writeln!(out, "{records} records of {stream} in {}", path.display())?;
            Ok(())
        }
        Err(error) => {
            // The first error says what happened.
            let _ = fs::remove_file(&partial);
            Err(error)
        }
    }
}

fn partial_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn write(
    arguments: &ExportArguments,
    out: &mut dyn Write,
    pages: Pages<'_>,
) -> Result<End, Failure> {
    let mut put = |item: &Item| -> Result<(), Failure> {
        out.write_all(&encode(arguments.format, item)?)?;
        Ok(())
    };
    let mut page = pages(arguments.from.unwrap_or(1), page_size(arguments, 1))?;
    let header = Header {
        version: VERSION,
        id: new_id()?,
        gateway: page.gateway.clone(),
        stream: arguments.name.clone(),
        unix_ms: Utc::now().0,
    };
    put(&Item::Header(header))?;
    // Of what comes in meanwhile nothing is exported, or a busy stream would never end.
    let end = page.end.min(arguments.to.map_or(u64::MAX, |to| to.saturating_add(1)));
    // What comes next, once that is known.
    let mut next = arguments.from.unwrap_or(0);
    let mut records = 0;
    loop {
        for record in std::mem::take(&mut page.records) {
            if record.seq >= end {
                break;
            }
            if next > 0 && record.seq > next {
                report_gap(next, record.seq)?;
            }
            next = record.seq + 1;
            records += 1;
            put(&Item::Record(Box::new(record)))?;
        }
        let before = page.next;
        if before >= end {
            break;
        }
        page = pages(before, page_size(arguments, before))?;
        if page.next <= before {
            break;
        }
    }
    if next > 0 && next < end {
        report_gap(next, end)?;
    }
    let end = End { records, next: end.max(next) };
    put(&Item::End(end.clone()))?;
    Ok(end)
}

fn page_size(arguments: &ExportArguments, from: u64) -> usize {
    let left = arguments.to.map_or(u64::MAX, |to| to.saturating_sub(from).saturating_add(1));
    usize::try_from(left).unwrap_or(MAX_PAGE_RECORDS).clamp(1, MAX_PAGE_RECORDS)
}

fn report_gap(first: u64, next: u64) -> io::Result<()> {
    let last = next - 1;
    writeln!(io::stderr(), "(records {first} to {last} are not there)")
}

fn new_id() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(hex::encode(&bytes))
}

/// One stream of a store that no gateway uses.
pub(super) struct OfflineStore<'d> {
    disk: ReadOnlyDisk<'d>,
    log: Log,
    now: Instant,
    gateway: String,
    stream: StreamId,
    key: Option<PartitionKey>,
}

impl<'d> OfflineStore<'d> {
    pub(super) fn open(
        disk: ReadOnlyDisk<'d>,
        gateway: String,
        name: &str,
        key: Option<PartitionKey>,
    ) -> Result<Self, Failure> {
        let now = Instant::now();
        let options = LogOptions::default();
        let (mut log, recovery) =
            Log::open(&disk, options, now, 0, 0).context("cannot read the store")?;
        log.only_look();
        report(&recovery)?;
        let found = log.streams().find(|(_, known)| *known == name).map(|(id, _)| id);
        let Some(stream) = found else {
            let known: Vec<&str> = log.streams().map(|(_, name)| name).collect();
            let text = format!("no stream \"{name}\"; there is: {}", known.join(", "));
            return Err(Failure::Failed(anyhow!(text)));
        };
        Ok(OfflineStore { disk, log, now, gateway, stream, key })
    }

    pub(super) fn page(&mut self, from: u64, max: usize) -> Result<ExportPage, Failure> {
        let mut next = Seq(from).max(self.log.first_seq(self.stream));
        let mut records: Vec<CarriedRecord> = Vec::new();
        let mut bytes = MAX_PAGE_BYTES;
        while records.len() < max && bytes > 0 {
            let limit = ReadLimit { records: max - records.len(), bytes };
            let outcome =
                self.log.read(self.now, self.stream, next, limit, &mut |seq, epoch, record| {
                    let record = CarriedRecord::of(seq, epoch, &record, self.key.as_ref());
                    bytes = bytes.saturating_sub(record.bytes().max(1));
                    records.push(record);
                });
            match outcome {
                ReadOutcome::Read { next: n } | ReadOutcome::Lost { next: n } => next = n,
                ReadOutcome::Fetching => self.fetch(),
                ReadOutcome::End => break,
            }
        }
        let end = self.log.durable_seq(self.stream).0;
        Ok(ExportPage { gateway: self.gateway.clone(), records, next: next.0, end })
    }

    /// Reads what was asked for. What the log wants to write stays undone.
    fn fetch(&mut self) {
        while let Some(request) = self.log.poll_disk(self.now) {
            if !request.is_read() {
                continue;
            }
            let reply = request.perform(&self.disk);
            self.log.handle_disk(self.now, reply);
        }
    }
}

fn report(recovery: &Recovery) -> io::Result<()> {
    for note in &recovery.notes {
        writeln!(io::stderr(), "({note})")?;
    }
    Ok(())
}
