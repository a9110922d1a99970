//! `tidegate verify`

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::Context;
use serde::Serialize;
use tidegate_stream::verify::{StreamContents, Verification, verify as verify_store};

use super::Failure;
use super::status::amount;
use super::table::Table;
use crate::config::STORE_DIR;
use crate::data_dir::LookedAt;
use crate::disk::FileDisk;
use crate::hex;

/// The report as `--json` prints it.
#[derive(Serialize)]
struct Shown<'a> {
    sound: bool,
    newer_format: Option<NewerFormat<'a>>,
    store: String,
    epoch: u32,
    clean: bool,
    segments: usize,
    bytes: u64,
    frames: u64,
    kept_aside: usize,
    damage: Vec<ShownDamage<'a>>,
    more_damage: u64,
    streams: Vec<ShownStream<'a>>,
    notes: &'a [String],
}

#[derive(Serialize)]
struct NewerFormat<'a> {
    file: &'a str,
    version: u16,
}

#[derive(Serialize)]
struct ShownDamage<'a> {
    file: &'a str,
    offset: u64,
    length: u64,
    what: &'static str,
    records: Vec<ShownSequence<'a>>,
}

#[derive(Serialize)]
struct ShownSequence<'a> {
    stream: &'a str,
    first: u64,
    last: u64,
}

#[derive(Serialize)]
struct ShownStream<'a> {
    name: &'a str,
    first_seq: u64,
    next_seq: u64,
    records: u64,
    missing: Vec<ShownMissing>,
}

#[derive(Serialize)]
struct ShownMissing {
    first: u64,
    last: u64,
    in_ledger: bool,
}

/// Looks at a data directory that no daemon uses; damage is a failure.
pub(super) fn verify(data_dir: &Path, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let store = data_dir.join(STORE_DIR);
    if !store.is_dir() {
        let (path, store) = (data_dir.display(), store.display());
        return Err(Failure::Wrong(format!(
            "{path} is no data directory of a gateway: {store} is not there"
        )));
    }
    let _lock = LookedAt::lock(data_dir)?;
    let report = FileDisk::open_read_only(&store)
        .and_then(|disk| verify_store(&disk, Instant::now()))
        .with_context(|| format!("cannot read the store in {}", store.display()))?;
    if json {
        writeln!(out, "{}", serde_json::to_string(&shown(&report))?)?;
    } else {
        write(&report, out)?;
    }
    if report.is_sound() { Ok(()) } else { Err(Failure::Said) }
}

fn shown(report: &Verification) -> Shown<'_> {
    Shown {
        sound: report.is_sound(),
        newer_format: report
            .newer
            .as_ref()
            .map(|(file, version)| NewerFormat { file, version: *version }),
        store: hex::encode(&report.store.to_be_bytes()),
        epoch: report.epoch.0,
        clean: report.clean,
        segments: report.segments,
        bytes: report.bytes,
        frames: report.frames,
        kept_aside: report.kept_aside,
        damage: (0..report.damage.len()).map(|index| shown_damage(report, index)).collect(),
        more_damage: report.more_damage,
        streams: report.streams.iter().map(shown_stream).collect(),
        notes: &report.notes,
    }
}

fn shown_damage(report: &Verification, index: usize) -> ShownDamage<'_> {
    let damage = &report.damage[index];
    let records = damage.sequences.iter().map(|sequence| ShownSequence {
        stream: name(report, sequence.stream),
        first: sequence.first.0,
        last: sequence.last.0,
    });
    ShownDamage {
        file: &damage.file,
        offset: damage.offset,
        length: damage.len,
        what: damage.kind.name(),
        records: records.collect(),
    }
}

fn shown_stream(stream: &StreamContents) -> ShownStream<'_> {
    let missing = stream.missing.iter().map(|missing| ShownMissing {
        first: missing.first.0,
        last: missing.last.0,
        in_ledger: missing.told,
    });
    ShownStream {
        name: &stream.name,
        first_seq: stream.first.0,
        next_seq: stream.next.0,
        records: stream.records,
        missing: missing.collect(),
    }
}

fn name(report: &Verification, id: tidegate_stream::StreamId) -> &str {
    let found = report.streams.iter().find(|stream| stream.id == id);
    found.map_or("unnamed", |stream| &stream.name)
}

fn write(report: &Verification, out: &mut dyn Write) -> Result<(), Failure> {
    if let Some((file, version)) = &report.newer {
        writeln!(
            out,
            "{file} has format {version}, which this program does not know: use the newer \
             program that wrote it"
        )?;
        return Ok(());
    }
    let end = if report.clean { "shut down cleanly" } else { "not shut down" };
    writeln!(
        out,
        "epoch {}, {} segments, {}, {} frames, {end}",
        report.epoch,
        report.segments,
        amount(report.bytes),
        report.frames
    )?;
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    if report.kept_aside > 0 {
        writeln!(out, "{} damaged files were set aside earlier", report.kept_aside)?;
    }
    if !report.streams.is_empty() {
        writeln!(out)?;
        streams(report).write(out)?;
    }
    writeln!(out)?;
    if report.damage.is_empty() {
        writeln!(out, "no damage")?;
    } else {
        damage(report).write(out)?;
    }
    if report.more_damage > 0 {
        writeln!(out, "and {} more", report.more_damage)?;
    }
    Ok(())
}

fn streams(report: &Verification) -> Table {
    let mut table = Table::new();
    table.row(["STREAM", "FIRST", "NEXT", "RECORDS", "MISSING"]);
    for stream in &report.streams {
        let missing = |missing: &tidegate_stream::verify::Missing| {
            let range = range(missing.first.0, missing.last.0);
            if missing.told { format!("{range} (in the ledger)") } else { range }
        };
        let missing: Vec<String> = stream.missing.iter().map(missing).collect();
        table.row([
            stream.name.as_str(),
            &stream.first.to_string(),
            &stream.next.to_string(),
            &stream.records.to_string(),
            &missing.join(", "),
        ]);
    }
    table
}

fn damage(report: &Verification) -> Table {
    let mut table = Table::new();
    table.row(["FILE", "OFFSET", "LENGTH", "DAMAGED", "MAY HAVE HELD"]);
    for damage in &report.damage {
        let held = damage.sequences.iter().map(|sequence| {
            let range = range(sequence.first.0, sequence.last.0);
            format!("{} {range}", name(report, sequence.stream))
        });
        table.row([
            damage.file.as_str(),
            &damage.offset.to_string(),
            &damage.len.to_string(),
            damage.kind.name(),
            &held.collect::<Vec<_>>().join(", "),
        ]);
    }
    table
}

fn range(first: u64, last: u64) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}

#[cfg(test)]
mod tests {
    use tidegate_stream::verify::{Damage, DamageKind, Missing, Sequence};
    use tidegate_stream::{Epoch, Seq, StreamId};

    use super::*;
    use crate::scratch::Scratch;

    fn damaged() -> Verification {
        let (stream, first, last) = (StreamId(0), Seq(12), Seq(16));
        Verification {
            epoch: Epoch(7),
            segments: 3,
            bytes: 24 << 20,
            frames: 120,
            damage: vec![Damage {
                file: "seg-0000000000000002.log".into(),
                offset: 8192,
                len: 1024,
                kind: DamageKind::Frame,
                sequences: vec![Sequence { stream, first, last }],
            }],
            streams: vec![StreamContents {
                id: stream,
                name: "telemetry".into(),
                first: Seq(1),
                next: Seq(201),
                records: 194,
                missing: vec![
                    Missing { first: Seq(3), last: Seq(3), told: true },
                    Missing { first, last, told: false },
                ],
            }],
            ..Verification::default()
        }
    }

    #[test]
    fn damage_is_shown_for_people_with_what_it_may_have_held() {
        let mut out = Vec::new();
        write(&damaged(), &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "epoch 7, 3 segments, 24.0 MiB, 120 frames, not shut down\n\n\
             STREAM     FIRST  NEXT  RECORDS  MISSING\n\
             telemetry      1   201      194  3 (in the ledger), 12 to 16\n\n\
             FILE                      OFFSET  LENGTH  DAMAGED  MAY HAVE HELD\n\
             seg-0000000000000002.log    8192    1024  frame    telemetry 12 to 16\n"
        );
    }

    #[test]
    fn damage_is_shown_for_machines() {
        let json = serde_json::to_value(shown(&damaged())).unwrap();
        assert_eq!(json["sound"], false);
        assert_eq!(json["damage"][0]["what"], "frame");
        assert_eq!(json["damage"][0]["records"][0]["stream"], "telemetry");
        assert_eq!(json["streams"][0]["missing"][1]["in_ledger"], false);
    }

    #[test]
    fn a_directory_without_a_store_is_wrong_usage_and_an_empty_store_is_sound() {
        let scratch = Scratch::new();
        let mut out = Vec::new();
        let text = match verify(scratch.path(), false, &mut out) {
            Err(Failure::Wrong(text)) => text,
            other => panic!("{other:?}"),
        };
        assert!(text.contains("is no data directory of a gateway"), "{text}");
        std::fs::create_dir(scratch.path().join(STORE_DIR)).unwrap();
        verify(scratch.path(), false, &mut out).unwrap();
        assert!(String::from_utf8(out).unwrap().ends_with("\n\nno damage\n"));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 1, "nothing was made");
    }
}
