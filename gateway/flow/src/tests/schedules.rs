//! Functions that are called by the clock: intervals, time tables, and what was missed.

use std::cell::RefCell;
use std::rc::Rc;

use tidegate_abi::Kind;

use super::ordering::{ordered, preloaded};
use super::*;
use crate::{Cron, Missed, Ordering, Rhythm, SchedulePlan};

/// What was given: name, when it was due, `missed`, attempt.
type Given = Rc<RefCell<Vec<(String, i64, u64, u16)>>>;

/// 2026-05-28T20:26:40Z.
const BEGAN_MS: i64 = 1_780_000_000_000;
/// The first whole minute after that.
const MINUTE_MS: i64 = BEGAN_MS + 20_000;

/// Counts its runs in its state, by name, and publishes when each was due. The first two tries of
/// one called `bad` fail, of `worse` all. A record `set NAME` sets a timer of that name.
fn clockwork() -> (Guest, Given) {
    let given = Given::default();
    let notes = given.clone();
    let guest: Guest = Box::new(move |_, batch, state| {
        let mut out = OutputWriter::new();
        for entry in batch.iter() {
            if batch.header().kind != Kind::Timer {
                let name = std::str::from_utf8(entry.payload).unwrap();
                if let Some(name) = name.strip_prefix("set ") {
                    let (delay_ms, period_ms) = (1, 0);
                    out.push(&Operation::TimerSet { name, delay_ms, period_ms }).unwrap();
                }
                continue;
            }
            let missed = tidegate_abi::properties(entry.props).unwrap().next();
            let missed = missed.map_or(0, |(_, value)| value.parse().unwrap());
            let due_ms = entry.ts_ns / 1_000_000;
            notes.borrow_mut().push((entry.topic.into(), due_ms, missed, entry.attempt));
            if entry.topic == "worse" || (entry.topic == "bad" && entry.attempt < 2) {
                return CallVerdict::Failed("it trapped".to_owned());
            }
            let key = entry.topic.as_bytes();
            let count = state.get(key).map_or(0, |value| value[0]).wrapping_add(1);
            out.push(&Operation::KvPut { key, value: &[count], ttl_ms: 0 }).unwrap();
            emit(&mut out, "alerts/run", format!("{} {due_ms}", entry.topic).as_bytes());
        }
        CallVerdict::Done(out.finish())
    });
    (guest, given)
}

fn schedule(name: &str, rhythm: &str, missed: Missed) -> SchedulePlan {
    let rhythm = match rhythm.parse() {
        Ok(ms) => Rhythm::Every(Duration::from_millis(ms)),
        Err(_) => Rhythm::Cron(Cron::parse(rhythm).unwrap()),
    };
    SchedulePlan { name: name.to_owned(), rhythm, missed }
}

/// A plan with these schedules: name, milliseconds or a time table, what becomes of missed runs.
fn scheduled(schedules: &[(&str, &str, Missed)]) -> Plan {
    let mut plan = ordered(Ordering::Strict, 1);
    let all = schedules.iter().map(|(name, rhythm, missed)| schedule(name, rhythm, *missed));
    plan.functions[0].schedules = all.collect();
    plan
}

/// The same on a gateway that has just been started.
fn started(plan: &Plan) -> (Bench, Given) {
    let (guest, given) = clockwork();
    (Bench::new(plan.clone(), guest), given)
}

/// The next life of the gateway, which was off for so long.
fn restarted(bench: &mut Bench, plan: &Plan, off_ms: i64) -> (Bench, Given) {
    settle(bench);
    let at = bench.now.unix_ms;
    let (guest, given) = clockwork();
    let mut next = Bench::on(bench.disk.crash(3), plan.clone(), guest);
    next.now.unix_ms = at + off_ms;
    (next, given)
}

/// What a call alone commits is in no hurry: it is on the disk with the next record.
fn settle(bench: &mut Bench) {
    let conn = bench.connect(2, "s2");
    bench.publish(conn, 1, "sensors/a", "nothing");
    bench.pass(Duration::from_millis(100));
}

/// When the runs of this name were due, and what they said of missed ones.
fn runs(given: &Given, name: &str) -> Vec<(i64, u64)> {
    let given = given.borrow();
    given.iter().filter(|one| one.0 == name).map(|one| (one.1, one.2)).collect()
}

fn status(bench: &Bench) -> (u64, u64) {
    let status = &bench.gateway.status(bench.now).functions[0];
    (status.timers_given, status.timers_passed)
}

const ALL: [Missed; 3] = [Missed::Skip, Missed::Once, Missed::All];

#[test]
fn an_interval_comes_each_period_and_a_time_table_at_its_times() {
    let plan = scheduled(&[("beat", "500", Missed::Skip), ("minute", "* * * * *", Missed::Skip)]);
    let (mut bench, given) = started(&plan);
    bench.pass(Duration::from_millis(141_000));
    bench.pass(Duration::from_millis(10));
    let minutes = [0, 1, 2].map(|n| (MINUTE_MS + n * 60_000, 0));
    assert_eq!(runs(&given, "minute"), minutes);
    let beats = runs(&given, "beat");
    assert_eq!(beats.len(), 282, "the first a period after the start");
    for (n, (due, missed)) in beats.iter().enumerate() {
        let at = BEGAN_MS + (n as i64 + 1) * 500;
        assert!((0..=1).contains(&(due - at)) && *missed == 0, "{n}: {due}");
    }
    assert_eq!(status(&bench), (285, 0));
    assert_eq!(bench.payloads("alerts").len(), 285);
}

#[test]
fn the_status_says_when_a_schedule_is_due_when_it_ran_and_what_it_missed() {
    let plan = scheduled(&[("beat", "10000", Missed::Skip), ("minute", "* * * * *", Missed::Once)]);
    let (mut bench, _) = started(&plan);
    bench.now.clock = ClockQuality::Unsynced;
    bench.pass(Duration::from_secs(12));
    let seen = |bench: &Bench, at: usize| {
        let one = bench.gateway.status(bench.now).functions[0].schedules[at].clone();
        (one.next_in_ms, one.last_due_ms, one.runs, one.missed)
    };
    assert_eq!(seen(&bench, 0), (Some(8_000), Some(BEGAN_MS + 10_000), 1, 0));
    assert_eq!(seen(&bench, 1), (None, None, 0, 0), "no clock, no time table");
    bench.now.clock = ClockQuality::Synced;
    bench.pass(Duration::from_secs(9));
    assert_eq!(seen(&bench, 1), (Some(59_000), Some(MINUTE_MS), 1, 0));
    let (mut bench, _) = restarted(&mut bench, &plan, 35_000);
    bench.pass(Duration::from_millis(100));
    let (next, _, runs, missed) = seen(&bench, 0);
    assert!(next.is_some_and(|ms| ms < 10_000), "{next:?}");
    assert_eq!((runs, missed), (0, 3), "left out while the gateway was off");
    let status = bench.gateway.status(bench.now).functions[0].schedules.clone();
    let rhythms = [status[0].every_ms.is_some(), status[1].every_ms.is_some()];
    assert_eq!((rhythms, status[1].cron.as_deref()), ([true, false], Some("* * * * *")));
    bench.calls_take_time = true;
    bench.pass(Duration::from_secs(10));
    let status = &bench.gateway.status(bench.now).functions[0].schedules[0];
    assert!(status.running && status.next_in_ms.is_none());
}

#[test]
fn an_interval_is_exact_from_the_start_of_the_gateway_on_and_over_a_restart() {
    let plan = scheduled(&[("beat", "10000", Missed::Once)]);
    let (mut bench, given) = started(&plan);
    bench.pass(Duration::from_secs(10));
    assert_eq!(runs(&given, "beat"), [(BEGAN_MS + 10_000, 0)]);
    let (mut bench, given) = restarted(&mut bench, &plan, 0);
    let left = BEGAN_MS + 20_000 - bench.now.unix_ms;
    bench.pass(Duration::from_millis(left as u64));
    assert_eq!(runs(&given, "beat"), [(BEGAN_MS + 20_000, 0)]);
}

#[test]
fn a_function_without_an_input_is_called_by_the_clock_alone() {
    let mut plan = scheduled(&[("beat", "1000", Missed::Once)]);
    plan.functions[0].inputs.clear();
    let (mut bench, given) = started(&plan);
    bench.pass(Duration::from_millis(3_500));
    assert_eq!(runs(&given, "beat").len(), 3);
    bench.gateway.drain_function(bench.now, "echo").unwrap();
    bench.pass(Duration::from_secs(2));
    let status = bench.gateway.status(bench.now).functions.remove(0);
    assert_eq!((status.state.as_str(), status.lag), ("paused", 0));
    bench.gateway.resume_function(bench.now, "echo").unwrap();
    bench.pass(Duration::from_millis(100));
    assert_eq!(runs(&given, "beat")[3].1, 1, "the newest of two");
}

#[test]
fn what_was_due_while_the_gateway_was_off_is_left_out_or_comes_once_or_each_by_itself() {
    for rhythm in ["60000", "* * * * *"] {
        for missed in ALL {
            let plan = scheduled(&[("m", rhythm, missed)]);
            let (mut bench, given) = started(&plan);
            bench.pass(Duration::from_secs(70));
            let first = runs(&given, "m");
            let done = match rhythm {
                "60000" => BEGAN_MS + 60_000,
                _ => MINUTE_MS,
            };
            assert!((0..=1).contains(&(first[0].0 - done)), "{rhythm}: {first:?}");
            // Off from 20:27:50 to 20:31:10, and looked at for two minutes.
            let (mut bench, given) = restarted(&mut bench, &plan, 200_000);
            bench.pass(Duration::from_secs(118));
            let late = (bench.now.unix_ms - 118_000 - done) / 60_000;
            let wanted: Vec<(i64, u64)> = match missed {
                Missed::Skip => vec![(late + 1, late as u64), (late + 2, 0)],
                Missed::Once => vec![(late, late as u64 - 1), (late + 1, 0), (late + 2, 0)],
                Missed::All => (1..=late + 2).map(|n| (n, 0)).collect(),
            };
            let found = runs(&given, "m");
            let near = |at: i64| (at - done + 30_000) / 60_000;
            let found: Vec<(i64, u64)> = found.into_iter().map(|(at, n)| (near(at), n)).collect();
            assert_eq!(found, wanted[..found.len()], "{rhythm} {missed:?}");
            assert!(found.len() + 1 >= wanted.len(), "{rhythm} {missed:?}: {found:?}");
        }
    }
}

#[test]
fn of_a_long_absence_a_thousand_runs_are_made_up_for_and_the_others_counted() {
    for rhythm in ["1000", "* * * * *"] {
        let plan = scheduled(&[("m", rhythm, Missed::All)]);
        let (mut bench, _) = started(&plan);
        bench.pass(Duration::from_millis(20_500));
        let (mut bench, given) = restarted(&mut bench, &plan, 2 * 86_400_000);
        bench.pass(Duration::from_millis(500));
        let found = runs(&given, "m");
        let period = if rhythm == "1000" { 1_000 } else { 60_000 };
        let due = 2 * 86_400_000 / period;
        assert!((1_000..=1_001).contains(&found.len()), "{rhythm}: one may be due by now");
        assert!((due - 1_001..=due - 999).contains(&(found[0].1 as i64)), "{:?}", found[0]);
        assert!(found[1..].iter().all(|one| one.1 == 0));
        assert!(found.windows(2).all(|two| (-1..=1).contains(&(two[1].0 - two[0].0 - period))));
        let newest = found.last().unwrap().0;
        assert!((0..=period).contains(&(bench.now.unix_ms - newest)), "{rhythm}");
    }
}

#[test]
fn before_the_clock_is_set_an_interval_runs_and_a_time_table_waits() {
    let plan = scheduled(&[("beat", "1000", Missed::All), ("minute", "* * * * *", Missed::All)]);
    let (guest, given) = clockwork();
    let mut bench = Bench::new(plan.clone(), guest);
    bench.now.clock = ClockQuality::Unsynced;
    bench.now.unix_ms = 1_000_000;
    bench.pass(Duration::from_millis(150_500));
    assert_eq!((runs(&given, "beat").len(), runs(&given, "minute").len()), (150, 0));
    bench.now.clock = ClockQuality::Synced;
    bench.now.unix_ms = BEGAN_MS;
    bench.pass(Duration::from_secs(25));
    let beats = runs(&given, "beat");
    assert_eq!((beats.len(), runs(&given, "minute")), (175, vec![(MINUTE_MS, 0)]));
    assert!(beats.iter().all(|one| one.1 == 0), "nothing was missed by setting the clock");
}

#[test]
fn after_a_restart_without_a_clock_an_interval_begins_anew_and_learns_later_what_was_missed() {
    let plan = scheduled(&[("beat", "10000", Missed::Once), ("minute", "* * * * *", Missed::Once)]);
    let (mut bench, _) = started(&plan);
    bench.pass(Duration::from_secs(35));
    let (mut bench, given) = restarted(&mut bench, &plan, 0);
    let at = bench.now.unix_ms;
    bench.now.clock = ClockQuality::Unsynced;
    bench.now.unix_ms = 0;
    bench.pass(Duration::from_secs(4));
    assert!(given.borrow().is_empty());
    bench.now.clock = ClockQuality::Synced;
    bench.now.unix_ms = at + 300_000;
    bench.pass(Duration::from_secs(2));
    let (beats, minutes) = (runs(&given, "beat"), runs(&given, "minute"));
    assert_eq!((beats.len(), minutes), (1, vec![(MINUTE_MS + 300_000, 4)]));
    assert!((28..=30).contains(&beats[0].1), "{beats:?}");
    // Where the clock comes after the first run, only that grid counts.
    let (mut bench, given) = restarted(&mut bench, &plan, 0);
    bench.now.clock = ClockQuality::Unsynced;
    bench.pass(Duration::from_secs(12));
    bench.now.clock = ClockQuality::Synced;
    bench.pass(Duration::from_secs(10));
    assert_eq!(runs(&given, "beat").iter().map(|one| one.1).collect::<Vec<_>>(), [0, 0]);
}

#[test]
fn a_clock_that_is_set_moves_no_interval_and_gives_no_time_twice() {
    let plan = scheduled(&[("beat", "10000", Missed::All), ("minute", "* * * * *", Missed::Once)]);
    let (mut bench, given) = started(&plan);
    bench.pass(Duration::from_secs(25));
    // Forward by an hour: what lies between was missed.
    bench.now.unix_ms += 3_600_000;
    bench.pass(Duration::from_secs(2));
    let after = MINUTE_MS + 3_600_000;
    assert_eq!(runs(&given, "minute"), [(MINUTE_MS, 0), (after, 59)]);
    // Back by ten minutes: those were given.
    bench.now.unix_ms -= 600_000;
    bench.pass(Duration::from_secs(590));
    assert_eq!(runs(&given, "minute").len(), 2);
    bench.pass(Duration::from_secs(70));
    assert_eq!(runs(&given, "minute")[2..], [(after + 60_000, 0)]);
    // Back by a year: that one was wrong.
    bench.now.unix_ms -= 365 * 86_400_000;
    bench.pass(Duration::from_secs(130));
    assert_eq!(runs(&given, "minute").len(), 5);
    assert!(runs(&given, "beat").iter().all(|one| one.1 == 0));
    assert_eq!(runs(&given, "beat").len(), 81);
}

#[test]
fn what_was_due_while_the_function_was_paused_is_treated_as_if_the_gateway_had_been_off() {
    for (missed, wanted) in ALL.into_iter().zip([(0, 0), (1, 4), (5, 0)]) {
        let plan = scheduled(&[("beat", "1000", missed)]);
        let (mut bench, given) = started(&plan);
        bench.gateway.pause_function(bench.now, "echo").unwrap();
        bench.pass(Duration::from_millis(5_500));
        assert!(given.borrow().is_empty());
        bench.gateway.resume_function(bench.now, "echo").unwrap();
        bench.pass(Duration::from_millis(100));
        let found = runs(&given, "beat");
        assert_eq!((found.len(), found.first().map_or(0, |one| one.1)), wanted, "{missed:?}");
        bench.pass(Duration::from_millis(500));
        let next = runs(&given, "beat")[found.len()];
        assert_eq!(next.1, if missed == Missed::Skip { 5 } else { 0 }, "{missed:?}");
    }
}

#[test]
fn runs_that_come_due_while_the_function_is_busy_come_together_or_each_by_itself() {
    for (missed, wanted) in ALL.into_iter().zip([(2, 2), (2, 2), (4, 0)]) {
        let plan = scheduled(&[("beat", "1000", missed)]);
        let (mut bench, given) = started(&plan);
        bench.calls_take_time = true;
        bench.pass(Duration::from_millis(4_500));
        assert_eq!(bench.held_calls.len(), 1);
        bench.calls_take_time = false;
        bench.end_call(0);
        bench.pass(Duration::from_millis(100));
        let found = runs(&given, "beat");
        assert_eq!((found.len(), found[1].1), wanted, "{missed:?}");
    }
}

#[test]
fn a_run_that_fails_is_tried_again_as_it_was_and_passed_in_the_end() {
    let plan = scheduled(&[("bad", "60000", Missed::Once), ("worse", "60000", Missed::Once)]);
    let (mut bench, given) = started(&plan);
    bench.pass(Duration::from_secs(70));
    for name in ["bad", "worse"] {
        let tries: Vec<_> = given.borrow().iter().filter(|one| one.0 == name).cloned().collect();
        assert_eq!(tries.iter().map(|one| one.3).collect::<Vec<_>>(), [0, 1, 2], "{name}");
        assert!(tries.iter().all(|one| one.1 == tries[0].1), "{name}: the same frame");
    }
    assert_eq!((status(&bench), bench.payloads("alerts").len()), ((2, 1), 1));
    bench.pass(Duration::from_secs(60));
    assert_eq!(status(&bench), (4, 2), "a period later they are due again");
}

#[test]
fn a_function_cannot_set_a_timer_that_has_the_name_of_a_schedule() {
    let plan = scheduled(&[("beat", "60000", Missed::Once)]);
    let (mut bench, given) = started(&plan);
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "set beat");
    bench.pass(Duration::from_secs(2));
    let dead = bench.stream(DEAD_LETTER_STREAM);
    let reason = &dead[0].2.dead.as_ref().unwrap().reason;
    assert!(reason.contains("timer \"beat\" has the name of a schedule"), "{reason}");
    assert!(given.borrow().is_empty());
}

#[test]
fn a_timer_and_a_schedule_are_numbered_together() {
    let mut plan = scheduled(&[("beat", "1000", Missed::Once)]);
    plan.functions[0].batch_records = 1;
    let (seqs, notes) = (Rc::new(RefCell::new(Vec::new())), Rc::new(RefCell::new(0)));
    let (seen, sets) = (seqs.clone(), notes);
    let guest: Guest = Box::new(move |_, batch, _| {
        let mut out = OutputWriter::new();
        if batch.header().kind == Kind::Timer {
            seen.borrow_mut().extend(batch.iter().map(|entry| entry.seq));
        } else if sets.replace(1) == 0 {
            let (name, delay_ms, period_ms) = ("own", 700, 0);
            out.push(&Operation::TimerSet { name, delay_ms, period_ms }).unwrap();
        }
        CallVerdict::Done(out.finish())
    });
    let mut bench = Bench::new(plan.clone(), guest);
    settle(&mut bench);
    bench.pass(Duration::from_secs(3));
    let seqs = seqs.borrow();
    assert!(seqs.len() == 4 && seqs.windows(2).all(|two| two[0] < two[1]), "{seqs:?}");
}

#[test]
fn a_schedule_whose_rhythm_changes_or_that_was_gone_begins_anew() {
    let minutely = scheduled(&[("m", "* * * * *", Missed::All)]);
    let (mut bench, _) = started(&minutely);
    bench.pass(Duration::from_secs(70));
    let often = scheduled(&[("m", "*/2 * * * *", Missed::All)]);
    let (mut bench, given) = restarted(&mut bench, &often, 600_000);
    bench.pass(Duration::from_secs(1));
    assert!(given.borrow().is_empty(), "it was not due under that one");
    let (mut bench, given) = restarted(&mut bench, &often, 600_000);
    bench.pass(Duration::from_secs(1));
    assert_eq!(runs(&given, "m").len(), 5, "it had begun, though it was never given");
    // Without it for a while, it is forgotten; and so it is with its function.
    for without in [scheduled(&[]), Plan { functions: Vec::new(), ..often.clone() }] {
        let (mut between, _) = restarted(&mut bench, &without, 0);
        between.pass(Duration::from_secs(2));
        (bench, _) = restarted(&mut between, &often, 600_000);
        let (guest, given) = clockwork();
        bench.guest = guest;
        bench.pass(Duration::from_secs(1));
        assert!(given.borrow().is_empty());
    }
}

/// Runs with the power cut at a disk operation: each run that counted has published once, and
/// none is left out.
fn run_with_cut(plan: &Plan, before: &CrashDisk, at: u64) -> bool {
    let now = start();
    let disk = before.after_kill();
    disk.crash_at(at);
    let mut after = disk.clone();
    if Gateway::open(plan.clone(), &disk, now, 7).is_ok() && !disk.has_crashed() {
        let disk = before.after_kill();
        disk.crash_at(at);
        let mut bench = Bench::on(disk, plan.clone(), clockwork().0);
        bench.pass(Duration::from_millis(2_500));
        after = bench.disk.clone();
    }
    let cut = after.has_crashed();
    let after = if cut { after.crash(at) } else { after.after_kill() };
    let mut bench = Bench::on(after, plan.clone(), clockwork().0);
    bench.now.unix_ms += 63_000;
    bench.pass(Duration::from_secs(2));
    let table = bench.gateway.functions[0].table;
    let state = bench.gateway.log.table_entries(table).clone();
    let published = bench.payloads("alerts");
    for name in ["beat", "minute", "old"] {
        let counted = state.get(name.as_bytes()).map_or(0, |value| usize::from(value[0]));
        let of = published.iter().filter_map(|one| one.strip_prefix(name));
        let times: Vec<i64> = of.map(|at| at.trim().parse().unwrap()).collect();
        assert_eq!(counted, times.len(), "{name}, cut at {at}: {published:?}");
        // A cut before it had begun is no start.
        let least = match name {
            "beat" => 3,
            "old" => 2,
            _ => 0,
        };
        assert!(times.len() >= least, "{name}, cut at {at}: {times:?}");
        let apart = if name == "beat" { 299..=301 } else { 60_000..=60_000 };
        let gap = |two: &[i64]| apart.contains(&(two[1] - two[0]));
        assert!(times.windows(2).all(gap), "{name}, cut at {at}: {times:?}");
    }
    cut
}

#[test]
fn no_run_is_lost_or_counts_twice_whenever_the_power_is_cut() {
    let plan = scheduled(&[
        ("beat", "300", Missed::All),
        ("minute", "* * * * *", Missed::All),
        ("old", "* * * * *", Missed::All),
    ]);
    // Begun a minute ago, but for the others.
    let mut earlier = plan.clone();
    earlier.functions[0].schedules.retain(|one| one.name == "old");
    let before = preloaded(&plan, &[("k".to_owned(), "nothing".to_owned())]);
    let mut bench = Bench::on(before, earlier, clockwork().0);
    bench.now.unix_ms -= 60_000;
    bench.pass(Duration::from_secs(1));
    settle(&mut bench);
    let before = bench.disk.after_kill();
    let cuts = (1..).take_while(|at| run_with_cut(&plan, &before, *at)).count();
    assert!(cuts > 20, "only {cuts} disk operations: too few to mean anything");
}

#[test]
fn a_schedule_that_is_due_before_the_function_has_started_wakes_nobody_for_nothing() {
    let mut plan = scheduled(&[("tick", "50", Missed::All)]);
    plan.functions[0].events = vec![crate::EventKind::Start];
    let (mut bench, given) = started(&plan);
    bench.calls_take_time = true;
    bench.pass(Duration::from_millis(300));
    assert_eq!((bench.held_calls.len(), given.borrow().len()), (1, 0), "it starts");
    bench.gateway.handle_timeout(bench.now);
    bench.drain();
    assert!(bench.gateway.poll_timeout() > bench.now.instant, "a busy core");
    bench.calls_take_time = false;
    bench.end_call(0);
    bench.pass(Duration::from_millis(20));
    let runs = given.borrow().iter().map(|(_, due_ms, ..)| due_ms - BEGAN_MS).collect::<Vec<_>>();
    assert_eq!(runs[..6], [50, 100, 150, 200, 250, 300]);
}
