//! What an operator does: start, stop, check, look.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tidegate_rig::consumer::Consumer;
use tidegate_rig::mosquitto::Mosquitto;
use tidegate_rig::mqtt::Version;

use crate::binaries;
use crate::setup::{
    PATIENCE, Readings, beside_others, config, explain, gateway, publisher, scratch_with, threshold,
};

/// A GET; the status line and the body.
fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn sigterm_ends_the_gateway_cleanly_and_the_next_start_goes_on() {
    let _machine = beside_others();
    let upstream = Mosquitto::start().unwrap();
    let consumer = Consumer::start_keeping(upstream.address()).unwrap();
    let mut gateway = gateway(&config(upstream.address(), &threshold(", every = true")));
    let source = Readings::paced("p0", 4_000, Duration::from_millis(1));
    let publisher = publisher(gateway.mqtt(), "p0", Version::V5, Some(1), source);
    for round in 1..=3 {
        crate::setup::wait(&gateway, "readings are acknowledged", || {
            publisher.progress().acknowledged >= round * 800
        });
        let status = gateway.terminate(Duration::from_secs(20)).unwrap();
        assert_eq!(status.code(), Some(0), "exit of a clean shutdown\n{}", gateway.log_tail());
        gateway.start().unwrap();
    }
    let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
    assert_eq!(report.acknowledged.len(), 4_000, "{:?}", report.last_error);
    let all = consumer.wait_until(Instant::now() + PATIENCE, |arrivals| {
        arrivals.distinct("telemetry") == 4_000 && arrivals.distinct("alerts") == 400
    });
    assert!(all, "{}", explain(&gateway));
    let arrivals = consumer.arrivals();
    assert!(arrivals.oddities.is_empty() && arrivals.conflicts.is_empty());
    assert_eq!((arrivals.repeated("telemetry"), arrivals.repeated("alerts")), (0, 0));
    assert!(arrivals.records("telemetry", "p0").is_sorted());
    let epochs: Vec<u32> = arrivals.seen.keys().map(|(_, epoch, _)| *epoch).collect();
    assert!(epochs.iter().all(|epoch| *epoch == epochs[0]), "a clean stop needs no new epoch");
}

#[test]
fn health_metrics_and_status_answer() {
    let _machine = beside_others();
    let upstream = Mosquitto::start().unwrap();
    let gateway = gateway(&config(upstream.address(), &threshold("")));
    let (status, body) = get(gateway.http(), "/healthz");
    assert_eq!(status, "HTTP/1.1 200 OK", "{body}");
    let source = Readings::new("p0", 100);
    let publisher = publisher(gateway.mqtt(), "p0", Version::V311, None, source);
    let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
    assert_eq!(report.acknowledged.len(), 100, "{:?}", report.last_error);
    let (status, metrics) = get(gateway.http(), "/metrics");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(metrics.lines().any(|line| line.starts_with("tidegate_")), "{metrics}");
    assert!(metrics.contains("telemetry"), "{metrics}");
    for name in ["tidegate_disk_sync_seconds_count", "process_open_fds", "tidegate_disk_free_bytes"]
    {
        let line = metrics.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap() > 0.0, "{line}");
    }
    promtool(&["check", "metrics"], &metrics);
    let seen = gateway.status().unwrap();
    assert_eq!(seen["gateway"], "gw-it");
    let streams = seen["streams"].as_array().unwrap();
    let telemetry = streams.iter().find(|stream| stream["name"] == "telemetry").unwrap();
    assert_eq!(telemetry["durable_seq"], 101);
    let listing = gateway.command(&["stream", "ls"]).unwrap();
    assert!(listing.contains("telemetry") && listing.contains("dead-letters"), "{listing}");
    let tail = gateway.command(&["stream", "tail", "telemetry", "--json"]).unwrap();
    assert!(tail.contains("p0-000099"), "{tail}");
}

/// Runs Prometheus' own checks, where they are installed.
fn promtool(arguments: &[&str], input: &str) {
    let mut child = match Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    {
        Ok(child) => child,
        Err(error) => {
            eprintln!("skipped: promtool is not installed (apt-get install prometheus): {error}");
            return;
        }
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && text.trim().is_empty(), "{arguments:?}: {output:?}");
}

#[test]
fn every_alert_fires_when_it_should_and_none_while_all_is_well() {
    let operations = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations");
    let (rules, tests) = (operations.join("alerts.yml"), operations.join("alerts.test.yml"));
    let text = |file: &std::path::Path| std::fs::read_to_string(file).unwrap();
    let fired = text(&tests);
    let alerts: Vec<String> = text(&rules)
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: ").map(str::to_owned))
        .collect();
    assert!(alerts.len() >= 15, "{alerts:?}");
    for alert in alerts {
        // Once where it fires, and once where all is well.
        assert!(fired.contains(&format!("alertname: {alert}\n")), "{alert} fires in no test");
        assert!(fired.contains(&format!("alertname: {alert}, exp_alerts: []")), "{alert}");
    }
    promtool(&["check", "rules", rules.to_str().unwrap()], "");
    promtool(&["test", "rules", tests.to_str().unwrap()], "");
}

#[test]
fn check_names_every_mistake_at_once_and_exits_with_2() {
    let _machine = beside_others();
    let broken = r#"[gateway]
id = "gw 01"
data_dir = "data"

[mqtt]
lisen = "127.0.0.1:1883"

[stream.telemetry]
topics = ["sensors/#/telemetry"]
max_bytes = "12 parsecs"
overflow = "drop-newest"

[uplink.cloud]
url = "mqtt://127.0.0.1:18830"
streams = ["telemetri"]
"#;
    let scratch = scratch_with("tidegate.toml", broken.as_bytes());
    let file = scratch.path().join("tidegate.toml");
    for command in ["check", "run"] {
        let output = Command::new(binaries::tidegate())
            .args([command, "--config"])
            .arg(&file)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "tidegate {command}: {text}");
        for (wrong, help) in [
            ("gw 01", ""),
            ("lisen", "listen"),
            ("sensors/#/telemetry", ""),
            ("12 parsecs", ""),
            ("drop-newest", "drop-oldest"),
            ("telemetri", "telemetry"),
        ] {
            let line = text.lines().any(|line| line.contains(wrong));
            assert!(line && text.contains(help), "{wrong:?} or {help:?} is missing:\n{text}");
        }
    }
}

#[test]
fn check_accepts_a_good_configuration() {
    let _machine = beside_others();
    let upstream = Mosquitto::start().unwrap();
    let gateway = gateway(&config(upstream.address(), &threshold("")));
    gateway.command(&["check"]).unwrap();
}
