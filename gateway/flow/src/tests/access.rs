//! Rules that change while messages are on their way to kept sessions.

use tidegate_broker::access::{Access, Effect, Pattern, Policy, Principal, Rule};

use super::sessions::{connect_kept, payloads_of, sessions_plan};
use super::*;

/// Everything may be published; these may be read.
fn may_read(topics: &[&str]) -> Access {
    let rule = |publish, topics: &[&str]| Rule {
        effect: Effect::Allow,
        publish,
        subscribe: !publish,
        topics: topics.iter().map(|topic| Pattern::parse(topic).unwrap()).collect(),
        users: vec![],
        listeners: vec![],
    };
    Policy::from(vec![rule(true, &["#"]), rule(false, topics)]).access(&Principal::default())
}

fn secured_plan() -> Plan {
    Plan { requires_login: true, ..sessions_plan() }
}

fn texts(bench: &Bench, conn: ConnId) -> Vec<String> {
    payloads_of(bench, conn).into_iter().map(|(_, _, text)| text).collect()
}

fn denied(bench: &Bench) -> u64 {
    bench.gateway.status(bench.now).broker.denied_deliveries
}

/// Nothing of the spool is kept for anybody.
fn assert_spool_is_done(bench: &mut Bench) {
    bench.pass(Duration::from_secs(3));
    let gateway = &bench.gateway;
    let spool = gateway.sessions.spool;
    assert_eq!(gateway.log.cursor(gateway.sessions.reader), gateway.log.next_seq(spool));
}

#[test]
fn a_client_that_comes_back_gets_nothing_that_it_may_not_read_any_more() {
    for with_restart in [false, true] {
        let mut bench = Bench::new(secured_plan(), echo());
        bench.access = Some(may_read(&["other/#"]));
        let subscriber = connect_kept(&mut bench, 1, "s");
        bench.subscribe(subscriber, "other/#");
        bench.pass(Duration::from_millis(50));
        bench.gateway.handle_closed(bench.now, subscriber, "gone");
        let publisher = bench.connect(2, "p");
        for (id, topic) in [(1, "other/a"), (2, "other/b"), (3, "other/a"), (4, "other/b")] {
            bench.publish(publisher, id, topic, &id.to_string());
        }
        bench.pass(Duration::from_secs(2));
        if with_restart {
            let (disk, now) = (bench.disk.after_kill(), bench.now);
            bench = Bench::on(disk, secured_plan(), echo());
            bench.now = Now { instant: bench.now.instant, ..now };
        }
        bench.access = Some(may_read(&["other/b"]));
        let subscriber = connect_kept(&mut bench, 3, "s");
        bench.pass(Duration::from_millis(50));
        assert_eq!(texts(&bench, subscriber), ["2", "4"]);
        assert_eq!(denied(&bench), 2);
        for (id, _, _) in payloads_of(&bench, subscriber) {
            bench.bytes(subscriber, 0x40, &id.to_be_bytes());
        }
        assert_spool_is_done(&mut bench);
        // They do not come either when the rules are as they were.
        bench.gateway.handle_closed(bench.now, subscriber, "gone");
        bench.access = Some(may_read(&["other/#"]));
        let subscriber = connect_kept(&mut bench, 4, "s");
        bench.pass(Duration::from_millis(50));
        assert!(texts(&bench, subscriber).is_empty());
    }
}

#[test]
fn what_is_on_its_way_to_the_disk_when_the_rules_change_is_not_delivered() {
    let mut bench = Bench::new(secured_plan(), echo());
    bench.access = Some(may_read(&["other/#"]));
    let subscriber = connect_kept(&mut bench, 1, "s");
    bench.subscribe(subscriber, "other/#");
    let publisher = bench.connect(2, "p");
    bench.publish(publisher, 1, "other/a", "before");
    bench.pass(Duration::from_millis(50));
    bench.disk_stands_still = true;
    for (id, topic) in [(2, "other/a"), (3, "other/b")] {
        bench.publish(publisher, id, topic, &id.to_string());
    }
    bench.pass(Duration::from_millis(50));
    bench.gateway.authenticated(bench.now, subscriber, Ok(may_read(&["other/b"])));
    bench.let_the_disk_go();
    bench.pass(Duration::from_millis(50));
    assert_eq!(texts(&bench, subscriber), ["before", "3"]);
    assert_eq!(denied(&bench), 1);
    bench.publish(publisher, 4, "other/b", "4");
    bench.pass(Duration::from_millis(50));
    assert_eq!(texts(&bench, subscriber), ["before", "3"], "the subscription has ended");
    for (id, _, _) in payloads_of(&bench, subscriber) {
        bench.bytes(subscriber, 0x40, &id.to_be_bytes());
    }
    assert_spool_is_done(&mut bench);
}
