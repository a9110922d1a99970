//! `fn new` and `fn check` as they are typed.

use std::fs;

use crate::cli::Failure;
use crate::cli::tests::{failed, path, type_in, wrong};
use crate::scratch::Scratch;

#[test]
fn a_template_of_each_language_is_written_whole_and_names_the_function() {
    let scratch = Scratch::new();
    for (lang, source) in
        [("rust", "src/lib.rs"), ("c", "function.c"), ("assemblyscript", "assembly/function.ts")]
    {
        let dir = path(&scratch, lang);
        let (said, result) = type_in(&["fn", "new", "over-heat", "--lang", lang, "--dir", &dir]);
        result.unwrap();
        assert!(
            said.contains("make") && said.contains("tidegate fn check over-heat.wasm"),
            "{said}"
        );
        let file = |name: &str| fs::read_to_string(scratch.path().join(lang).join(name)).unwrap();
        assert!(!file(source).is_empty());
        assert!(file("tests/alerts.jsonl").contains("\"expect\""));
        assert!(file("function.toml").contains("name = \"over-heat\"\n"));
        assert!(file(".gitignore").contains("/over-heat.wasm"));
        for name in ["README.md", "function.toml", "Makefile"] {
            let text = file(name);
            assert!(!text.contains("{{"), "{lang}/{name}: {text}");
        }
    }
    let file = |name: &str| fs::read_to_string(scratch.path().join("rust").join(name)).unwrap();
    assert!(file("sdk/guest/src/lib.rs").contains("macro_rules! function"));
    assert!(file("sdk/abi/src/output.rs").contains("OutputWriter"));
    assert!(file("Makefile").contains("release/over_heat.wasm"));
    assert!(!scratch.path().join("rust/sdk/guest/src/tests.rs").exists());
}

#[test]
fn nothing_is_written_over() {
    let scratch = Scratch::new();
    let dir = path(&scratch, "f");
    type_in(&["fn", "new", "f", "--lang", "c", "--dir", &dir]).1.unwrap();
    let source = scratch.path().join("f/function.c");
    fs::write(&source, "mine").unwrap();
    let text = failed(type_in(&["fn", "new", "f", "--lang", "c", "--dir", &dir]).1);
    assert!(text.contains("is there already and not empty"), "{text}");
    assert_eq!(fs::read_to_string(source).unwrap(), "mine");
}

#[test]
fn names_that_cannot_be_names_everywhere_are_refused() {
    for name in ["Heat", "1st", "a_b", "a/b", "", "a-", "test", "ä"] {
        let text = wrong(type_in(&["fn", "new", name, "--lang", "c"]).1);
        assert!(text.contains("is no name for a function"), "{name}: {text}");
    }
    let text = wrong(type_in(&["fn", "new", "f", "--lang", "c", "--sdk", "."]).1);
    assert!(text.contains("--sdk is for --lang rust"), "{text}");
}

#[test]
fn an_sdk_in_another_place_is_named_and_not_copied() {
    let scratch = Scratch::new();
    let dir = path(&scratch, "f");
    let sdk = concat!(env!("CARGO_MANIFEST_DIR"), "/../../functions");
    type_in(&["fn", "new", "f", "--lang", "rust", "--dir", &dir, "--sdk", sdk]).1.unwrap();
    let manifest = fs::read_to_string(scratch.path().join("f/Cargo.toml")).unwrap();
    assert!(manifest.contains("functions/guest\" }"), "{manifest}");
    assert!(!scratch.path().join("f/sdk").exists());
    let nowhere = path(&scratch, "nowhere");
    let other = path(&scratch, "g");
    let words = ["fn", "new", "g", "--lang", "rust", "--dir", &other, "--sdk", &nowhere];
    assert!(failed(type_in(&words).1).contains("no SDK: cannot find"));
}

#[test]
fn a_module_that_breaks_a_promise_is_told_and_ends_with_a_failure() {
    let scratch = Scratch::new();
    let module = path(&scratch, "broken.wasm");
    fs::write(&module, b"\0asm\x01\0\0\0").unwrap();
    let (said, result) = type_in(&["fn", "check", &module]);
    assert!(matches!(result, Err(Failure::Said)), "{result:?}");
    assert!(said.contains("BROKEN  the module can be installed"), "{said}");
    assert!(said.contains("1 promises, 1 broken"), "{said}");
    let (said, _) = type_in(&["fn", "check", &module, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(json["broken"].as_array().unwrap().len(), 1);
}
