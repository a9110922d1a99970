//! `kill -9` of the real process, again and again, while publishers send. Judged by the ids in
//! the payloads that reached the upstream broker.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tidegate_rig::consumer::{Arrivals, Arrived, Consumer};
use tidegate_rig::gateway::Gateway;
use tidegate_rig::link::Link;
use tidegate_rig::mosquitto::Mosquitto;
use tidegate_rig::mqtt::{self, Connect, Outbound, Packet, Version};
use tidegate_rig::proxy::{Mode, Proxy};
use tidegate_rig::publisher::{Publisher, Report, message_id};
use tidegate_rig::sensors::Random;

use crate::setup::{
    PATIENCE, Readings, beside_others, config, explain, gateway, publisher, threshold,
};

const KILLS: u64 = 20;
pub(crate) const PUBLISHERS: u64 = 4;
pub(crate) const READINGS: u64 = 5_000;

/// Whether the upstream can be reached while the gateway is killed.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Upstream {
    Up,
    DownUntilTheEnd,
}

/// Whether the publishers give their messages an identity.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Publishers {
    /// MQTT 3.1.1: what was not acknowledged is sent again and may become a second record.
    Plain,
    /// MQTT 5 with `tg-pub-boot` and `tg-pub-seq`.
    WithIdentity,
}

#[test]
fn plain_publishers_lose_nothing_over_twenty_kills_with_the_upstream_up() {
    run(Upstream::Up, Publishers::Plain);
}

#[test]
fn plain_publishers_lose_nothing_over_twenty_kills_with_the_upstream_down() {
    run(Upstream::DownUntilTheEnd, Publishers::Plain);
}

#[test]
fn publishers_with_identity_arrive_exactly_once_over_twenty_kills_with_the_upstream_up() {
    run(Upstream::Up, Publishers::WithIdentity);
}

#[test]
fn publishers_with_identity_arrive_exactly_once_over_twenty_kills_with_the_upstream_down() {
    run(Upstream::DownUntilTheEnd, Publishers::WithIdentity);
}

/// All that is in flight is already in the log, and no new message comes to move it along.
#[test]
fn what_the_gateway_already_holds_is_acknowledged_again_though_nothing_new_comes() {
    let _machine = beside_others();
    let broker = Mosquitto::start().unwrap();
    let mut gateway = gateway(&config(broker.address(), &threshold("")));
    send_five(&gateway);
    send_five(&gateway);
    gateway.kill().unwrap();
    gateway.start().unwrap();
    send_five(&gateway);
    assert_eq!(crate::setup::number(&gateway, "/streams/0/next_seq"), Some(6));
}

/// Five messages with the same identities each time; waits for their acknowledgements.
fn send_five(gateway: &Gateway) {
    let connect = Connect { version: Version::V5, client: "p0", keep_alive: 60, clean: true };
    let mut link = Link::open(gateway.mqtt(), &connect, Duration::from_secs(10)).unwrap();
    let mut bytes = Vec::new();
    for number in 0..5 {
        let payload = Readings::payload("p0", number);
        let seq = (number + 1).to_string();
        let message = Outbound {
            topic: "sensors/p0/telemetry",
            payload: payload.as_bytes(),
            packet_id: number as u16 + 1,
            again: false,
            user: &[("tg-pub-boot", "7"), ("tg-pub-seq", &seq)],
        };
        mqtt::encode_publish(&mut bytes, Version::V5, &message);
    }
    link.send(&bytes).unwrap();
    for number in 0..5 {
        let packet = link.receive(Instant::now() + Duration::from_secs(20)).unwrap();
        let expected = Packet::PubAck { packet_id: number + 1, reason: 0 };
        assert_eq!(packet, Some(expected), "{}", explain(gateway));
    }
}

fn run(upstream: Upstream, kind: Publishers) {
    let _machine = beside_others();
    let seed = seed();
    println!("TIDEGATE_SEED={seed} repeats the counts of acknowledgements before each kill");
    let mut random = Random::new(seed);
    let broker = Mosquitto::start().unwrap();
    let consumer = Consumer::start_keeping(broker.address()).unwrap();
    let proxy = Proxy::start(broker.address()).unwrap();
    if upstream == Upstream::DownUntilTheEnd {
        proxy.set(Mode::Cut);
    }
    let mut gateway = gateway(&config(proxy.address(), &threshold(", every = true")));
    let publishers: Vec<Publisher> =
        (0..PUBLISHERS).map(|at| start_publisher(&gateway, at, kind)).collect();
    for kill in 0..KILLS {
        let after = next_kill(&publishers, &mut random, KILLS - kill, 950);
        wait_for_acknowledgements(&publishers, after, &gateway, kill);
        gateway.kill().unwrap();
        let count = acknowledged(&publishers);
        assert!(count < PUBLISHERS * READINGS, "kill {kill} came after the last acknowledgement");
        gateway.start().unwrap();
    }
    let reports = finish(publishers, &gateway);
    proxy.set(Mode::Pass);
    wait_until_all_arrived(&consumer, &gateway, &reports);
    let arrivals = consumer.arrivals().clone();
    judge(&arrivals, &reports, kind);
}

/// The seed of this run: `TIDEGATE_SEED`, else from the clock.
pub(crate) fn seed() -> u64 {
    match std::env::var("TIDEGATE_SEED") {
        Ok(text) => text.parse().expect("TIDEGATE_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
    }
}

fn start_publisher(gateway: &Gateway, at: u64, kind: Publishers) -> Publisher {
    let name = format!("p{at}");
    let (version, identity) = match kind {
        Publishers::Plain => (Version::V311, None),
        Publishers::WithIdentity => (Version::V5, Some(7)),
    };
    let source = Readings::new(&name, READINGS);
    publisher(gateway.mqtt(), &name, version, identity, source)
}

/// The acknowledgements with which the next kill comes, of `left` that are to come, and at most so many from now:
/// the last one still has to meet publishers at work, however many come between a kill and its notice.
fn next_kill(publishers: &[Publisher], random: &mut Random, left: u64, most: u64) -> u64 {
    let so_far = acknowledged(publishers);
    let share = (PUBLISHERS * READINGS).saturating_sub(so_far) / (left + 1);
    so_far + random.integer(50, share.clamp(50, most))
}

pub(crate) fn acknowledged(publishers: &[Publisher]) -> u64 {
    publishers.iter().map(|one| one.progress().acknowledged).sum()
}

pub(crate) fn wait_for_acknowledgements(
    publishers: &[Publisher],
    count: u64,
    gateway: &Gateway,
    kill: u64,
) {
    let deadline = Instant::now() + PATIENCE;
    while acknowledged(publishers) < count {
        if Instant::now() > deadline {
            let errors: Vec<_> = publishers.iter().map(Publisher::last_error).collect();
            panic!(
                "before kill {kill}: {} of {count} acknowledgements; publishers: {errors:?}\n{}",
                acknowledged(publishers),
                explain(gateway)
            );
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

pub(crate) fn finish(publishers: Vec<Publisher>, gateway: &Gateway) -> Vec<Report> {
    let deadline = Instant::now() + PATIENCE;
    let reports: Vec<Report> =
        publishers.into_iter().map(|one| one.finish(deadline).unwrap()).collect();
    for report in &reports {
        assert_eq!(
            (report.unacknowledged.len(), report.refused.len(), report.acknowledged.len() as u64),
            (0, 0, READINGS),
            "publisher {}: unacknowledged, refused, acknowledged; {:?}\n{}",
            report.name,
            report.last_error,
            explain(gateway)
        );
    }
    reports
}

/// Everything acknowledged and its alerts, and nothing left in the gateway that could still come.
pub(crate) fn wait_until_all_arrived(consumer: &Consumer, gateway: &Gateway, reports: &[Report]) {
    let deadline = Instant::now() + PATIENCE;
    let total = reports.len() as u64 * READINGS;
    let complete = consumer.wait_until(deadline, |arrivals| {
        arrivals.distinct("telemetry") >= total && arrivals.distinct("alerts") >= total / 10
    });
    let (readings, alerts) = {
        let arrivals = consumer.arrivals();
        (arrivals.distinct("telemetry"), arrivals.distinct("alerts"))
    };
    assert!(
        complete,
        "{readings} of {total} readings and {alerts} of {} alerts are upstream; lost: {:?}\n{}",
        total / 10,
        lost(consumer, reports),
        explain(gateway)
    );
    crate::setup::wait(gateway, "the gateway has nothing left to send", || {
        gateway.status().is_ok_and(|status| {
            ["/uplinks/0/backlog", "/uplinks/0/in_flight", "/functions/0/lag"]
                .iter()
                .all(|pointer| status.pointer(pointer).and_then(|value| value.as_u64()) == Some(0))
        })
    });
}

/// The first acknowledged readings that are not upstream.
fn lost(consumer: &Consumer, reports: &[Report]) -> Vec<String> {
    let arrivals = consumer.arrivals();
    let missing = reports.iter().flat_map(|report| {
        let numbers = arrivals.numbers("telemetry", &report.name);
        let acknowledged = report.acknowledged.iter().copied();
        let missing = acknowledged.filter(move |number| !numbers.contains(*number));
        missing.map(|number| message_id(&report.name, number))
    });
    missing.take(10).collect()
}

pub(crate) fn judge(arrivals: &Arrivals, reports: &[Report], kind: Publishers) {
    assert!(arrivals.oddities.is_empty(), "{:?}", arrivals.oddities);
    assert_eq!(arrivals.foreign, 0, "messages without an id of the publishers");
    assert!(
        arrivals.conflicts.is_empty(),
        "the same identity for different records: {:?}",
        &arrivals.conflicts[..arrivals.conflicts.len().min(5)]
    );
    for report in reports {
        let name = &report.name;
        let readings = arrivals.records("telemetry", name);
        let alerts = arrivals.records("alerts", name);
        assert!(readings.is_sorted(), "{name}: upstream out of the order of (epoch, seq)");
        let times = count(&readings);
        for number in &report.acknowledged {
            assert!(times.contains_key(number), "{name}-{number:06} was acknowledged and is lost");
        }
        assert_in_order(name, &readings);
        let alert_times = count(&alerts);
        for number in 0..READINGS {
            let records = times.get(&number).copied().unwrap_or(0);
            let raised = alert_times.get(&number).copied().unwrap_or(0);
            let due = if Readings::is_over(number) { records } else { 0 };
            assert_eq!(raised, due, "alerts for {name}-{number:06}, of which there are {records}");
            if kind == Publishers::WithIdentity {
                assert_eq!(records, 1, "records of {name}-{number:06}");
            }
        }
        let repeated = readings.len() as u64 - READINGS;
        assert!(
            repeated <= report.progress.resent,
            "{name}: {repeated} second records, only {} were sent again",
            report.progress.resent
        );
    }
    println!(
        "{} records, {} discarded by the dedupe, {} readings a second time",
        arrivals.unique,
        arrivals.discarded,
        arrivals.repeated("telemetry")
    );
}

fn count(records: &[Arrived]) -> BTreeMap<u64, u64> {
    let mut times = BTreeMap::new();
    for record in records {
        *times.entry(record.number).or_default() += 1;
    }
    times
}

/// The first record of each reading, in the order of the log.
fn assert_in_order(name: &str, records: &[Arrived]) {
    let mut next = 0;
    for record in records {
        assert!(
            record.number <= next,
            "{name}-{:06} at epoch {}, seq {} came before {name}-{next:06}",
            record.number,
            record.epoch,
            record.seq
        );
        if record.number == next {
            next += 1;
        }
    }
}
