//! Payloads and state by serde.

use super::*;
use crate::typed::{to_cbor, to_json};
use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Reading {
    id: Option<String>,
    value: f64,
    counts: Vec<u32>,
}

fn reading() -> Reading {
    Reading { id: Some("g3".into()), value: -0.1, counts: vec![0, 1, 70_000] }
}

/// Copies a payload into the state, once in each encoding, and back.
struct Copies;

impl Function for Copies {
    fn new(_config: &Config<'_>) -> Result<Self, Error> {
        Ok(Self)
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        for message in batch.messages() {
            let reading: Reading = match message.topic() {
                "json" => message.json()?,
                "cbor" => message.cbor()?,
                _ => state.get_json(b"j")?.unwrap(),
            };
            state.put_json(b"j", &reading, 5)?;
            state.put_cbor(b"c", &reading, 0)?;
            assert_eq!(state.get_json::<Reading>(b"j")?.as_ref(), Some(&reading));
            assert_eq!(state.get_cbor::<Reading>(b"c")?.as_ref(), Some(&reading));
            assert_eq!(state.get_cbor::<Reading>(b"none")?, None);
            out.emit("back", &to_json(&reading)?);
        }
        Ok(())
    }
}

fn call(topic: &str, payload: &[u8], state: &Entries) -> (Result<Vec<u8>, Ended>, Vec<String>) {
    let mut writer = BatchWriter::new(Kind::Messages, 5, 6);
    writer.push(&MessageRef { topic, payload, ..MessageRef::default() }).unwrap();
    let mut instance = Instance::<Copies>::new(b"").unwrap();
    let result = instance.call(&writer.finish(), state);
    (result, instance.take_logs().into_iter().map(|(_, text)| text).collect())
}

#[test]
fn payloads_and_state_come_back_as_they_were_in_both_encodings() {
    for (topic, payload) in
        [("json", to_json(&reading()).unwrap()), ("cbor", to_cbor(&reading()).unwrap())]
    {
        let (output, _) = call(topic, &payload, &Entries::new());
        let output = output.unwrap();
        let operations: Vec<_> = OutputReader::parse(&output).unwrap().iter().collect();
        let text = r#"{"id":"g3","value":-0.1,"counts":[0,1,70000]}"#;
        assert_eq!(operations[0], emit("back", text));
        let Operation::KvPut { key, ttl_ms, .. } = operations[2] else { panic!("{operations:?}") };
        assert_eq!((key, ttl_ms), (b"j".as_slice(), 5));
    }
}

#[test]
fn what_is_no_such_value_is_said_with_its_place() {
    let (result, logs) = call("json", b"{\"id\":1}", &Entries::new());
    assert_eq!(result, Err(Ended::DeadLetter));
    assert!(logs[0].starts_with("the payload is not the JSON expected: "), "{logs:?}");
    let (_, logs) = call("cbor", b"\xff", &Entries::new());
    assert!(logs[0].starts_with("the payload is not the CBOR expected: "), "{logs:?}");
    let (_, logs) = call("state", b"", &entries(&[("j", "[]")]));
    assert!(logs[0].starts_with("state key `j` holds no JSON of this type: "), "{logs:?}");
}
