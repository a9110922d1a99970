//! Requests over HTTP that functions answer.

use tidegate_abi::Kind;

use super::ordering::{ordered, preloaded};
use super::*;
use crate::{HttpRoute, MAX_WAITING_REQUESTS, Once, Ordering, Request};

/// Counts requests in its state and answers with the count, by what the body says: `add` counts,
/// publishes and answers; `look` answers only; the others end as their name says.
fn counter() -> Guest {
    Box::new(|_, batch, state| {
        let mut out = OutputWriter::new();
        if batch.header().kind != Kind::Request {
            return CallVerdict::Done(Vec::new());
        }
        let entry = batch.iter().next().unwrap();
        let count = state.get(&b"count"[..]).map_or(0, |value| value[0]);
        let nack = |class| Operation::Nack { index: 0, class, code: 0, text: "no such thing" };
        let respond = |status, body| Operation::Respond { status, content_type: "text/x", body };
        let text = format!("{}", count + 1);
        match std::str::from_utf8(entry.payload).unwrap() {
            "add" => {
                let value = [count + 1];
                out.push(&Operation::KvPut { key: b"count", value: &value, ttl_ms: 0 }).unwrap();
                emit(&mut out, "alerts/added", text.as_bytes());
                out.push(&respond(201, text.as_bytes())).unwrap();
            }
            "look" => out.push(&respond(200, format!("{count}").as_bytes())).unwrap(),
            "nothing" => {}
            "retry" => out.push(&nack(NackClass::Retry)).unwrap(),
            "again" => return CallVerdict::RetryBatch,
            "drop" => out.push(&nack(NackClass::Drop)).unwrap(),
            "dead" => out.push(&nack(NackClass::Dead)).unwrap(),
            "trap" => return CallVerdict::Failed("it trapped, with details".to_owned()),
            "late" => return CallVerdict::Late("it took long".to_owned()),
            "twice" => {
                out.push(&respond(200, b"a")).unwrap();
                out.push(&respond(200, b"b")).unwrap();
            }
            "both" => {
                out.push(&respond(200, b"a")).unwrap();
                out.push(&nack(NackClass::Drop)).unwrap();
            }
            "status" => out.push(&respond(199, b"a")).unwrap(),
            "media" => {
                let (status, content_type, body) = (200, "a\r\nset-cookie: b", &b""[..]);
                out.push(&Operation::Respond { status, content_type, body }).unwrap();
            }
            "huge" => out.push(&respond(200, &[b'x'; 20_000])).unwrap(),
            "wide" => emit(&mut out, "alerts/wide", &[b'x'; 100_000]),
            other => panic!("{other}"),
        }
        CallVerdict::Done(out.finish())
    })
}

fn served(ordering: Ordering, workers: usize) -> Plan {
    let mut plan = ordered(ordering, workers);
    plan.functions[0].routes = vec![HttpRoute::parse("GET,POST /count").unwrap()];
    plan
}

fn started() -> Bench {
    Bench::new(served(Ordering::Strict, 1), counter())
}

const PATIENCE: Duration = Duration::from_secs(5);

fn request(id: u64, body: &str, key: Option<u8>) -> Request {
    let fingerprint = [body.len() as u8; 32];
    Request {
        id: RequestId(id),
        function: 0,
        route: "/count".to_owned(),
        properties: vec![(":method".to_owned(), "POST".to_owned())],
        body: body.as_bytes().to_vec(),
        once: key.map(|key| Once { key: [key; 32], fingerprint }),
        patience: PATIENCE,
    }
}

fn ask(bench: &mut Bench, id: u64, body: &str, key: Option<u8>) {
    bench.gateway.handle_request(bench.now, request(id, body, key));
    bench.drain();
}

/// Asks, waits and answers status and body.
fn answer(bench: &mut Bench, body: &str, key: Option<u8>) -> (u16, String) {
    let id = 1_000 + bench.answers.len() as u64;
    ask(bench, id, body, key);
    bench.pass(Duration::from_millis(100));
    let (answered, answer) = bench.answers.last().expect("an answer").clone();
    assert_eq!(answered, RequestId(id));
    (answer.status, String::from_utf8(answer.body.to_vec()).unwrap())
}

#[test]
fn an_answer_leaves_after_its_effects_are_durable() {
    let mut bench = started();
    bench.disk_stands_still = true;
    ask(&mut bench, 1, "add", None);
    bench.pass(Duration::from_secs(1));
    assert_eq!((bench.calls, bench.answers.len()), (1, 0));
    bench.let_the_disk_go();
    let (id, answer) = bench.answers[0].clone();
    assert_eq!((id, answer.status, &answer.body[..]), (RequestId(1), 201, &b"1"[..]));
    assert_eq!(answer.media_type, "text/x");
    assert_eq!(bench.payloads("alerts"), ["1"]);
}

#[test]
fn an_answer_that_tells_of_the_state_waits_for_that_state_and_writes_nothing() {
    let mut bench = started();
    bench.pass(SETTLE);
    bench.disk_stands_still = true;
    ask(&mut bench, 1, "add", None);
    ask(&mut bench, 2, "look", None);
    bench.pass(Duration::from_secs(1));
    assert_eq!((bench.calls, bench.answers.len()), (2, 0));
    bench.let_the_disk_go();
    let bodies: Vec<_> = bench.answers.iter().map(|(_, answer)| answer.body.to_vec()).collect();
    assert_eq!(bodies, [b"1", b"1"]);
    let end = bench.gateway.log().end();
    assert_eq!(answer(&mut bench, "look", None), (200, "1".to_owned()));
    assert_eq!(bench.gateway.log().end(), end);
}

#[test]
fn every_end_of_a_call_has_its_answer_and_the_client_reads_no_reason() {
    let mut bench = started();
    for (body, status, text) in [
        ("nothing", 204, ""),
        ("retry", 503, "not now"),
        ("again", 503, "not now"),
        ("drop", 422, "no such thing"),
        ("dead", 500, "gave the request up"),
        ("trap", 500, "the function failed"),
        ("late", 504, "took too long"),
        ("twice", 500, "the function failed"),
        ("both", 500, "the function failed"),
        ("status", 500, "the function failed"),
        ("media", 500, "the function failed"),
        ("wide", 500, "the function failed"),
        ("add", 201, "1"),
    ] {
        let (found, words) = answer(&mut bench, body, None);
        assert_eq!(found, status, "{body}");
        assert!(words.contains(text) && !words.contains("details"), "{body}: {words}");
        let again = bench.answers.last().unwrap().1.again;
        assert_eq!(again.is_some(), status == 503, "{body}");
    }
    let dead = bench.stream(DEAD_LETTER_STREAM);
    let letter = dead[0].2.dead.clone().unwrap();
    assert_eq!((dead.len(), dead[0].0.as_str(), dead[0].1.as_str()), (1, "/count", "dead"));
    assert_eq!((letter.stream.as_str(), letter.reason.as_str()), (":http", "no such thing"));
    assert_eq!(dead[0].2.user, [(":method".to_owned(), "POST".to_owned())]);
    let status = &bench.gateway.status(bench.now).functions[0];
    assert_eq!((status.requests, status.failures, status.dead_letters), (4, 7, 1));
}

#[test]
fn a_request_with_a_key_is_done_once_and_answered_each_time() {
    let mut bench = started();
    assert_eq!(answer(&mut bench, "add", Some(1)), (201, "1".to_owned()));
    assert!(!bench.answers[0].1.repeated);
    assert_eq!(answer(&mut bench, "add", Some(1)), (201, "1".to_owned()));
    assert!(bench.answers[1].1.repeated);
    assert_eq!(answer(&mut bench, "add", Some(2)), (201, "2".to_owned()));
    assert_eq!(answer(&mut bench, "nothing", Some(1)).0, 422, "the key of another request");
    let mut bench = Bench::on(bench.disk.crash(3), served(Ordering::Strict, 1), counter());
    assert_eq!(answer(&mut bench, "add", Some(1)), (201, "1".to_owned()));
    assert_eq!((bench.calls, bench.answers[0].1.repeated), (0, true), "after a power cut too");
    assert_eq!(answer(&mut bench, "add", None), (201, "3".to_owned()));
}

#[test]
fn what_nothing_counts_of_is_done_anew_when_it_comes_again() {
    let mut bench = started();
    for body in ["trap", "retry", "huge"] {
        for _ in 0..2 {
            assert!(answer(&mut bench, body, Some(1)).0 >= 500, "{body}");
        }
    }
    assert_eq!(bench.calls, 6);
    let failure = bench.gateway.status(bench.now).functions[0].last_failure.clone().unwrap();
    assert!(failure.contains("has 20006 bytes; allowed: 16384"), "{failure}");
}

#[test]
fn a_repeat_while_the_first_is_under_way_or_not_durable_is_told_so_or_waits() {
    let mut bench = started();
    bench.calls_take_time = true;
    ask(&mut bench, 1, "add", Some(1));
    ask(&mut bench, 2, "add", Some(1));
    let (id, answer) = bench.answers[0].clone();
    assert_eq!((id, answer.status, answer.again.is_some()), (RequestId(2), 409, true));
    bench.disk_stands_still = true;
    bench.end_call(0);
    ask(&mut bench, 3, "add", Some(1));
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.answers.len(), 1, "it is not on flash yet");
    bench.let_the_disk_go();
    let ids: Vec<_> = bench.answers.iter().map(|(id, answer)| (id.0, answer.status)).collect();
    assert_eq!(ids, [(2, 409), (1, 201), (3, 201)]);
    assert_eq!(bench.calls, 1);
}

#[test]
fn the_newest_answers_are_kept_within_their_bounds() {
    use crate::answers::{MAX_KEPT, MAX_KEPT_BYTES};
    let mut bench = started();
    for at in 0..=MAX_KEPT as u64 {
        let mut one = request(at, "nothing", Some(0));
        let key = one.once.as_mut().unwrap();
        key.key[..8].copy_from_slice(&at.to_le_bytes());
        bench.gateway.handle_request(bench.now, one);
        bench.pass(Duration::from_millis(20));
    }
    let table = bench.gateway.log.table("function-answers").unwrap();
    let entries = bench.gateway.log.table_entries(table);
    assert_eq!(entries.len(), MAX_KEPT + 1, "and how many there were");
    let bytes: usize = entries.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(bytes < MAX_KEPT_BYTES);
    let calls = bench.calls;
    for (at, calls_more) in [(1, 0), (0, 1)] {
        let mut one = request(9_000 + at, "nothing", Some(0));
        one.once.as_mut().unwrap().key[..8].copy_from_slice(&at.to_le_bytes());
        bench.gateway.handle_request(bench.now, one);
        bench.pass(Duration::from_millis(20));
        assert_eq!(bench.calls, calls + calls_more, "the oldest one was forgotten");
    }
}

#[test]
fn so_many_wait_and_one_more_is_turned_away_and_those_that_wait_too_long_too() {
    let mut bench = started();
    bench.calls_take_time = true;
    for id in 0..=MAX_WAITING_REQUESTS as u64 + 1 {
        ask(&mut bench, id, "add", None);
    }
    let (id, answer) = bench.answers[0].clone();
    assert_eq!((id.0, answer.status), (MAX_WAITING_REQUESTS as u64 + 1, 503));
    bench.pass(PATIENCE);
    assert_eq!(bench.answers.len(), MAX_WAITING_REQUESTS + 2);
    let of = |id: u64| bench.answers.iter().find(|(one, _)| one.0 == id).unwrap().1.clone();
    assert_eq!((of(0).status, of(0).again), (504, None), "it was in a call: nobody knows");
    assert!((1..=MAX_WAITING_REQUESTS as u64).all(|id| of(id).status == 503));
    let refused = bench.gateway.status(bench.now).functions[0].requests_refused;
    assert_eq!(refused as usize, MAX_WAITING_REQUESTS + 1);
    bench.end_call(0);
    bench.pass(SETTLE);
    assert_eq!(bench.answers.len(), MAX_WAITING_REQUESTS + 2, "no second answer");
    assert_eq!(bench.payloads("alerts"), ["1"], "though it counts");
}

#[test]
fn a_function_that_does_not_run_is_unavailable_and_records_go_on_beside_requests() {
    let mut bench = started();
    bench.gateway.pause_function(bench.now, "echo").unwrap();
    assert_eq!(answer(&mut bench, "add", None).0, 503);
    bench.gateway.resume_function(bench.now, "echo").unwrap();
    bench.calls_take_time = true;
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "r1");
    bench.pass(Duration::from_millis(20));
    for id in 1..=4 {
        ask(&mut bench, id, "add", None);
    }
    bench.publish(conn, 2, "sensors/a", "r2");
    bench.pass(Duration::from_millis(20));
    let mut kinds = Vec::new();
    while !bench.held_calls.is_empty() {
        kinds.push(BatchReader::parse(&bench.held_calls[0].frame).unwrap().header().kind);
        bench.end_call(0);
        bench.pass(Duration::from_millis(20));
    }
    let (m, r) = (Kind::Messages, Kind::Request);
    assert_eq!(kinds, [m, r, m, r, r, r], "neither keeps the other out");
    bench.gateway.park_function(0, "it is broken".to_owned());
    let (status, text) = answer(&mut bench, "add", None);
    assert_eq!((status, text.as_str()), (503, "the function does not run now\n"));
}

#[test]
fn a_frame_has_the_request_as_the_contract_says() {
    let mut bench = started();
    bench.calls_take_time = true;
    for id in 1..=2 {
        ask(&mut bench, id, "add", None);
        let frame = &bench.held_calls[0].frame;
        let batch = BatchReader::parse(frame).unwrap();
        let entry = batch.iter().next().unwrap();
        let header = batch.header();
        assert_eq!((header.kind, header.count, header.now_ns), (Kind::Request, 1, entry.ts_ns));
        assert_eq!((entry.topic, entry.payload, entry.seq), ("/count", &b"add"[..], id));
        assert_eq!(header.batch_id, 0x81 << 56 | id, "so that no two have the same randomness");
        let properties: Vec<_> = tidegate_abi::properties(entry.props).unwrap().collect();
        assert_eq!(properties, [(":method", "POST")]);
        bench.end_call(0);
    }
    bench.pass(SETTLE);
    let mut bench = Bench::on(bench.disk.after_kill(), served(Ordering::Strict, 1), counter());
    bench.calls_take_time = true;
    ask(&mut bench, 3, "add", None);
    let batch = BatchReader::parse(&bench.held_calls[0].frame).unwrap();
    assert_eq!(batch.iter().next().unwrap().seq, 3, "numbers go on after a start");
}

#[test]
fn with_several_workers_requests_and_records_are_in_calls_at_the_same_time() {
    let mut bench = Bench::new(served(Ordering::None, 3), counter());
    bench.calls_take_time = true;
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "r");
    bench.pass(Duration::from_millis(20));
    for id in 1..=3 {
        ask(&mut bench, id, "add", Some(id as u8));
    }
    assert_eq!(bench.held_calls.len(), 3);
}

/// Asks with the power cut at a disk operation, and asks again with the same keys: each counted
/// once, whatever the client had heard.
fn ask_with_cut(plan: &Plan, before: &CrashDisk, at: u64) -> bool {
    let now = start();
    let disk = before.after_kill();
    disk.crash_at(at);
    let mut after = disk.clone();
    let mut heard = Vec::new();
    if Gateway::open(plan.clone(), &disk, now, 7).is_ok() && !disk.has_crashed() {
        let disk = before.after_kill();
        disk.crash_at(at);
        let mut bench = Bench::on(disk, plan.clone(), counter());
        for id in 1..=4 {
            ask(&mut bench, id, "add", Some(id as u8));
            bench.pass(Duration::from_millis(30));
        }
        after = bench.disk.clone();
        heard = bench.answers;
    }
    let cut = after.has_crashed();
    let after = if cut { after.crash(at) } else { after.after_kill() };
    let mut bench = Bench::on(after, plan.clone(), counter());
    for id in 1..=4 {
        ask(&mut bench, id, "add", Some(id as u8));
        bench.pass(Duration::from_millis(30));
    }
    for (id, first) in &heard {
        let second = &bench.answers.iter().find(|(again, _)| again == id).unwrap().1;
        let same = (second.status, &second.body, second.repeated);
        assert_eq!(same, (first.status, &first.body, true), "cut at {at}: {id:?} was heard of");
    }
    let bodies: std::collections::BTreeSet<_> =
        bench.answers.iter().map(|(_, answer)| answer.body.to_vec()).collect();
    assert_eq!(bodies.len(), 4, "cut at {at}: {:?}", bench.answers);
    assert_eq!(bench.payloads("alerts"), ["1", "2", "3", "4"], "cut at {at}");
    cut
}

#[test]
fn no_request_counts_twice_and_no_answer_is_taken_back_whenever_the_power_is_cut() {
    let plan = served(Ordering::Strict, 1);
    let before = preloaded(&plan, &[]);
    let cuts = (1..).take_while(|at| ask_with_cut(&plan, &before, *at)).count();
    assert!(cuts > 10, "only {cuts} disk operations: too few to mean anything");
}

#[test]
fn requests_wait_until_the_function_has_handled_that_it_starts() {
    let mut plan = served(Ordering::None, 4);
    plan.functions[0].events = vec![crate::EventKind::Start];
    let mut bench = Bench::new(plan, counter());
    bench.calls_take_time = true;
    ask(&mut bench, 1, "add", None);
    bench.pass(SETTLE);
    let kinds = |bench: &Bench| -> Vec<Kind> {
        let kind = |call: &Call| BatchReader::parse(&call.frame).unwrap().header().kind;
        bench.held_calls.iter().map(kind).collect()
    };
    assert_eq!(kinds(&bench), [Kind::Event], "though three workers are free");
    ask(&mut bench, 2, "add", None);
    bench.pass(SETTLE);
    assert_eq!((kinds(&bench).len(), bench.answers.len()), (1, 0));
    bench.end_call(0);
    bench.pass(SETTLE);
    assert_eq!(kinds(&bench), [Kind::Request, Kind::Request]);
    bench.end_call(0);
    bench.end_call(0);
    bench.pass(SETTLE);
    let answered: Vec<u16> = bench.answers.iter().map(|(_, answer)| answer.status).collect();
    assert_eq!(answered, [201, 201]);
}

#[test]
fn a_request_that_waits_for_a_start_that_hangs_is_turned_away_in_time() {
    let mut plan = served(Ordering::Strict, 1);
    plan.functions[0].events = vec![crate::EventKind::Start];
    let mut bench = Bench::new(plan, counter());
    bench.calls_take_time = true;
    ask(&mut bench, 1, "add", None);
    bench.pass(PATIENCE + Duration::from_secs(1));
    let (_, answer) = bench.answers[0].clone();
    assert_eq!(answer.status, 503, "nothing was done, and it is told so");
    bench.end_call(0);
    bench.pass(SETTLE);
    assert!(bench.held_calls.is_empty() && bench.payloads("alerts").is_empty());
}
