//! Lanes of an uplink: live first, and batches with boundaries.

use super::*;

/// One stream and one uplink, live first, in batches so that long backlogs are quick.
fn live_first() -> Plan {
    let mut plan = Plan { log: LogOptions::default(), ..plan() };
    plan.functions.clear();
    plan.streams.truncate(1);
    let uplink = &mut plan.uplinks[0];
    uplink.streams.truncate(1);
    uplink.live_first = uplink.streams.clone();
    uplink.options.batch_records = 100;
    plan
}

fn no_guest() -> Guest {
    Box::new(|_, _, _| panic!("nobody calls"))
}

impl Bench {
    fn publish_many(&mut self, conn: ConnId, from: u64, to: u64) {
        for n in from..=to {
            let id = (n % 60_000) as u16 + 1;
            self.publish(conn, id, "sensors/a", &n.to_string());
            if n % 50 == 0 {
                self.pass(Duration::from_millis(5));
            }
        }
        self.pass(SETTLE);
    }

    /// What went up since the last call: lane and payload, in order.
    fn take_sent(&mut self) -> Vec<(String, u64)> {
        let value = |message: &OutboundMessage| {
            let lane = message.topic.rsplit('/').next().unwrap().to_owned();
            (lane, String::from_utf8(message.payload.clone()).unwrap().parse().unwrap())
        };
        std::mem::take(&mut self.sent).iter().map(value).collect()
    }
}

/// Each record in one lane only, each lane in order.
fn check_lanes(sent: &[(String, u64)]) {
    for lane in ["telemetry", "telemetry.late"] {
        let of: Vec<u64> = sent.iter().filter(|(at, _)| at == lane).map(|(_, n)| *n).collect();
        assert!(of.is_sorted(), "{lane}");
    }
}

#[test]
fn after_an_outage_fresh_records_go_at_once_and_late_ones_follow_under_their_own_name() {
    let mut bench = Bench::new(live_first(), no_guest());
    let conn = bench.connect(1, "s1");
    bench.publish_many(conn, 1, 5_000);
    bench.upstream = true;
    bench.takes = 1_200;
    bench.pass(Duration::from_secs(40));
    let mut sent = bench.take_sent();
    assert!(sent.iter().any(|(lane, _)| lane == "telemetry.late"), "nothing was ever sent live");
    bench.publish_many(conn, 5_001, 5_010);
    bench.takes = 200;
    bench.pass(Duration::from_secs(40));
    let fresh = bench.take_sent();
    assert_eq!(fresh[0], ("telemetry".to_owned(), 5_001), "before 3,800 that are late");
    sent.extend(fresh);
    bench.takes = usize::MAX;
    bench.pass(Duration::from_secs(60));
    sent.extend(bench.take_sent());
    check_lanes(&sent);
    let mut all: Vec<u64> = sent.iter().map(|(_, n)| *n).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=5_010).collect::<Vec<_>>());
    let late: Vec<u64> =
        sent.iter().filter(|(lane, _)| lane == "telemetry.late").map(|(_, n)| *n).collect();
    assert_eq!(late, (1..=5_000).collect::<Vec<_>>());
    let status = bench.gateway.status(bench.now);
    assert_eq!(status.uplinks[0].backlog, 0);
    let lags: Vec<u64> = status.streams[0].readers.iter().map(|reader| reader.lag).collect();
    assert_eq!(lags, [0, 0], "the late lane holds nothing back when it is through");
}

#[test]
fn a_record_stays_in_its_lane_through_crashes_at_any_time() {
    let mut partly = 0;
    for takes in [0, 1, 500, 999, 1_000, 1_100, 1_200, 2_000, 3_000, 3_900] {
        let mut bench = Bench::new(live_first(), no_guest());
        let conn = bench.connect(1, "s1");
        bench.publish_many(conn, 1, 4_000);
        bench.upstream = true;
        bench.takes = takes;
        bench.pass(Duration::from_secs(40));
        let mut sent = bench.take_sent();
        for round in 0..3 {
            partly += u32::from(sent.iter().any(|(lane, _)| lane == "telemetry.late"));
            bench = Bench::on(bench.disk.crash(round), live_first(), no_guest());
            let conn = bench.connect(1, "s1");
            bench.publish_many(conn, 4_001 + round * 1_500, 5_500 + round * 1_500);
            bench.upstream = true;
            bench.takes = takes;
            bench.pass(Duration::from_millis(300));
            sent.extend(bench.take_sent());
        }
        bench.takes = usize::MAX;
        bench.pass(Duration::from_secs(60));
        sent.extend(bench.take_sent());
        let mut lanes: BTreeMap<u64, String> = BTreeMap::new();
        for (lane, n) in sent {
            let before = lanes.entry(n).or_insert_with(|| lane.clone());
            assert_eq!(*before, lane, "{n} went up under two names, {takes} taken");
        }
        assert_eq!(lanes.len(), 8_500, "{takes} taken");
    }
    assert!(partly > 5, "{partly}: a crash must find the late lane half-way");
}

#[test]
fn no_session_begins_before_the_late_ranges_of_an_earlier_one_are_durable() {
    let mut bench = Bench::new(live_first(), no_guest());
    let conn = bench.connect(1, "s1");
    bench.publish_many(conn, 1, 4_000);
    bench.disk_stands_still = true;
    bench.upstream = true;
    // Several sessions are given up meanwhile.
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.take_sent(), []);
    bench.let_the_disk_go();
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.take_sent().len(), 4_000);
}

#[test]
fn a_late_lane_that_is_through_first_leaves_the_live_lane_nothing_to_send_again() {
    let mut plan = live_first();
    plan.uplinks[0].late.grant_records = 20;
    let mut bench = Bench::new(plan, no_guest());
    let conn = bench.connect(1, "s1");
    bench.upstream = true;
    bench.silent_lane = Some("telemetry");
    bench.publish_many(conn, 1, 10);
    bench.upstream = false;
    bench.pass(Duration::from_secs(15));
    bench.publish_many(conn, 11, 4_000);
    bench.upstream = true;
    bench.pass(Duration::from_secs(60));
    let late = bench.take_sent();
    assert!(late.len() > 3_900, "{}: all but what the live lane was granted", late.len());
    bench.silent_lane = None;
    bench.pass(Duration::from_secs(60));
    let live: Vec<u64> = bench.take_sent().iter().map(|(_, n)| *n).collect();
    assert_eq!(live, (1..late[0].1).collect::<Vec<_>>());
}

#[test]
fn a_stream_that_is_no_longer_live_first_still_sends_what_is_late() {
    let mut bench = Bench::new(live_first(), no_guest());
    let conn = bench.connect(1, "s1");
    bench.publish_many(conn, 1, 4_000);
    bench.upstream = true;
    bench.takes = 1_500;
    bench.pass(Duration::from_secs(40));
    let mut sent = bench.take_sent();
    assert!((1_001..4_000).contains(&sent.len()), "{}", sent.len());
    let mut plan = live_first();
    plan.uplinks[0].live_first.clear();
    let mut bench = Bench::on(bench.disk.crash(1), plan, no_guest());
    bench.upstream = true;
    bench.pass(Duration::from_secs(60));
    sent.extend(bench.take_sent());
    let all: std::collections::BTreeSet<u64> = sent.iter().map(|(_, n)| *n).collect();
    assert_eq!(all.len(), 4_000);
    assert_eq!(bench.gateway.status(bench.now).uplinks[0].backlog, 0);
}

#[test]
fn what_went_late_is_not_missed_under_the_other_name_once_the_stream_goes_in_order_again() {
    let plan = |live: bool| {
        let mut plan = live_first();
        plan.uplinks[0].setback = Setback::SentAgain;
        if !live {
            plan.uplinks[0].live_first.clear();
        }
        plan
    };
    let mut bench = Bench::new(plan(true), no_guest());
    let conn = bench.connect(1, "s1");
    bench.publish_many(conn, 1, 4_000);
    bench.upstream = true;
    bench.pass(Duration::from_secs(60));
    let sent = bench.take_sent();
    assert_eq!(sent.len(), 4_000);
    assert!(sent.iter().all(|(lane, _)| lane == "telemetry.late"));
    let mut bench = Bench::on(bench.disk.crash(1), plan(false), no_guest());
    bench.upstream = true;
    bench.upstream_holds.clear();
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.take_sent(), []);
    let status = &bench.gateway.status(bench.now).uplinks[0];
    assert_eq!((status.missing, &status.setback), (0, &None));
    assert_eq!(bench.gateway.log().losses().count(), 0);
}

#[test]
fn a_short_backlog_goes_in_order() {
    let mut bench = Bench::new(live_first(), no_guest());
    let conn = bench.connect(1, "s1");
    bench.publish_many(conn, 1, 900);
    bench.upstream = true;
    bench.pass(Duration::from_secs(60));
    let sent = bench.take_sent();
    assert_eq!(sent.len(), 900);
    assert!(sent.iter().all(|(lane, _)| lane == "telemetry"));
    assert!(sent.is_sorted_by_key(|(_, n)| *n));
}

#[test]
fn sealed_batches_are_sent_again_with_the_same_boundaries_after_a_crash() {
    let sealed = || {
        let mut plan = live_first();
        plan.uplinks[0].live_first.clear();
        plan.uplinks[0].options.sealed = true;
        plan.uplinks[0].options.batch_records = 7;
        plan
    };
    let mut ranges: std::collections::BTreeSet<(u64, u64)> = std::collections::BTreeSet::new();
    let mut bench = Bench::new(sealed(), no_guest());
    let mut next = 1;
    for round in 0..12 {
        let conn = bench.connect(1, "s1");
        bench.publish_many(conn, next, next + 24);
        next += 25;
        bench.upstream = true;
        bench.takes = 7 * (round as usize % 4);
        bench.pass(Duration::from_millis(50));
        ranges.extend(std::mem::take(&mut bench.ranges));
        bench = Bench::on(bench.disk.crash(round), sealed(), no_guest());
    }
    bench.upstream = true;
    bench.pass(Duration::from_secs(30));
    ranges.extend(std::mem::take(&mut bench.ranges));
    let list: Vec<(u64, u64)> = ranges.into_iter().collect();
    assert_eq!(list[0].0, 1);
    assert_eq!(list.last().unwrap().1, next - 1);
    for pair in list.windows(2) {
        assert_eq!(pair[0].1 + 1, pair[1].0, "objects overlap or leave a gap: {pair:?}");
    }
}
