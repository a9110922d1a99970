//! `tidegate fn check`

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use serde_json::json;
use tidegate_runtime::Limits;
use tidegate_runtime::conformance::{self, Report, Subject};

use super::super::Failure;

#[derive(Debug, Args)]
pub(in super::super) struct CheckArguments {
    /// The module
    module: PathBuf,
    /// Its configuration, a JSON object that it accepts
    #[arg(long, value_name = "JSON", default_value = "{}")]
    config: String,
    /// Topic of the messages that it is given
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
    /// Payload of most of them [default: a JSON object with a number]
    #[arg(long, value_name = "TEXT")]
    payload: Option<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Runs a module through the promises of the contract, and says which it breaks.
pub(in super::super) fn check(
    arguments: &CheckArguments,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let shown = arguments.module.display();
    let wasm = fs::read(&arguments.module).with_context(|| format!("cannot read {shown}"))?;
    let usual = Subject::default();
    let subject = Subject {
        config: &arguments.config,
        topic: arguments.topic.as_deref().unwrap_or(usual.topic),
        payload: arguments.payload.as_deref().map_or(usual.payload, str::as_bytes),
    };
    let report = conformance::check(&wasm, &subject, &Limits::default());
    if arguments.json {
        writeln!(out, "{}", as_json(&report, wasm.len()))?;
    } else {
        tell(&report, &shown.to_string(), wasm.len(), out)?;
    }
    if report.findings.is_empty() { Ok(()) } else { Err(Failure::Said) }
}

fn tell(report: &Report, module: &str, bytes: usize, out: &mut dyn Write) -> Result<(), Failure> {
    for promise in &report.checked {
        match report.findings.iter().find(|finding| finding.promise == *promise) {
            None => writeln!(out, "kept    {promise}")?,
            Some(finding) => writeln!(out, "BROKEN  {promise}:\n        {}", finding.text)?,
        }
    }
    let Report { checked, findings, memory_bytes: (first, most), fuel_per_message } = report;
    let (checked, broken) = (checked.len(), findings.len());
    writeln!(
        out,
        "{module}: {bytes} bytes, {first} bytes of memory, {most} at most, {fuel_per_message} units \
         of fuel a message\n{checked} promises, {broken} broken"
    )?;
    Ok(())
}

fn as_json(report: &Report, bytes: usize) -> serde_json::Value {
    let findings: Vec<_> = report
        .findings
        .iter()
        .map(|finding| json!({"promise": finding.promise, "text": finding.text}))
        .collect();
    json!({
        "checked": report.checked,
        "broken": findings,
        "module_bytes": bytes,
        "memory_bytes": report.memory_bytes.0,
        "most_memory_bytes": report.memory_bytes.1,
        "fuel_per_message": report.fuel_per_message,
    })
}
