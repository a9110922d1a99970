//! A version on a share of the keys: promoted, taken back, and a power cut at each step.

use tidegate_wire::Digest;

use super::versions::{TRIAL, alias, bare, events, payloads, push, told, version};
use super::*;
use crate::{
    CanaryTerms, FUNCTION_STREAM, FunctionOrder, Install, Missed, Ordering, PartitionKey, Resume,
    Rhythm, SchedulePlan, VersionError, Wish,
};

/// Keys of the readings.
const KEYS: u16 = 40;

fn keyed() -> Plan {
    let mut plan = bare();
    plan.streams[0].key = Some(PartitionKey::parse("topic/2").unwrap());
    plan
}

fn install(number: u8, ordering: Ordering, wish: Wish) -> Install {
    let mut install = push(number);
    (install.plan.ordering, install.plan.workers) = (ordering, 2);
    if ordering == Ordering::Strict {
        install.plan.workers = 1;
    }
    install.plan.state_bytes = 1 << 20;
    install.wish = wish;
    install
}

fn terms(share: u16) -> CanaryTerms {
    CanaryTerms { share, records: 100, length: TRIAL }
}

/// What a canary does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Traps at one record in nineteen, of any key.
    Traps,
    /// Gives such a record up.
    GivesUp,
    /// Wants such a record again.
    WantsAgain,
    /// Traps whatever it is given.
    Always,
}

/// Counts each record in its state, in two ways; the version in slot 1 and behind has a fault.
fn counting(fault: Fault) -> Guest {
    Box::new(move |slot, batch, state| {
        let mut out = OutputWriter::new();
        let mut own = BTreeMap::new();
        for (index, message) in batch.iter().enumerate() {
            let text = std::str::from_utf8(message.payload).unwrap();
            let hurts = slot > 0 && text[1..].parse::<u16>().unwrap() % 19 == 7;
            let nack = |class| Operation::Nack { index: index as u32, class, code: 0, text: "no" };
            match fault {
                Fault::Always if slot > 0 => return CallVerdict::Failed("always".to_owned()),
                Fault::Traps if hurts => return CallVerdict::Failed("it trapped".to_owned()),
                Fault::GivesUp if hurts => {
                    out.push(&nack(NackClass::Dead)).unwrap();
                    continue;
                }
                Fault::WantsAgain if hurts => {
                    out.push(&nack(NackClass::Retry)).unwrap();
                    continue;
                }
                Fault::None | Fault::Always | Fault::Traps | Fault::GivesUp | Fault::WantsAgain => {
                }
            }
            let key = message.topic.as_bytes().to_vec();
            let before = own.get(&key).or_else(|| state.get(&key));
            let count = before.map_or(0, |count| u32::from_le_bytes(count[..].try_into().unwrap()));
            own.insert(key, (count + 1).to_le_bytes().to_vec());
            emit(&mut out, &format!("alerts/{slot}"), message.payload);
        }
        for (key, value) in &own {
            out.push(&Operation::KvPut { key, value, ttl_ms: 0 }).unwrap();
        }
        CallVerdict::Done(out.finish())
    })
}

/// A gateway with a version that is kept, and a canary beside it.
fn with_canary(ordering: Ordering, fault: Fault, share: u16) -> Bench {
    let mut bench = Bench::new(keyed(), counting(fault));
    bench.gateway.install(bench.now, install(1, ordering, Wish::Pushed(TRIAL))).unwrap();
    bench.pass(TRIAL);
    let wish = Wish::Canary(terms(share));
    bench.gateway.install(bench.now, install(2, ordering, wish)).unwrap();
    bench.pass(SETTLE);
    bench
}

/// Readings of all keys, `from` up to `to`, eight at a time.
fn publish(bench: &mut Bench, from: u16, to: u16) {
    let conn = bench.connect(u64::from(from), &format!("s{from}"));
    for number in from..to {
        bench.publish(conn, number, &format!("sensors/k{}", number % KEYS), &format!("r{number}"));
        if number % 8 == 0 {
            bench.pass(Duration::from_millis(5));
        }
    }
    bench.pass(SETTLE);
}

/// Fails unless each reading was handled once: by outputs, and by the counts in the state.
fn expect_each_once(bench: &mut Bench, what: &str) {
    let mut published = payloads(bench, "telemetry");
    let mut handled = payloads(bench, "alerts");
    published.sort();
    handled.sort();
    assert_eq!(handled, published, "{what}");
    assert!(payloads(bench, DEAD_LETTER_STREAM).is_empty(), "{what}");
    let table = bench.gateway.log.table("fn/echo").unwrap();
    let state = bench.gateway.log.table_entries(table);
    let counted: u32 =
        state.values().map(|count| u32::from_le_bytes(count[..].try_into().unwrap())).sum();
    if bench.gateway.functions[0].plan.ordering != Ordering::None {
        assert_eq!(counted as usize, published.len(), "{what}: counts in the state");
    }
}

/// How many outputs are of the version in this slot.
fn outputs_of(bench: &mut Bench, slot: usize) -> usize {
    let topic = format!("alerts/{slot}");
    bench.stream("alerts").into_iter().filter(|(of, _, _)| *of == topic).count()
}

fn last_event(bench: &mut Bench) -> String {
    payloads(bench, FUNCTION_STREAM).pop().unwrap()
}

#[test]
fn a_good_canary_gets_its_share_of_the_keys_and_is_promoted_by_itself() {
    for ordering in [Ordering::Strict, Ordering::PerKey] {
        let mut bench = with_canary(ordering, Fault::None, 5_000);
        publish(&mut bench, 1, 400);
        let (present, canary) = (outputs_of(&mut bench, 0), outputs_of(&mut bench, 1));
        assert_eq!(present + canary, 399, "{ordering:?}");
        assert!(canary > 100 && present > 100, "{ordering:?}: {canary} of 399");
        let entry = bench.gateway.function_entries(bench.now).remove(0);
        let shown = entry.canary.unwrap();
        assert_eq!((shown.records, shown.errors), (canary as u64, 0), "{ordering:?}");
        assert_eq!(entry.metering.unwrap().records, present as u64, "{ordering:?}");
        bench.pass(TRIAL);
        let found = alias(&bench);
        assert_eq!((found.current, found.previous), (Some(version(2)), Some(version(1))));
        assert!(found.canary.is_none() && !found.on_trial);
        publish(&mut bench, 400, 440);
        assert_eq!(outputs_of(&mut bench, 0), present, "{ordering:?}: nothing more of the old one");
        expect_each_once(&mut bench, "promoted");
        let expected =
            [("installed", "1.1"), ("confirmed", "1.1"), ("canary", "1.2"), ("promoted", "1.2")];
        assert_eq!(events(&mut bench), told(&expected));
        let reason = last_event(&mut bench);
        assert!(reason.contains(&format!("it handled {canary} records and failed 0")), "{reason}");
        let stop = FunctionOrder::Stop { function: 0 };
        assert_eq!(bench.orders.last(), Some(&stop), "its threads go on");
        assert_eq!(bench.gateway.status(bench.now).functions.len(), 1);
    }
}

#[test]
fn a_canary_that_errs_on_one_record_in_nineteen_is_taken_back_and_nothing_is_lost() {
    for ordering in [Ordering::Strict, Ordering::PerKey, Ordering::None] {
        for fault in [Fault::Traps, Fault::GivesUp, Fault::WantsAgain] {
            let what = format!("{ordering:?} {fault:?}");
            let mut bench = with_canary(ordering, fault, 5_000);
            publish(&mut bench, 1, 400);
            let found = alias(&bench);
            assert_eq!(found.current, Some(version(1)), "{what}");
            assert!(found.canary.is_none(), "{what}");
            let reason = found.failed.unwrap().reason;
            assert!(reason.contains("it failed 3 of "), "{what}: {reason}");
            assert!(last_event(&mut bench).contains("rolled-back"), "{what}");
            assert!(last_event(&mut bench).contains("it failed 3 of "), "{what}");
            bench.pass(TRIAL);
            expect_each_once(&mut bench, &what);
            assert!(outputs_of(&mut bench, 1) > 10, "{what}: it did some");
        }
    }
}

#[test]
fn a_canary_that_traps_whatever_comes_or_cannot_start_is_taken_back_at_once() {
    let mut bench = with_canary(Ordering::PerKey, Fault::Always, 1_000);
    publish(&mut bench, 1, 200);
    let reason = alias(&bench).failed.unwrap().reason;
    assert!(reason.starts_with("it failed 3 of 3 records, the present version 0 of "), "{reason}");
    assert!(reason.ends_with("; the last failure: always"), "{reason}");
    expect_each_once(&mut bench, "always");
    let mut bench = with_canary(Ordering::Strict, Fault::None, 1_000);
    bench.gateway.not_started(bench.now, 1, "no memory".to_owned());
    assert_eq!(alias(&bench).failed.unwrap().reason, "it cannot start: no memory");
    publish(&mut bench, 1, 50);
    expect_each_once(&mut bench, "not started");
    assert_eq!(outputs_of(&mut bench, 1), 0);
}

#[test]
fn a_canary_that_is_slow_or_late_is_taken_back() {
    for (late, words) in [(false, "us a record"), (true, "it missed its deadline in 2 of ")] {
        let mut bench = with_canary(Ordering::PerKey, Fault::None, 5_000);
        bench.calls_take_time = true;
        publish(&mut bench, 1, 400);
        let mut given = 0;
        while let Some(call) = bench.held_calls.pop() {
            let batch = BatchReader::parse(&call.frame).unwrap();
            let (slot, records) = (call.id.function, batch.iter().count() as u32);
            given += u32::from(slot == 1);
            let mut verdict = (bench.guest)(slot, &batch, &call.state);
            if late && slot == 1 && given <= 2 {
                verdict = CallVerdict::Late("too late".to_owned());
            }
            let us = if slot == 1 && !late { 2_000 } else { 100 };
            let elapsed = Duration::from_micros(us) * records;
            drop(call.state);
            let result = CallResult { verdict, fuel: 1, elapsed, cpu: elapsed, memory_bytes: 0 };
            bench.gateway.handle_call(bench.now, call.id, result);
            bench.drain();
        }
        bench.calls_take_time = false;
        bench.pass(SETTLE);
        let reason = alias(&bench).failed.unwrap().reason;
        assert!(reason.contains(words), "{reason}");
        assert_eq!(alias(&bench).current, Some(version(1)));
        expect_each_once(&mut bench, words);
    }
}

#[test]
fn a_canary_without_traffic_waits_and_one_that_is_withdrawn_hands_its_calls_back() {
    let mut bench = with_canary(Ordering::PerKey, Fault::None, 5_000);
    bench.pass(10 * TRIAL);
    assert!(alias(&bench).canary.is_some(), "nothing says whether it is good");
    let refused = bench.gateway.install(bench.now, push(3)).unwrap_err();
    assert!(refused.to_string().contains("is tried as a canary"), "{refused}");
    bench.calls_take_time = true;
    publish(&mut bench, 1, 60);
    assert!(bench.held_calls.iter().any(|call| call.id.function == 1));
    bench.gateway.withdraw_canary(bench.now, "echo", "the operator").unwrap();
    while let Some(call) = bench.held_calls.pop() {
        bench.call(call);
        bench.drain();
    }
    bench.calls_take_time = false;
    bench.pass(SETTLE);
    expect_each_once(&mut bench, "withdrawn");
    assert_eq!(outputs_of(&mut bench, 1), 0, "the ends of its calls are nobody's");
    let error = bench.gateway.withdraw_canary(bench.now, "echo", "again").unwrap_err();
    assert!(error.to_string().contains("has no canary"), "{error}");
}

#[test]
fn calls_of_a_canary_that_end_after_their_function_was_removed_are_nobodys() {
    let mut bench = with_canary(Ordering::PerKey, Fault::None, 5_000);
    bench.calls_take_time = true;
    publish(&mut bench, 1, 60);
    assert!(bench.held_calls.iter().any(|call| call.id.function == 1));
    bench.gateway.remove_version(bench.now, "echo").unwrap();
    while let Some(call) = bench.held_calls.pop() {
        bench.call(call);
        bench.drain();
    }
    bench.pass(TRIAL);
    assert!(payloads(&mut bench, "alerts").is_empty());
    assert!(bench.gateway.status(bench.now).streams[0].readers.is_empty());
}

#[test]
fn schedules_are_those_of_the_present_version_until_a_canary_is_promoted() {
    let mut bench = Bench::new(keyed(), counting(Fault::None));
    let mut present = install(1, Ordering::PerKey, Wish::Pushed(TRIAL));
    let rhythm = Rhythm::Every(Duration::from_secs(86_400));
    let schedule = SchedulePlan { name: "daily".to_owned(), rhythm, missed: Missed::Skip };
    present.plan.schedules = vec![schedule];
    bench.gateway.install(bench.now, present).unwrap();
    bench.pass(2 * TRIAL);
    let table = bench.gateway.log.table("function-schedules").unwrap();
    let noted = |bench: &Bench| bench.gateway.log.table_entries(table).len();
    assert_eq!(noted(&bench), 1);
    let canary = install(2, Ordering::PerKey, Wish::Canary(terms(5_000)));
    bench.gateway.install(bench.now, canary).unwrap();
    bench.pass(TRIAL / 2);
    assert_eq!(noted(&bench), 1, "the canary has no schedules, and takes none away");
    publish(&mut bench, 1, 300);
    bench.pass(TRIAL);
    assert_eq!((alias(&bench).current, noted(&bench)), (Some(version(2)), 0));
}

#[test]
fn a_canary_that_cannot_be_one_is_refused_in_words() {
    let mut bench = Bench::new(keyed(), counting(Fault::None));
    let canary = |number, share| install(number, Ordering::Strict, Wish::Canary(terms(share)));
    let now = bench.now;
    let mut refused = |install| match bench.gateway.install(now, install) {
        Err(VersionError::Refused(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(refused(canary(1, 1_000)).contains("there is no version yet"));
    bench.gateway.install(now, push(1)).unwrap();
    let mut refused = |install| bench.gateway.install(now, install).unwrap_err().to_string();
    assert!(refused(canary(2, 1_000)).contains("is on trial"));
    bench.pass(TRIAL);
    let now = bench.now;
    let mut refused = |install| bench.gateway.install(now, install).unwrap_err().to_string();
    assert!(refused(canary(2, 6_000)).contains("0.01 % to 50 %"));
    assert!(refused(canary(2, 0)).contains("0.01 % to 50 %"));
    let mut other = canary(2, 1_000);
    other.plan.ordering = Ordering::None;
    assert!(refused(other).contains("in the same ordering"));
    let mut without = canary(2, 1_000);
    without.plan.inputs.clear();
    assert!(refused(without).contains("it reads no stream"));
}

/// A canary from its push to its end, good or bad, with the power cut at every operation of the
/// disk: afterwards each reading is handled once, and the name stands for one of the two.
#[test]
fn a_power_cut_at_any_step_of_a_canary_loses_nothing_and_does_nothing_twice() {
    for (fault, ordering) in [(Fault::None, Ordering::Strict), (Fault::Traps, Ordering::PerKey)] {
        let prepared = || {
            let mut bench = Bench::new(keyed(), counting(fault));
            bench.gateway.install(bench.now, install(1, ordering, Wish::Pushed(TRIAL))).unwrap();
            bench.pass(TRIAL);
            publish(&mut bench, 1, 20);
            bench
        };
        let run = |bench: &mut Bench| {
            let terms = CanaryTerms { records: 20, ..terms(5_000) };
            let _ = bench.gateway.install(bench.now, install(2, ordering, Wish::Canary(terms)));
            publish(bench, 20, 180);
            bench.pass(TRIAL);
            publish(bench, 180, 200);
        };
        let mut whole = prepared();
        let before = whole.disk.operations();
        run(&mut whole);
        let ends = version(if fault == Fault::None { 2 } else { 1 });
        assert_eq!(alias(&whole).current, Some(ends), "{fault:?}");
        expect_each_once(&mut whole, "without a cut");
        let operations = whole.disk.operations();
        let mut found_canary = 0;
        for operation in before + 1..=operations {
            let what = format!("{fault:?} operation {operation}");
            let mut bench = prepared();
            bench.disk.crash_at(operation);
            run(&mut bench);
            let after = bench.disk.crash(operation);
            let mut bench = Bench::on(after, keyed(), counting(fault));
            let found = alias(&bench);
            let plan = install(1, ordering, Wish::TakenBack).plan;
            assert!(found.packages().all(|package| package != Digest([3; 32])), "{what}");
            let resume = Resume { plan: plan.clone(), previous: None, trial: TRIAL };
            bench.gateway.resume_version(bench.now, resume).unwrap();
            if found.canary.is_some() {
                found_canary += 1;
                bench.gateway.resume_canary(bench.now, &plan, TRIAL).unwrap();
            }
            bench.pass(SETTLE);
            publish(&mut bench, 300, 340);
            bench.pass(Duration::from_secs(30));
            expect_each_once(&mut bench, &what);
        }
        assert!(found_canary > 5, "{found_canary} of {} cuts", operations - before);
    }
}
