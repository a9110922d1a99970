//! Against nats-server, which someone else wrote.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use super::super::headers;
use super::super::link::Link;
use super::super::protocol::{self, Message, ServerOp};
use super::*;
use crate::scratch::Scratch;
use crate::uplinks::TlsFiles;

/// A server process of our own; it dies with the test.
struct NatsServer {
    child: Child,
    port: u16,
    dir: Scratch,
}

impl NatsServer {
    /// `None`, and a word about it, where nats-server is not installed.
    async fn start(more: impl Fn(&Path) -> String) -> Option<NatsServer> {
        if Command::new("nats-server").arg("--version").output().is_err() {
            eprintln!("skipped: nats-server is not installed (apt-get install nats-server)");
            return None;
        }
        let dir = Scratch::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let text = format!(
            "listen: \"127.0.0.1:{port}\"\njetstream {{ store_dir: \"{}\" }}\n{}\n",
            dir.path().join("store").display(),
            more(dir.path())
        );
        std::fs::write(dir.path().join("nats.conf"), text).unwrap();
        let log = std::fs::File::create(dir.path().join("nats.log")).unwrap();
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(dir.path().join("nats.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let server = NatsServer { child, port, dir };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            let log = std::fs::read_to_string(server.dir.path().join("nats.log"));
            assert!(Instant::now() < deadline, "nats-server does not listen: {log:?}");
            sleep(Duration::from_millis(10)).await;
        }
        Some(server)
    }

    fn driver(&self) -> Driver {
        Driver::start(target(self.port, NatsOptions::default()))
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whoever runs the server.
struct Operator {
    link: Link,
}

impl Operator {
    async fn new(server: &NatsServer) -> Operator {
        let socket = TcpStream::connect(("127.0.0.1", server.port)).await.unwrap();
        let mut link = Link::new(Box::new(socket));
        let options = json!({ "verbose": false, "headers": true, "no_responders": true });
        protocol::connect(&mut link.out, &options.to_string());
        protocol::subscribe(&mut link.out, "_OPERATOR", 1);
        Operator { link }
    }

    async fn answer(&mut self) -> Message {
        loop {
            match self.link.hear().await.unwrap() {
                ServerOp::Message(message) => return message,
                ServerOp::Error(said) => panic!("{said}"),
                _ => {}
            }
        }
    }

    async fn api(&mut self, path: &str, body: Value) -> Value {
        let (path, body) = (format!("$JS.API.{path}"), body.to_string());
        protocol::publish(&mut self.link.out, &path, Some("_OPERATOR"), body.as_bytes());
        let answer: Value = serde_json::from_slice(&self.answer().await.payload).unwrap();
        assert!(answer.get("error").is_none(), "{path}: {answer}");
        answer
    }

    /// A stream for all gateways, with a duplicate window of 100 ms.
    async fn stream(&mut self, change: Value) {
        let mut config = json!({ "name": "T", "subjects": ["tidegate.>"],
            "duplicate_window": 100_000_000 });
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        self.api("STREAM.CREATE.T", config).await;
    }

    async fn publish(&mut self, headers: &str, payload: &str) {
        let block = format!("NATS/1.0\r\n{headers}\r\n");
        let (block, payload) = (block.as_bytes(), payload.as_bytes());
        let out = &mut self.link.out;
        protocol::publish_with_headers(out, "tidegate.gw.s", "_OPERATOR", block, payload);
        let answer = self.answer().await;
        assert!(!String::from_utf8_lossy(&answer.payload).contains("error"), "{answer:?}");
    }

    /// Sequences of the records that the stream holds, in its order.
    async fn records(&mut self) -> Vec<u64> {
        let info = self.api("STREAM.INFO.T", json!({})).await;
        let last = info["state"]["last_seq"].as_u64().unwrap();
        let mut records = Vec::new();
        for seq in info["state"]["first_seq"].as_u64().unwrap()..=last {
            let got = self.api("STREAM.MSG.GET.T", json!({ "seq": seq })).await;
            let block = crate::base64::decode(got["message"]["hdrs"].as_str().unwrap());
            let (_, headers) = headers::decode(&block.unwrap()).unwrap();
            let found = headers.iter().find(|(name, _)| name == "tg-seq").unwrap();
            records.push(found.1.parse().unwrap());
        }
        records
    }
}

/// The headers of record `seq`, as somebody else could write them.
fn forged(seq: u64) -> String {
    format!(
        "tg-v: 1\r\ntg-gw: gw\r\ntg-epoch: 1\r\ntg-stream: s\r\ntg-seq: {seq}\r\ntg-topic: t\r\n\
         tg-client: c\r\ntg-time: 0\r\ntg-clock: synced\r\n"
    )
}

#[test]
fn each_record_is_stored_once_though_no_answer_came_and_the_duplicate_window_is_over() {
    on_side_thread(async {
        let Some(server) = NatsServer::start(|_| String::new()).await else { return };
        let mut operator = Operator::new(&server).await;
        operator.stream(json!({})).await;
        let mut driver = server.driver();
        driver.connect(1).await;
        driver.connected(1, None).await;
        driver.send(1, 1).await;
        driver.acknowledged(1, 1).await;
        for seq in 2..=60 {
            driver.send(1, seq).await;
        }
        driver.acknowledged(1, 2).await;
        // The server has all of them or will have; nobody hears its answers.
        drop(driver);
        sleep(Duration::from_millis(300)).await;
        let mut driver = server.driver();
        driver.connect(2).await;
        let held = match driver.event().await {
            UplinkEvent::Connected { session: 2, held } => held,
            other => panic!("{other:?}"),
        };
        assert!(held[0].seq >= Seq(2), "{held:?}");
        for seq in held[0].seq.0 + 1..=70 {
            driver.send(2, seq).await;
        }
        for seq in held[0].seq.0 + 1..=70 {
            driver.acknowledged(2, seq).await;
        }
        let records = operator.records().await;
        assert!(records.iter().copied().eq(1..=70), "{records:?}");
    });
}

#[test]
fn message_that_came_in_between_fails_the_fence_and_is_found_by_the_next_session() {
    on_side_thread(async {
        let Some(server) = NatsServer::start(|_| String::new()).await else { return };
        let mut operator = Operator::new(&server).await;
        operator.stream(json!({})).await;
        let mut driver = server.driver();
        driver.connect(1).await;
        driver.connected(1, None).await;
        operator.publish(&forged(1), "1").await;
        driver.send(1, 1).await;
        let why = driver.ended(1).await;
        assert!(why.contains("10071"), "{why}");
        driver.connect(2).await;
        driver.connected(2, Some(1)).await;
        driver.send(2, 2).await;
        driver.acknowledged(2, 2).await;
        assert_eq!(operator.records().await, [1, 2]);
        operator.publish("a: b\r\n", "not a record").await;
        driver.act(Action::Disconnect { session: 2, why: String::new() }).await;
        let why = driver.failure(3).await;
        assert!(why.contains("sequence 3") && why.contains("tg-v is missing"), "{why}");
    });
}

#[test]
fn purged_subject_is_begun_anew_with_what_was_not_acknowledged() {
    on_side_thread(async {
        let Some(server) = NatsServer::start(|_| String::new()).await else { return };
        let mut operator = Operator::new(&server).await;
        operator.stream(json!({})).await;
        let mut driver = server.driver();
        driver.connect(1).await;
        driver.connected(1, None).await;
        for seq in 1..=3 {
            driver.send(1, seq).await;
            driver.acknowledged(1, seq).await;
        }
        operator.api("STREAM.PURGE.T", json!({})).await;
        // While connected nothing is noticed, and nothing needs to be.
        driver.send(1, 4).await;
        driver.acknowledged(1, 4).await;
        operator.api("STREAM.PURGE.T", json!({})).await;
        driver.connect(2).await;
        driver.connected(2, None).await;
        driver.send(2, 5).await;
        driver.acknowledged(2, 5).await;
        assert_eq!(operator.records().await, [5]);
    });
}

#[test]
fn full_stream_makes_the_gateway_wait_and_what_was_refused_is_stored_once() {
    on_side_thread(async {
        let Some(server) = NatsServer::start(|_| String::new()).await else { return };
        let mut operator = Operator::new(&server).await;
        operator.stream(json!({ "discard": "new", "max_msgs": 1_010 })).await;
        let mut driver = server.driver();
        driver.connect(1).await;
        driver.connected(1, None).await;
        driver.send(1, 1).await;
        driver.acknowledged(1, 1).await;
        for seq in 2..=1_015 {
            driver.send(1, seq).await;
        }
        for seq in 2..=1_010 {
            driver.acknowledged(1, seq).await;
        }
        match driver.event().await {
            UplinkEvent::Busy { session: 1, why, .. } => {
                assert!(why.contains("maximum messages exceeded"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        let larger = json!({ "name": "T", "subjects": ["tidegate.>"], "discard": "new",
            "duplicate_window": 100_000_000, "max_msgs": 2_000 });
        operator.api("STREAM.UPDATE.T", larger).await;
        driver.connect(2).await;
        driver.connected(2, Some(1_010)).await;
        for seq in 1_011..=1_015 {
            driver.send(2, seq).await;
            driver.acknowledged(2, seq).await;
        }
        let records = operator.records().await;
        assert!(records.iter().copied().eq(1..=1_015), "{records:?}");
    });
}

#[test]
fn property_of_a_sensor_is_no_order_to_the_server() {
    on_side_thread(async {
        let Some(server) = NatsServer::start(|_| String::new()).await else { return };
        let mut operator = Operator::new(&server).await;
        operator.stream(json!({ "allow_rollup_hdrs": true })).await;
        let mut driver = server.driver();
        driver.connect(1).await;
        driver.connected(1, None).await;
        driver.send(1, 1).await;
        driver.acknowledged(1, 1).await;
        let properties = [
            ("Nats-Rollup", "all"),
            ("Nats-Expected-Last-Sequence", "77"),
            ("note", "Nats-Rollup: all"),
            ("x", "\r\nNats-Rollup: all\r\n"),
            ("Nats-Msg-Id", "gw/1/s/1"),
        ];
        for (seq, (name, value)) in (2..).zip(properties) {
            let mut batch = batch(seq, b"x");
            batch.records[0].user = vec![(name.to_owned(), value.to_owned())];
            batch.records[0].topic = format!("a/{name}: {value}");
            driver.act(Action::Send { session: 1, token: 1_000 + seq, batch }).await;
            driver.acknowledged(1, seq).await;
        }
        assert_eq!(operator.records().await, [1, 2, 3, 4, 5, 6]);
    });
}

#[test]
fn what_the_server_has_not_got_is_named() {
    on_side_thread(async {
        let Some(server) = NatsServer::start(|_| String::new()).await else { return };
        let mut driver = server.driver();
        let why = driver.failure(1).await;
        assert!(why.contains("no JetStream stream"), "{why}");
        let mut operator = Operator::new(&server).await;
        operator.stream(json!({ "retention": "workqueue", "max_msgs_per_subject": 1 })).await;
        let why = driver.failure(2).await;
        assert!(why.contains("workqueue") && why.contains("max_msgs_per_subject"), "{why}");
    });
}

#[test]
fn key_logs_in_over_tls_and_nothing_else_does() {
    const SEED: &str = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY";
    const PUBLIC: &str = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    on_side_thread(async {
        let certificates = Scratch::new();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
            .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(certificates.path().join("key.pem"))
            .arg("-out")
            .arg(certificates.path().join("cert.pem"))
            .output();
        if !made.is_ok_and(|made| made.status.success()) {
            eprintln!("skipped: openssl is not installed (apt-get install openssl)");
            return;
        }
        let file = |name: &str| certificates.path().join(name);
        let (cert, key) = (file("cert.pem"), file("key.pem"));
        std::fs::write(file("seed"), SEED).unwrap();
        let more = |_: &Path| {
            format!(
                "tls {{ cert_file: \"{}\", key_file: \"{}\" }}\n\
                 authorization {{ users: [ {{ nkey: {PUBLIC} }} ] }}\n",
                cert.display(),
                key.display()
            )
        };
        let Some(server) = NatsServer::start(more).await else { return };
        let open = |credentials_file: Option<PathBuf>| {
            let tls = TlsFiles { ca_file: Some(cert.clone()), ..TlsFiles::default() };
            let options = NatsOptions { credentials_file, tls, ..NatsOptions::default() };
            let url = format!("tls://localhost:{}", server.port);
            Driver::start(NatsTarget::parse("gw", "up", &url, options).unwrap())
        };
        // Logged in, and then there is no stream.
        let why = open(Some(file("seed"))).failure(1).await;
        assert!(why.contains("no JetStream stream"), "{why}");
        let why = open(None).failure(1).await;
        assert!(why.contains("does not accept the login"), "{why}");
        let why = server.driver().failure(1).await;
        assert!(why.contains("wants TLS"), "{why}");
    });
}
