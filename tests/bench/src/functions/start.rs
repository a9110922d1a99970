//! How fast a module starts, and what its instances take of memory; each in a process of its own.

use std::path::Path;

use anyhow::Result;

use super::worker::{Crowd, Started, crowd, started};
use super::{BENCH, Field, Settings};
use crate::quantile::median;
use crate::report::{Bar, Row};

/// What a module of 20 KB may take from its file to its first record handled.
const COLD_START_MS: f64 = 1.0;
/// What an instance with two pages of memory may take, in kB.
const INSTANCE_KB: f64 = 256.0;

pub(super) fn run(settings: &Settings, field: &Field) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (name, module) in [("threshold", &field.threshold), ("gauge", &field.gauge)] {
        rows.extend(starts(settings, name, module)?);
        rows.extend(memory(settings, name, module)?);
    }
    Ok(rows)
}

fn starts(settings: &Settings, name: &str, module: &Path) -> Result<Vec<Row>> {
    let samples: Vec<Started> =
        (0..settings.starts).map(|_| started(module)).collect::<Result<_>>()?;
    let of = |figure: fn(&Started) -> f64| median(samples.iter().map(figure));
    let bytes = std::fs::metadata(module)?.len();
    let case = format!("start of {name}, {bytes} bytes");
    let bar = (name == "threshold").then_some(Bar::UpTo(COLD_START_MS));
    let (cold, warm) = (of(|one| one.cold_ms), of(|one| one.warm_ms));
    eprintln!("{case}: cold {cold:?} ms, warm {warm:?} ms");
    Ok(vec![
        Row::new(BENCH, &case, "cold", "ms", cold).with_bar(bar),
        Row::new(BENCH, &case, "of_it_translation", "ms", of(|one| one.translation_ms)),
        Row::new(BENCH, &case, "warm", "ms", warm),
    ])
}

fn memory(settings: &Settings, name: &str, module: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for count in [settings.instances, settings.many] {
        let Crowd { instances, kilobytes_each, kilobytes, start_us, stopped } =
            crowd(module, count)?;
        let case = format!("{count} instances of {name}");
        let why = stopped.map_or(String::new(), |why| format!(" ({why})"));
        eprintln!("{case}: {instances}{why}, {kilobytes_each:.1} kB each");
        rows.push(Row::new(BENCH, &case, "started", "instances", Some(instances as f64)));
        let each = Row::new(BENCH, &case, "rss_per_instance", "kB", Some(kilobytes_each));
        rows.push(each.with_bar(Some(Bar::UpTo(INSTANCE_KB))));
        rows.push(Row::new(BENCH, &case, "rss", "MB", Some(kilobytes / 1e3)));
        rows.push(Row::new(BENCH, &case, "time_to_start_one", "us", Some(start_us)));
    }
    Ok(rows)
}
