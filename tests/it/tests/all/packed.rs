//! MQTT upstream with many records in one message: in 3.1.1, whose messages have no properties for
//! an envelope, and packed in MQTT 5. The gateway is killed and the broker restarted. Judged by the
//! documented format of the body and the documented dedupe.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tidegate_rig::consumer::{Arrivals, Consumer, Unpack};
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mosquitto::Mosquitto;
use tidegate_rig::mqtt::{Inbound, Version};
use tidegate_rig::publisher::Publisher;
use tidegate_sink::batch::{Batch, Record};

use crate::setup::{
    PATIENCE, Readings, beside_others, config, explain, gateway, number, publisher, wait,
};

pub(crate) const PUBLISHERS: u64 = 2;
pub(crate) const READINGS: u64 = 1_250;
/// Boot number of the publishers.
const BOOT: u64 = 7;

#[test]
fn mqtt_3_1_1_brings_each_record_once_and_in_order_over_a_kill_and_a_restart_of_the_broker() {
    let arrivals = run("mqtt_version = \"3.1.1\"\n", "application/x-ndjson", None);
    let packed = arrivals.unique + arrivals.discarded;
    assert!(arrivals.received < packed, "{} messages for {packed}", arrivals.received);
}

/// The largest message holds fewer records than a batch does.
#[test]
fn packed_mqtt_5_brings_each_record_once_and_in_order_over_a_kill_and_a_restart_of_the_broker() {
    let packing = "format = \"cbor\"\nbatch_records = 50\nbatch_age = \"100ms\"\n\
                   window = 200\nmax_message = \"2KiB\"\n";
    let form = "application/cbor";
    let arrivals = run(packing, form, Some(form));
    let packed = arrivals.unique + arrivals.discarded;
    assert!(arrivals.received * 8 < packed, "{} messages for {packed}", arrivals.received);
}

/// What arrived over an uplink with these options more, whose bodies have this form; `said` is the
/// content type of the messages.
fn run(options: &str, form: &'static str, said: Option<&'static str>) -> Arrivals {
    let _machine = beside_others();
    let mut broker = Mosquitto::start().unwrap();
    let unpack = unpack(form, said);
    let consumer = Consumer::start_unpacking(broker.address(), Version::V5, unpack).unwrap();
    let mut gateway = gateway(&(config(broker.address(), "") + options));
    let publishers = publishers(&gateway);
    acknowledged(&gateway, &publishers, 1, 3);
    gateway.kill().unwrap();
    gateway.start().unwrap();
    acknowledged(&gateway, &publishers, 2, 3);
    broker.restart().unwrap();
    finish(&gateway, publishers, &consumer)
}

/// Two publishers with an identity, who take a second and more.
pub(crate) fn publishers(gateway: &Gateway) -> Vec<Publisher> {
    let start = |at| {
        let name = format!("p{at}");
        let source = Readings::paced(&name, READINGS, Duration::from_millis(1));
        publisher(gateway.mqtt(), &name, Version::V5, Some(BOOT), source)
    };
    (0..PUBLISHERS).map(start).collect()
}

/// Waits until this part of all readings is acknowledged.
pub(crate) fn acknowledged(gateway: &Gateway, publishers: &[Publisher], part: u64, of: u64) {
    wait(gateway, "the publishers go on", || {
        let count: u64 = publishers.iter().map(|one| one.progress().acknowledged).sum();
        count >= PUBLISHERS * READINGS * part / of
    });
}

/// Waits until all is sent and has arrived, and judges it.
pub(crate) fn finish(
    gateway: &Gateway,
    publishers: Vec<Publisher>,
    consumer: &Consumer,
) -> Arrivals {
    for publisher in publishers {
        let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
        let left = (report.unacknowledged.len(), report.refused.len());
        assert_eq!(left, (0, 0), "{:?}\n{}", report.last_error, explain(gateway));
    }
    wait(gateway, "the gateway has nothing left to send", || {
        ["/uplinks/0/backlog", "/uplinks/0/in_flight"]
            .iter()
            .all(|pointer| number(gateway, pointer) == Some(0))
    });
    let all = PUBLISHERS * READINGS;
    let complete = consumer.wait_until(Instant::now() + PATIENCE, |seen| seen.unique >= all);
    let arrivals = consumer.arrivals().clone();
    assert!(
        complete,
        "{} of {all}, {:?}\n{}",
        arrivals.unique,
        arrivals.oddities,
        explain(gateway)
    );
    judge(&arrivals);
    println!(
        "{} records in {} messages, {} discarded by the dedupe",
        arrivals.unique, arrivals.received, arrivals.discarded
    );
    arrivals
}

/// Each reading once, in the order of its publisher and of the log, as it was sent.
fn judge(arrivals: &Arrivals) {
    let odd = arrivals.oddities.iter().find(|odd| !odd.starts_with("subscription at "));
    assert_eq!(odd, None);
    assert_eq!((arrivals.conflicts.len(), arrivals.foreign), (0, 0));
    assert_eq!(arrivals.unique, PUBLISHERS * READINGS);
    let rising = arrivals.kept.is_sorted_by(|one, next| one.identity < next.identity);
    assert!(rising, "first arrivals out of the order of the log");
    for at in 0..PUBLISHERS {
        let name = format!("p{at}");
        let readings = arrivals.kept.iter().filter(|one| header(&one.user, "tg-client") == name);
        let mut count = 0;
        for (due, one) in (0..).zip(readings) {
            assert_eq!(one.payload, Readings::payload(&name, due).into_bytes(), "{name} {due}");
            let identity = &one.identity;
            assert_eq!((&*identity.gateway, &*identity.stream), ("gw-it", "telemetry"));
            assert_eq!(one.topic, "tidegate/gw-it/telemetry");
            assert_eq!(header(&one.user, "tg-topic"), format!("sensors/{name}/telemetry"));
            assert_eq!(header(&one.user, "tg-pub-boot"), BOOT.to_string());
            assert_eq!(header(&one.user, "tg-pub-seq"), (due + 1).to_string());
            count = due + 1;
        }
        assert_eq!(count, READINGS, "{name}");
    }
}

fn header<'a>(user: &'a [(String, String)], name: &str) -> &'a str {
    let found = user.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| &**value).unwrap_or_else(|| panic!("no {name} in {user:?}"))
}

/// Reads bodies of this form by `docs/formats/batch.md`.
pub(crate) fn unpack(form: &'static str, said: Option<&'static str>) -> Unpack {
    Box::new(move |message| {
        let content_type = message.content_type.as_deref();
        ensure!(content_type == said, "content type {content_type:?}");
        ensure!(message.user.is_empty(), "user properties {:?}", message.user);
        let batch = Batch::read(form, &message.payload)?;
        batch.records.iter().map(|record| alone(&message, &batch, record)).collect()
    })
}

/// The record as a message of its own.
fn alone(message: &Inbound, batch: &Batch, record: &Record) -> Result<Inbound> {
    let publisher = &record.more["publisher"];
    ensure!(record.more["clock"].is_null() && record.unix_ms > 0, "{record:?}");
    let headers = [
        ("tg-gw", batch.gateway.clone()),
        ("tg-epoch", batch.epoch.to_string()),
        ("tg-stream", batch.stream.clone()),
        ("tg-seq", record.seq.to_string()),
        ("tg-topic", record.topic.clone()),
        ("tg-client", record.client.clone()),
        ("tg-pub-boot", publisher["boot"].to_string()),
        ("tg-pub-seq", publisher["seq"].to_string()),
    ];
    Ok(Inbound {
        topic: message.topic.clone(),
        payload: record.payload.clone(),
        packet_id: message.packet_id,
        user: headers.map(|(name, value)| (name.to_owned(), value)).into(),
        content_type: None,
    })
}
