//! Clients that someone else wrote, at both ends.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tidegate_rig::mosquitto::Mosquitto;

use crate::setup::{PATIENCE, beside_others, config, explain, gateway, lines_of, threshold};

/// A child process that is killed at the end of the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn publish(port: u16, version: &str, topic: &str, payload: &str, more: &[&str]) {
    let status = Command::new("mosquitto_pub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", version, "-q", "1"])
        .args(["-t", topic, "-m", payload])
        .args(more)
        .status()
        .expect("apt-get install mosquitto-clients");
    assert!(status.success(), "mosquitto_pub -V {version}: {status}");
}

/// `mosquitto_sub` on `tidegate/#`, its lines, once it is known to be subscribed.
fn subscribe(port: u16) -> (Killed, Receiver<String>) {
    publish(port, "5", "tidegate/ready", "ready", &["-r"]);
    let mut child = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-V", "5", "-q", "1"])
        .args(["-t", "tidegate/#", "-F", "%t|%P|%p"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("apt-get install mosquitto-clients");
    let receive = lines_of(&mut child);
    let first = receive.recv_timeout(PATIENCE).unwrap();
    assert!(first.starts_with("tidegate/ready|"), "{first}");
    (Killed(child), receive)
}

#[test]
fn mosquitto_sub_upstream_sees_what_mosquitto_pub_sent_and_the_alert() {
    let _machine = beside_others();
    let upstream = Mosquitto::start().unwrap();
    let (_subscriber, lines) = subscribe(upstream.address().port());
    let gateway = gateway(&config(upstream.address(), &threshold("")));
    for (version, sensor) in [("311", "a"), ("5", "b")] {
        let payload = format!(r#"{{"id":"{sensor}-000001","value":31.7}}"#);
        let topic = format!("sensors/{sensor}/telemetry");
        publish(gateway.mqtt().port(), version, &topic, &payload, &[]);
        let deadline = Instant::now() + Duration::from_secs(30);
        let (mut reading, mut alert) = (None, None);
        while reading.is_none() || alert.is_none() {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = lines.recv_timeout(left) else {
                panic!("reading {reading:?}, alert {alert:?}\n{}", explain(&gateway));
            };
            if line.starts_with("tidegate/gw-it/telemetry|") {
                reading = Some(line);
            } else if line.starts_with("tidegate/gw-it/alerts|") {
                alert = Some(line);
            }
        }
        let (reading, alert) = (reading.unwrap(), alert.unwrap());
        assert!(reading.ends_with(&format!("|{payload}")), "{reading}");
        for property in ["tg-gw:gw-it", "tg-stream:telemetry", "tg-seq:", "tg-epoch:"] {
            assert!(reading.contains(property), "{property} is missing in {reading}");
        }
        assert!(reading.contains(&format!("tg-topic:{topic}")), "{reading}");
        assert!(alert.contains("tg-stream:alerts"), "{alert}");
        let (_, payload) = alert.rsplit_once('|').unwrap();
        let payload: serde_json::Value = serde_json::from_str(payload).unwrap();
        assert_eq!(payload["id"], format!("{sensor}-000001"), "{alert}");
    }
}
