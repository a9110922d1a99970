use crate::Threshold;
use std::string::{String, ToString};
use std::vec::Vec;
use tidegate_abi::{BatchWriter, Kind, MessageRef, NackClass, Operation, OutputReader};
use tidegate_guest::json::Json;
use tidegate_guest::native::{Entries, Instance};

const CONFIG: &str = r#"{"limit":30.0,"hysteresis":1.0}"#;

/// The function, and the state that its calls leave behind.
struct Bench {
    instance: Instance<Threshold>,
    state: Entries,
    next_seq: u64,
}

/// What one batch came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Effects {
    alerts: Vec<(String, String)>,
    dead: Vec<(u32, String)>,
}

impl Bench {
    fn new(config: &str) -> Self {
        let instance = Instance::new(config.as_bytes()).unwrap();
        Self { instance, state: Entries::new(), next_seq: 0 }
    }

    /// Gives it readings as one batch, a millisecond apart, and commits what comes out.
    fn batch(&mut self, readings: &[(&str, &str)]) -> Effects {
        let mut writer = BatchWriter::new(Kind::Messages, 0, self.next_seq);
        for (topic, payload) in readings {
            let ts_ns = (1_700_000_000_000 + self.next_seq as i64) * 1_000_000;
            let payload = payload.as_bytes();
            writer
                .push(&MessageRef {
                    seq: self.next_seq,
                    ts_ns,
                    topic,
                    payload,
                    ..MessageRef::default()
                })
                .unwrap();
            self.next_seq += 1;
        }
        let output = self.instance.call(&writer.finish(), &self.state).unwrap();
        let mut effects = Effects::default();
        if output.is_empty() {
            return effects;
        }
        for operation in OutputReader::parse(&output).unwrap().iter() {
            match operation {
                Operation::Emit { topic, payload, .. } => {
                    let payload = String::from_utf8(payload.to_vec()).unwrap();
                    effects.alerts.push((topic.to_string(), payload));
                }
                Operation::Nack { index, class: NackClass::Dead, text, .. } => {
                    effects.dead.push((index, text.to_string()));
                }
                Operation::KvPut { key, value, .. } => {
                    self.state.insert(key.to_vec(), value.to_vec());
                }
                Operation::KvDel { key } => {
                    self.state.remove(key);
                }
                other => panic!("{other:?}"),
            }
        }
        effects
    }

    /// The ids of the alerts that these values of one sensor give, each in a batch of its own.
    fn ids(&mut self, values: &[f64]) -> Vec<String> {
        let mut ids = Vec::new();
        for (number, value) in values.iter().enumerate() {
            let payload = std::format!("{{\"id\":{number},\"value\":{value}}}");
            let effects = self.batch(&[("sensors/s/t", &payload)]);
            let alerts = effects.alerts.iter();
            ids.extend(alerts.map(|(_, alert)| {
                Json::parse(alert.as_bytes()).unwrap().get("id").unwrap().text().to_string()
            }));
        }
        ids
    }
}

#[test]
fn the_cases_pass_natively() {
    tidegate_fixtures::native::run::<Threshold>(env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn a_sensor_that_hovers_gives_one_alert_until_it_has_fallen_far_enough() {
    let mut bench = Bench::new(r#"{"limit":30,"hysteresis":2}"#);
    let ids = bench.ids(&[29.0, 31.0, 29.0, 31.0, 28.0, 31.0, 27.9, 30.0, 30.1]);
    assert_eq!(ids, ["1", "8"]);
}

#[test]
fn the_option_every_gives_an_alert_for_each_reading_above_the_limit() {
    let mut bench = Bench::new(r#"{"limit":30,"every":true}"#);
    assert_eq!(bench.ids(&[31.0, 32.0, 30.0, 31.0]), ["0", "1", "3"]);
    assert!(bench.state.is_empty());
}

#[test]
fn only_sensors_above_the_limit_have_state() {
    let mut bench = Bench::new(CONFIG);
    let above = r#"{"value":99}"#;
    bench.batch(&[
        ("sensors/a/t", above),
        ("sensors/b/t", above),
        ("sensors/c/t", r#"{"value":1}"#),
    ]);
    assert_eq!(bench.state.keys().collect::<Vec<_>>(), [b"a", b"b"]);
    bench.batch(&[("sensors/a/t", r#"{"value":1}"#)]);
    assert_eq!(bench.state.keys().collect::<Vec<_>>(), [b"b"]);
}

#[test]
fn the_sensor_is_the_level_asked_for_or_the_whole_topic() {
    let sensors = |config: &str, topic: &str| {
        let effects = Bench::new(config).batch(&[(topic, r#"{"value":99}"#)]);
        effects.alerts[0].0.clone()
    };
    assert_eq!(sensors(r#"{"limit":1}"#, "sensors/a/t"), "alerts/a");
    assert_eq!(sensors(r#"{"limit":1}"#, "single"), "alerts/single");
    assert_eq!(sensors(r#"{"limit":1,"sensor_level":3}"#, "sensors/a/t"), "alerts/t");
    assert_eq!(sensors(r#"{"limit":1,"sensor_level":0}"#, "a/b"), "alerts/a/b");
    assert_eq!(sensors(r#"{"limit":1,"topic":"x/{sensor}/y"}"#, "s/a"), "x/a/y");
}

#[test]
fn nested_fields_are_found() {
    let mut bench = Bench::new(r#"{"limit":1,"field":"data.t","id_field":"meta.n"}"#);
    let effects = bench.batch(&[("s/a", r#"{"data":{"t":2},"meta":{"n":[1,2]}}"#)]);
    assert!(effects.alerts[0].1.starts_with(r#"{"id":[1,2],"sensor":"a","value":2,"#));
}

#[test]
fn sensor_names_are_escaped_in_alerts() {
    let effects = Bench::new(r#"{"limit":1}"#).batch(&[("s/a\"\\\u{1}", r#"{"value":2}"#)]);
    let alert = Json::parse(effects.alerts[0].1.as_bytes()).unwrap();
    assert_eq!(alert.get("sensor").unwrap().as_str().unwrap(), "a\"\\\u{1}");
}

#[test]
fn unreadable_payloads_are_dead_letters_and_the_rest_counts() {
    let effects = Bench::new(CONFIG).batch(&[
        ("s/a", "21.5 degrees"),
        ("s/a", r#"{"value":31}"#),
        ("s/a", r#"{"value":"31"}"#),
        ("s/a", r#"{"temperature":31}"#),
        ("s/a", r#"{"value":1e999}"#),
        ("s/a", ""),
    ]);
    assert_eq!(effects.alerts.len(), 1);
    let no_number = "the payload has no number at `value`";
    let expected = [
        (0, "the payload is not JSON: expected the end at byte 5"),
        (2, no_number),
        (3, no_number),
        (4, no_number),
        (5, "the payload is not JSON: expected a value at byte 0"),
    ];
    let dead: Vec<(u32, &str)> =
        effects.dead.iter().map(|(index, text)| (*index, text.as_str())).collect();
    assert_eq!(dead, expected);
}

#[test]
fn wrong_configurations_are_refused_in_words() {
    let said = |config: &str| {
        Instance::<Threshold>::new(config.as_bytes()).unwrap_err().text().to_string()
    };
    assert!(said("{}").starts_with("`limit` is missing"));
    assert!(said(r#"{"limit":"30"}"#).contains("must be a number"));
    assert!(said(r#"{"limit":30,"hysteresis":-1}"#).contains("must not be negative"));
    assert!(said(r#"{"limit":30,"sensor_level":1.5}"#).contains("whole number"));
    assert!(said(r#"{"limit":30,"limits":1}"#).starts_with("unknown key `limits`"));
}
