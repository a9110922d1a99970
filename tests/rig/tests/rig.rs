//! The rig's own parts against real brokers, without a gateway: what is judged by them must not
//! be lost by them.

#![allow(clippy::unwrap_used, reason = "a test binary: what fails here fails the test")]

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tidegate_rig::cloud::Cloud;
use tidegate_rig::consumer::Consumer;
use tidegate_rig::link::Link;
use tidegate_rig::mosquitto::Mosquitto;
use tidegate_rig::mqtt::{self, Connect, Outbound, Packet, Version};
use tidegate_rig::proxy::{Mode, Proxy};

const RIG: &str = env!("CARGO_BIN_EXE_tidegate-rig");
const PATIENCE: Duration = Duration::from_secs(60);

fn log() -> std::fs::File {
    std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap()
}

fn uplink(address: SocketAddr) -> Link {
    let connect = Connect { version: Version::V5, client: "gw-01", keep_alive: 10, clean: true };
    Link::open(address, &connect, Duration::from_secs(10)).unwrap()
}

/// Sends records `from..=to` as a gateway does, at most 100 unacknowledged.
fn send(link: &mut Link, from: u64, to: u64) {
    let mut acknowledged = from;
    let mut next = from;
    while acknowledged <= to {
        let mut bytes = Vec::new();
        while next <= to && next - acknowledged < 100 {
            let payload = format!(r#"{{"id":"s1-{next:06}"}}"#);
            let seq = next.to_string();
            let message = Outbound {
                topic: "tidegate/gw-01/telemetry",
                payload: payload.as_bytes(),
                packet_id: (next % 1000) as u16 + 1,
                again: false,
                user: &[
                    ("tg-gw", "gw-01"),
                    ("tg-epoch", "1"),
                    ("tg-stream", "telemetry"),
                    ("tg-seq", &seq),
                ],
            };
            mqtt::encode_publish(&mut bytes, Version::V5, &message);
            next += 1;
        }
        link.send(&bytes).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut packet = link.receive(deadline).unwrap();
        assert!(packet.is_some(), "no acknowledgement of record {acknowledged}");
        while let Some(received) = packet {
            assert_eq!(
                received,
                Packet::PubAck { packet_id: (acknowledged % 1000) as u16 + 1, reason: 0 }
            );
            acknowledged += 1;
            packet = link.buffered().unwrap();
        }
    }
}

/// 20,000 records in two halves with an outage and 1,000 repetitions in between.
fn nothing_is_lost_and_repetitions_are_told_apart(broker: SocketAddr) {
    let consumer = Consumer::start_keeping(broker).unwrap();
    let proxy = Proxy::start(broker).unwrap();
    let started = Instant::now();
    send(&mut uplink(proxy.address()), 1, 10_000);
    proxy.set(Mode::Cut);
    proxy.set(Mode::Pass);
    send(&mut uplink(proxy.address()), 9_001, 20_000);
    println!("21,000 messages sent in {:?}", started.elapsed());
    let complete =
        consumer.wait_until(Instant::now() + PATIENCE, |arrivals| arrivals.received >= 21_000);
    println!("and received after {:?}", started.elapsed());
    let arrivals = consumer.arrivals();
    assert!(complete, "{} of 21000 received, {:?}", arrivals.received, arrivals.oddities);
    assert_eq!((arrivals.unique, arrivals.discarded, arrivals.foreign), (20_000, 1_000, 0));
    assert_eq!((arrivals.distinct("telemetry"), arrivals.repeated("telemetry")), (20_000, 0));
    let in_order: Vec<u64> =
        arrivals.records("telemetry", "s1").iter().map(|record| record.number).collect();
    assert!(in_order.is_sorted() && in_order.len() == 20_000);
    assert!(arrivals.oddities.is_empty(), "{:?}", arrivals.oddities);
}

#[test]
fn rumqttd_passes_every_message_and_its_identity_to_the_consumer() {
    let mut cloud = Cloud::start(Path::new(RIG), log()).unwrap();
    nothing_is_lost_and_repetitions_are_told_apart(cloud.address());
    assert_eq!(cloud.ended().unwrap(), None);
}

#[test]
fn mosquitto_passes_every_message_and_its_identity_to_the_consumer() {
    let mosquitto = Mosquitto::start().unwrap();
    nothing_is_lost_and_repetitions_are_told_apart(mosquitto.address());
}
