//! Subscribers that take nothing, on the real daemon: the others get everything, and the loss ledger
//! says whose messages went.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::link::Link;
use tidegate_rig::mqtt::{self, Connect, Packet, Version};

use crate::setup::{PATIENCE, Readings, beside_others, config, explain, gateway, publisher, wait};

const MESSAGES: u64 = 5_000;
/// What waits on flash for a client at most.
const QUOTA: u64 = 800;
const ANSWER: Duration = Duration::from_secs(20);

fn subscriber(address: SocketAddr, client: &str, clean: bool) -> Link {
    let connect = Connect { version: Version::V5, client, keep_alive: 0, clean };
    let mut link = Link::open(address, &connect, ANSWER).unwrap();
    let mut bytes = Vec::new();
    mqtt::encode_subscribe(&mut bytes, Version::V5, "sensors/#");
    link.send(&bytes).unwrap();
    let answer = link.receive(Instant::now() + ANSWER).unwrap();
    assert_eq!(answer, Some(Packet::SubAck { codes: vec![1] }));
    link
}

/// Takes and acknowledges so many messages.
fn take(link: &mut Link, count: u64, gateway: &Gateway) {
    for number in 0..count {
        match link.receive(Instant::now() + ANSWER).unwrap() {
            Some(Packet::Publish(message)) => {
                let mut ack = Vec::new();
                mqtt::encode_puback(&mut ack, message.packet_id.unwrap());
                link.send(&ack).unwrap();
            }
            other => panic!("message {number}: {other:?}\n{}", explain(gateway)),
        }
    }
}

#[test]
fn what_a_stuck_and_an_absent_subscriber_lose_is_told_by_name_and_a_good_one_gets_everything() {
    let _machine = beside_others();
    let limits = format!(
        "max_session_queue = \"64KiB\"\n\n[mqtt.limits]\nspool_messages_per_session = {QUOTA}\n"
    );
    let text = config("127.0.0.1:1".parse().unwrap(), "");
    let text =
        text.replacen("listen = \"{mqtt}\"\n", &format!("listen = \"{{mqtt}}\"\n{limits}"), 1);
    let mut gateway = gateway(&text);
    let _stuck = subscriber(gateway.mqtt(), "stuck", true);
    drop(subscriber(gateway.mqtt(), "absent", false));
    let mut good = subscriber(gateway.mqtt(), "good", true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let source = Readings::new("p0", MESSAGES);
            let publisher = publisher(gateway.mqtt(), "p0", Version::V5, Some(7), source);
            let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
            assert_eq!(report.acknowledged.len() as u64, MESSAGES, "{:?}", report.last_error);
        });
        take(&mut good, MESSAGES, &gateway);
    });
    let lost = |gateway: &Gateway, client: &str, reason: &str| {
        let said = gateway.command(&["stream", "losses", "$mqtt", "--json"]).unwrap();
        let report: Value = serde_json::from_str(&said).unwrap();
        let sessions = report["sessions"].as_array().cloned().unwrap_or_default();
        let own = sessions.iter().filter(|one| one["client"] == client && one["reason"] == reason);
        own.map(|one| one["records"].as_u64().unwrap()).sum::<u64>()
    };
    wait(&gateway, "the ledger has what the stuck one lost", || {
        lost(&gateway, "stuck", "slow-subscriber") > MESSAGES / 2
    });
    let all_but_the_quota = MESSAGES - QUOTA..=MESSAGES - QUOTA * 7 / 8 + 1;
    wait(&gateway, "the ledger has what the absent one lost", || {
        all_but_the_quota.contains(&lost(&gateway, "absent", "session-quota"))
    });
    assert_eq!(lost(&gateway, "good", "slow-subscriber"), 0);
    let status = gateway.status().unwrap();
    let totals = status["broker"]["session_losses"].to_string();
    assert!(totals.contains("slow-subscriber") && totals.contains("session-quota"), "{totals}");
    let shown = gateway.command(&["status"]).unwrap();
    assert!(shown.contains("in the loss ledger: "), "{shown}");
    wait(&gateway, "the stream losses tells it", || {
        let tail = gateway.command(&["stream", "tail", "losses", "--from", "1", "--json"]);
        tail.is_ok_and(|text| text.contains(r#"\"stream\":\"$mqtt\",\"session\":\""#))
    });
    gateway.kill().unwrap();
    gateway.start().unwrap();
    wait(&gateway, "the ledger still has it", || {
        all_but_the_quota.contains(&lost(&gateway, "absent", "session-quota"))
    });
    let left = MESSAGES - lost(&gateway, "absent", "session-quota");
    let connect = Connect { version: Version::V5, client: "absent", keep_alive: 0, clean: false };
    let mut absent = Link::open(gateway.mqtt(), &connect, ANSWER).unwrap();
    take(&mut absent, left, &gateway);
    let further = absent.receive(Instant::now() + Duration::from_secs(1)).unwrap();
    assert_eq!(further, None, "what came and what the ledger has is everything");
}
