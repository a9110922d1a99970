//! Dead letters: handed to their function again, purged, and a power cut in between.

use super::ordering::ordered;
use super::*;
use crate::{LetterError, Ordering, ResetTo};

/// Gives up what begins with a `p`, until it is mended; echoes the rest.
fn choosy(mended: bool) -> Guest {
    Box::new(move |_, batch, _| {
        let mut out = OutputWriter::new();
        for (index, message) in batch.iter().enumerate() {
            if message.payload[0] == b'p' && !mended {
                let (index, class) = (index as u32, NackClass::Dead);
                out.push(&Operation::Nack { index, class, code: 0, text: "poison" }).unwrap();
            } else {
                emit(&mut out, "alerts/echo", message.payload);
            }
        }
        CallVerdict::Done(out.finish())
    })
}

/// A gateway whose function has given up `p2`, `p3` and `p5`, with the function mended since.
fn given_up(ordering: Ordering) -> Bench {
    let plan = ordered(ordering, 1);
    let mut bench = Bench::new(plan.clone(), choosy(false));
    let conn = bench.connect(1, "s1");
    for (id, payload) in (1..).zip(["r1", "p2", "p3", "r4", "p5"]) {
        bench.publish(conn, id, "sensors/a", payload);
    }
    bench.pass(Duration::from_secs(2));
    assert_eq!(bench.payloads(DEAD_LETTER_STREAM), ["p2", "p3", "p5"]);
    Bench::on(bench.disk.after_kill(), plan, choosy(true))
}

/// As the shell does: again while the disk has to deliver.
fn settle(
    bench: &mut Bench,
    act: impl Fn(&mut Gateway, Now) -> Result<tidegate_stream::Position, LetterError>,
) -> Result<(), LetterError> {
    loop {
        let now = bench.now;
        match act(&mut bench.gateway, now) {
            Err(LetterError::Later) => bench.drain(),
            done => return done.map(drop),
        }
    }
}

fn redrive(bench: &mut Bench, seq: u64) -> Result<(), LetterError> {
    settle(bench, |gateway, now| gateway.redrive(now, "echo", seq))
}

fn purge(bench: &mut Bench, seq: u64) -> Result<(), LetterError> {
    settle(bench, |gateway, now| gateway.purge_letter(now, "echo", seq))
}

fn sorted(mut payloads: Vec<String>) -> Vec<String> {
    payloads.sort_unstable();
    payloads
}

#[test]
fn a_letter_that_is_redriven_is_handled_once_by_its_function_in_each_ordering() {
    for ordering in [Ordering::Strict, Ordering::PerKey, Ordering::None] {
        let mut bench = given_up(ordering);
        redrive(&mut bench, 1).unwrap();
        redrive(&mut bench, 3).unwrap();
        assert!(bench.gateway.is_settled_letter(Seq(1)) && bench.gateway.is_settled_letter(Seq(3)));
        assert!(!bench.gateway.is_settled_letter(Seq(2)), "{ordering:?}");
        bench.pass(SETTLE);
        assert_eq!(bench.payloads("alerts"), ["r1", "r4", "p2", "p5"], "{ordering:?}");
        assert_eq!(redrive(&mut bench, 1), Err(LetterError::Settled(1)));
        let plan = ordered(ordering, 1);
        let mut bench = Bench::on(bench.disk.crash(3), plan, choosy(true));
        bench.pass(Duration::from_secs(2));
        assert_eq!(bench.calls, 0, "{ordering:?}: nothing is left");
        assert_eq!(purge(&mut bench, 3), Err(LetterError::Settled(3)));
    }
}

#[test]
fn a_letter_that_fails_again_is_a_letter_again_and_one_that_is_purged_is_gone() {
    let mut bench = given_up(Ordering::Strict);
    bench.guest = choosy(false);
    redrive(&mut bench, 2).unwrap();
    purge(&mut bench, 3).unwrap();
    bench.pass(SETTLE);
    assert_eq!(bench.payloads(DEAD_LETTER_STREAM), ["p2", "p3", "p5", "p3"]);
    assert_eq!(bench.payloads("alerts"), ["r1", "r4"]);
    let open = |bench: &Bench, seq| !bench.gateway.is_settled_letter(Seq(seq));
    let all: Vec<bool> = (1..=4).map(|seq| open(&bench, seq)).collect();
    assert_eq!(all, [true, false, false, true]);
    let last = bench.stream(DEAD_LETTER_STREAM).pop().unwrap().2.dead.unwrap();
    assert_eq!((last.stream.as_str(), last.seq, last.reason.as_str()), ("telemetry", 3, "poison"));
}

#[test]
fn what_is_no_letter_of_the_function_or_comes_again_anyway_is_refused_in_words() {
    let mut bench = given_up(Ordering::Strict);
    let error = redrive(&mut bench, 9).unwrap_err();
    assert_eq!(error, LetterError::NotKept { seq: 9, first: 1, next: 4 });
    let (now, seq) = (bench.now, 1);
    assert!(matches!(bench.gateway.redrive(now, "none", seq), Err(LetterError::Function(_))));
    let of_another = settle(&mut bench, |gateway, now| gateway.purge_letter(now, "none", seq));
    assert_eq!(of_another, Err(LetterError::OfAnother { seq: 1, of: "echo".to_owned() }));
    bench.gateway.pause_function(bench.now, "echo").unwrap();
    redrive(&mut bench, 1).unwrap();
    bench.gateway.reset_function(bench.now, "echo", None, ResetTo::Seq(3)).unwrap();
    let error = redrive(&mut bench, 2).unwrap_err();
    assert_eq!(error, LetterError::StillToCome { stream: "telemetry".to_owned(), seq: 3 });
    bench.gateway.resume_function(bench.now, "echo").unwrap();
    bench.pass(SETTLE);
    assert_eq!(
        sorted(bench.payloads("alerts")),
        ["p2", "p3", "p5", "r1", "r4", "r4"],
        "the reset brings three to five again, the lane keeps two"
    );
}

#[test]
fn a_lane_that_is_full_takes_the_next_letter_when_the_function_has_handled_some() {
    let plan = ordered(Ordering::Strict, 1);
    let mut bench = Bench::new(plan, choosy(false));
    let conn = bench.connect(1, "s1");
    for id in 1..=1_100 {
        bench.publish(conn, id, "sensors/a", &format!("p{id}"));
        if id % 100 == 0 {
            bench.pass(SETTLE);
        }
    }
    bench.guest = choosy(true);
    bench.gateway.pause_function(bench.now, "echo").unwrap();
    let refused = (1..).find_map(|seq| redrive(&mut bench, seq).err().map(|error| (seq, error)));
    assert_eq!(refused, Some((1_025, LetterError::LaneFull("echo".to_owned()))));
    bench.gateway.resume_function(bench.now, "echo").unwrap();
    bench.pass(SETTLE);
    for seq in 1_025..=1_100 {
        redrive(&mut bench, seq).unwrap();
    }
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("alerts").len(), 1_100);
    let table = bench.gateway.log.table("dead-letters").unwrap();
    assert_eq!(bench.gateway.log.table_entries(table).len(), 1, "all of it is one range");
}

/// Redriven and purged with the power cut at every operation of the disk: each record is open,
/// purged, or handled, and never two of these.
#[test]
fn a_power_cut_at_any_operation_neither_loses_a_letter_nor_handles_it_twice() {
    let run = |bench: &mut Bench| {
        let act = |(at, seq)| {
            let done = if at == 1 { purge(bench, seq) } else { redrive(bench, seq) };
            bench.pass(Duration::from_secs(2));
            done.is_ok()
        };
        (0..3).zip(1..).map(act).filter(|done| *done).count()
    };
    let mut whole = given_up(Ordering::PerKey);
    let before = whole.disk.operations();
    assert_eq!(run(&mut whole), 3);
    let operations = whole.disk.operations();
    assert!(operations > before + 2, "{before} to {operations}");
    let mut found = std::collections::BTreeSet::new();
    for operation in before + 1..=operations {
        let mut bench = given_up(Ordering::PerKey);
        bench.disk.crash_at(operation);
        run(&mut bench);
        let after = bench.disk.crash(operation);
        let mut bench = Bench::on(after, ordered(Ordering::PerKey, 1), choosy(true));
        bench.pass(Duration::from_secs(2));
        let outputs = bench.payloads("alerts");
        for (seq, payload) in [(1, "p2"), (3, "p5")] {
            let times = outputs.iter().filter(|output| *output == payload).count();
            let settled = bench.gateway.is_settled_letter(Seq(seq));
            assert_eq!(times, usize::from(settled), "operation {operation}: {payload}");
            found.insert(settled);
        }
        assert!(!outputs.contains(&"p3".to_owned()), "operation {operation}");
    }
    assert_eq!(found.len(), 2, "cuts before and behind the commit were tried");
}
