//! Values of a whole batch, and outputs in pieces; without a gateway.

use super::*;
use crate::json::Json;
use crate::native;
use proptest::prelude::*;
use std::format;

/// Tells of each record what was picked of it; fails at one whose `id` is `stop`.
struct Teller;

impl Function for Teller {
    fn new(_: &Config<'_>) -> Result<Self, Error> {
        Ok(Self)
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        _: &mut State<'_>,
    ) -> Result<(), Error> {
        batch.pick(["id", "at.value"], |message, picked| {
            let picked = match picked {
                Ok(picked) => picked,
                Err(error) => {
                    out.nack(&message, &Nack::dead(&error.text()));
                    return Ok(());
                }
            };
            let id = picked.value(0).map_or(&b"none"[..], |id| id.bytes());
            if id == b"\"stop\"" {
                return Err(Error::new("stop"));
            }
            out.write_for(
                &message,
                |topic| topic.push_template("t/{id}/{{id}/{no", "id", message.topic_bytes()),
                |payload| {
                    payload.push(id);
                    payload.push(b" ");
                    payload.push_number(picked.number(1).map_or(-1, |number| number as i64));
                    payload.push_string(message.payload());
                },
            );
            assert!(picked.value(2).is_none() && picked.number(2).is_none());
            Ok(())
        })
    }
}

fn told(payloads: &[&str]) -> Result<Vec<String>, Ended> {
    let mut writer = BatchWriter::new(Kind::Messages, 0, 1).with_flags(InputFlags::CAUSES);
    for payload in payloads {
        let message =
            MessageRef { topic: "a", payload: payload.as_bytes(), ..MessageRef::default() };
        writer.push(&message).unwrap();
    }
    let output = native::run::<Teller>(b"", &writer.finish(), &Entries::new())?;
    let told = |operation: Operation<'_>| match operation {
        Operation::Emit {
            topic,
            payload,
            cause,
            qos: Qos::AtLeastOnce,
            retain: false,
            props: [],
        } => {
            let payload = core::str::from_utf8(payload).unwrap();
            format!("{} {topic} {payload}", cause.unwrap())
        }
        Operation::Nack { index, text, .. } => format!("{index} refused: {text}"),
        other => panic!("{other:?}"),
    };
    Ok(OutputReader::parse(&output).unwrap().iter().map(told).collect())
}

#[test]
fn each_record_comes_with_its_values_in_the_order_of_the_batch() {
    let told = told(&[
        r#"{"id":"g1","at":{"value":-31.7}}"#,
        "21.5 degrees",
        r#"{"id":[1, 2],"at":{"value":"7"}}"#,
        "3",
    ]);
    assert_eq!(
        told.unwrap(),
        [
            r#"1 t/a/{a/{no "g1" -31"{\"id\":\"g1\",\"at\":{\"value\":-31.7}}""#,
            "1 refused: expected the end at byte 5",
            r#"3 t/a/{a/{no [1, 2] -1"{\"id\":[1, 2],\"at\":{\"value\":\"7\"}}""#,
            r#"4 t/a/{a/{no none -1"3""#,
        ]
    );
}

#[test]
fn a_batch_of_many_records_is_gone_through_to_its_end_or_to_the_first_error() {
    let payloads: Vec<String> = (0..100).map(|id| format!("{{\"id\":{id}}}")).collect();
    let mut payloads: Vec<&str> = payloads.iter().map(String::as_str).collect();
    let all = told(&payloads).unwrap();
    assert_eq!(all.len(), 100);
    assert!(all[99].starts_with("100 t/a/{a/{no 99 "));
    payloads[50] = r#"{"id":"stop"}"#;
    assert_eq!(told(&payloads), Err(Ended::DeadLetter));
}

proptest! {
    #[test]
    fn strings_in_pieces_are_those_that_were_put_in(text in "[ -~\\x00-\\x1f\u{fc}\u{1f600}]{0,20}") {
        let mut bytes = Vec::new();
        crate::Pieces::new(&mut bytes).push_string(text.as_bytes());
        let read = Json::parse(&bytes).unwrap();
        prop_assert_eq!(read.as_str().unwrap(), text);
    }

    #[test]
    fn numbers_in_pieces_are_written_as_the_standard_library_does(number: i64) {
        let mut bytes = Vec::new();
        crate::Pieces::new(&mut bytes).push_number(number);
        prop_assert_eq!(bytes, number.to_string().into_bytes());
    }
}
