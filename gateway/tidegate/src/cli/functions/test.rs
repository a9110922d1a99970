//! `tidegate fn test`

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow};
use clap::Args;
use tidegate_fixtures::{Case, Options, Verdict, check};
use tidegate_runtime::Module;

use super::super::Failure;
use super::{report, watch};
use crate::config::{self, FUNCTION_FILE, FunctionFile, FunctionSettings};
use crate::rehearsal::{Cast, Cost, Part, Rehearsal, Stage};

/// The configuration of a gateway, whose functions are tested together.
const CONFIG_FILE: &str = "tidegate.toml";
/// Folders of cases in a function's folder.
const CASES: [&str; 2] = ["tests", "fixtures"];
/// Largest case.
const MAX_CASE_BYTES: u64 = 64 << 20;

#[derive(Debug, Args)]
pub(crate) struct TestArguments {
    /// Folders, each with a function.toml, or a tidegate.toml whose functions run together
    #[arg(value_name = "DIR", default_value = ".")]
    pub(super) dirs: Vec<PathBuf>,
    /// Take the modules from this folder, by the names of their files
    #[arg(long, value_name = "DIR")]
    modules: Option<PathBuf>,
    /// Records that are handed over together, where a test does not say
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(1..=4096))]
    batch: u16,
    /// One JSON object
    #[arg(long)]
    pub(super) json: bool,
    /// Write what came into the tests, as what is expected
    #[arg(long)]
    update: bool,
    /// Build and run again whenever a file of the folders changes, until Ctrl-C
    #[arg(long, conflicts_with = "json")]
    watch: bool,
}

/// A folder whose cases have been run.
pub(super) struct Tested {
    /// The function's name and version, or the gateway's id.
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) cases: Vec<TestedCase>,
}

pub(super) struct TestedCase {
    pub(super) file: PathBuf,
    pub(super) verdict: Verdict,
    /// For each function.
    pub(super) costs: Vec<Cost>,
    /// The file was written anew.
    pub(super) updated: bool,
}

impl TestedCase {
    pub(super) fn passed(&self) -> bool {
        self.updated || self.verdict.passed()
    }
}

/// Runs the tests in each folder.
pub(super) fn test(arguments: &TestArguments, out: &mut dyn Write) -> Result<(), Failure> {
    if arguments.watch {
        return watch::watch(arguments, out);
    }
    run(arguments, out)
}

/// Runs the tests once, and reports.
pub(super) fn run(arguments: &TestArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut tested = Vec::new();
    for dir in &arguments.dirs {
        tested.push(test_folder(arguments, dir)?);
    }
    report::write(&tested, arguments.json, out)?;
    let passed = tested.iter().flat_map(|folder| &folder.cases).all(TestedCase::passed);
    if passed { Ok(()) } else { Err(Failure::Said) }
}

fn test_folder(arguments: &TestArguments, dir: &Path) -> Result<Tested, Failure> {
    let (name, version, cast) = cast(arguments, dir)?;
    let files = case_files(dir)?;
    if files.is_empty() {
        let text = format!(
            "{}: no tests; write a file such as tests/first.jsonl \
             (docs/formats/function-tests.md)",
            dir.display()
        );
        return Err(Failure::Wrong(text));
    }
    let mut cases = Vec::new();
    for file in files {
        cases.push(test_case(arguments, &cast, file)?);
    }
    Ok(Tested { name, version, cases })
}

/// The functions of a folder: the one that its manifest describes, or those of a gateway.
fn cast(arguments: &TestArguments, dir: &Path) -> Result<(String, Option<String>, Cast), Failure> {
    let whole = dir.join(CONFIG_FILE);
    if whole.exists() && !dir.join(FUNCTION_FILE).exists() {
        let settings = config::load(&whole)?;
        let parts = settings.functions.iter().map(|function| part(arguments, function));
        let parts = parts.collect::<Result<Vec<_>, Failure>>()?;
        return Ok((settings.gateway.clone(), None, Cast::of_gateway(&settings, parts)));
    }
    let FunctionFile { version, function, .. } = config::load_function(&dir.join(FUNCTION_FILE))?;
    let part = part(arguments, &function)?;
    Ok((function.name.clone(), Some(version), Cast::alone(function.plan(), part)))
}

fn part(arguments: &TestArguments, function: &FunctionSettings) -> Result<Part, Failure> {
    let named = function.module.file_name().zip(arguments.modules.as_ref());
    let file = named.map_or_else(|| function.module.clone(), |(name, dir)| dir.join(name));
    let part = load_part(function, &file)?;
    Ok(part)
}

/// Reads and compiles a function's module.
pub(super) fn load_part(function: &FunctionSettings, file: &Path) -> anyhow::Result<Part> {
    let shown = file.display();
    let wasm = fs::read(file).with_context(|| {
        format!("cannot read the module {shown} of {}; has it been built?", function.name)
    })?;
    let limits = Part::limits(function);
    let module = Module::compile(&wasm, &limits).with_context(|| format!("{shown}"))?;
    Ok(Part::new(function, Arc::new(module)))
}

/// The cases of a folder, in the order of their names.
fn case_files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for folder in CASES.map(|name| dir.join(name)) {
        if !folder.is_dir() {
            continue;
        }
        let cannot = || format!("cannot read {}", folder.display());
        for entry in fs::read_dir(&folder).with_context(cannot)? {
            let file = entry.with_context(cannot)?.path();
            if file.extension().is_some_and(|end| end == "jsonl") {
                found.push(file);
            }
        }
    }
    found.sort();
    Ok(found)
}

fn test_case(arguments: &TestArguments, cast: &Cast, file: PathBuf) -> Result<TestedCase, Failure> {
    let case = load_case(&file)?;
    let stage = Stage::open(cast.clone(), case.beginning())
        .with_context(|| format!("{}", file.display()))?;
    let mut rehearsal = Rehearsal(stage);
    let options = Options { batch: arguments.batch.into() };
    let verdict = check(&case, &mut rehearsal, options);
    let costs = rehearsal.0.costs().collect();
    let updated = arguments.update && !verdict.passed() && can_be_updated(&verdict);
    if updated {
        fs::write(&file, &verdict.updated)
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(TestedCase { file, verdict, costs, updated })
}

/// What went wrong is what is expected, not a step.
fn can_be_updated(verdict: &Verdict) -> bool {
    use tidegate_fixtures::What;
    verdict.failures.iter().all(|failure| match failure.what {
        What::OutputDiffers
        | What::OutputMissing
        | What::OutputUnexpected
        | What::DeadDiffers
        | What::DeadMissing
        | What::DeadUnexpected
        | What::AnswerDiffers
        | What::AnswerMissing
        | What::AnswerUnexpected
        | What::StateDiffers => true,
        What::StepFailed | What::Unhandled => false,
    })
}

fn load_case(file: &Path) -> Result<Case, Failure> {
    let shown = file.display();
    let length = fs::metadata(file).with_context(|| format!("cannot read {shown}"))?.len();
    if length > MAX_CASE_BYTES {
        let error = anyhow!("{shown}: {length} bytes, at most {MAX_CASE_BYTES} are allowed");
        return Err(Failure::Failed(error));
    }
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {shown}"))?;
    Case::parse(&text).map_err(|mistakes| {
        let line = |mistake: &tidegate_fixtures::Mistake| {
            format!("{shown}:{}: {}", mistake.line, mistake.text)
        };
        Failure::Wrong(mistakes.0.iter().map(line).collect::<Vec<_>>().join("\n"))
    })
}
