//! An uplink that dies without a word: nothing is acknowledged, nothing is closed.

use std::time::{Duration, Instant};

use tidegate_rig::cloud::wait_for_listener;
use tidegate_rig::consumer::Consumer;
use tidegate_rig::mosquitto::Mosquitto;
use tidegate_rig::mqtt::Version;
use tidegate_rig::proxy::{Mode, Proxy};

use crate::setup::{
    PATIENCE, Readings, beside_others, config, explain, gateway, publisher, threshold,
};

#[test]
fn an_uplink_that_died_silently_is_given_up_and_made_anew() {
    let _machine = beside_others();
    let upstream = Mosquitto::start().unwrap();
    wait_for_listener(upstream.address()).unwrap();
    let consumer = Consumer::start_keeping(upstream.address()).unwrap();
    let proxy = Proxy::start(upstream.address()).unwrap();
    let gateway = gateway(&config(proxy.address(), &threshold(", every = true")));
    let source = Readings::paced("p0", 3_000, Duration::from_millis(1));
    let publisher = publisher(gateway.mqtt(), "p0", Version::V5, Some(1), source);
    let flowing = |count| {
        consumer.wait_until(Instant::now() + PATIENCE, |seen| seen.distinct("telemetry") >= count)
    };
    assert!(flowing(500), "{}", explain(&gateway));
    proxy.set(Mode::BlackHole);
    let before = proxy.accepted();
    crate::setup::wait(&gateway, "the gateway gives the dead link up", || {
        proxy.accepted() > before
    });
    proxy.set(Mode::Pass);
    let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
    assert_eq!(report.acknowledged.len(), 3_000, "{:?}", report.last_error);
    assert!(flowing(3_000), "{}", explain(&gateway));
    let alerts = consumer.wait_until(Instant::now() + PATIENCE, |s| s.distinct("alerts") >= 300);
    assert!(alerts, "{}", explain(&gateway));
    let arrivals = consumer.arrivals();
    assert!(arrivals.oddities.is_empty() && arrivals.conflicts.is_empty());
    assert_eq!((arrivals.repeated("telemetry"), arrivals.repeated("alerts")), (0, 0));
    assert!(arrivals.records("telemetry", "p0").is_sorted());
}
