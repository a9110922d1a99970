//! The whole path of a function, natively: frame in, frame out.

mod pick;
mod triggers;
#[cfg(all(feature = "cbor", feature = "json"))]
mod typed;

use crate::native::{Ended, Entries, Instance, run};
use crate::{Batch, Config, Emit, Error, Function, Level, Nack, Out, Qos, State, text};
use alloc::string::String;
use alloc::vec::Vec;
use std::string::ToString;
use std::vec;
use tidegate_abi::{
    BatchWriter, InputFlags, Kind, MessageRef, MetricKind, NackClass, Operation, OutputReader,
    properties, write_property,
};

/// Does what the payloads of its records say.
struct Script {
    calls: u32,
}

impl Function for Script {
    fn new(config: &Config<'_>) -> Result<Self, Error> {
        config.only(&["name", "limit", "on"])?;
        config.string("name", "script")?;
        config.number("limit", 1.0)?;
        config.flag("on", true)?;
        Ok(Self { calls: 0 })
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        self.calls += 1;
        for message in batch.messages() {
            let (verb, rest) = text::cut(core::str::from_utf8(message.payload()).unwrap(), b' ');
            let (key, value) = text::cut(rest.unwrap_or(""), b' ');
            let key = key.as_bytes();
            match verb {
                "put" => state.put(key, &String::from(value.unwrap_or(""))),
                "put-for" => state.put_for(key, &7u32, 1_000),
                "del" => state.delete(key),
                "get" => {
                    let value = state.get::<String>(key)?;
                    out.emit(message.topic(), value.as_deref().unwrap_or("(none)").as_bytes());
                }
                "number" => drop(state.get::<u64>(key)?),
                "scan" => {
                    for (key, value) in state.scan(key) {
                        let pair = [key, value].join(&b"="[..]);
                        out.emit("entry", &pair);
                    }
                }
                "emit" => {
                    let pairs: Vec<_> = message.properties().collect();
                    out.emit_with(&Emit {
                        retain: true,
                        properties: &pairs,
                        ..Emit::new("out", key)
                    });
                }
                "emit-for" => out.emit_for(&message, "out", key),
                "nack" => out.nack(&message, &Nack::retry("not now").with_code(9)),
                "metric" => {
                    out.count("c", 2.0);
                    out.gauge("g", -1.0);
                }
                "log" => out.log(Level::Info, "hello"),
                "retry" => return Err(Error::Retry("later".to_string())),
                "fail" => return Err(Error::new("never")),
                other => panic!("{other}"),
            }
        }
        Ok(())
    }
}

fn frame(payloads: &[&str]) -> Vec<u8> {
    flagged_frame(payloads, InputFlags::CAUSES)
}

fn flagged_frame(payloads: &[&str], flags: InputFlags) -> Vec<u8> {
    let mut writer = BatchWriter::new(Kind::Messages, 5, 6).with_flags(flags);
    let mut props = Vec::new();
    write_property(&mut props, "unit", "K").unwrap();
    for (seq, payload) in (0u64..).zip(payloads) {
        let message = MessageRef {
            seq,
            topic: "a/b/c",
            payload: payload.as_bytes(),
            props: &props,
            ..MessageRef::default()
        };
        writer.push(&message).unwrap();
    }
    writer.finish()
}

fn entries(pairs: &[(&str, &str)]) -> Entries {
    pairs.iter().map(|(key, value)| (key.as_bytes().to_vec(), value.as_bytes().to_vec())).collect()
}

/// Runs a script and checks its operations.
fn check(payloads: &[&str], state: &[(&str, &str)], expected: &[Operation<'_>]) {
    let output = run::<Script>(b"", &frame(payloads), &entries(state)).unwrap();
    if expected.is_empty() {
        assert_eq!(output, b"");
        return;
    }
    let operations: Vec<_> = OutputReader::parse(&output).unwrap().iter().collect();
    assert_eq!(operations, expected);
}

fn emit<'a>(topic: &'a str, payload: &'a str) -> Operation<'a> {
    Operation::Emit {
        topic,
        payload: payload.as_bytes(),
        qos: Qos::AtLeastOnce,
        retain: false,
        props: &[],
        cause: None,
    }
}

fn put<'a>(key: &'a str, value: &'a str) -> Operation<'a> {
    Operation::KvPut { key: key.as_bytes(), value: value.as_bytes(), ttl_ms: 0 }
}

#[test]
fn reads_see_the_committed_state_and_own_writes() {
    let state = [("a", "old"), ("b", "kept")];
    let script = ["get a", "put a new", "get a", "del a", "get a", "get b", "get c", "put a last"];
    check(
        &script,
        &state,
        &[
            emit("a/b/c", "old"),
            emit("a/b/c", "new"),
            emit("a/b/c", "(none)"),
            emit("a/b/c", "kept"),
            emit("a/b/c", "(none)"),
            put("a", "last"),
        ],
    );
}

#[test]
fn each_written_key_leaves_once_and_in_order() {
    let delete = Operation::KvDel { key: b"b" };
    let short = Operation::KvPut { key: b"d", value: &[7, 0, 0, 0], ttl_ms: 1_000 };
    check(
        &["put c 1", "put a 1", "put b 1", "put c 2", "del b", "put-for d"],
        &[],
        &[put("a", "1"), delete, put("c", "2"), short],
    );
}

#[test]
fn reading_alone_writes_nothing() {
    check(&["number a"], &[], &[]);
}

#[test]
fn scans_see_own_writes_across_pages() {
    let many: Vec<String> = (0..40).map(|n| std::format!("k/{n:02}")).collect();
    let state: Vec<(&str, &str)> = many.iter().map(|key| (key.as_str(), "v")).collect();
    let output = run::<Script>(
        b"",
        &frame(&["put k/05 new", "del k/06", "put k/99 end", "put j no", "scan k/"]),
        &entries(&state),
    )
    .unwrap();
    let payloads: Vec<String> = OutputReader::parse(&output)
        .unwrap()
        .iter()
        .filter_map(|operation| match operation {
            Operation::Emit { payload, .. } => Some(String::from_utf8_lossy(payload).into_owned()),
            _ => None,
        })
        .collect();
    assert_eq!(payloads.len(), 40);
    assert_eq!(payloads[4..7], ["k/04=v", "k/05=new", "k/07=v"]);
    assert_eq!(payloads[39], "k/99=end");
}

#[test]
fn a_value_of_another_type_ends_the_batch() {
    let mut instance = Instance::<Script>::new(b"{}").unwrap();
    let state = entries(&[("a", "text")]);
    assert_eq!(instance.call(&frame(&["number a"]), &state), Err(Ended::DeadLetter));
    let logs = instance.take_logs();
    assert_eq!(logs, [(Level::Error, "state key `a` holds no u64".to_string())]);
}

#[test]
fn properties_nacks_and_metrics_reach_the_frame() {
    let mut props = Vec::new();
    write_property(&mut props, "unit", "K").unwrap();
    check(
        &["emit x", "nack", "metric"],
        &[],
        &[
            Operation::Emit {
                topic: "out",
                payload: b"x",
                qos: Qos::AtLeastOnce,
                retain: true,
                props: &props,
                cause: None,
            },
            Operation::Nack { index: 1, class: NackClass::Retry, code: 9, text: "not now" },
            Operation::Metric { name: "c", kind: MetricKind::Counter, value: 2.0 },
            Operation::Metric { name: "g", kind: MetricKind::Gauge, value: -1.0 },
        ],
    );
    assert_eq!(properties(&props).unwrap().count(), 1);
}

#[test]
fn an_output_names_its_record_to_a_gateway_that_asks_for_it_and_to_no_other() {
    let causes = |flags| {
        let frame = flagged_frame(&["get a", "emit-for x", "emit-for y"], flags);
        let output = run::<Script>(b"", &frame, &Entries::new()).unwrap();
        let operations = OutputReader::parse(&output).unwrap();
        let cause = |operation| match operation {
            Operation::Emit { cause, .. } => cause.map_or(0, core::num::NonZeroU16::get),
            other => panic!("{other:?}"),
        };
        operations.iter().map(cause).collect::<Vec<_>>()
    };
    assert_eq!(causes(InputFlags::CAUSES), [0, 2, 3]);
    assert_eq!(causes(InputFlags::NONE), [0, 0, 0]);
}

#[test]
fn errors_discard_the_output_and_are_logged() {
    let mut instance = Instance::<Script>::new(b"{}").unwrap();
    let state = Entries::new();
    assert_eq!(instance.call(&frame(&["put a 1", "log", "retry"]), &state), Err(Ended::Retry));
    assert_eq!(instance.call(&frame(&["fail"]), &state), Err(Ended::DeadLetter));
    assert!(matches!(instance.call(b"no frame", &state), Err(Ended::Failed(_))));
    let lines: Vec<String> = instance.take_logs().into_iter().map(|(_, text)| text).collect();
    assert_eq!(lines, ["hello", "later", "never", "the input frame is malformed"]);
    assert_eq!(instance.take_logs(), vec![]);
}

#[test]
fn configurations_are_refused_in_words() {
    let said = |config: &str| match Instance::<Script>::new(config.as_bytes()) {
        Ok(_) => panic!("{config} is accepted"),
        Err(error) => error.text().to_string(),
    };
    assert_eq!(said("[]"), "the configuration must be a JSON object");
    assert_eq!(said("{"), "the configuration is not JSON: expected a name at byte 1");
    assert_eq!(
        said(r#"{"limits":1}"#),
        "unknown key `limits` in the configuration; known are name limit on"
    );
    assert_eq!(
        said(r#"{"limit":"1"}"#),
        "`limit` in the configuration is \"1\", it must be a number"
    );
    assert_eq!(said(r#"{"name":1}"#), "`name` in the configuration is 1, it must be a string");
    assert_eq!(said(r#"{"on":0}"#), "`on` in the configuration is 0, it must be true or false");
    assert!(Instance::<Script>::new(b" ").is_ok());
}

#[test]
fn messages_know_their_topic_levels() {
    let bytes = frame(&["x"]);
    let batch = Batch::open(&bytes).unwrap();
    let message = batch.messages().next().unwrap();
    let levels: Vec<_> = (0..4).map(|level| message.topic_level(level)).collect();
    assert_eq!(levels, [Some("a"), Some("b"), Some("c"), None]);
}

#[test]
fn templates_replace_every_place_and_nothing_else() {
    let filled = |template| {
        let mut text = String::new();
        text::push_template(&mut text, template, "sensor", "g3");
        text
    };
    assert_eq!(filled("alerts/{sensor}"), "alerts/g3");
    assert_eq!(filled("{sensor}/{sensor}!"), "g3/g3!");
    assert_eq!(filled("{sensors} {{sensor} {"), "{sensors} {g3 {");
    assert_eq!(filled("plain"), "plain");
}

#[test]
fn numbers_become_text() {
    let signed = |number| {
        let mut text = String::new();
        text::push_signed(&mut text, number);
        text
    };
    for number in [0, 7, 10, -1, i64::MAX, i64::MIN] {
        assert_eq!(signed(number), number.to_string());
    }
    assert_eq!(text::number(u64::MAX), u64::MAX.to_string());
}
