//! Many records in one message: against mosquitto, and against a server that does what the test
//! says.

use std::collections::BTreeSet;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use serde_json::Value;
use tidegate_uplink::BodyFormat;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::broker::{Fault, Mosquitto, proxy};
use super::*;
use crate::uplinks::Version;

fn packing(port: u16, version: Version, max_message: Option<u32>) -> MqttTarget {
    let packing = Some(BodyFormat::Ndjson);
    let options = TargetOptions { version, packing, max_message, ..TargetOptions::default() };
    MqttTarget::parse("gw", "up", &format!("mqtt://127.0.0.1:{port}"), options).unwrap()
}

/// What a consumer saw.
#[derive(Debug, Default)]
struct Seen {
    messages: u64,
    duplicates: u64,
    largest: usize,
}

/// Receives until every record of both streams was there, each first arrival in its turn.
async fn consume(
    port: u16,
    version: Version,
    records: u64,
    ready: tokio::sync::oneshot::Sender<()>,
) -> Seen {
    let mut options = MqttOptions::new("data-team", "127.0.0.1", port);
    options.set_max_packet_size(Some(1 << 20)).set_receive_maximum(Some(100));
    let (client, mut event_loop) = AsyncClient::new(options, 10);
    client.subscribe("tidegate/#", QoS::AtLeastOnce).await.unwrap();
    let mut ready = Some(ready);
    let mut known: BTreeSet<(usize, u64)> = BTreeSet::new();
    let mut next = [1; 2];
    let mut seen = Seen::default();
    while next != [records + 1; 2] {
        match event_loop.poll().await.unwrap() {
            Event::Incoming(Packet::SubAck(_)) => ready.take().unwrap().send(()).unwrap(),
            Event::Incoming(Packet::Publish(publish)) => {
                seen.messages += 1;
                seen.largest = seen.largest.max(publish.payload.len());
                let content_type =
                    publish.properties.and_then(|properties| properties.content_type);
                let expected = (version == Version::V5).then_some("application/x-ndjson");
                assert_eq!(content_type.as_deref(), expected);
                for line in str::from_utf8(&publish.payload).unwrap().lines() {
                    let record: Value = serde_json::from_str(line).unwrap();
                    let stream = record["stream"].as_str().unwrap();
                    assert_eq!(publish.topic, format!("tidegate/gw/{stream}"));
                    let lane = STREAMS.iter().position(|name| *name == stream).unwrap();
                    let seq = record["seq"].as_u64().unwrap();
                    if !known.insert((lane, seq)) {
                        seen.duplicates += 1;
                        continue;
                    }
                    assert_eq!(seq, next[lane], "first arrivals are in order");
                    assert_eq!(record["payload"], format!("{lane}-{seq}"));
                    assert_eq!(record["user"][0][1], "°C");
                    next[lane] += 1;
                }
            }
            _ => {}
        }
    }
    seen
}

async fn arrives(version: Version) {
    const RECORDS: u64 = 3_000;
    let name = format!("packing-{version:?}");
    let Some(mosquitto) = Mosquitto::start(&name, |_| Some(String::new())).await else { return };
    let (port, switch) = proxy(mosquitto.port, Fault::Cut).await;
    let (ready, subscribed) = tokio::sync::oneshot::channel();
    let consumer = consume(mosquitto.port, version, RECORDS, ready);
    let consumer = tokio::task::spawn_local(consumer);
    subscribed.await.unwrap();
    let options = UplinkOptions {
        window: 1_000,
        batch_records: 100,
        max_batches_per_second: Some(100),
        ..UplinkOptions::default()
    };
    let mut gate = Gate::new(packing(port, version, Some(128 * 1024)), options, RECORDS);
    gate.run(|gate| gate.cursors[0] > 600).await;
    assert!(!gate.is_done());
    switch.send_modify(|count| *count += 1);
    gate.run(Gate::is_done).await;
    let seen = tokio::time::timeout(PATIENCE, consumer).await.unwrap().unwrap();
    // A batch is what is there when its turn comes, so it may be smaller than allowed.
    assert!(seen.messages < RECORDS / 10, "{seen:?}");
    assert!(seen.duplicates <= 2_000 && seen.largest <= 128 * 1024, "{seen:?}");
    assert!(gate.uplink.status().connections >= 2);
}

#[test]
fn batches_arrive_in_order_over_mqtt_5_although_the_link_is_cut() {
    on_side_thread(arrives(Version::V5));
}

#[test]
fn batches_arrive_in_order_over_mqtt_3_1_1_although_the_link_is_cut() {
    on_side_thread(arrives(Version::V311));
}

#[test]
fn batches_that_are_too_large_for_the_server_arrive_in_order_all_the_same() {
    on_side_thread(async {
        const RECORDS: u64 = 200;
        const MAX: u32 = 1_024;
        let start = Mosquitto::start("packing-max", |_| Some(String::new())).await;
        let Some(mosquitto) = start else { return };
        let (ready, subscribed) = tokio::sync::oneshot::channel();
        let consumer = consume(mosquitto.port, Version::V311, RECORDS, ready);
        let consumer = tokio::task::spawn_local(consumer);
        subscribed.await.unwrap();
        let options = UplinkOptions {
            batch_records: 50,
            backoff_min: Duration::from_millis(1),
            ..UplinkOptions::default()
        };
        let target = packing(mosquitto.port, Version::V311, Some(MAX));
        let mut gate = Gate::new(target, options, RECORDS);
        gate.run(Gate::is_done).await;
        let seen = tokio::time::timeout(PATIENCE, consumer).await.unwrap().unwrap();
        assert!(seen.largest <= MAX as usize && seen.duplicates == 0, "{seen:?}");
    });
}

#[test]
fn batch_in_several_messages_is_answered_once_and_nothing_overtakes_it() {
    const LONG: usize = 2_000;
    on_side_thread(async {
        let start = Mosquitto::start("packing-split", |_| Some(String::new())).await;
        let Some(mosquitto) = start else { return };
        let (ready, subscribed) = tokio::sync::oneshot::channel();
        let consumer = tokio::task::spawn_local(consume_seqs(mosquitto.port, 61, ready));
        subscribed.await.unwrap();
        let mut driver = Driver::start(packing(mosquitto.port, Version::V311, Some(1_024)));
        driver.connect(1).await;
        assert_eq!(driver.event().await, UplinkEvent::Connected { session: 1, held: Vec::new() });
        let send = async |token, seqs: std::ops::RangeInclusive<u64>, long: Option<u64>| {
            let (first, last) = (Seq(*seqs.start()), Seq(*seqs.end()));
            let payload = |seq| if Some(seq) == long { vec![b'x'; LONG] } else { b"1".to_vec() };
            let records =
                seqs.map(|seq| OutboundRecord { payload: payload(seq), ..record(LaneId(0), seq) });
            let (lane, stream, epoch) = (LaneId(0), "s".into(), Epoch(1));
            let range = SeqRange { first, last };
            let batch = Batch { lane, stream, epoch, range, records: records.collect() };
            driver.actions.send(Action::Send { session: 1, token, batch }).await.unwrap();
        };
        // Far too large, then small, then with one record that fits into no message.
        send(1, 1..=50, None).await;
        send(2, 51..=51, None).await;
        send(3, 52..=62, Some(57)).await;
        let (mut answers, mut taken) = (Vec::new(), Vec::new());
        while answers.len() < 3 {
            answers.push(match driver.event().await {
                UplinkEvent::Taken { session: 1, token, part } => {
                    taken.push((token, part.records));
                    continue;
                }
                UplinkEvent::Acknowledged { session: 1, token } => (token, true),
                UplinkEvent::Refused {
                    session: 1,
                    token,
                    reason: RefuseReason::PacketTooLarge { .. },
                } => (token, false),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(answers, [(1, true), (2, true), (3, false)]);
        let of =
            |token| taken.iter().filter(move |(of, _)| *of == token).map(|(_, records)| *records);
        assert!((1..50).contains(&of(1).sum::<usize>()), "{taken:?}");
        assert_eq!(of(3).sum::<usize>(), 10, "all but the one");
        let seen = tokio::time::timeout(PATIENCE, consumer).await.unwrap().unwrap();
        assert_eq!(seen, (1..=62).filter(|seq| *seq != 57).collect::<Vec<_>>());
        assert!(driver.events.try_recv().is_err(), "one answer for each");
    });
}

/// The sequences of so many records, as they arrive.
async fn consume_seqs(
    port: u16,
    records: usize,
    ready: tokio::sync::oneshot::Sender<()>,
) -> Vec<u64> {
    let options = MqttOptions::new("data-team", "127.0.0.1", port);
    let (client, mut event_loop) = AsyncClient::new(options, 10);
    client.subscribe("tidegate/#", QoS::AtLeastOnce).await.unwrap();
    let mut ready = Some(ready);
    let mut seqs = Vec::new();
    while seqs.len() < records {
        match event_loop.poll().await.unwrap() {
            Event::Incoming(Packet::SubAck(_)) => ready.take().unwrap().send(()).unwrap(),
            Event::Incoming(Packet::Publish(publish)) => {
                for line in str::from_utf8(&publish.payload).unwrap().lines() {
                    let record: Value = serde_json::from_str(line).unwrap();
                    seqs.push(record["seq"].as_u64().unwrap());
                }
            }
            _ => {}
        }
    }
    seqs
}

#[test]
fn refusal_of_a_3_1_1_server_is_a_sentence() {
    on_side_thread(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut driver = Driver::start(packing(port, Version::V311, None));
        let serve = async {
            for code in [1, 5] {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut connect = [0; 64];
                let count = socket.read(&mut connect).await.unwrap();
                assert_eq!(&connect[2..9], b"\x00\x04MQTT\x04", "{count} bytes");
                socket.write_all(&[0x20, 2, 0, code]).await.unwrap();
            }
        };
        let hear = async {
            let why = driver.failure(1).await;
            assert!(why.contains("does not speak MQTT 3.1.1"), "{why}");
            let why = driver.failure(2).await;
            assert!(why.contains("not authorised"), "{why}");
        };
        tokio::join!(serve, hear);
    });
}
