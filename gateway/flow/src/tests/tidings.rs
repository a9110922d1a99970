//! Functions that are told of their start, of uplinks, devices and the log.

use std::cell::RefCell;
use std::rc::Rc;

use tidegate_abi::Kind;

use super::ordering::{ordered, preloaded};
use super::*;
use crate::{EVENT_STREAM, EventKind, Install, Ordering, Version, Wish};

/// What was given, in order: names of events, payloads of records, names of timers; one a call.
type Given = Rc<RefCell<Vec<Vec<String>>>>;

/// Notes what it is given and publishes it. Fails on the first two tries of an event while
/// `fails`.
fn listener(fails: bool) -> (Guest, Given) {
    let given = Given::default();
    let notes = given.clone();
    let guest: Guest = Box::new(move |_, batch, _| {
        let mut out = OutputWriter::new();
        let mut call = Vec::new();
        let mut failed = false;
        for entry in batch.iter() {
            let text = String::from_utf8_lossy(entry.payload).into_owned();
            let told = match batch.header().kind {
                Kind::Messages => text,
                Kind::Event => {
                    assert_eq!(
                        (entry.qos, entry.retain, entry.source),
                        (Qos::AtMostOnce, false, 0)
                    );
                    assert!(text.contains(&format!("\"event\":\"{}\"", entry.topic)), "{text}");
                    failed |= fails && entry.attempt < 2;
                    format!("{} {}", entry.topic, members(&text))
                }
                _ => format!("timer {}", entry.topic),
            };
            emit(&mut out, "alerts/told", told.as_bytes());
            call.push(told.trim_end().to_owned());
        }
        notes.borrow_mut().push(call);
        match failed {
            true => CallVerdict::Failed("it trapped".to_owned()),
            false => CallVerdict::Done(out.finish()),
        }
    });
    (guest, given)
}

/// What an event says beside its version, gateway, name and time.
fn members(json: &str) -> String {
    let at = json.find("\"unix_ms\":").unwrap();
    let rest = json[at + 10..].trim_start_matches(|c: char| c.is_ascii_digit() || c == '-');
    rest.trim_matches([',', '}']).to_owned()
}

fn telling(events: &[EventKind]) -> Plan {
    let mut plan = ordered(Ordering::Strict, 1);
    plan.functions[0].events = events.to_vec();
    plan
}

fn flat(given: &Given) -> Vec<String> {
    given.borrow().iter().flatten().cloned().collect()
}

#[test]
fn a_function_is_told_that_it_starts_before_anything_else_and_of_each_start() {
    let readings: Vec<(String, String)> = (0..20).map(|n| ("k".into(), format!("r{n}"))).collect();
    for (ordering, workers) in [(Ordering::Strict, 1), (Ordering::PerKey, 4), (Ordering::None, 4)] {
        let mut plan = telling(&[EventKind::Start]);
        (plan.functions[0].ordering, plan.functions[0].workers) = (ordering, workers);
        plan.functions[0].batch_window = Duration::from_millis(40);
        let beat = crate::Rhythm::Every(Duration::from_millis(10));
        let (name, missed) = ("beat".to_owned(), crate::Missed::Once);
        plan.functions[0].schedules = vec![crate::SchedulePlan { name, rhythm: beat, missed }];
        let (guest, given) = listener(true);
        let mut bench = Bench::on(preloaded(&plan, &readings), plan.clone(), guest);
        bench.pass(Duration::from_secs(2));
        let told = given.borrow();
        assert_eq!(told[..3], [["start"], ["start"], ["start"]], "{ordering:?}, twice in vain");
        let rest: Vec<&String> = told[3..].iter().flatten().collect();
        let records = rest.iter().filter(|one| one.starts_with('r')).count();
        assert_eq!(records, 20, "{ordering:?}: {rest:?}");
        assert!(rest.iter().all(|one| *one != "start"), "{ordering:?}");
        drop(told);
        let (guest, given) = listener(false);
        let mut bench = Bench::on(bench.disk.crash(1), plan, guest);
        bench.pass(Duration::from_secs(1));
        assert_eq!(given.borrow()[0], ["start"], "{ordering:?}: each life has its own");
    }
}

#[test]
fn events_and_records_are_never_in_one_call() {
    let mut plan = telling(&[EventKind::Connected, EventKind::Disconnected]);
    plan.functions[0].inputs[0].topics.clear();
    let (guest, given) = listener(false);
    let mut bench = Bench::new(plan, guest);
    let conn = bench.connect(1, "s1");
    for id in 1..=3 {
        bench.publish(conn, id, "sensors/a", &format!("r{id}"));
    }
    let other = bench.connect(2, "s2");
    bench.gateway.handle_closed(bench.now, other, "reset");
    bench.pass(SETTLE);
    let is_event = |one: &String| one.starts_with("connected") || one.starts_with("disconnected");
    for call in given.borrow().iter() {
        assert!(call.iter().all(is_event) || !call.iter().any(is_event), "{call:?}");
    }
    let mut told: Vec<String> = flat(&given).into_iter().filter(|one| is_event(one)).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    let gone = told.pop().unwrap();
    assert!(gone.starts_with("disconnected \"client\":\"s2\",\"why\":"), "{gone}");
    let peer = |client: &str| {
        format!("connected \"client\":\"{client}\",\"peer\":\"test\",\"mqtt\":\"5\"")
    };
    assert_eq!(told, [peer("s1"), peer("s2")]);
    assert_eq!(flat(&given).len(), 6);
}

#[test]
fn an_uplink_that_comes_and_goes_is_told_once_each_time() {
    let mut plan = telling(&[EventKind::Online, EventKind::Offline]);
    plan.functions[0].inputs.clear();
    plan.uplinks = super::plan().uplinks;
    let (guest, given) = listener(false);
    let mut bench = Bench::new(plan, guest);
    bench.pass(Duration::from_secs(30));
    let down = "offline \"uplink\":\"cloud\",\"why\":\"refused\"";
    assert_eq!(flat(&given), [down], "not each attempt");
    bench.upstream = true;
    bench.pass(Duration::from_secs(120));
    let session = bench.sessions;
    bench.upstream = false;
    let why = "reset".to_owned();
    bench.gateway.handle_uplink(bench.now, 0, UplinkEvent::Disconnected { session, why });
    bench.pass(Duration::from_secs(5));
    let up = "online \"uplink\":\"cloud\"";
    assert_eq!(flat(&given), [down, up, "offline \"uplink\":\"cloud\",\"why\":\"reset\""]);
}

#[test]
fn levels_of_the_log_are_told_when_they_are_passed_in_either_direction() {
    let mut plan = telling(&[EventKind::Disk]);
    plan.functions[0].inputs.clear();
    let (guest, given) = listener(false);
    let mut bench = Bench::new(plan, guest);
    let levels = |bench: &mut Bench, used: u64| {
        let limit: u64 = bench.gateway.log.status().streams.iter().map(|one| one.max_bytes).sum();
        bench.gateway.tell_of_use(bench.now, (used * limit).div_ceil(1_000), limit);
        // Less than until the next look at what there really is.
        bench.pass(Duration::from_millis(50));
        let told = flat(&given);
        given.borrow_mut().clear();
        let short = |one: &String| one[..one.find(",\"used").unwrap()].to_owned();
        told.iter().map(short).collect::<Vec<_>>()
    };
    let told = |level: u8, above: bool| format!("disk \"level\":{level},\"above\":{above}");
    assert!(levels(&mut bench, 799).is_empty());
    assert_eq!(levels(&mut bench, 800), [told(80, true)]);
    assert!(levels(&mut bench, 760).is_empty(), "not each time it wavers");
    assert_eq!(levels(&mut bench, 1_000), [told(95, true)]);
    assert_eq!(levels(&mut bench, 100), [told(80, false), told(95, false)]);
}

#[test]
fn nothing_is_written_that_no_function_wants() {
    let mut bench = Bench::new(telling(&[]), echo());
    assert!(bench.gateway.stream(EVENT_STREAM).is_none());
    bench.connect(1, "s1");
    let mut bench = Bench::new(telling(&[EventKind::Online]), echo());
    bench.connect(1, "s1");
    bench.pass(Duration::from_secs(2));
    assert!(bench.payloads(EVENT_STREAM).is_empty());
}

#[test]
fn a_function_is_told_of_its_own_start_only_and_of_nothing_before_it_was_there() {
    let mut plan = telling(&[EventKind::Start, EventKind::Connected]);
    plan.functions.push(FunctionPlan { name: "other".to_owned(), ..plan.functions[0].clone() });
    let (guest, given) = listener(false);
    let mut bench = Bench::new(plan.clone(), guest);
    bench.connect(1, "s1");
    bench.pass(SETTLE);
    let count =
        |given: &Given, what: &str| flat(given).iter().filter(|one| one.starts_with(what)).count();
    assert_eq!((count(&given, "start"), count(&given, "connected")), (2, 2));
    plan.functions[1].name = "new".to_owned();
    let (guest, given) = listener(false);
    let mut bench = Bench::on(bench.disk.crash(1), plan, guest);
    bench.pass(SETTLE);
    assert_eq!((count(&given, "start"), count(&given, "connected")), (2, 0));
}

#[test]
fn a_pushed_version_is_told_which_it_is_and_a_resumed_function_that_it_goes_on() {
    let mut bare = telling(&[]);
    let mut pushed = bare.functions.remove(0);
    pushed.events = vec![EventKind::Start];
    let (guest, given) = listener(false);
    let mut bench = Bench::new(bare, guest);
    let version = Version { package: tidegate_wire::Digest([1; 32]), label: "1.1".to_owned() };
    let wish = Wish::Pushed(Duration::from_secs(1));
    bench.gateway.install(bench.now, Install { plan: pushed, version, wish }).unwrap();
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "r1");
    bench.pass(Duration::from_secs(2));
    assert_eq!(flat(&given), ["start \"version\":\"1.1\"", "r1"]);
    bench.gateway.pause_function(bench.now, "echo").unwrap();
    for id in 2..=20 {
        bench.publish(conn, id, "sensors/a", &format!("r{id}"));
    }
    bench.pass(SETTLE);
    bench.gateway.resume_function(bench.now, "echo").unwrap();
    bench.gateway.resume_function(bench.now, "echo").unwrap();
    bench.pass(SETTLE);
    assert_eq!(flat(&given)[2], "start \"version\":\"1.1\"");
    assert_eq!(flat(&given).len(), 3 + 19);
}

#[test]
fn an_event_that_fails_to_the_end_is_a_dead_letter() {
    let mut plan = telling(&[EventKind::Connected]);
    plan.functions[0].attempts = 2;
    let (guest, _) = listener(true);
    let mut bench = Bench::new(plan, guest);
    bench.connect(1, "s1");
    bench.pass(Duration::from_secs(2));
    let dead = bench.stream(DEAD_LETTER_STREAM);
    let letter = dead[0].2.dead.as_ref().unwrap();
    assert_eq!((dead.len(), dead[0].0.as_str()), (1, "connected"));
    assert_eq!((letter.stream.as_str(), letter.reason.as_str()), (EVENT_STREAM, "it trapped"));
}

/// Runs with the power cut at a disk operation: each event that is on flash is published once.
fn run_with_cut(plan: &Plan, at: u64) -> bool {
    let disk = CrashDisk::new();
    disk.crash_at(at);
    let now = start();
    let mut after = disk.clone();
    if Gateway::open(plan.clone(), &disk, now, 7).is_ok() && !disk.has_crashed() {
        let disk = CrashDisk::new();
        disk.crash_at(at);
        let mut bench = Bench::on(disk, plan.clone(), listener(false).0);
        bench.gateway.park_function(1, "keeps what is handled".to_owned());
        for conn in 1..=4 {
            bench.connect(conn, &format!("s{conn}"));
            bench.pass(Duration::from_millis(20));
        }
        after = bench.disk.clone();
    }
    let cut = after.has_crashed();
    let after = if cut { after.crash(at) } else { after.after_kill() };
    let mut bench = Bench::on(after, plan.clone(), listener(false).0);
    bench.gateway.park_function(1, "keeps what is handled".to_owned());
    bench.pass(Duration::from_secs(1));
    let written = bench.payloads(EVENT_STREAM);
    let published = bench.payloads("alerts");
    assert_eq!(written.len(), published.len(), "cut at {at}: {written:?} {published:?}");
    for client in 1..=4 {
        let name = format!("\"s{client}\"");
        let times = |all: &[String]| all.iter().filter(|one| one.contains(&name)).count();
        assert_eq!(times(&written), times(&published), "cut at {at}: {name}");
        assert!(times(&written) <= 1, "cut at {at}: {name}");
    }
    cut
}

#[test]
fn no_event_is_lost_or_counts_twice_whenever_the_power_is_cut() {
    let mut plan = telling(&[EventKind::Start, EventKind::Connected]);
    // One that handles nothing, so that the stream keeps what the other has handled.
    let events = vec![EventKind::Connected];
    let name = "keeper".to_owned();
    plan.functions.push(FunctionPlan { name, events, ..plan.functions[0].clone() });
    let cuts = (1..).take_while(|at| run_with_cut(&plan, *at)).count();
    assert!(cuts > 20, "only {cuts} disk operations: too few to mean anything");
}

#[test]
fn a_function_that_is_paused_or_drained_is_told_it_last() {
    let mut plan = telling(&[EventKind::Start, EventKind::Stop]);
    plan.functions[0].batch_records = 1;
    let why = "stop \"why\":\"paused\"";
    for drains in [false, true] {
        let (guest, given) = listener(drains);
        let mut bench = Bench::new(plan.clone(), guest);
        bench.pass(Duration::from_secs(1));
        let conn = bench.connect(1, "s1");
        bench.calls_take_time = true;
        for id in 1..=3 {
            bench.publish(conn, id, "sensors/a", &format!("r{id}"));
        }
        bench.pass(Duration::from_millis(50));
        let paused = match drains {
            false => bench.gateway.pause_function(bench.now, "echo"),
            true => bench.gateway.drain_function(bench.now, "echo"),
        };
        paused.unwrap();
        bench.calls_take_time = false;
        bench.end_call(0);
        bench.pass(Duration::from_secs(1));
        let told = flat(&given);
        let told: Vec<&str> =
            told.iter().map(String::as_str).filter(|one| *one != "start").collect();
        match drains {
            false => assert_eq!(told, ["r1", why]),
            true => assert_eq!(told, ["r1", "r2", "r3", why, why, why], "and tried again"),
        }
        let state = |bench: &Bench| bench.gateway.status(bench.now).functions[0].state.clone();
        assert_eq!(state(&bench), "paused");
        let (guest, given) = listener(false);
        let mut bench = Bench::on(bench.disk.crash(1), plan.clone(), guest);
        bench.pass(Duration::from_secs(1));
        assert_eq!((state(&bench).as_str(), given.borrow().len()), ("paused", 0));
        bench.gateway.resume_function(bench.now, "echo").unwrap();
        bench.pass(Duration::from_secs(1));
        assert_eq!(given.borrow()[0], ["start"]);
    }
}

#[test]
fn a_function_is_told_that_the_gateway_ends_and_is_given_nothing_after_that() {
    let mut plan = telling(&[EventKind::Start, EventKind::Stop]);
    let beat = crate::Rhythm::Every(Duration::from_millis(10));
    let (name, missed) = ("beat".to_owned(), crate::Missed::Skip);
    plan.functions[0].schedules = vec![crate::SchedulePlan { name, rhythm: beat, missed }];
    let (guest, given) = listener(true);
    let mut bench = Bench::new(plan.clone(), guest);
    bench.pass(Duration::from_secs(1));
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "r1");
    assert!(bench.gateway.has_said_goodbye(), "nobody waits for it");
    bench.gateway.say_goodbye(bench.now);
    bench.publish(conn, 2, "sensors/a", "r2");
    assert!(!bench.gateway.has_said_goodbye());
    bench.pass(Duration::from_secs(1));
    assert!(bench.gateway.has_said_goodbye());
    bench.gateway.shut_down(bench.now);
    bench.pass(SETTLE);
    assert!(bench.gateway.is_idle());
    let told = flat(&given);
    let stop = "stop \"why\":\"shutdown\"".to_owned();
    assert_eq!(told[told.len() - 3..], [stop.clone(), stop.clone(), stop], "tried three times");
    let (guest, given) = listener(false);
    let mut bench = Bench::on(bench.disk.after_kill(), plan, guest);
    bench.pass(Duration::from_secs(1));
    let told = flat(&given);
    let records = told.iter().filter(|one| one.starts_with('r')).count();
    assert_eq!((told[0].as_str(), records), ("start", 2), "what was left for this life");
}

#[test]
fn a_stop_that_was_not_handled_is_given_before_the_next_start() {
    let plan = telling(&[EventKind::Start, EventKind::Stop]);
    let (guest, _) = listener(false);
    let mut bench = Bench::new(plan.clone(), guest);
    bench.pass(SETTLE);
    bench.calls_take_time = true;
    bench.gateway.say_goodbye(bench.now);
    bench.pass(SETTLE);
    assert_eq!((bench.held_calls.len(), bench.gateway.has_said_goodbye()), (1, false));
    bench.gateway.shut_down(bench.now);
    bench.pass(SETTLE);
    let (guest, given) = listener(false);
    let mut bench = Bench::on(bench.disk.after_kill(), plan, guest);
    bench.pass(SETTLE);
    let stop = "stop \"why\":\"shutdown\"".to_owned();
    assert_eq!(flat(&given), [stop, "start".to_owned()]);
}
