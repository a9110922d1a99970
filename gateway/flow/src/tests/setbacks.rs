//! A server that holds less than it acknowledged.

use tidegate_stream::LossReason;
use tidegate_uplink::{Held, LaneId};

use super::*;

fn with(setback: Setback, retain: Duration) -> Plan {
    let mut plan = plan();
    plan.functions.clear();
    plan.streams[0].retain = retain;
    plan.uplinks[0].setback = setback;
    plan.uplinks[0].streams.truncate(1);
    plan
}

/// A gateway whose server acknowledged ten records and is away since.
fn ten_acknowledged(plan: Plan) -> (Bench, ConnId) {
    let mut bench = Bench::new(plan, echo());
    bench.upstream = true;
    let conn = bench.connect(1, "s1");
    for id in 1..=10 {
        bench.publish(conn, id, "sensors/a", &format!("reading {id}"));
    }
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.sent.len(), 10);
    bench.sent.clear();
    bench.lose_the_link();
    (bench, conn)
}

impl Bench {
    /// What it holds when it is asked the next time.
    fn holds(&mut self, seq: Option<u64>) {
        let epoch = self.gateway.log().epoch();
        let held = |seq| Held::through(LaneId(0), epoch, Seq(seq));
        self.upstream_holds = seq.map(held).into_iter().collect();
    }

    fn lose_the_link(&mut self) {
        self.upstream = false;
        let session = self.sessions;
        let why = "cut".to_owned();
        self.gateway.handle_uplink(self.now, 0, UplinkEvent::Disconnected { session, why });
        self.pass(Duration::from_millis(50));
    }

    /// The link is there until everything is through.
    fn come_back(&mut self) {
        self.upstream = true;
        self.pass(Duration::from_secs(60));
    }

    fn sent_readings(&self) -> Vec<String> {
        let text = |sent: &OutboundMessage| String::from_utf8(sent.payload.clone()).unwrap();
        self.sent.iter().map(text).collect()
    }

    fn lost(&self) -> Vec<(u64, u64, LossReason)> {
        let losses = self.gateway.log().losses();
        losses.map(|loss| (loss.first.0, loss.last.0, loss.reason)).collect()
    }
}

fn readings(numbers: impl Iterator<Item = u64>) -> Vec<String> {
    numbers.map(|n| format!("reading {n}")).collect()
}

#[test]
fn what_a_restored_server_lacks_is_sent_again_as_far_as_it_is_kept() {
    let (mut bench, conn) = ten_acknowledged(with(Setback::SentAgain, Duration::from_secs(3600)));
    bench.holds(Some(6));
    bench.publish(conn, 11, "sensors/a", "reading 11");
    bench.come_back();
    assert_eq!(bench.sent_readings(), readings(7..=11));
    let status = &bench.gateway.status(bench.now).uplinks[0];
    assert_eq!((status.missing, status.backlog), (4, 0));
    let told = status.setback.clone().unwrap_or_default();
    assert!(told.contains("behind record 6") && told.contains("sent again"), "{told}");
    assert_eq!(bench.lost(), []);

    // It is as it should be again.
    bench.holds(Some(11));
    bench.lose_the_link();
    bench.come_back();
    assert_eq!((bench.sent.len(), bench.gateway.status(bench.now).uplinks[0].missing), (5, 4));
}

#[test]
fn what_is_not_kept_any_more_is_entered_in_the_ledger_once() {
    let (mut bench, conn) = ten_acknowledged(with(Setback::SentAgain, Duration::ZERO));
    let id = bench.gateway.routes.id("telemetry").unwrap();
    bench.pass(Duration::from_secs(120));
    let kept_from = bench.gateway.log().first_seq(id);
    assert_eq!(kept_from, Seq(11));
    bench.holds(Some(6));
    bench.publish(conn, 11, "sensors/a", "reading 11");
    for _ in 0..3 {
        bench.upstream = true;
        bench.pass(Duration::from_millis(300));
        bench.lose_the_link();
    }
    bench.come_back();
    assert_eq!(bench.lost(), [(7, 10, LossReason::LostUpstream)]);
    assert_eq!(bench.gateway.status(bench.now).uplinks[0].missing, 4);
}

#[test]
fn an_empty_server_gets_everything_that_is_kept() {
    let (mut bench, _) = ten_acknowledged(with(Setback::SentAgain, Duration::from_secs(3600)));
    bench.holds(None);
    bench.come_back();
    assert_eq!(bench.sent_readings(), readings(1..=10));
}

#[test]
fn a_setback_is_seen_after_a_restart_of_the_gateway_too() {
    let plan = || with(Setback::SentAgain, Duration::from_secs(3600));
    let (mut bench, _) = ten_acknowledged(plan());
    bench.pass(Duration::from_secs(5));
    let mut bench = Bench::on(bench.disk.after_kill(), plan(), echo());
    bench.holds(Some(4));
    bench.come_back();
    assert_eq!(bench.sent_readings(), readings(5..=10));
}

#[test]
fn records_that_the_server_refused_are_no_setback() {
    let (mut bench, _) = ten_acknowledged(with(Setback::SentAgain, Duration::from_secs(3600)));
    let id = bench.gateway.routes.id("telemetry").unwrap();
    let loss = tidegate_stream::Loss {
        stream: id,
        first: Seq(10),
        last: Seq(10),
        records: 1,
        bytes: 0,
        reason: LossReason::Refused,
        unix_ms: 0,
    };
    let now = bench.now.instant;
    bench.gateway.log_mut().record_loss(now, loss);
    bench.holds(Some(9));
    bench.come_back();
    assert_eq!(bench.sent_readings(), readings(0..0));
    assert_eq!(bench.gateway.status(bench.now).uplinks[0].setback, None);
}

#[test]
fn an_uplink_that_is_new_to_a_stream_answers_for_nothing_before_it() {
    let mut first = with(Setback::SentAgain, Duration::ZERO);
    first.uplinks[0].name = "former".to_owned();
    let (mut bench, _) = ten_acknowledged(first);
    bench.pass(Duration::from_secs(120));
    let disk = bench.disk.after_kill();
    let mut bench = Bench::on(disk, with(Setback::SentAgain, Duration::ZERO), echo());
    bench.holds(None);
    bench.come_back();
    assert_eq!((bench.lost().len(), bench.gateway.status(bench.now).uplinks[0].missing), (0, 0));
}

#[test]
fn where_messages_may_have_been_deleted_nothing_is_sent_again_and_the_operator_is_told() {
    let (mut bench, conn) = ten_acknowledged(with(Setback::Told, Duration::from_secs(3600)));
    bench.holds(Some(6));
    bench.publish(conn, 11, "sensors/a", "reading 11");
    bench.come_back();
    assert_eq!(bench.sent_readings(), readings(11..=11));
    bench.lose_the_link();
    bench.come_back();
    let status = &bench.gateway.status(bench.now).uplinks[0];
    let told = status.setback.clone().unwrap_or_default();
    assert!(told.contains("behind record 6") && told.contains("export telemetry"), "{told}");

    // All messages have expired there.
    bench.holds(None);
    bench.lose_the_link();
    bench.come_back();
    assert_eq!(bench.lost(), []);
}

#[test]
fn a_server_that_is_ahead_of_the_log_gets_nothing() {
    let (mut bench, _) = ten_acknowledged(with(Setback::SentAgain, Duration::from_secs(3600)));
    bench.holds(Some(11));
    bench.come_back();
    let why = bench.gateway.status(bench.now).uplinks[0].last_error.clone().unwrap_or_default();
    assert!(why.contains("old copy") && why.contains("record 11"), "{why}");
    assert_eq!(bench.sent.len(), 0);
}
