//! `mosquitto_pub` and `mosquitto_sub`, a process for each thing that they do. They know no
//! WebSocket, and a topic alias only where its topic is sent with it.

use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use crate::setup::{PATIENCE, beside_others, explain, lines_of, number, wait};

use super::plant::Plant;
use super::scenario::Transport;

/// Topic, QoS, retain, user properties, message expiry, subscription identifiers, payload.
const FORMAT: &str = "%t|%q|%r|%P|%E|%S|%p";

/// One version on one kind of listener.
#[derive(Clone, Copy)]
struct Case {
    version: &'static str,
    transport: Transport,
}

impl Case {
    fn name(self) -> String {
        format!("mosquitto-{}-{:?}", self.version, self.transport)
    }

    fn topic(self, rest: &str) -> String {
        format!("it/{}/{rest}", self.name())
    }

    fn command(self, plant: &Plant, program: &str, more: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(plant.gateway.directory()).args([
            "-h",
            "localhost",
            "-V",
            self.version,
        ]);
        command.args(["-p", &plant.port(self.transport).to_string()]);
        if matches!(self.transport, Transport::Tls) {
            command.args(["--cafile", "ca.pem", "--cert", "client.pem", "--key", "client.key"]);
        }
        command.args(more);
        command
    }

    fn run(self, plant: &Plant, program: &str, more: &[&str]) -> Output {
        let mut command = self.command(plant, program, more);
        let output = command.output().expect("apt-get install mosquitto-clients");
        assert!(output.status.success(), "{}: {more:?}: {output:?}", self.name());
        output
    }

    fn publish(self, plant: &Plant, topic: &str, payload: &str, more: &[&str]) -> Output {
        let mut all = vec!["-t", topic, "-m", payload];
        all.extend(more);
        self.run(plant, "mosquitto_pub", &all)
    }

    /// A session that is kept, until `count` messages have come; with none, until it is subscribed.
    fn session(self, plant: &Plant, count: usize) -> Vec<String> {
        let (id, topic, count_text) = (self.name(), self.topic("queued"), count.to_string());
        let mut more = vec!["-i", &id, "-q", "2", "-t", &topic, "-W", "60"];
        if self.version == "5" {
            more.extend(["-x", "3600", "-c"]);
        } else {
            more.push("-c");
        }
        if count == 0 {
            more.push("-E");
        } else {
            more.extend(["-C", &count_text]);
        }
        let output = self.run(plant, "mosquitto_sub", &more);
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
    }

    fn queue(self, plant: &Plant, when: &str) -> Vec<String> {
        let payloads: Vec<String> = (1..=2).map(|qos| format!("{when}, QoS {qos}")).collect();
        for (payload, qos) in payloads.iter().zip(["1", "2"]) {
            self.publish(plant, &self.topic("queued"), payload, &["-q", qos]);
        }
        payloads
    }

    fn comes_back_to(self, plant: &Plant, expected: &[String]) {
        let mut got = self.session(plant, expected.len());
        got.sort();
        assert_eq!(got, expected, "{}\n{}", self.name(), explain(&plant.gateway));
    }
}

/// A `mosquitto_sub` that runs, killed when dropped, and its lines.
struct Subscriber {
    child: Child,
    lines: Receiver<String>,
}

impl Subscriber {
    /// Returns once the broker has its subscription.
    fn start(case: Case, plant: &Plant, filter: &str, more: &[&str]) -> Subscriber {
        let subscriptions = || number(&plant.gateway, "/broker/subscriptions").unwrap();
        let before = subscriptions();
        let mut all = vec!["-q", "2", "-t", filter, "-F", FORMAT];
        all.extend(more);
        let mut child = case
            .command(plant, "mosquitto_sub", &all)
            .stdout(Stdio::piped())
            .spawn()
            .expect("apt-get install mosquitto-clients");
        let receive = lines_of(&mut child);
        wait(&plant.gateway, "mosquitto_sub subscribes", || subscriptions() > before);
        Subscriber { child, lines: receive }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    /// Ends it without a DISCONNECT; returns once the broker has forgotten it.
    fn kill(mut self, plant: &Plant) -> Vec<String> {
        let subscriptions = || number(&plant.gateway, "/broker/subscriptions").unwrap();
        let before = subscriptions();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        wait(&plant.gateway, "its session ends", || subscriptions() < before);
        self.lines.iter().collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn qualities_retained_and_will(case: Case, plant: &Plant) {
    let (topic, kept, gone) = (case.topic("plain"), case.topic("kept"), case.topic("will"));
    let reader = Subscriber::start(case, plant, &topic, &[]);
    for qos in ["0", "1", "2"] {
        case.publish(plant, &topic, "text", &["-q", qos]);
        assert_eq!(reader.line(), format!("{topic}|{qos}|0||||text"));
    }
    reader.kill(plant);

    case.publish(plant, &kept, "kept", &["-q", "1", "-r"]);
    let late = Subscriber::start(case, plant, &kept, &[]);
    assert_eq!(late.line(), format!("{kept}|1|1||||kept"));
    late.kill(plant);

    let watcher = Subscriber::start(case, plant, &gone, &[]);
    let will = ["--will-topic", &gone, "--will-payload", "gone", "--will-qos", "1"];
    Subscriber::start(case, plant, &topic, &will).kill(plant);
    assert_eq!(watcher.line(), format!("{gone}|1|0||||gone"));
    watcher.kill(plant);
}

fn version_5(case: Case, plant: &Plant) {
    let topic = case.topic("five");
    let identifier = ["-D", "subscribe", "subscription-identifier", "77"];
    let reader = Subscriber::start(case, plant, &topic, &identifier);
    let user = ["-D", "publish", "user-property", "unit", "kelvin"];
    let expiry = ["-D", "publish", "message-expiry-interval", "500"];
    let alias = ["-D", "publish", "topic-alias", "3"];
    let more = [&["-q", "1"][..], &user, &expiry, &alias].concat();
    case.publish(plant, &topic, "properties", &more);
    let line = reader.line();
    let parts: Vec<&str> = line.split('|').collect();
    assert_eq!(
        (parts[0], parts[3], parts[5], parts[6]),
        (&*topic, "unit:kelvin", "77", "properties"),
        "{line}"
    );
    assert!((400..=500).contains(&parts[4].parse::<u32>().unwrap()), "{line}");
    reader.kill(plant);

    for qos in ["1", "2"] {
        let more = ["-t", "elsewhere/x", "-m", "denied", "-q", qos];
        let denied = case.command(plant, "mosquitto_pub", &more).output().unwrap();
        let said = String::from_utf8_lossy(&denied.stderr);
        assert!(said.contains("Not authorized"), "QoS {qos}: {denied:?}");
    }

    let filter = format!("$share/g/{}", case.topic("shared"));
    let both = [(), ()].map(|()| Subscriber::start(case, plant, &filter, &[]));
    let mut sent: Vec<String> = (0..6).map(|number| format!("shared {number}")).collect();
    for payload in &sent {
        case.publish(plant, &case.topic("shared"), payload, &["-q", "1"]);
    }
    let mut got: [Vec<String>; 2] = [Vec::new(), Vec::new()];
    let deadline = Instant::now() + PATIENCE;
    while got.iter().map(Vec::len).sum::<usize>() < sent.len() {
        assert!(Instant::now() < deadline, "{got:?}\n{}", explain(&plant.gateway));
        for (subscriber, lines) in both.iter().zip(&mut got) {
            lines.extend(subscriber.lines.recv_timeout(Duration::from_millis(20)));
        }
    }
    for (subscriber, lines) in both.into_iter().zip(&mut got) {
        lines.extend(subscriber.kill(plant));
        assert!(!lines.is_empty(), "one of the two gets nothing");
    }
    let mut all: Vec<String> =
        got.concat().iter().map(|line| line.rsplit('|').next().unwrap().to_owned()).collect();
    all.sort();
    sent.sort();
    assert_eq!(all, sent);
}

#[test]
fn mosquittos_clients_do_with_the_broker_what_they_can() {
    let _machine = beside_others();
    let mut plant = Plant::start();
    let mut cases = Vec::new();
    for version in ["311", "5"] {
        for transport in [Transport::Tcp, Transport::Tls] {
            cases.push(Case { version, transport });
        }
    }
    for &case in &cases {
        qualities_retained_and_will(case, &plant);
        if case.version == "5" {
            version_5(case, &plant);
        }
        case.session(&plant, 0);
        let expected = case.queue(&plant, "while away");
        case.comes_back_to(&plant, &expected);
    }
    plant.settle();
    let waiting: Vec<_> =
        cases.iter().map(|&case| (case, case.queue(&plant, "before the kill"))).collect();
    plant.gateway.kill().unwrap();
    plant.gateway.start().unwrap();
    for (case, expected) in waiting {
        case.comes_back_to(&plant, &expected);
    }
}
