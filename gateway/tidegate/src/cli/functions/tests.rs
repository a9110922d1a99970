//! The commands as they are typed, on a guest whose behaviour is known.

use std::fs;
use std::path::PathBuf;

use super::watch;
use crate::cli::{Failure, typed};
use crate::export::{Blob, CarriedRecord, End, Format, Header, Item, encode};
use crate::rehearsal::tests::guest;
use crate::scratch::Scratch;

/// A function's folder with one case.
struct Folder(Scratch);

impl Folder {
    fn new(case: &str) -> Folder {
        let folder = Folder(Scratch::new());
        folder.write("f.wasm", &guest());
        let manifest = "name = \"f\"\nversion = \"1.0.0\"\nmodule = \"f.wasm\"\n\
                        input = { stream = \"in\" }\npublish = [\"out\"]\n";
        folder.write("function.toml", manifest.as_bytes());
        fs::create_dir(folder.path("tests")).unwrap();
        folder.write("tests/case.jsonl", case.as_bytes());
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).unwrap();
    }

    /// What a command says of this folder, its place left out, and how it ended.
    fn run(&self, words: &[&str]) -> (String, Result<(), Failure>) {
        let dir = self.0.path().display().to_string();
        let mut out = Vec::new();
        let result = typed(&[&["fn"], words, &[dir.as_str()]].concat(), &mut out);
        (String::from_utf8(out).unwrap().replace(&format!("{dir}/"), ""), result)
    }
}

const PASSES: &str = "{\"topic\":\"a\",\"payload\":1}\n{\"expect\":{\"topic\":\"out\"}}\n";
const FAILS: &str = "{\"topic\":\"a\",\"payload\":1}\n{\"expect\":{\"payload\":{\"first\":1}}}\n";

#[test]
fn a_folder_whose_cases_pass_is_a_success() {
    let (text, result) = Folder::new(PASSES).run(&["test"]);
    assert!(result.is_ok());
    assert_eq!(
        text,
        "f 1.0.0\n  ok    tests/case.jsonl (1 records, 1 outputs, 0 dead letters)\n1 passed\n"
    );
}

#[test]
fn a_failure_is_shown_with_its_place_and_ends_with_code_1() {
    let (text, result) = Folder::new(FAILS).run(&["test"]);
    assert!(matches!(result, Err(Failure::Said)));
    assert_eq!(
        text,
        "f 1.0.0\n  FAIL  tests/case.jsonl (1 records, 1 outputs, 0 dead letters)\n\
         tests/case.jsonl:2: another output than expected\n    \
         expected  (any topic) {\"first\":1}\n    \
         came      out {\"first\":true}\n    \
         differs   payload.first: expected 1, came true\n\
         1 of 1 failed\n"
    );
}

#[test]
fn the_report_as_json_has_each_failure() {
    let (text, result) = Folder::new(FAILS).run(&["test", "--json"]);
    assert!(matches!(result, Err(Failure::Said)));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&report["passed"], &report["failed"]), (&0.into(), &1.into()));
    let case = &report["functions"][0]["cases"][0];
    assert_eq!((&case["calls"], &case["records"]), (&1.into(), &1.into()));
    let failure = &case["failures"][0];
    assert_eq!((&failure["line"], &failure["came"]), (&2.into(), &"out {\"first\":true}".into()));
    assert_eq!(failure["differences"][0]["path"], "payload.first");
}

#[test]
fn an_update_makes_the_case_pass_and_leaves_it_alone_from_then_on() {
    let folder = Folder::new(FAILS);
    let (text, result) = folder.run(&["test", "--update"]);
    assert!(result.is_ok(), "{text}");
    assert!(text.contains("wrote tests/case.jsonl"), "{text}");
    let written = fs::read_to_string(folder.path("tests/case.jsonl")).unwrap();
    assert_eq!(
        written,
        "{\"topic\":\"a\",\"payload\":1}\n\
         {\"expect\":{\"topic\":\"out\",\"payload\":{\"first\":true}}}\n"
    );
    let (text, result) = folder.run(&["test", "--update"]);
    assert!(result.is_ok() && text.contains("ok    tests/case.jsonl"), "{text}");
    assert_eq!(fs::read_to_string(folder.path("tests/case.jsonl")).unwrap(), written);
}

#[test]
fn modules_are_taken_from_another_folder_when_asked() {
    let folder = Folder::new(PASSES);
    let elsewhere = Scratch::new();
    fs::rename(folder.path("f.wasm"), elsewhere.path().join("f.wasm")).unwrap();
    let (_, result) = folder.run(&["test"]);
    let Err(Failure::Failed(error)) = result else { panic!("{result:?}") };
    assert!(error.to_string().ends_with("f.wasm of f; has it been built?"), "{error}");
    let (text, result) = folder.run(&["test", "--modules", elsewhere.path().to_str().unwrap()]);
    assert!(result.is_ok(), "{text}");
}

#[test]
fn wrong_files_are_told_with_their_place() {
    let folder = Folder::new("\n{\"tpic\":1}\nnothing\n");
    let (_, result) = folder.run(&["test"]);
    let Err(Failure::Wrong(text)) = result else { panic!("{result:?}") };
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains("tests/case.jsonl:2: asks for nothing"), "{text}");
    assert!(lines[1].contains("tests/case.jsonl:3: no JSON object"), "{text}");
    fs::remove_file(folder.path("tests/case.jsonl")).unwrap();
    let (_, result) = folder.run(&["test"]);
    assert!(matches!(result, Err(Failure::Wrong(text)) if text.contains("no tests; write a file")));
    fs::remove_file(folder.path("function.toml")).unwrap();
    let (_, result) = folder.run(&["test"]);
    assert!(matches!(result, Err(Failure::Wrong(text)) if text.contains("cannot be read")));
}

#[test]
fn the_functions_of_a_gateway_run_one_behind_the_other() {
    let folder = Folder::new(
        "{\"topic\":\"a/1\",\"payload\":1}\n\
         {\"expect\":{\"function\":\"one\",\"topic\":\"out\"}}\n\
         {\"expect\":{\"function\":\"two\",\"topic\":\"out\"}}\n\
         {\"expect\":{\"function\":\"two\",\"topic\":\"out\"}}\n\
         {\"topic\":\"b\"}\n",
    );
    fs::remove_file(folder.path("function.toml")).unwrap();
    // What `two` publishes comes back to it, until it has passed too many functions.
    let config = "[gateway]\nid = \"gw\"\ndata_dir = \"data\"\n[stream.first]\ntopics = [\"a/+\"]\n\
                  [stream.second]\ntopics = [\"out\"]\nmax_records = 1\n\
                  [function.one]\nmodule = \"f.wasm\"\ninput = { stream = \"first\" }\n\
                  publish = [\"out\"]\n[function.two]\nmodule = \"f.wasm\"\n\
                  input = { stream = \"second\" }\npublish = [\"out\"]\n";
    folder.write("tidegate.toml", config.as_bytes());
    let (text, result) = folder.run(&["test"]);
    assert!(matches!(result, Err(Failure::Said)));
    assert!(
        text.starts_with("gw\n  FAIL  tests/case.jsonl (2 records, 16 outputs, 1 dead"),
        "{text}"
    );
    assert!(text.contains("a loop"), "{text}");
    assert!(text.contains("no stream takes the topic \"b\""), "{text}");
}

#[test]
fn a_change_in_the_folder_is_noticed_and_a_built_module_is_none() {
    let folder = Folder::new(PASSES);
    let dirs = [folder.0.path().to_owned()];
    let before = watch::look(&dirs).unwrap();
    folder.write("f.wasm", b"built anew");
    assert_eq!(watch::look(&dirs).unwrap(), before);
    folder.write("tests/case.jsonl", b"changed");
    assert_ne!(watch::look(&dirs).unwrap(), before);
}

#[test]
fn a_build_runs_in_the_folder_and_a_failed_one_is_told() {
    let folder = Folder::new(PASSES);
    let manifest = fs::read_to_string(folder.path("function.toml")).unwrap();
    let with = |build: &str| {
        let text = format!("build = \"{build}\"\n{manifest}");
        folder.write("function.toml", text.as_bytes());
        watch::build(folder.0.path())
    };
    with("echo x > built").unwrap();
    assert_eq!(fs::read(folder.path("built")).unwrap(), b"x\n");
    assert!(matches!(with("exit 3"), Err(Failure::Said)));
}

/// An export of records with these payloads, a second apart.
fn export(payloads: &[&str]) -> Vec<u8> {
    let header = Header {
        version: 1,
        id: "test".to_owned(),
        gateway: "gw".to_owned(),
        stream: "in".to_owned(),
        unix_ms: 0,
    };
    let record = |(at, payload): (usize, &&str)| {
        Item::Record(Box::new(CarriedRecord {
            seq: 41 + at as u64,
            unix_ms: 1_780_000_000_000 + 1_000 * at as i64,
            topic: "a".to_owned(),
            client: "c".to_owned(),
            payload: Blob(payload.as_bytes().to_vec()),
            ..CarriedRecord::default()
        }))
    };
    let (records, next) = (payloads.len() as u64, 41 + payloads.len() as u64);
    let items = std::iter::once(Item::Header(header))
        .chain(payloads.iter().enumerate().map(record))
        .chain([Item::End(End { records, next })]);
    items.flat_map(|item| encode(Format::Ndjson, &item).unwrap()).collect()
}

/// The guest, but for one byte of what it publishes in its later calls.
fn other_guest() -> Vec<u8> {
    let mut module = guest();
    let at = module.windows(5).position(|bytes| bytes == b"false").unwrap();
    module[at..at + 5].copy_from_slice(b"12345");
    module
}

#[test]
fn a_replay_shows_what_becomes_of_each_record() {
    let folder = Folder::new(PASSES);
    folder.write("export.ndjson", &export(&["1", "bad", "2"]));
    let file = folder.path("export.ndjson").display().to_string();
    let (text, result) = folder.run(&["replay", "--from-file", &file]);
    assert!(result.is_ok());
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "record 41: out {\"first\":true}");
    assert!(lines[1].starts_with("record 42: dead letter: a bad because: the function trapped"));
    // After a trap it is another instance.
    assert_eq!(lines[2], "record 43: out {\"first\":true}");
    assert_eq!(lines[3], "3 records, 2 outputs, 1 dead letters");
    let words = ["replay", "--from", "43", "--to", "2026-12-31T00:00:00Z", "--from-file", &file];
    let (text, result) = folder.run(&words);
    assert!(result.is_ok());
    assert!(text.ends_with("1 records, 1 outputs, 0 dead letters\n"), "{text}");
}

#[test]
fn a_replay_against_the_same_module_finds_no_difference() {
    let folder = Folder::new(PASSES);
    folder.write("export.ndjson", &export(&["1", "2", "bad", "3"]));
    let file = folder.path("export.ndjson").display().to_string();
    let dir = folder.0.path().display().to_string();
    for batch in ["1", "3"] {
        let words = ["replay", "--from-file", &file, "--against", &dir, "--batch", batch];
        let (text, result) = folder.run(&words);
        assert!(result.is_ok(), "{text}");
        assert!(text.contains("0 added, 0 missing, 0 changed"), "{text}");
    }
}

#[test]
fn a_replay_against_another_version_tells_what_it_changed() {
    let folder = Folder::new(PASSES);
    folder.write("old.wasm", &other_guest());
    folder.write("export.ndjson", &export(&["1", "2", "3"]));
    let file = folder.path("export.ndjson").display().to_string();
    let old = folder.path("old.wasm").display().to_string();
    let words = ["replay", "--from-file", &file, "--against", &old, "--show", "1"];
    let (text, result) = folder.run(&words);
    assert!(matches!(result, Err(Failure::Said)));
    assert!(
        text.starts_with(
            "record 42: changed\n    was       out {\"first\":12345}\n    \
             is        out {\"first\":false}\n    \
             differs   payload.first: was 12345, is false\n\
             3 records, 3 outputs, 0 dead letters\n\
             1 the same, 0 added, 0 missing, 2 changed\n\
             (1 differences are not shown; --show N shows more)\n"
        ),
        "{text}"
    );
    let words = ["replay", "--from-file", &file, "--against", &old, "--json"];
    let (text, result) = folder.run(&words);
    assert!(matches!(result, Err(Failure::Said)));
    let report: serde_json::Value = serde_json::from_str(&text).unwrap();
    let against = &report["against"];
    assert_eq!((&against["changed"], &against["same"]), (&2.into(), &1.into()));
    assert_eq!(against["differences"][1]["first"], 43);
}

/// Packs the folder's module as this version; answers where the package is.
fn packed(folder: &Folder, version: &str) -> String {
    let key = folder.path("team.key").display().to_string();
    if !folder.path("team.key").exists() {
        typed(&["fn", "keygen", &key], &mut Vec::new()).unwrap();
    }
    let manifest = fs::read_to_string(folder.path("function.toml")).unwrap();
    let line = manifest.lines().find(|line| line.starts_with("version")).unwrap().to_owned();
    let manifest = manifest.replace(&line, &format!("version = \"{version}\""));
    folder.write("function.toml", manifest.as_bytes());
    let package = folder.path(&format!("{version}.tgpkg")).display().to_string();
    let dir = folder.0.path().display().to_string();
    typed(&["fn", "pack", &dir, "--key", &key, "-o", &package], &mut Vec::new()).unwrap();
    package
}

#[test]
fn a_replay_compares_packages_and_versions_that_a_gateway_has() {
    let folder = Folder::new(PASSES);
    let new = packed(&folder, "1.1.0");
    folder.write("f.wasm", &other_guest());
    let old = packed(&folder, "1.0.0");
    folder.write("export.ndjson", &export(&["1", "2", "3"]));
    let shelf = folder.path("packages");
    fs::create_dir(&shelf).unwrap();
    for (at, package) in [&new, &old].into_iter().enumerate() {
        fs::copy(package, shelf.join(format!("{at}.tgpkg"))).unwrap();
    }
    fs::write(shelf.join("2.tgpkg"), b"damaged").unwrap();
    fs::write(shelf.join("3.part"), b"on its way").unwrap();
    let file = folder.path("export.ndjson").display().to_string();
    let dir = folder.0.path().display().to_string();
    let replay = |words: &[&str]| {
        let mut out = Vec::new();
        let words = [&["fn", "replay", "--from-file", &file], words].concat();
        let result = typed(&words, &mut out);
        (String::from_utf8(out).unwrap(), result)
    };
    let installed = ["--data-dir", &dir, "--function", "f", "--version", "1.1.0"];
    for words in [
        vec![new.as_str(), "--against", &old],
        [&installed[..], &["--against-version", "1.0.0"]].concat(),
        vec![new.as_str(), "--data-dir", &dir, "--against-version", "1.0.0"],
    ] {
        let (text, result) = replay(&words);
        assert!(matches!(result, Err(Failure::Said)), "{text}");
        assert!(text.contains("1 the same, 0 added, 0 missing, 2 changed"), "{text}");
    }
    let (text, result) = replay(&[&installed[..], &["--against-version", "1.1.0"]].concat());
    assert!(result.is_ok(), "{text}");
    let (_, result) = replay(&[&installed[..], &["--against-version", "2.0.0"]].concat());
    let Err(Failure::Failed(error)) = result else { panic!("{result:?}") };
    let error = error.to_string();
    assert!(error.contains("has no version 2.0.0 of function \"f\"; there is: 1.0.0 ("), "{error}");
}

#[test]
fn a_damaged_export_ends_a_replay_at_the_record() {
    let folder = Folder::new(PASSES);
    let whole = String::from_utf8(export(&["1", "2"])).unwrap();
    folder.write("export.ndjson", whole.replace("\"seq\":42", "\"seq\":43").as_bytes());
    let file = folder.path("export.ndjson").display().to_string();
    let (_, result) = folder.run(&["replay", "--from-file", &file]);
    let Err(Failure::Failed(error)) = result else { panic!("{result:?}") };
    assert!(error.to_string().starts_with("record 2: its checksum is wrong"), "{error}");
}
