//! Timers, requests and events.

use super::*;
use crate::{Event, Request, Response, Timer, info, warn};
use std::format;
use tidegate_abi::property;

/// Tells what it was given.
struct Triggered;

impl Function for Triggered {
    fn new(_config: &Config<'_>) -> Result<Self, Error> {
        Ok(Self)
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        _state: &mut State<'_>,
    ) -> Result<(), Error> {
        out.set_timer("report", 1_500, 60_000);
        out.cancel_timer("old");
        out.log_on_commit(Level::Warn, "set");
        let count = batch.messages().count();
        info!(out, "{count} messages");
        warn!(out, "no arguments");
        Ok(())
    }

    fn on_timer(
        &mut self,
        timer: &Timer<'_>,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        state.put(b"due", &timer.due_ns());
        let text = format!("missed {} at {}", timer.missed(), timer.batch().now_ns());
        out.emit(timer.name(), text.as_bytes());
        Ok(())
    }

    fn on_request(
        &mut self,
        request: &Request<'_>,
        _out: &mut Out<'_>,
        _state: &mut State<'_>,
    ) -> Result<Response, Error> {
        let parts = [
            request.method(),
            request.path(),
            request.route(),
            request.user().unwrap_or("-"),
            request.parameter("id").unwrap_or("-"),
            request.parameter("other").unwrap_or("-"),
            request.header("accept").unwrap_or("-"),
        ];
        let query: Vec<_> = ["unit", "empty", "bare", "none", "bad"]
            .map(|name| request.query(name))
            .into_iter()
            .collect();
        let body = core::str::from_utf8(request.body()).unwrap();
        if body == "later" {
            return Err(Error::Retry("not yet".into()));
        }
        Ok(Response::text(200, &format!("{} {query:?} {body}", parts.join(" "))))
    }

    fn on_event(
        &mut self,
        event: &Event<'_>,
        out: &mut Out<'_>,
        _state: &mut State<'_>,
    ) -> Result<(), Error> {
        let json = event.json().map_err(|error| Error::new(&error.text()))?;
        let client = json.get("client").and_then(|client| client.as_str());
        out.emit(event.name(), client.as_deref().unwrap_or("nobody").as_bytes());
        Ok(())
    }
}

fn given(kind: Kind, entries: &[MessageRef<'_>]) -> Result<Vec<u8>, Ended> {
    let mut writer = BatchWriter::new(kind, 77, 6);
    for entry in entries {
        writer.push(entry).unwrap();
    }
    run::<Triggered>(b"", &writer.finish(), &Entries::new())
}

fn list(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut list = Vec::new();
    for (key, value) in pairs {
        write_property(&mut list, key, value).unwrap();
    }
    list
}

#[test]
fn timers_are_set_cancelled_and_given_one_by_one() {
    let output = given(Kind::Messages, &[]).unwrap();
    let operations: Vec<_> = OutputReader::parse(&output).unwrap().iter().collect();
    let timer = |name, delay_ms, period_ms| Operation::TimerSet { name, delay_ms, period_ms };
    let line = Operation::Log { level: Level::Warn, text: "set" };
    assert_eq!(operations, [timer("report", 1_500, 60_000), timer("old", 0, 0), line]);

    let missed = list(&[(property::MISSED, "12")]);
    let due = MessageRef { topic: "report", ts_ns: 70, ..MessageRef::default() };
    let late = MessageRef { topic: "late", ts_ns: 71, props: &missed, ..due };
    let output = given(Kind::Timer, &[due, late]).unwrap();
    let operations: Vec<_> = OutputReader::parse(&output).unwrap().iter().collect();
    let newest = 71i64.to_le_bytes();
    let put = Operation::KvPut { key: b"due", value: &newest, ttl_ms: 0 };
    let expected = [emit("report", "missed 0 at 77"), emit("late", "missed 12 at 77"), put];
    assert_eq!(operations, expected);
}

fn request<'a>(props: &'a [u8], payload: &'a [u8]) -> MessageRef<'a> {
    MessageRef { topic: "/s/{id}", payload, props, ..MessageRef::default() }
}

#[test]
fn a_request_is_answered_with_what_its_parts_say() {
    let props = list(&[
        (property::METHOD, "PUT"),
        (property::PATH, "/s/g%203"),
        ("{id}", "g 3"),
        (property::QUERY, "unit=%C2%B0C+x&empty=&bare&bad=%f&unit=second"),
        ("accept", "text/plain"),
        ("accept", "*/*"),
    ]);
    let output = given(Kind::Request, &[request(&props, b"{}")]).unwrap();
    let operations: Vec<_> = OutputReader::parse(&output).unwrap().iter().collect();
    let body = r#"PUT /s/g%203 /s/{id} - g 3 - text/plain [Some("°C x"), Some(""), Some(""), None, None] {}"#;
    let expected = Operation::Respond {
        status: 200,
        content_type: "text/plain; charset=utf-8",
        body: body.as_bytes(),
    };
    assert_eq!(operations, [expected]);
    assert_eq!(given(Kind::Request, &[request(b"", b"later")]), Err(Ended::Retry));
}

#[test]
fn events_are_given_with_their_json() {
    let event = |topic, payload| MessageRef { topic, payload, ..MessageRef::default() };
    let gone = event("disconnected", br#"{"client":"c1"}"#.as_slice());
    let output = given(Kind::Event, &[gone, event("start", b"{}")]).unwrap();
    let operations: Vec<_> = OutputReader::parse(&output).unwrap().iter().collect();
    assert_eq!(operations, [emit("disconnected", "c1"), emit("start", "nobody")]);
    assert_eq!(given(Kind::Event, &[event("start", b"{")]), Err(Ended::DeadLetter));
}

#[test]
fn a_function_without_a_use_for_a_trigger_gives_it_back() {
    for kind in [Kind::Timer, Kind::Request, Kind::Event] {
        let mut writer = BatchWriter::new(kind, 5, 6);
        writer.push(&MessageRef { topic: "t", ..MessageRef::default() }).unwrap();
        let mut instance = Instance::<Script>::new(b"{}").unwrap();
        assert_eq!(instance.call(&writer.finish(), &Entries::new()), Err(Ended::DeadLetter));
        let (_, line) = instance.take_logs().remove(0);
        assert_eq!(line, "no use for timers, requests or events");
    }
}

#[test]
fn log_macros_write_at_once() {
    let mut instance = Instance::<Triggered>::new(b"").unwrap();
    instance.call(&frame(&["x", "y"]), &Entries::new()).unwrap();
    let expected = [(Level::Info, "2 messages".into()), (Level::Warn, "no arguments".into())];
    assert_eq!(instance.take_logs(), expected);
}

/// Logs how long a secret is.
struct Keyed;

impl Function for Keyed {
    fn new(_config: &Config<'_>) -> Result<Self, Error> {
        Ok(Self)
    }

    fn handle(
        &mut self,
        _batch: &Batch<'_>,
        out: &mut Out<'_>,
        _state: &mut State<'_>,
    ) -> Result<(), Error> {
        let bytes = out.secret("key").map(|value| value.len());
        info!(out, "{bytes:?}");
        Ok(())
    }
}

#[test]
fn a_secret_is_read_as_it_is_at_the_call() {
    let mut instance = Instance::<Keyed>::new(b"").unwrap();
    let read = |instance: &mut Instance<Keyed>| {
        instance.call(&frame(&["x"]), &Entries::new()).unwrap();
        instance.take_logs().remove(0).1
    };
    assert_eq!(read(&mut instance), "None");
    for value in ["one", "another"] {
        instance.set_secret("key", value.as_bytes());
        assert_eq!(read(&mut instance), format!("Some({})", value.len()));
    }
}
