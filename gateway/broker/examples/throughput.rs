//! What the broker costs for each message: `cargo run --release -p tidegate-broker --example
//! throughput`. 128 bytes of payload, a topic of three levels, 64 packets in each read, and every
//! event and outbox drained after it, as a shell does. The best of several rounds is printed.

#![allow(missing_docs)]

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tidegate_broker::{
    Answer, Broker, BrokerEvent, BrokerLimits, ConnId, Message, QoS, TopicName, Version,
};

const BATCH: usize = 64;
const BATCHES: usize = 2_000;
const ROUNDS: usize = 7;
const TOPIC: &str = "sensors/0042/telemetry";

fn main() {
    println!("{:<46}{:>10}{:>10}", "ns a message", "3.1.1", "5");
    row("in, QoS 0", |version| intake(version, QoS::AtMostOnce));
    row("in, QoS 1, and its PUBACK out", |version| intake(version, QoS::AtLeastOnce));
    for subscribers in [1, 100] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let ack = if qos == QoS::AtLeastOnce { ", and its PUBACK in" } else { "" };
            let name = format!("out to {subscribers}, QoS {}{ack}", qos as u8);
            row(&name, |version| delivery(version, qos, subscribers));
        }
    }
}

fn row(name: &str, run: impl Fn(Version) -> f64) {
    let best = |version| (0..ROUNDS).map(|_| run(version)).fold(f64::INFINITY, f64::min);
    println!("{name:<46}{:>10.0}{:>10.0}", best(Version::V3_1_1), best(Version::V5));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock; the broker does not")]
fn now() -> Instant {
    Instant::now()
}

fn connect(version: Version, client: &str) -> Vec<u8> {
    let mut packet = vec![0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0];
    if version == Version::V5 {
        packet[6] = 5;
        packet.push(0);
    }
    text(&mut packet, client);
    framed(0x10, &packet)
}

fn subscribe(version: Version, filter: &str, qos: QoS) -> Vec<u8> {
    let mut packet = vec![0, 1];
    if version == Version::V5 {
        packet.push(0);
    }
    text(&mut packet, filter);
    packet.push(qos as u8);
    framed(0x82, &packet)
}

fn publish(version: Version, qos: QoS, id: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    text(&mut packet, TOPIC);
    if qos == QoS::AtLeastOnce {
        packet.extend(id.to_be_bytes());
    }
    if version == Version::V5 {
        packet.push(0);
    }
    packet.extend([b'x'; 128]);
    framed(0x30 | (qos as u8) << 1, &packet)
}

fn text(packet: &mut Vec<u8>, text: &str) {
    packet.extend((text.len() as u16).to_be_bytes());
    packet.extend(text.as_bytes());
}

/// A packet of less than 16 KiB.
fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    if body.len() > 127 {
        packet.push((body.len() & 127) as u8 | 128);
        packet.push((body.len() >> 7) as u8);
    } else {
        packet.push(body.len() as u8);
    }
    packet.extend(body);
    packet
}

fn drain(broker: &mut Broker) {
    while let Some(event) = broker.poll_event() {
        if let BrokerEvent::Writable(conn) = event
            && let Some(outbox) = broker.unsent(conn)
        {
            outbox.consume(outbox.len());
        }
    }
}

fn open(broker: &mut Broker, at: Instant, conn: ConnId, hello: &[u8]) {
    broker.handle_open(at, conn, String::new());
    broker.handle_bytes(at, conn, hello);
    drain(broker);
}

/// Packets in, each one handed to the owner, which accepts it.
fn intake(version: Version, qos: QoS) -> f64 {
    let (mut broker, at) = (Broker::new(BrokerLimits::default()), now());
    let conn = ConnId(1);
    open(&mut broker, at, conn, &connect(version, "publisher"));
    let read: Vec<u8> = (1..=BATCH as u16).flat_map(|id| publish(version, qos, id)).collect();
    let start = now();
    let mut messages = 0;
    for _ in 0..BATCHES {
        broker.handle_bytes(at, conn, &read);
        while let Some(event) = broker.poll_event() {
            match event {
                BrokerEvent::Publish { ticket, message, .. } => {
                    messages += 1;
                    broker.publish(at, &message);
                    if let Some(ticket) = ticket {
                        broker.acknowledge(at, ticket, Answer::Success);
                    }
                }
                BrokerEvent::Writable(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let outbox = broker.unsent(conn).expect("the connection is open");
        outbox.consume(outbox.len());
    }
    assert_eq!(messages, BATCH * BATCHES);
    start.elapsed().as_nanos() as f64 / messages as f64
}

/// Messages out, with every subscriber acknowledging what it got.
fn delivery(version: Version, qos: QoS, subscribers: u64) -> f64 {
    let (mut broker, at) = (Broker::new(BrokerLimits::default()), now());
    for i in 1..=subscribers {
        open(&mut broker, at, ConnId(i), &connect(version, &format!("subscriber-{i}")));
        broker.handle_bytes(at, ConnId(i), &subscribe(version, "sensors/+/telemetry", qos));
        drain(&mut broker);
    }
    let topic = TopicName::parse(TOPIC).expect("a valid topic");
    let message = Arc::new(Message::new(topic, Bytes::from_static(&[b'x'; 128]), qos));
    let batches = BATCHES.div_ceil(subscribers as usize);
    let mut id = 0;
    let start = now();
    for _ in 0..batches {
        for _ in 0..BATCH {
            assert_eq!(broker.publish(at, &message), subscribers as usize);
        }
        drain(&mut broker);
        if qos == QoS::AtLeastOnce {
            let first = id;
            for i in 1..=subscribers {
                let mut acks = Vec::with_capacity(4 * BATCH);
                id = first;
                for _ in 0..BATCH {
                    id = if id == u16::MAX { 1 } else { id + 1 };
                    acks.extend([0x40, 2]);
                    acks.extend(id.to_be_bytes());
                }
                broker.handle_bytes(at, ConnId(i), &acks);
            }
        }
    }
    let elapsed = start.elapsed();
    let counters = broker.stats().counters;
    let sent = counters.sent_qos0 + counters.sent_qos1;
    assert_eq!(sent, (batches * BATCH) as u64 * subscribers, "nothing was dropped");
    assert_eq!(broker.stats().queued_bytes, 0, "everything was acknowledged");
    elapsed.as_nanos() as f64 / sent as f64
}
