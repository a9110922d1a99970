//! What every library goes through: each version on each kind of listener, then one `kill -9` of
//! the daemon under the sessions of all of them.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::setup::{explain, wait};

use super::driver::Driver;
use super::plant::Plant;

const PATIENCE: Duration = Duration::from_secs(60);
/// The session expiry of those that are kept, in seconds.
const KEPT: u32 = 3600;

/// What a listener speaks below MQTT.
#[derive(Debug, Clone, Copy)]
pub(super) enum Transport {
    Tcp,
    Tls,
    WebSocket,
    WebSocketOverTls,
}

impl Transport {
    pub(super) const ALL: [Transport; 4] =
        [Transport::Tcp, Transport::Tls, Transport::WebSocket, Transport::WebSocketOverTls];

    fn name(self) -> &'static str {
        match self {
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::WebSocket => "ws",
            Transport::WebSocketOverTls => "wss",
        }
    }
}

/// Runs a library through everything.
pub(super) fn run(library: &str, driver: impl Driver, transports: &[Transport]) {
    let plant = Plant::start();
    let mut world = World::new(plant, driver);
    let mut cases = Vec::new();
    for version in [4, 5] {
        for &transport in transports {
            let name = format!("{library}-{version}-{}", transport.name());
            cases.push(Case { name, version, transport });
        }
    }
    for case in &cases {
        world.qualities_retained_and_will(case);
        if case.version == 5 {
            world.version_5(case);
        }
        world.away_and_back(case);
    }
    for case in &cases {
        world.leave(case, "reader", "disconnect");
    }
    // That they have gone is on flash: what is queued now has been sent to nobody.
    world.plant.settle();
    for case in &cases {
        world.queue(case, "before the kill");
    }
    let left = Instant::now();
    world.plant.gateway.kill().unwrap();
    world.plant.gateway.start().unwrap();
    wait(&world.plant.gateway, "the short-lived messages expire", || {
        left.elapsed() > Duration::from_secs(2)
    });
    for case in &cases {
        world.connect(case, "writer", true, None);
        world.come_back(case, "before the kill");
    }
}

/// One version on one kind of listener; its topics are below `it/NAME`.
struct Case {
    name: String,
    version: u8,
    transport: Transport,
}

impl Case {
    fn topic(&self, rest: &str) -> String {
        format!("it/{}/{rest}", self.name)
    }

    fn client(&self, role: &str) -> String {
        format!("{}-{role}", self.name)
    }
}

struct World<D> {
    plant: Plant,
    driver: D,
    events: Receiver<Value>,
    /// Seen while something else was waited for.
    early: VecDeque<Value>,
}

impl<D: Driver> World<D> {
    fn new(plant: Plant, mut driver: D) -> World<D> {
        let events = driver.begin(plant.gateway.directory());
        World { plant, driver, events, early: VecDeque::new() }
    }

    /// The next event of this kind of this client.
    fn next(&mut self, client: &str, event: &str) -> Value {
        let fits = |one: &Value| one["client"] == client && one["event"] == event;
        if let Some(at) = self.early.iter().position(fits) {
            return self.early.remove(at).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.events.recv_timeout(left) {
                Ok(one) if fits(&one) => return one,
                Ok(one) => self.early.push_back(one),
                Err(error) => panic!(
                    "no {event:?} of {client}: {error}; others: {:?}\n{}",
                    self.early,
                    explain(&self.plant.gateway)
                ),
            }
        }
    }

    fn send(&mut self, case: &Case, role: &str, what: &str, more: Value) {
        let mut command = more;
        command["do"] = what.into();
        command["client"] = case.client(role).into();
        command["version"] = case.version.into();
        self.driver.send(&command);
    }

    /// Connects; whether there was a session.
    fn connect(&mut self, case: &Case, role: &str, clean: bool, will: Option<Value>) -> bool {
        let more = json!({
            "transport": case.transport.name(),
            "port": self.plant.port(case.transport),
            "id": case.client(role),
            "clean": clean,
            "expiry": if clean { 0 } else { KEPT },
            "will": will,
        });
        self.send(case, role, "connect", more);
        let connected = self.next(&case.client(role), "connected");
        assert_eq!(connected["reason"], 0, "{connected}");
        connected["session"].as_bool().unwrap()
    }

    fn leave(&mut self, case: &Case, role: &str, how: &str) {
        self.send(case, role, how, json!({}));
        self.next(&case.client(role), "closed");
    }

    fn subscribe(&mut self, case: &Case, role: &str, filter: &str, identifier: Option<u32>) {
        let more = json!({"filter": filter, "qos": 2, "identifier": identifier});
        self.send(case, role, "subscribe", more);
        let subscribed = self.next(&case.client(role), "subscribed");
        assert_eq!(subscribed["reason"], 2, "{subscribed}");
    }

    /// Publishes and waits for the last acknowledgement; its reason.
    fn publish(&mut self, case: &Case, topic: &str, payload: &str, qos: u8, more: Value) -> Value {
        let mut command = more;
        command["topic"] = topic.into();
        command["payload"] = payload.into();
        command["qos"] = qos.into();
        self.send(case, "writer", "publish", command);
        self.next(&case.client("writer"), "published")["reason"].clone()
    }

    fn accepted(&mut self, case: &Case, topic: &str, payload: &str, qos: u8, more: Value) {
        let reason = self.publish(case, topic, payload, qos, more);
        assert_eq!(reason, 0, "{} {topic}\n{}", case.name, explain(&self.plant.gateway));
    }

    fn arrives(&mut self, case: &Case, role: &str, topic: &str, payload: &str, qos: u8) -> Value {
        let message = self.next(&case.client(role), "message");
        assert_eq!(
            (&message["topic"], &message["payload"], &message["qos"]),
            (&topic.into(), &payload.into(), &qos.into()),
            "{message}"
        );
        message
    }

    fn qualities_retained_and_will(&mut self, case: &Case) {
        assert!(!self.connect(case, "reader", false, None));
        self.subscribe(case, "reader", &case.topic("#"), None);
        let will = json!({"topic": case.topic("will"), "payload": "gone", "qos": 1});
        self.connect(case, "writer", true, Some(will));
        for qos in [0, 1, 2] {
            let (topic, payload) = (case.topic("plain"), format!("quality {qos}, \u{fc}"));
            self.accepted(case, &topic, &payload, qos, json!({}));
            let message = self.arrives(case, "reader", &topic, &payload, qos);
            assert_eq!(message["retain"], false, "{message}");
        }
        let topic = case.topic("kept");
        self.accepted(case, &topic, "kept", 1, json!({"retain": true}));
        self.arrives(case, "reader", &topic, "kept", 1);
        self.connect(case, "late", true, None);
        self.subscribe(case, "late", &topic, None);
        let message = self.arrives(case, "late", &topic, "kept", 1);
        assert_eq!(message["retain"], true, "{message}");
        self.leave(case, "late", "disconnect");

        self.leave(case, "writer", "drop");
        self.arrives(case, "reader", &case.topic("will"), "gone", 1);
        self.connect(case, "writer", true, None);
    }

    fn version_5(&mut self, case: &Case) {
        self.connect(case, "five", true, None);
        self.subscribe(case, "five", &case.topic("five"), Some(77));
        let topic = case.topic("five");
        let more = json!({"user": [["unit", "\u{b0}C"], ["line", "4"]], "expiry": 500, "alias": 3});
        self.accepted(case, &topic, "properties", 1, more);
        // The alias stands for the topic.
        self.accepted(case, "", "by alias", 1, json!({"alias": 3}));
        let message = self.arrives(case, "five", &topic, "properties", 1);
        assert_eq!(message["user"], json!([["unit", "\u{b0}C"], ["line", "4"]]), "{message}");
        assert_eq!(message["identifiers"], json!([77]), "{message}");
        let expiry = message["expiry"].as_u64().unwrap();
        assert!((400..=500).contains(&expiry), "{message}");
        self.arrives(case, "five", &topic, "by alias", 1);
        self.leave(case, "five", "disconnect");
        self.arrives(case, "reader", &topic, "properties", 1);
        self.arrives(case, "reader", &topic, "by alias", 1);

        for qos in [1, 2] {
            let reason = self.publish(case, "elsewhere/x", "denied", qos, json!({}));
            assert_eq!(reason, self.driver.denial(qos), "QoS {qos}");
        }
        self.shared(case);
    }

    /// Two share a subscription: each message goes to one of them, and both get some.
    fn shared(&mut self, case: &Case) {
        let topic = case.topic("shared");
        for role in ["left", "right"] {
            self.connect(case, role, true, None);
            self.subscribe(case, role, &format!("$share/g/{topic}"), None);
        }
        let sent: Vec<String> = (0..8).map(|number| number.to_string()).collect();
        for payload in &sent {
            self.accepted(case, &topic, payload, 1, json!({}));
            self.arrives(case, "reader", &topic, payload, 1);
        }
        let ends: Vec<String> = ["left", "right"].map(|role| case.topic(role)).into();
        for (role, end) in ["left", "right"].iter().zip(&ends) {
            self.subscribe(case, role, end, None);
            self.accepted(case, end, "end", 1, json!({}));
            self.arrives(case, "reader", end, "end", 1);
        }
        let mut got = Vec::new();
        for role in ["left", "right"] {
            let some = self.until_end(case, role);
            assert!(!some.is_empty(), "{role} gets nothing of {topic}");
            got.extend(some);
            self.leave(case, role, "disconnect");
        }
        got.sort();
        assert_eq!(got, sent);
    }

    /// The payloads up to the message `end`.
    fn until_end(&mut self, case: &Case, role: &str) -> Vec<String> {
        let mut payloads = Vec::new();
        loop {
            let message = self.next(&case.client(role), "message");
            match message["payload"].as_str().unwrap() {
                "end" => return payloads,
                payload => payloads.push(payload.to_owned()),
            }
        }
    }

    fn away_and_back(&mut self, case: &Case) {
        self.leave(case, "reader", "disconnect");
        self.queue(case, "while away");
        self.come_back(case, "while away");
    }

    /// Messages for the reader, of which one lives for a second in version 5.
    fn queue(&mut self, case: &Case, when: &str) {
        let topic = case.topic("queued");
        if case.version == 5 && when == "before the kill" {
            self.accepted(case, &topic, "short-lived", 1, json!({"expiry": 1}));
        }
        for number in 0..6 {
            let qos = 1 + number % 2;
            self.accepted(case, &topic, &format!("{when} {number}"), qos, json!({}));
        }
    }

    /// The reader gets each of them once, those of one QoS in their order.
    fn come_back(&mut self, case: &Case, when: &str) {
        assert!(self.connect(case, "reader", false, None), "{}: no session", case.name);
        self.accepted(case, &case.topic("queued"), "end", 2, json!({}));
        let got = self.until_end(case, "reader");
        for quality in 0..2 {
            let expected: Vec<String> =
                (0..3).map(|at| format!("{when} {}", 2 * at + quality)).collect();
            let of_it: Vec<String> =
                got.iter().filter(|one| expected.contains(one)).cloned().collect();
            assert_eq!(of_it, expected, "{} QoS {}", case.name, quality + 1);
        }
        assert_eq!(got.len(), 6, "{} {got:?}", case.name);
    }
}
