//! `tidegate stream import`

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;

use anyhow::{Context, anyhow};

use super::Failure;
use super::locate::Place;
use crate::admin::AdminClient;
use crate::export::{CarriedRecord, ItemError, ItemReader, Origin};

/// Records and bytes of one batch; a larger record goes alone. A batch is one commit, so it must
/// fit a frame of the log (1 MiB) with room to spare.
const BATCH_RECORDS: usize = 256;
const BATCH_BYTES: usize = 256 << 10;

/// Takes a file into a stream, a batch in memory at a time.
pub(super) fn import(
    place: &Place,
    name: &str,
    file: &Path,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let reader = ItemReader::open(BufReader::new(opened))
        .with_context(|| format!("{} is no export", file.display()))?;
    let mut import = Import::begin(place.connect()?, reader, name)?;
    let ended = import.run();
    let (done, before) = (import.done, import.before);
    match ended {
        Ok(()) => {
            let new = done - before;
            let already = match before {
                0 => String::new(),
                before => format!(", {before} were in already"),
            };
            writeln!(out, "{new} records imported into {name}{already}")?;
            Ok(())
        }
        Err(error) => Err(Failure::Failed(error.context(format!(
            "{}: {done} records are in {name}; to go on, run the same command again",
            file.display()
        )))),
    }
}

/// An import under way.
struct Import<R> {
    client: AdminClient,
    reader: ItemReader<R>,
    stream: String,
    origin: Origin,
    /// Records on flash: at the beginning, and now.
    before: u64,
    done: u64,
}

impl<R: BufRead> Import<R> {
    fn begin(
        mut client: AdminClient,
        reader: ItemReader<R>,
        stream: &str,
    ) -> Result<Self, Failure> {
        let header = reader.header();
        let done = client.imported(stream, &header.id)?;
        let origin = Origin { gateway: header.gateway.clone(), stream: header.stream.clone() };
        Ok(Import { client, reader, stream: stream.to_owned(), origin, before: done, done })
    }

    /// Skips what is in, and takes in the rest.
    fn run(&mut self) -> anyhow::Result<()> {
        while self.reader.records() < self.before {
            if self.reader.next_record()?.is_none() {
                let (before, there) = (self.before, self.reader.records());
                return Err(anyhow!("{before} were in already, and the file has only {there}"));
            }
        }
        let mut batch = Vec::new();
        let mut bytes = 0;
        loop {
            let record = match self.reader.next_record() {
                Ok(Some(record)) => record,
                Ok(None) => return self.send(batch),
                Err(error) => return self.end_before(batch, error),
            };
            let size = record.bytes();
            if batch.len() >= BATCH_RECORDS || (!batch.is_empty() && bytes + size > BATCH_BYTES) {
                self.send(std::mem::take(&mut batch))?;
                bytes = 0;
            }
            bytes += size;
            batch.push(record);
        }
    }

    /// What is before the damage is taken in.
    fn end_before(&mut self, batch: Vec<CarriedRecord>, error: ItemError) -> anyhow::Result<()> {
        self.send(batch)?;
        Err(error.into())
    }

    fn send(&mut self, batch: Vec<CarriedRecord>) -> anyhow::Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let id = &self.reader.header().id;
        self.done = self.client.import(&self.stream, id, self.done, &self.origin, batch)?;
        Ok(())
    }
}
