//! The templates of `tidegate fn new`: three languages, one behaviour.
//!
//! Needs their modules: `cargo xtask test` builds them, and says in TIDEGATE_TEMPLATES where they are.

use super::*;
use crate::Verdict;
use tidegate_abi::{InputFlags, NackClass, OutputReader};

const CONFIG: &[u8] = br#"{"limit":30.0,"hysteresis":1.0}"#;
const LANGUAGES: [&str; 3] = ["rust", "c", "assemblyscript"];

fn modules() -> Vec<(&'static str, Module)> {
    let Some(folder) = std::env::var_os("TIDEGATE_TEMPLATES") else {
        eprintln!("skipped: the templates: TIDEGATE_TEMPLATES is not set; run cargo xtask test");
        return Vec::new();
    };
    let module = |language: &str| {
        let path = std::path::Path::new(&folder).join(format!("{language}.wasm"));
        Module::compile(&std::fs::read(path).unwrap(), &Limits::default()).unwrap()
    };
    LANGUAGES.iter().map(|language| (*language, module(language))).collect()
}

fn batch(id: u64, readings: &[(&str, &str)]) -> Vec<u8> {
    let mut writer = BatchWriter::new(Kind::Messages, 1_700_000_000_000_000_000, id)
        .with_flags(InputFlags::CAUSES);
    for (seq, (topic, payload)) in (1u64..).zip(readings) {
        let message =
            MessageRef { seq, topic, payload: payload.as_bytes(), ..MessageRef::default() };
        writer.push(&message).unwrap();
    }
    writer.finish()
}

/// What a call does, as lines, and the state after it. State changes are not in the order of the
/// languages' own: they are compared by what they make.
fn effects(verdict: Verdict, state: &mut State) -> Vec<String> {
    let Verdict::Done(output) = verdict else { panic!("{verdict:?}") };
    if output.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::new();
    for operation in OutputReader::parse(&output).unwrap().iter() {
        match operation {
            Operation::Emit { topic, payload, cause, .. } => {
                lines.push(format!("{topic} {} from {cause:?}", String::from_utf8_lossy(payload)));
            }
            Operation::Nack { index, class, text, .. } => {
                assert_eq!(class, NackClass::Dead);
                lines.push(format!("entry {index}: {text}"));
            }
            Operation::KvPut { key, value, .. } => drop(state.insert(key.to_vec(), value.to_vec())),
            Operation::KvDel { key } => drop(state.remove(key)),
            other => panic!("{other:?}"),
        }
    }
    lines
}

#[test]
fn the_same_records_give_the_same_alerts_and_the_same_state_in_each_language() {
    let t = |sensor: &str| format!("sensors/{sensor}/telemetry");
    let (g1, g2, odd) = (t("g1"), t("g2"), t("g\"\\°"));
    let batches: [&[(&str, &str)]; 6] = [
        &[(&g1, r#"{"value":29.9}"#), (&g1, r#"{"value":31.70}"#), (&g1, r#"{"value":35}"#)],
        &[(&g2, r#" {"other":[1,{"value":99}],"value" : 3.01e1 } "#), (&odd, r#"{"value":31}"#)],
        &[(&g1, "21.5 degrees"), (&g1, r#"{"value":"31"}"#), (&g1, r#"{"value":1,}"#), (&g1, "")],
        &[(&g1, r#"{"value":28.99}"#), (&g1, r#"{"value":30}"#), (&g1, r#"{"value":30.0000001}"#)],
        &[(&g2, r#"{"value":-40}"#), (&g2, r#"{"value":1e999}"#), ("single", r#"{"value":31}"#)],
        &[(&g1, r#"{"value":1,"value":32}"#), (&odd, r#"{"value":0}"#), (&odd, r#"{"value":33}"#)],
    ];
    let mut seen: Vec<(Vec<Vec<String>>, State)> = Vec::new();
    for (language, module) in modules() {
        let mut instance = module.instantiate(CONFIG).unwrap();
        let mut state = State::new();
        let mut all = Vec::new();
        for (id, readings) in (1u64..).zip(batches) {
            let outcome = instance.call(&batch(id, readings), Arc::new(state.clone()));
            all.push(effects(outcome.verdict, &mut state));
        }
        assert_eq!(
            all[0],
            [r#"alerts/g1 {"sensor":"g1","value":31.70} from Some(2)"#],
            "{language}"
        );
        assert_eq!(all[2].len(), 4, "{language}: {all:?}");
        if let Some(first) = seen.first() {
            assert_eq!((&all, &state), (&first.0, &first.1), "{language} beside rust");
        }
        seen.push((all, state));
    }
}

#[test]
fn a_configuration_without_a_limit_is_refused_in_words_in_each_language() {
    for (language, module) in modules() {
        for config in ["{}", r#"{"limit":"30"}"#] {
            let said = module.instantiate(config.as_bytes()).unwrap_err().to_string();
            assert!(said.contains("`limit` in the configuration"), "{language}: {said}");
        }
    }
}

#[test]
fn templates_keep_the_contract() {
    let Some(folder) = std::env::var_os("TIDEGATE_TEMPLATES") else { return };
    for language in LANGUAGES {
        let path = std::path::Path::new(&folder).join(format!("{language}.wasm"));
        let config = std::str::from_utf8(CONFIG).unwrap();
        let subject = crate::conformance::Subject { config, ..Default::default() };
        let wasm = std::fs::read(path).unwrap();
        let report = crate::conformance::check(&wasm, &subject, &Limits::default());
        assert_eq!(report.findings, [], "{language}");
    }
}
