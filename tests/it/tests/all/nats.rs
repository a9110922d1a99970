//! NATS JetStream upstream: kills of the gateway and of the server, a link that is cut, and an
//! outage longer than the stream's duplicate window. Judged by what the stream holds in the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::json;
use tidegate_rig::consumer::{Identity, payload_id};
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mqtt::Version;
use tidegate_rig::nats::{NatsClient, NatsServer, Stored, is_installed};
use tidegate_rig::proxy::{Mode, Proxy};
use tidegate_rig::publisher::Publisher;

use crate::setup::{
    PATIENCE, Readings, beside_others, config, explain, gateway, number, publisher, threshold,
};

const PUBLISHERS: u64 = 4;
const READINGS: u64 = 5_000;
/// The stream's duplicate window; the default of a server is two minutes.
const WINDOW: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug)]
enum Fault {
    KillGateway,
    KillServer,
    KillBoth,
    Cut(Duration),
    /// The link dies without a word.
    Freeze,
}

#[test]
fn each_record_is_in_the_stream_once_and_in_order_whatever_is_killed_and_cut() {
    let _machine = beside_others();
    if !is_installed() {
        return;
    }
    let mut server = NatsServer::start("").unwrap();
    let window = WINDOW.as_nanos() as u64;
    let stream = json!({ "duplicate_window": window });
    let mut operator = NatsClient::connect(server.address()).unwrap();
    operator.create_stream("TIDEGATE", &["tidegate.>"], stream).unwrap();
    let proxy = Proxy::start(server.address()).unwrap();
    let text = config(proxy.address(), &threshold(", every = true")).replace("mqtt://", "nats://");
    let mut gateway = gateway(&text);
    let publishers: Vec<Publisher> = (0..PUBLISHERS)
        .map(|at| {
            let name = format!("p{at}");
            let source = Readings::paced(&name, READINGS, Duration::from_millis(2));
            publisher(gateway.mqtt(), &name, Version::V5, Some(7), source)
        })
        .collect();
    let short = Duration::from_millis(200);
    let faults = [
        Fault::KillGateway,
        Fault::Cut(short),
        Fault::KillServer,
        Fault::KillGateway,
        // What was under way when it was cut is out of the window when it is sent again.
        Fault::Cut(WINDOW + Duration::from_secs(1)),
        Fault::KillBoth,
        Fault::Freeze,
        Fault::Cut(short),
        Fault::KillServer,
        Fault::KillGateway,
    ];
    for (round, fault) in (1..).zip(faults) {
        let due = round * PUBLISHERS * READINGS / (faults.len() as u64 + 1);
        crate::setup::wait(&gateway, "the publishers go on", || acknowledged(&publishers) >= due);
        strike(fault, &mut gateway, &mut server, &proxy);
    }
    for publisher in publishers {
        let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
        let left = (report.unacknowledged.len(), report.refused.len());
        assert_eq!(left, (0, 0), "{:?}\n{}", report.last_error, explain(&gateway));
    }
    crate::setup::wait(&gateway, "the gateway has nothing left to send", || {
        ["/uplinks/0/backlog", "/uplinks/0/in_flight", "/functions/0/lag"]
            .iter()
            .all(|pointer| number(&gateway, pointer) == Some(0))
    });
    let mut operator = NatsClient::connect(server.address()).unwrap();
    judge(&operator.read("TIDEGATE").unwrap());
}

fn acknowledged(publishers: &[Publisher]) -> u64 {
    publishers.iter().map(|one| one.progress().acknowledged).sum()
}

fn strike(fault: Fault, gateway: &mut Gateway, server: &mut NatsServer, proxy: &Proxy) {
    match fault {
        Fault::KillGateway => {
            gateway.kill().unwrap();
            gateway.start().unwrap();
        }
        Fault::KillServer => {
            server.kill().unwrap();
            server.restart().unwrap();
        }
        Fault::KillBoth => {
            server.kill().unwrap();
            gateway.kill().unwrap();
            server.restart().unwrap();
            gateway.start().unwrap();
        }
        Fault::Cut(time) => {
            proxy.set(Mode::Cut);
            std::thread::sleep(time);
            proxy.set(Mode::Pass);
        }
        Fault::Freeze => {
            let before = proxy.accepted();
            proxy.set(Mode::BlackHole);
            crate::setup::wait(gateway, "the gateway gives the dead link up", || {
                proxy.accepted() > before
            });
            proxy.set(Mode::Pass);
        }
    }
}

/// Each reading and each alert once, and each stream in the order of its identities.
fn judge(messages: &[Stored]) {
    let mut last: BTreeMap<String, Identity> = BTreeMap::new();
    let mut next: BTreeMap<(String, String), u64> = BTreeMap::new();
    for message in messages {
        let identity = message.identity().unwrap();
        assert_eq!(message.subject, format!("tidegate.gw-it.{}", identity.stream));
        let id = format!("gw-it/{}/{}/{}", identity.epoch, identity.stream, identity.seq);
        assert_eq!(message.header("Nats-Msg-Id"), Some(&*id));
        if let Some(before) = last.insert(identity.stream.clone(), identity.clone()) {
            assert!(before < identity, "message {}: {identity:?} after {before:?}", message.at);
        }
        let (name, number) = payload_id(&message.payload).unwrap();
        let step = if identity.stream == "alerts" { 10 } else { 1 };
        let first = if identity.stream == "alerts" { 3 } else { 0 };
        let due = next.entry((identity.stream, name)).or_insert(first);
        assert_eq!(number, *due, "message {} ({id})", message.at);
        *due += step;
    }
    for ((stream, name), next) in &next {
        let end = if stream == "alerts" { READINGS + 3 } else { READINGS };
        assert_eq!(*next, end, "{name} in {stream}");
    }
    assert_eq!(next.len() as u64, 2 * PUBLISHERS);
    println!("{} messages in the stream, each once and in order", messages.len());
}
