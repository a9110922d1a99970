//! What a record carries besides its payload, at the sinks: its partition key, and its trace context
//! through a function.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidegate_rig::consumer::{Consumer, payload_id};
use tidegate_rig::gateway::Gateway;
use tidegate_rig::link::Link;
use tidegate_rig::mosquitto::Mosquitto;
use tidegate_rig::mqtt::{self, Connect, Outbound, Packet, Version};
use tidegate_rig::nats::{NatsClient, NatsServer, is_installed};
use tidegate_rig::postgres::Postgres;
use tidegate_rig::sink::Sink;

use crate::binaries;
use crate::setup::{PATIENCE, beside_others, config, explain, gateway, threshold, wait};

/// What a client publishes.
struct Publish {
    topic: &'static str,
    payload: String,
    user: Vec<(&'static str, &'static str)>,
}

/// Publishes all and waits for their acknowledgements.
fn publish(gateway: &Gateway, client: &str, messages: &[Publish]) {
    let connect = Connect { version: Version::V5, client, keep_alive: 20, clean: true };
    let mut link = Link::open(gateway.mqtt(), &connect, Duration::from_secs(20)).unwrap();
    let mut bytes = Vec::new();
    for (packet_id, message) in (1..).zip(messages) {
        let outbound = Outbound {
            topic: message.topic,
            payload: message.payload.as_bytes(),
            packet_id,
            again: false,
            user: &message.user,
        };
        mqtt::encode_publish(&mut bytes, Version::V5, &outbound);
    }
    link.send(&bytes).unwrap();
    for (packet_id, _) in (1..).zip(messages) {
        let answer = link.receive(Instant::now() + PATIENCE).unwrap();
        assert_eq!(answer, Some(Packet::PubAck { packet_id, reason: 0 }), "{}", explain(gateway));
    }
}

/// A reading over the limit of the function.
fn reading(topic: &'static str, number: u64, user: &[(&'static str, &'static str)]) -> Publish {
    let payload = format!(r#"{{"id":"p0-{number:06}","value":31.5}}"#);
    Publish { topic, payload, user: user.to_vec() }
}

/// The value of the header of this name.
fn header<'u>(user: &'u [(String, String)], name: &str) -> Option<&'u str> {
    user.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// The section of one more uplink for the readings.
fn uplink(name: &str, scheme: &str, address: SocketAddr) -> String {
    format!("\n[uplink.{name}]\nurl = \"{scheme}://{address}\"\nstreams = [\"telemetry\"]\n")
}

#[test]
fn the_partition_key_of_each_record_arrives_at_every_sink() {
    let _machine = beside_others();
    let broker = Mosquitto::start().unwrap();
    let consumer = Consumer::start_keeping(broker.address()).unwrap();
    let postgres = Postgres::start().unwrap();
    let options = ["--database", &postgres.connection_string()];
    let sink = Sink::start(&binaries::sink(), &options).unwrap();
    let mut text = config(broker.address(), "").replacen(
        "topics = [\"sensors/+/telemetry\"]",
        "topics = [\"sensors/+/telemetry\", \"status\"]\nkey = \"topic/2\"",
        1,
    );
    text.push_str(&uplink("warehouse", "http", sink.address()));
    let jetstream = is_installed().then(|| NatsServer::start("").unwrap());
    if let Some(server) = &jetstream {
        let mut operator = NatsClient::connect(server.address()).unwrap();
        operator.create_stream("TIDEGATE", &["tidegate.>"], json!({})).unwrap();
        text.push_str(&uplink("jetstream", "nats", server.address()));
    }
    let gateway = gateway(&text);
    publish(
        &gateway,
        "p0",
        &[
            reading("sensors/kitchen/telemetry", 0, &[("tg-key", "forged")]),
            reading("sensors/Süd 1/telemetry", 1, &[]),
            reading("status", 2, &[]),
        ],
    );
    let keys = [Some("kitchen"), Some("Süd 1"), None];

    let all = consumer.wait_until(Instant::now() + PATIENCE, |a| a.kept.len() >= keys.len());
    assert!(all, "{}", explain(&gateway));
    let arrivals = consumer.arrivals();
    let found: Vec<_> = arrivals.kept.iter().map(|one| header(&one.user, "tg-key")).collect();
    assert_eq!(found, keys, "MQTT");
    assert_eq!(header(&arrivals.kept[0].user, "tg-x-tg-key"), Some("forged"));

    let rows = "select coalesce(key, '(none)') from tidegate_records order by seq";
    let stored = || postgres.sql(rows).unwrap_or_default();
    wait(&gateway, "the table has three records", || stored().lines().count() == keys.len());
    assert_eq!(stored().lines().collect::<Vec<_>>(), ["kitchen", "Süd 1", "(none)"]);

    if let Some(server) = &jetstream {
        let mut operator = NatsClient::connect(server.address()).unwrap();
        let mut messages = Vec::new();
        wait(&gateway, "the stream has three messages", || {
            messages = operator.read("TIDEGATE").unwrap();
            messages.len() == keys.len()
        });
        let found: Vec<_> = messages.iter().map(|one| one.header("tg-key")).collect();
        assert_eq!(found, keys, "JetStream");
    }

    for words in
        [&["stream", "tail", "telemetry", "--json"][..], &["stream", "export", "telemetry"]]
    {
        let text = gateway.command(words).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let records: Vec<Value> = lines.filter(|line| line.get("seq").is_some()).collect();
        let found: Vec<_> =
            records.iter().map(|one| one.get("key").and_then(Value::as_str)).collect();
        assert_eq!(found, keys, "{words:?}");
    }
}

#[test]
fn an_alert_carries_the_trace_of_its_reading_from_the_publish_to_the_sink() {
    let _machine = beside_others();
    let broker = Mosquitto::start().unwrap();
    let consumer = Consumer::start_keeping(broker.address()).unwrap();
    let gateway = gateway(&config(broker.address(), &threshold(", every = true")));
    let first = [
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("unit", "C"),
        ("tracestate", "vendor=1"),
    ];
    let third = [("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00")];
    let topic = "sensors/kitchen/telemetry";
    publish(
        &gateway,
        "p0",
        &[reading(topic, 0, &first), reading(topic, 1, &[]), reading(topic, 2, &third)],
    );
    let all = consumer.wait_until(Instant::now() + PATIENCE, |a| a.distinct("alerts") == 3);
    assert!(all, "{}", explain(&gateway));
    let arrivals = consumer.arrivals();
    let alerts = arrivals.kept.iter().filter(|one| one.identity.stream == "alerts");
    let traces: Vec<_> = alerts
        .map(|alert| {
            let (_, number) = payload_id(&alert.payload).unwrap();
            let user = |name| header(&alert.user, name);
            (number, user("traceparent"), user("tracestate"), user("unit"))
        })
        .collect();
    let expected = [
        (0, Some(first[0].1), Some(first[2].1), None),
        (1, None, None, None),
        (2, Some(third[0].1), None, None),
    ];
    assert_eq!(traces, expected);
}
