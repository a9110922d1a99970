//! What the tests came to, for people and as JSON.

use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate_fixtures::Failure as Unexpected;

use super::super::Failure;
use super::test::{Tested, TestedCase};

/// Failures of one case that are shown to people.
const MAX_SHOWN: usize = 20;
/// Lines of a function's log that are shown beside them.
const MAX_NOTES: usize = 10;

/// Reports on the tests of all folders.
pub(super) fn write(tested: &[Tested], json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        writeln!(out, "{}", as_json(tested))?;
        return Ok(());
    }
    for folder in tested {
        match &folder.version {
            Some(version) => writeln!(out, "{} {version}", folder.name)?,
            None => writeln!(out, "{}", folder.name)?,
        }
        for case in &folder.cases {
            write_case(case, out)?;
        }
    }
    let all = tested.iter().flat_map(|folder| &folder.cases);
    let count = all.clone().count();
    let failed = all.filter(|case| !case.passed()).count();
    match failed {
        0 => writeln!(out, "{count} passed")?,
        failed => writeln!(out, "{failed} of {count} failed")?,
    }
    Ok(())
}

fn write_case(case: &TestedCase, out: &mut dyn Write) -> Result<(), Failure> {
    let verdict = &case.verdict;
    let file = case.file.display().to_string();
    let word = match (case.updated, verdict.passed()) {
        (true, _) => "wrote",
        (false, true) => "ok   ",
        (false, false) => "FAIL ",
    };
    let counts = format!(
        "{} records, {} outputs, {} dead letters",
        verdict.records, verdict.outputs, verdict.dead
    );
    writeln!(out, "  {word} {file} ({counts})")?;
    for cost in case.costs.iter().filter(|cost| cost.longest > cost.deadline) {
        let (longest, deadline) = (cost.longest, cost.deadline);
        writeln!(
            out,
            "        a call took {longest:?}, on a gateway it would be stopped after {deadline:?}"
        )?;
    }
    if case.updated || verdict.passed() {
        return Ok(());
    }
    for failure in verdict.failures.iter().take(MAX_SHOWN) {
        write!(out, "{}", failure.text(&file))?;
    }
    let more = verdict.failures.len().saturating_sub(MAX_SHOWN);
    if more > 0 {
        writeln!(out, "({more} more failures)")?;
    }
    let first = verdict.notes.len().saturating_sub(MAX_NOTES);
    for note in &verdict.notes[first..] {
        writeln!(out, "    log       {}", note.replace('\n', " "))?;
    }
    Ok(())
}

fn as_json(tested: &[Tested]) -> Value {
    let all = || tested.iter().flat_map(|folder| &folder.cases);
    let failed = all().filter(|case| !case.passed()).count();
    let functions: Vec<Value> = tested.iter().map(folder).collect();
    json!({ "passed": all().count() - failed, "failed": failed, "functions": functions })
}

fn folder(folder: &Tested) -> Value {
    let cases: Vec<Value> = folder.cases.iter().map(case).collect();
    json!({ "name": folder.name, "version": folder.version, "cases": cases })
}

fn case(case: &TestedCase) -> Value {
    let verdict = &case.verdict;
    let failures: Vec<Value> = verdict.failures.iter().map(failure).collect();
    let longest = case.costs.iter().map(|cost| cost.longest).max().unwrap_or(Duration::ZERO);
    json!({
        "file": case.file.display().to_string(),
        "passed": case.passed(),
        "updated": case.updated,
        "records": verdict.records,
        "outputs": verdict.outputs,
        "dead_letters": verdict.dead,
        "calls": case.costs.iter().map(|cost| cost.calls).sum::<u64>(),
        "fuel": case.costs.iter().map(|cost| cost.fuel).sum::<u64>(),
        "longest_call_us": u64::try_from(longest.as_micros()).unwrap_or(u64::MAX),
        "failures": failures,
        "log": verdict.notes,
    })
}

fn failure(failure: &Unexpected) -> Value {
    let differences: Vec<Value> = failure
        .differences
        .iter()
        .map(|one| json!({ "path": one.path, "expected": one.expected, "came": one.came }))
        .collect();
    json!({
        "line": failure.line,
        "what": failure.what.text(),
        "expected": failure.expected,
        "came": failure.came,
        "differences": differences,
    })
}
