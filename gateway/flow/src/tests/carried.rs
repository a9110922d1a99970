//! What goes along with a record: its partition key, and its trace context through a function.

use std::collections::BTreeSet;

use super::*;
use crate::key::PartitionKey;

const TRACE: [(&str, &str); 2] = [
    ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ("tracestate", "a=1"),
];

fn header<'m>(message: &'m OutboundMessage, name: &str) -> Option<&'m str> {
    message.headers.iter().find(|(found, _)| found == name).map(|(_, value)| &**value)
}

#[test]
fn a_record_goes_up_with_the_key_of_its_stream() {
    let mut keyed = plan();
    keyed.streams[0].key = Some(PartitionKey::parse("topic/2").unwrap());
    let mut bench = Bench::new(keyed, echo());
    bench.upstream = true;
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "x");
    bench.publish(conn, 2, "sensors", "y");
    bench.pass(Duration::from_secs(3));
    let keys = |stream: &str| -> Vec<Option<&str>> {
        let of = |message: &&OutboundMessage| header(message, "tg-stream") == Some(stream);
        bench.sent.iter().filter(of).map(|message| header(message, "tg-key")).collect()
    };
    assert_eq!(keys("telemetry"), [Some("a"), None]);
    assert_eq!(keys("alerts"), [None, None], "another stream has no key");
}

/// What the attributes of a stream's records say of the trace.
fn traces(bench: &mut Bench, stream: &str) -> Vec<(String, Vec<(String, String)>)> {
    let records = bench.stream(stream).into_iter();
    records.map(|(_, payload, attributes)| (payload, attributes.user)).collect()
}

/// Answers each entry whose payload is one digit with an output of the entry of that number.
fn of_the_entry_that_the_payload_names() -> Guest {
    Box::new(|_, batch, _| {
        let mut out = OutputWriter::new();
        for message in batch.iter() {
            let entry = u16::from(message.payload[0] - b'0');
            emit_for(&mut out, Some(entry), "alerts/echo", message.payload);
        }
        CallVerdict::Done(out.finish())
    })
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Three records in one call, of which the second has a trace.
fn three_records_of_one_call(payloads: [&str; 3], guest: Guest) -> Bench {
    let mut slow = plan();
    slow.functions.clear();
    let disk = {
        let mut bench = Bench::new(slow, echo());
        let conn = bench.connect(1, "s1");
        bench.publish(conn, 1, "sensors/a", payloads[0]);
        bench.publish_with(conn, 2, "sensors/a", payloads[1], &TRACE);
        bench.publish_with(conn, 3, "sensors/a", payloads[2], &[("unit", "C")]);
        bench.pass(SETTLE);
        bench.disk.after_kill()
    };
    let mut bench = Bench::on(disk, plan(), guest);
    bench.pass(Duration::from_secs(5));
    bench
}

#[test]
fn an_output_carries_the_trace_of_its_own_record_and_of_no_other() {
    let guest = of_the_entry_that_the_payload_names();
    let mut bench = three_records_of_one_call(["1", "2", "3"], guest);
    assert_eq!(bench.calls, 1);
    let trace = owned(&TRACE);
    let expected = [("1".to_owned(), vec![]), ("2".to_owned(), trace), ("3".to_owned(), vec![])];
    assert_eq!(traces(&mut bench, "alerts"), expected);
    assert_eq!(bench.gateway.status(bench.now).functions[0].traces_dropped, 0);
}

#[test]
fn an_output_that_names_no_record_has_no_trace() {
    let mut bench =
        three_records_of_one_call(["0", "0", "0"], of_the_entry_that_the_payload_names());
    let users = traces(&mut bench, "alerts").into_iter().map(|(_, user)| user);
    assert!(users.eq([vec![], vec![], vec![]]));
}

#[test]
fn an_output_of_a_record_that_is_not_there_fails_the_call() {
    let mut bench =
        three_records_of_one_call(["1", "9", "1"], of_the_entry_that_the_payload_names());
    let dead = bench.stream(DEAD_LETTER_STREAM);
    let reason = &dead[0].2.dead.as_ref().unwrap().reason;
    assert_eq!(reason, "bad output: EMIT for record 9 of 1");
    assert_eq!(bench.payloads("alerts"), ["1", "1"]);
}

#[test]
fn an_output_that_fits_into_a_commit_fits_with_a_trace_too() {
    // Around the largest payload that a commit of this plan holds.
    let outcome = |len: usize, user: &[(&str, &str)]| {
        let guest: Guest = Box::new(move |_, _, _| {
            let mut out = OutputWriter::new();
            emit_for(&mut out, Some(1), "alerts/echo", &vec![b'x'; len]);
            CallVerdict::Done(out.finish())
        });
        let mut bench = Bench::new(plan(), guest);
        let conn = bench.connect(1, "s1");
        bench.publish_with(conn, 1, "sensors/a", "x", user);
        bench.pass(Duration::from_secs(2));
        let carried = traces(&mut bench, "alerts").first().map(|(_, user)| !user.is_empty());
        (carried, bench.gateway.status(bench.now).functions[0].traces_dropped)
    };
    let mut seen = BTreeSet::new();
    for len in (64 * 1024 - 600..64 * 1024).step_by(40) {
        let (plain, _) = outcome(len, &[]);
        let (traced, dropped) = outcome(len, &TRACE);
        assert_eq!(plain.is_some(), traced.is_some(), "{len} bytes");
        assert_eq!(dropped, u64::from(traced == Some(false)), "{len} bytes");
        seen.insert(traced);
    }
    assert_eq!(seen.len(), 3, "with its trace, without, not at all: {seen:?}");
}
