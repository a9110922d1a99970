//! Exactly once, in each ordering: a chain of functions under a power cut at every disk operation,
//! and one function whose calls end in any order, with crashes in between.

use proptest::prelude::*;

use super::ordering::{ordered, preloaded};
use super::*;
use crate::gateway::PlantedBug;
use crate::{Ordering, PartitionKey};

type Counts = BTreeMap<Vec<u8>, Vec<u8>>;

/// State of a batch, with the writes of the call on top.
struct Overlay<'s> {
    state: &'s Counts,
    own: Counts,
}

impl Overlay<'_> {
    fn get(&self, key: &str) -> u32 {
        let value = self.own.get(key.as_bytes()).or_else(|| self.state.get(key.as_bytes()));
        value.map_or(0, |value| u32::from_le_bytes(value[..].try_into().unwrap()))
    }

    fn put(&mut self, key: &str, value: u32) {
        self.own.insert(key.as_bytes().to_vec(), value.to_le_bytes().to_vec());
    }
}

/// Publishes each record to the next stream of the chain, and counts it: for its key, and for
/// itself. Notes a record that came behind a later one of its key. The first letter of a payload
/// says what goes wrong with it first.
fn counting() -> Guest {
    Box::new(|function, batch, state| {
        let next = ["mid", "late", "out"][function];
        let mut out = OutputWriter::new();
        let mut counts = Overlay { state, own: Counts::new() };
        for (index, message) in batch.iter().enumerate() {
            let nack = |class| Operation::Nack { index: index as u32, class, code: 0, text: "no" };
            match (message.payload[0], message.attempt) {
                (b't', 0) => return CallVerdict::Failed("it trapped".to_owned()),
                (b'b', 0) => return CallVerdict::RetryBatch,
                (b'n', 0) => {
                    out.push(&nack(NackClass::Retry)).unwrap();
                    continue;
                }
                (b'd', _) => {
                    out.push(&nack(NackClass::Dead)).unwrap();
                    continue;
                }
                _ => {}
            }
            let payload = std::str::from_utf8(message.payload).unwrap();
            let number: u32 = payload[1..].parse().unwrap();
            let key = message.topic.split('/').nth(1).unwrap();
            let (count, last) = (format!("n/{key}"), format!("last/{key}"));
            counts.put(&count, counts.get(&count) + 1);
            counts.put(&format!("r/{payload}"), counts.get(&format!("r/{payload}")) + 1);
            if counts.get(&last) > number {
                counts.put("disorder", number);
            }
            counts.put(&last, number);
            emit(&mut out, &format!("{next}/{key}"), message.payload);
        }
        for (key, value) in &counts.own {
            out.push(&Operation::KvPut { key, value, ttl_ms: 0 }).unwrap();
        }
        CallVerdict::Done(out.finish())
    })
}

/// Three functions, one behind the other.
fn chain(ordering: Ordering, workers: usize) -> Plan {
    let mut plan = ordered(ordering, workers);
    let first = plan.functions.remove(0);
    plan.streams.truncate(1);
    for (from, to) in [("telemetry", "mid"), ("mid", "late"), ("late", "out")] {
        let mut next = stream(to, &[&format!("{to}/#")]);
        next.key = Some(PartitionKey::parse("topic/2").unwrap());
        plan.streams.push(next);
        let mut function = crate::FunctionPlan { name: format!("to-{to}"), ..first.clone() };
        from.clone_into(&mut function.inputs[0].stream);
        function.publish = vec![filter(&format!("{to}/#"))];
        plan.functions.push(function);
    }
    plan
}

/// 40 readings of four keys; some trap, some are wanted again, some are given up.
fn readings() -> Vec<(String, String)> {
    let kind = |n: u32| match n % 13 {
        3 => 't',
        5 => 'n',
        8 => 'b',
        11 => 'd',
        _ => 'r',
    };
    (1..=40).map(|n| (format!("k{}", n % 4), format!("{}{n}", kind(n)))).collect()
}

/// What is wrong with the state of a function and the stream that it fills, after it has handled
/// what `input` has.
fn faults(bench: &mut Bench, function: usize, input: &str, output: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let run = &bench.gateway.functions[function];
    let ordering = run.plan.ordering;
    let state = bench.gateway.log.table_entries(run.table).clone();
    let counts = Overlay { state: &state, own: Counts::new() };
    let given: Vec<(String, String)> =
        bench.stream(input).into_iter().map(|(topic, payload, _)| (topic, payload)).collect();
    let handled = given.iter().filter(|(_, payload)| !payload.starts_with('d'));
    let mut expected: Vec<String> = handled.clone().map(|(_, payload)| payload.clone()).collect();
    let mut put_out = bench.payloads(output);
    for payload in &expected {
        let times = counts.get(&format!("r/{payload}"));
        if times != 1 {
            wrong.push(format!("{payload} is counted {times} times by function {function}"));
        }
    }
    expected.sort_unstable();
    put_out.sort_unstable();
    if expected != put_out {
        wrong.push(format!("{output} has {put_out:?}, not {expected:?}"));
    }
    if ordering == Ordering::None {
        return wrong;
    }
    for key in 0..4 {
        let topic = format!("/k{key}");
        let records = handled.clone().filter(|(of, _)| of.ends_with(&topic)).count() as u32;
        let counted = counts.get(&format!("n/k{key}"));
        if counted != records {
            wrong.push(format!("function {function} counts {counted} of {records} for k{key}"));
        }
    }
    if counts.get("disorder") != 0 {
        wrong.push(format!("{} came behind a later one of its key", counts.get("disorder")));
    }
    wrong
}

fn chain_faults(bench: &mut Bench) -> Vec<String> {
    let mut wrong = Vec::new();
    for (function, (input, output)) in
        [("telemetry", "mid"), ("mid", "late"), ("late", "out")].into_iter().enumerate()
    {
        wrong.extend(faults(bench, function, input, output));
    }
    let mut dead = bench.payloads(DEAD_LETTER_STREAM);
    dead.sort_unstable();
    let mut given_up: Vec<String> =
        readings().into_iter().map(|(_, payload)| payload).filter(|p| p.starts_with('d')).collect();
    given_up.sort_unstable();
    if dead != given_up {
        wrong.push(format!("dead letters {dead:?}, not {given_up:?}"));
    }
    wrong
}

/// Runs the chain over the readings, with the power cut at a disk operation, and goes on after
/// it. Answers what is wrong in the end, and whether the power was cut.
fn run_with_cut(
    plan: &Plan,
    before: &CrashDisk,
    at: u64,
    bug: Option<PlantedBug>,
) -> (Vec<String>, bool) {
    let disk = before.after_kill();
    disk.crash_at(at);
    let now = start();
    let opened = Gateway::open(plan.clone(), &disk, now, 7).is_ok();
    let mut cut = disk.has_crashed();
    let mut after = disk.clone();
    if opened && !cut {
        let disk = before.after_kill();
        disk.crash_at(at);
        let mut bench = Bench::on(disk, plan.clone(), counting());
        bench.gateway.planted = bug;
        bench.pass(Duration::from_secs(3));
        cut = bench.disk.has_crashed();
        after = bench.disk.clone();
    }
    let after = if cut { after.crash(at) } else { after.after_kill() };
    let mut bench = Bench::on(after, plan.clone(), counting());
    bench.gateway.planted = bug;
    bench.pass(Duration::from_secs(5));
    (chain_faults(&mut bench), cut)
}

fn cut_everywhere(ordering: Ordering, workers: usize) {
    let plan = chain(ordering, workers);
    let before = preloaded(&plan, &readings());
    let mut at = 1;
    loop {
        let (wrong, cut) = run_with_cut(&plan, &before, at, None);
        assert!(wrong.is_empty(), "{ordering:?}, cut at {at}:\n{}", wrong.join("\n"));
        if !cut {
            break;
        }
        at += 1;
    }
    assert!(at > 40, "only {at} disk operations: too few to mean anything");
}

#[test]
fn a_chain_of_three_counts_each_record_once_whenever_the_power_is_cut_strict() {
    cut_everywhere(Ordering::Strict, 1);
}

#[test]
fn a_chain_of_three_counts_each_record_once_whenever_the_power_is_cut_per_key() {
    cut_everywhere(Ordering::PerKey, 3);
}

#[test]
fn a_chain_of_three_counts_each_record_once_whenever_the_power_is_cut_without_order() {
    cut_everywhere(Ordering::None, 3);
}

/// Whether the power cuts find a mistake.
fn is_found(bug: PlantedBug, ordering: Ordering) -> bool {
    let plan = chain(ordering, 3);
    let before = preloaded(&plan, &readings());
    (1..400).any(|at| !run_with_cut(&plan, &before, at, Some(bug)).0.is_empty())
}

/// What is wrong after the second of two calls has ended, the power was cut, and all was handled.
fn second_call_alone(bug: Option<PlantedBug>) -> Vec<String> {
    let plan = one_function(Ordering::PerKey, 2);
    let mut bench = Bench::new(plan.clone(), counting());
    bench.gateway.planted = bug;
    bench.calls_take_time = true;
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/k1", "r1");
    bench.publish(conn, 2, "sensors/k2", "r2");
    bench.pass(Duration::from_millis(50));
    bench.end_call(1);
    bench.pass(Duration::from_secs(2));
    let mut bench = Bench::on(bench.disk.crash(5), plan, counting());
    bench.pass(Duration::from_secs(1));
    faults(&mut bench, 0, "telemetry", "mid")
}

#[test]
fn what_is_done_beyond_the_cursor_and_not_noted_is_found() {
    let none: [String; 0] = [];
    assert_eq!(second_call_alone(None), none);
    assert!(!second_call_alone(Some(PlantedBug::BeyondNotNoted)).is_empty());
}

#[test]
fn a_record_of_the_retry_lane_that_is_not_deleted_when_it_is_done_is_found() {
    assert!(is_found(PlantedBug::LaneNotCleared, Ordering::PerKey));
}

/// One function from `telemetry` to `mid`, a record a call.
fn one_function(ordering: Ordering, workers: usize) -> Plan {
    let mut plan = ordered(ordering, workers);
    plan.streams[1] = stream("mid", &["mid/#"]);
    plan.functions[0].publish = vec![filter("mid/#")];
    plan.functions[0].batch_records = 1;
    plan
}

#[derive(Debug, Clone)]
enum Step {
    Publish { key: u8, kind: u8 },
    EndCall(usize),
    Pass(u64),
    PowerCut(u64),
    Pause,
    Resume,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let publish = (0..4_u8, 0..12_u8).prop_map(|(key, kind)| Step::Publish { key, kind });
    let step = prop_oneof![
        12 => publish,
        10 => (0..16_usize).prop_map(Step::EndCall),
        6 => (1..80_u64).prop_map(Step::Pass),
        1 => any::<u64>().prop_map(Step::PowerCut),
        1 => Just(Step::Pause),
        2 => Just(Step::Resume),
    ];
    prop::collection::vec(step, 1..120)
}

/// One function, driven through these steps; what is wrong when it has done everything.
fn drive(plan: &Plan, steps: &[Step]) -> Vec<String> {
    let mut bench = Bench::new(plan.clone(), counting());
    bench.calls_take_time = true;
    let (mut conn, mut published) = (bench.connect(1, "s1"), 0_u16);
    for step in steps {
        match step {
            Step::Publish { key, kind } => {
                published += 1;
                let kind = ['t', 'n', 'b', 'd'].get(usize::from(*kind)).unwrap_or(&'r');
                let payload = format!("{kind}{published}");
                bench.publish(conn, published, &format!("sensors/k{key}"), &payload);
            }
            Step::EndCall(at) if !bench.held_calls.is_empty() => {
                bench.end_call(at % bench.held_calls.len());
            }
            Step::EndCall(_) => {}
            Step::Pass(ms) => bench.pass(Duration::from_millis(*ms)),
            Step::PowerCut(seed) => {
                bench = Bench::on(bench.disk.crash(*seed), plan.clone(), counting());
                bench.calls_take_time = true;
                conn = bench.connect(1, "s1");
            }
            Step::Pause => drop(bench.gateway.pause_function(bench.now, "echo").unwrap()),
            Step::Resume => drop(bench.gateway.resume_function(bench.now, "echo").unwrap()),
        }
    }
    bench.gateway.resume_function(bench.now, "echo").unwrap();
    bench.calls_take_time = false;
    while !bench.held_calls.is_empty() {
        bench.end_call(0);
    }
    bench.pass(Duration::from_secs(5));
    let mut wrong = faults(&mut bench, 0, "telemetry", "mid");
    let lag = bench.gateway.status(bench.now).functions[0].lag;
    if lag != 0 {
        wrong.push(format!("{lag} records still wait"));
    }
    wrong
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn calls_that_end_in_any_order_with_power_cuts_between_handle_each_record_once(
        steps in steps(),
        ordering in prop_oneof![Just(Ordering::Strict), Just(Ordering::PerKey), Just(Ordering::None)],
        workers in 1..5_usize,
        batch_records in 1..6_usize,
        window in prop_oneof![Just(0), Just(30_u64)],
    ) {
        let mut plan = one_function(ordering, workers);
        let function = &mut plan.functions[0];
        function.batch_records = batch_records;
        function.batch_window = Duration::from_millis(window);
        let wrong = drive(&plan, &steps);
        prop_assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
