//! `tidegate fn inspect`

use std::fs;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};
use tidegate_flow::{Rhythm, SchedulePlan};

use super::super::table::Table;
use super::Failure;
use crate::config::{schedules, show_bytes, show_duration};
use crate::packages::{
    Contents, MAX_PACKAGE, Manifest, Package, TrustedKeys, look_into, parse_public,
};

/// Shows a package, and whether one of the keys has signed it.
pub(super) fn inspect(
    file: &Path,
    trust: &[String],
    json: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut trusted = TrustedKeys::default();
    for text in trust {
        let key = parse_public(text)
            .map_err(|problem| Failure::Wrong(format!("--trust {text}: {problem}")))?;
        trusted.add(key);
    }
    let bytes = read_package(file)?;
    let named = |error| anyhow!("{}: {error}", file.display());
    let contents = if trusted.is_empty() {
        look_into(&bytes).map_err(named)?
    } else {
        Package::open(&bytes, &trusted).map_err(named)?.into_contents()
    };
    let signature = if trusted.is_empty() { "not checked; see --trust" } else { "right" };
    if json {
        writeln!(out, "{}", as_json(&contents, !trusted.is_empty()))?;
        return Ok(());
    }
    let mut table = Table::new();
    for (key, value) in rows(&contents, signature) {
        table.row([key, &value]);
    }
    table.write(out)?;
    Ok(())
}

/// The bytes of a package's file.
pub(super) fn read_package(file: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = file.display();
    let size = fs::metadata(file).with_context(|| format!("cannot read {shown}"))?.len();
    if size > MAX_PACKAGE {
        return Err(anyhow!("{shown} has {size} bytes; a package has at most {MAX_PACKAGE}"));
    }
    fs::read(file).with_context(|| format!("cannot read {shown}"))
}

fn rows(contents: &Contents, signature: &str) -> Vec<(&'static str, String)> {
    let manifest = &contents.manifest;
    let wants = &manifest.wants;
    let mut rows = vec![
        ("function", manifest.name.clone()),
        ("version", manifest.version.clone()),
        ("hash", contents.hash.to_string()),
        ("key", contents.key.to_string()),
        ("signature", signature.to_owned()),
        ("module", format!("{} bytes, SHA-256 {}", contents.module.len(), manifest.module)),
        ("reads", inputs(manifest)),
        ("publishes to", or_nothing(manifest.publish.iter().map(|filter| filter.as_str()))),
        ("state", show_bytes(manifest.state_bytes)),
        ("memory", show_bytes(manifest.memory)),
        (
            "fuel",
            format!("{} a batch, {} a record", manifest.fuel_per_batch, manifest.fuel_per_message),
        ),
        ("deadline", show_duration(manifest.deadline)),
        ("clock", yes(wants.clock)),
        ("random", yes(wants.random)),
        ("config", String::from_utf8_lossy(&manifest.config).into_owned()),
    ];
    if wants.timers > 0 {
        rows.push(("timers", wants.timers.to_string()));
    }
    for schedule in &manifest.schedules {
        rows.push(("schedule", schedules::show(schedule)));
    }
    for (key, list) in
        [("routes", &wants.routes), ("secrets", &wants.secrets), ("events", &wants.events)]
    {
        if !list.is_empty() {
            rows.push((key, or_nothing(list.iter().map(String::as_str))));
        }
    }
    rows
}

fn inputs(manifest: &Manifest) -> String {
    or_nothing(manifest.inputs.iter().map(|input| input.stream.as_str()))
}

fn or_nothing<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let texts: Vec<&str> = texts.collect();
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(" ") }
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn schedule(schedule: &SchedulePlan) -> Value {
    let (name, missed) = (&schedule.name, schedules::word(schedule.missed));
    match &schedule.rhythm {
        Rhythm::Every(period) => {
            json!({ "name": name, "every_us": period.as_micros() as u64, "missed": missed })
        }
        Rhythm::Cron(cron) => json!({ "name": name, "cron": cron.as_str(), "missed": missed }),
    }
}

fn as_json(contents: &Contents, verified: bool) -> Value {
    let manifest = &contents.manifest;
    let inputs = manifest.inputs.iter().map(|input| {
        let topics: Vec<&str> = input.topics.iter().map(|topic| topic.as_str()).collect();
        json!({ "stream": input.stream, "topics": topics })
    });
    let publish: Vec<&str> = manifest.publish.iter().map(|filter| filter.as_str()).collect();
    json!({
        "function": manifest.name,
        "version": manifest.version,
        "hash": contents.hash.to_string(),
        "key": contents.key.to_string(),
        "verified": verified,
        "module_bytes": contents.module.len(),
        "module_sha256": manifest.module.to_string(),
        "inputs": inputs.collect::<Vec<_>>(),
        "publish": publish,
        "state_bytes": manifest.state_bytes,
        "memory_bytes": manifest.memory,
        "fuel_per_batch": manifest.fuel_per_batch,
        "fuel_per_message": manifest.fuel_per_message,
        "deadline_us": manifest.deadline.as_micros() as u64,
        "clock": manifest.wants.clock,
        "random": manifest.wants.random,
        "timers": manifest.wants.timers,
        "schedules": manifest.schedules.iter().map(schedule).collect::<Vec<_>>(),
        "routes": manifest.wants.routes,
        "secrets": manifest.wants.secrets,
        "events": manifest.wants.events,
        "config": serde_json::from_slice::<Value>(&manifest.config).unwrap_or(Value::Null),
    })
}
