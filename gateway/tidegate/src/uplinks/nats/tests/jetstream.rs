//! Answers as nats-server 2.9 gives them.

use super::*;

fn error(code: u32, err_code: u32, description: &str) -> String {
    let error = json!({ "code": code, "err_code": err_code, "description": description });
    json!({ "type": "io.nats.jetstream.api.v1.x_response", "error": error }).to_string()
}

#[test]
fn each_answer_to_a_publish_has_its_meaning() {
    let stored = |at, duplicate| Verdict::Stored { stream: "T".to_owned(), at, duplicate };
    let plain = r#"{"stream":"T", "seq":7}"#.to_owned();
    let duplicate = r#"{"stream":"T","domain":"hub","seq":7,"duplicate": true}"#.to_owned();
    let too_large = RefuseReason::PacketTooLarge { bytes: None, max: None };
    let full = error(503, 10_077, "maximum messages exceeded");
    let cases = [
        ("", plain, stored(7, false)),
        ("", duplicate, stored(7, true)),
        (
            "",
            error(400, 10_071, "wrong last sequence: 5"),
            Verdict::FenceFailed("wrong last sequence: 5 (code 400, error 10071)".to_owned()),
        ),
        ("", error(400, 10_054, "message size exceeds"), Verdict::Refused(too_large)),
        ("", full, Verdict::Busy("maximum messages exceeded (code 503, error 10077)".to_owned())),
        (
            "",
            error(503, 10_023, "insufficient\nresources"),
            Verdict::Busy("insufficientresources (code 503, error 10023)".to_owned()),
        ),
        (
            "",
            error(503, 10_076, "JetStream not enabled"),
            Verdict::Gone("JetStream not enabled (code 503, error 10076)".to_owned()),
        ),
        ("503", String::new(), Verdict::Gone("no stream takes the subject any more".to_owned())),
    ];
    for (status, payload, expected) in cases {
        assert_eq!(verdict(status, payload.as_bytes()), Ok(expected), "{payload}");
    }
    for nonsense in ["", "{}", "[]", r#"{"stream":"T"}"#, r#"{"error":{"code":"x"}}"#] {
        let why = verdict("", nonsense.as_bytes()).unwrap_err();
        assert!(why.starts_with("JetStream's answer cannot be read"), "{why}");
    }
}

fn config(change: serde_json::Value) -> Stream {
    let mut config = json!({
        "name": "T", "subjects": ["tidegate.>"], "retention": "limits", "max_consumers": -1,
        "max_msgs": -1, "max_bytes": -1, "max_age": 0, "max_msgs_per_subject": -1,
        "max_msg_size": -1, "discard": "old", "storage": "file", "num_replicas": 1,
        "duplicate_window": 120_000_000_000_u64, "allow_direct": false, "mirror_direct": false,
        "sealed": false, "deny_delete": false, "deny_purge": false, "allow_rollup_hdrs": false,
    });
    let changes = change.as_object().unwrap().clone();
    config.as_object_mut().unwrap().extend(changes);
    let info = json!({ "config": config, "state": { "messages": 0 } }).to_string();
    stream(info.as_bytes()).unwrap().unwrap()
}

#[test]
fn stream_as_the_server_makes_it_by_default_serves() {
    let stream = config(json!({}));
    assert_eq!((stream.faults(), stream.warning()), (Vec::new(), None));
    assert_eq!(stream.max_message(), None);
    let roomy = config(json!({ "max_msgs": 1_001, "max_msg_size": 512, "discard": "new" }));
    assert_eq!((roomy.faults(), roomy.max_message()), (Vec::new(), Some(512)));
}

#[test]
fn each_precondition_that_does_not_hold_is_named() {
    let cases = [
        (json!({ "retention": "workqueue" }), "retention is \"workqueue\""),
        (json!({ "retention": "interest" }), "retention is \"interest\""),
        (json!({ "max_msgs_per_subject": 1 }), "max_msgs_per_subject is 1"),
        (json!({ "max_msgs": 1_000 }), "max_msgs is 1000"),
        (json!({ "duplicate_window": 0 }), "duplicate window is 0"),
        (json!({ "no_ack": true }), "does not acknowledge"),
        (json!({ "sealed": true }), "sealed"),
        (json!({ "mirror": { "name": "other" } }), "mirror"),
        (json!({ "subject_transform": { "src": ">", "dest": "x.>" } }), "subject_transform"),
    ];
    for (change, part) in cases {
        let faults = config(change).faults();
        assert!(faults.len() == 1 && faults[0].contains(part), "{part}: {faults:?}");
    }
    let memory = config(json!({ "storage": "memory" }));
    assert!(memory.faults().is_empty() && memory.warning().is_some());
}

#[test]
fn place_of_a_delivered_message_is_read_from_both_forms_of_its_reply() {
    let expected = Some(Delivered { at: 70, left: 3 });
    assert_eq!(delivered("$JS.ACK.T.c.1.70.2.1700000000000.3"), expected);
    assert_eq!(delivered("$JS.ACK.hub.acc.T.c.1.70.2.1700000000000.3.random"), expected);
    assert_eq!(delivered("$JS.ACK.hub.acc.T.c.1.70.2.1700000000000.3"), expected);
    assert_eq!((delivered("$JS.ACK.T.c.1.x.2.3.4"), delivered("_INBOX.a")), (None, None));
}

#[test]
fn last_message_of_a_subject_is_told_apart_from_none() {
    let got = json!({ "message": { "subject": "a", "seq": 9, "hdrs": "TkFUUy8xLjANCg0K",
        "data": "eA==", "time": "2026-01-01T00:00:00Z" } });
    let block = b"NATS/1.0\r\n\r\n".to_vec();
    assert_eq!(last(got.to_string().as_bytes()), Ok(Ok(Some((9, block)))));
    let bare = json!({ "message": { "subject": "a", "seq": 9 } });
    assert_eq!(last(bare.to_string().as_bytes()), Ok(Ok(Some((9, Vec::new())))));
    assert_eq!(last(error(404, 10_037, "no message found").as_bytes()), Ok(Ok(None)));
    assert!(matches!(last(error(404, 10_059, "stream not found").as_bytes()), Ok(Err(_))));
}

#[test]
fn record_and_floor_come_back_from_the_headers_and_nothing_else_passes_for_one() {
    let text = [
        ("tg-v", "1"),
        ("tg-gw", "gw"),
        ("tg-epoch", "5"),
        ("tg-stream", "s"),
        ("tg-seq", "12"),
        ("tg-topic", "t"),
        ("tg-client", "c"),
        ("tg-time", "0"),
        ("tg-clock", "synced"),
        (FLOOR, "4/10@77"),
    ];
    let headers = text.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let place = Place { epoch: Epoch(5), seq: Seq(12) };
    let floor = Stored { place: Place { epoch: Epoch(4), seq: Seq(10) }, at: 77 };
    assert_eq!(record("gw", "s", &headers), Ok((place, Some(floor))));
    assert_eq!(show_floor(floor), "4/10@77");
    assert_eq!(record("gw", "s", &headers[..9]), Ok((place, None)));
    let other = record("gw-2", "s", &headers).unwrap_err();
    assert_eq!(other, "it is of gateway \"gw\", stream \"s\"");
    let half = record("gw", "s", &headers[..8]).unwrap_err();
    assert_eq!(half, "header tg-clock is missing");
    for wrong in ["", "4/10", "4@77", "4/x@77", "x/1@77", "4/10@"] {
        let mut headers = headers.clone();
        wrong.clone_into(&mut headers[9].1);
        assert!(record("gw", "s", &headers).is_err(), "{wrong}");
    }
}

#[test]
fn which_stream_captures_a_subject_is_read() {
    let names = |text: &str| capturing(text.as_bytes()).unwrap().unwrap();
    assert_eq!(names(r#"{"total":1,"streams":["T"]}"#), Some("T".to_owned()));
    assert_eq!(names(r#"{"total":0,"streams":null}"#), None);
    assert_eq!(names(r#"{"total":0}"#), None);
    let disabled = error(503, 10_039, "JetStream not enabled for account");
    assert!(capturing(disabled.as_bytes()).unwrap().is_err());
}
