//! From the statements and the tests that name them to `docs/mqtt-conformance.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const STATEMENTS: &str = include_str!("statements.tsv");
const CHOICES: &str = include_str!("choices.tsv");
const VERSIONS: [&str; 2] = ["3.1.1", "5"];

struct Statement {
    version: &'static str,
    number: &'static str,
    binds: &'static str,
    text: &'static str,
    /// Why no test shows it.
    reason: Option<&'static str>,
}

fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table.lines().filter(|line| !line.starts_with('#')).map(|line| line.split('\t').collect())
}

fn statements() -> Vec<Statement> {
    let statements = rows(STATEMENTS).map(|fields| match fields[..] {
        [version, number, binds, text] => Statement { version, number, binds, text, reason: None },
        [version, number, binds, text, reason] => {
            Statement { version, number, binds, text, reason: Some(reason) }
        }
        _ => panic!("not a statement: {fields:?}"),
    });
    statements.collect()
}

/// Tests by version and number of the statement they name.
type Tests = BTreeMap<(String, String), BTreeSet<String>>;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tests/conformance")
}

/// Reads the names in the comments above the tests of every file here, and above those of the
/// process tests.
fn tests() -> Tests {
    let mut tests = Tests::new();
    let modules = fs::read_to_string(folder().join("mod.rs")).unwrap();
    for (file, source) in sources(&folder()) {
        let declared = modules.contains(&format!("\nmod {file};\n"));
        assert!(declared || file == "mod", "{file}.rs is not part of the tests");
        read_tests(&file, &source, &mut tests);
    }
    let process_tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/it/tests/all");
    for (file, source) in sources(&process_tests) {
        read_tests(&format!("tests/it::{file}"), &source, &mut tests);
    }
    tests
}

/// The Rust files of a folder, by name.
fn sources(folder: &Path) -> Vec<(String, String)> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let rust = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let named = rust.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&path).unwrap())
    });
    named.collect()
}

fn read_tests(file: &str, source: &str, tests: &mut Tests) {
    let mut named: Vec<(String, String)> = Vec::new();
    let mut is_test = false;
    for line in source.lines().map(str::trim) {
        let named_here = VERSIONS.iter().find_map(|version| {
            Some((version, line.strip_prefix("// ")?.strip_prefix(version)?.strip_prefix(": ")?))
        });
        if let Some((version, numbers)) = named_here {
            named.extend(numbers.split(", ").map(|n| ((*version).to_owned(), n.to_owned())));
        } else if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let name = rest.split(['(', '<']).next().unwrap();
            assert!(is_test || named.is_empty(), "{file}::{name} names statements, but is no test");
            for statement in named.drain(..) {
                tests.entry(statement).or_default().insert(format!("{file}::{name}"));
            }
            is_test = false;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            assert!(named.is_empty(), "{file}: statements without a test before {line}");
        }
    }
    assert!(named.is_empty(), "{file}: statements after the last test");
}

#[test]
fn every_statement_that_binds_a_server_has_a_test_or_a_reason() {
    let (statements, mut tests) = (statements(), tests());
    let mut gaps = Vec::new();
    for Statement { version, number, binds, reason, .. } in &statements {
        assert!(VERSIONS.contains(version), "{version} {number}");
        assert!(["server", "client", "both"].contains(binds), "{version} {number}: {binds}");
        let shown = tests.remove(&((*version).to_owned(), (*number).to_owned())).is_some();
        if !shown && reason.is_none() && *binds != "client" {
            gaps.push(format!("{version} {number}"));
        }
        assert!(!shown || reason.is_none(), "{version} {number} has tests, and a reason for none");
    }
    assert!(gaps.is_empty(), "{} without a test and without a reason: {gaps:#?}", gaps.len());
    assert!(tests.is_empty(), "there are no such statements: {tests:?}");
}

#[test]
fn the_statements_are_all_there() {
    // As many as the appendices have.
    for (version, count) in [("3.1.1", 141), ("5", 251)] {
        let numbers: Vec<_> =
            statements().iter().filter(|s| s.version == version).map(|s| s.number).collect();
        assert_eq!(numbers.len(), count);
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), count);
    }
}

/// The document.
fn table() -> String {
    let (statements, tests) = (statements(), tests());
    let mut out = String::from(HEAD);
    for version in VERSIONS {
        let of_version: Vec<_> = statements.iter().filter(|s| s.version == version).collect();
        let shown = |s: &Statement| tests.get(&(s.version.to_owned(), s.number.to_owned()));
        let for_server = of_version.iter().filter(|s| s.binds != "client").count();
        let with_tests =
            of_version.iter().filter(|s| s.binds != "client" && shown(s).is_some()).count();
        let clients = of_version.len() - for_server;
        let clients_shown =
            of_version.iter().filter(|s| s.binds == "client" && shown(s).is_some()).count();
        writeln!(
            out,
            "\n## MQTT {version}\n\n{} statements. {for_server} bind a server: {with_tests} are \
             shown by tests, {} have a reason. {clients} bind clients alone; for {clients_shown} \
             of them tests show what a client that breaks them gets.\n\n\
             | Statement | Binds | In short | Shown by |\n|---|---|---|---|",
            of_version.len(),
            for_server - with_tests,
        )
        .unwrap();
        for s in of_version {
            let shown = match (shown(s), s.reason) {
                (Some(tests), _) => {
                    tests.iter().map(|test| format!("`{test}`")).collect::<Vec<_>>().join("<br>")
                }
                (None, Some(reason)) => format!("No test: {reason}"),
                (None, None) => "Binds clients alone".to_owned(),
            };
            let text = s.text.replace('|', "\\|");
            writeln!(out, "| {} | {} | {text} | {shown} |", s.number, s.binds).unwrap();
        }
    }
    out.push_str(CHOICES_HEAD);
    for fields in rows(CHOICES) {
        let [section, leaves_open, does] = fields[..] else { panic!("no choice: {fields:?}") };
        writeln!(out, "| {section} | {leaves_open} | {does} |").unwrap();
    }
    out
}

const HEAD: &str = "\
# Conformance to MQTT 3.1.1 and 5

<!-- Generated. Rewrite with: cargo test -p tidegate-broker -- --ignored rewrite_the_table -->

Every normative statement of both specifications (their Appendix B), in short words of our own,
with the tests of the broker core (`gateway/broker/src/tests/conformance`) and the process tests
(`tests/it`) that show it, or the reason why there is none. A statement that binds a server and has neither fails `cargo test`, and
so does this page when it is not what the tests say.
";

const CHOICES_HEAD: &str = "
## What the specifications leave open

Where they say MAY or SHOULD, or leave a limit to the server, this is what the broker does.

| Section | Left open | The broker |
|---|---|---|
";

fn document() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/mqtt-conformance.md")
}

#[test]
fn the_document_says_what_the_tests_say() {
    let written = fs::read_to_string(document()).unwrap_or_default();
    assert!(
        written == table(),
        "docs/mqtt-conformance.md is out of date: \
         cargo test -p tidegate-broker -- --ignored rewrite_the_table"
    );
}

#[test]
#[ignore = "writes docs/mqtt-conformance.md"]
fn rewrite_the_table() {
    fs::write(document(), table()).unwrap();
}
