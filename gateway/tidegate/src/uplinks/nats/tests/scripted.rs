//! What the driver does with each answer a server may give.

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// One accepted connection of a server that does what the test says.
struct Peer {
    socket: BufReader<TcpStream>,
}

/// A publish: subject, reply, headers, body.
#[derive(Debug)]
struct Publish {
    subject: String,
    reply: String,
    headers: String,
    payload: String,
}

impl Publish {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.headers.split("\r\n");
        lines.filter_map(|line| line.split_once(": ")).find(|(key, _)| *key == name).map(|(_, v)| v)
    }
}

impl Peer {
    async fn accept(listener: &TcpListener) -> Peer {
        let (socket, _) = listener.accept().await.unwrap();
        Peer { socket: BufReader::new(socket) }
    }

    async fn say(&mut self, text: &str) {
        self.socket.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.socket.read_line(&mut line)).await.unwrap();
        assert_ne!(read.unwrap(), 0, "the driver closed the connection");
        line.trim_end().to_owned()
    }

    async fn expect(&mut self, begin: &str) -> String {
        let line = self.line().await;
        assert!(line.starts_with(begin), "{line}, not {begin}");
        line
    }

    /// Greets and takes CONNECT, the subscriptions and the first PING.
    async fn greet(&mut self, info: Value) -> Value {
        let mut greeting = json!({ "version": "2.9.10", "headers": true, "max_payload": 1_000 });
        greeting.as_object_mut().unwrap().extend(info.as_object().unwrap().clone());
        self.say(&format!("INFO {greeting}\r\n")).await;
        let connect = self.expect("CONNECT ").await;
        self.expect("SUB _INBOX.").await;
        self.expect("SUB _INBOX.").await;
        self.expect("PING").await;
        serde_json::from_str(&connect["CONNECT ".len()..]).unwrap()
    }

    async fn publish(&mut self) -> Publish {
        let line = self.line().await;
        let words: Vec<&str> = line.split(' ').collect();
        let (headers, total): (usize, usize) = match words[..] {
            ["PUB", _, _, total] => (0, total.parse().unwrap()),
            ["PUB", _, total] => (0, total.parse().unwrap()),
            ["HPUB", _, _, headers, total] => (headers.parse().unwrap(), total.parse().unwrap()),
            _ => panic!("{line}"),
        };
        let mut body = vec![0; total + 2];
        self.socket.read_exact(&mut body).await.unwrap();
        let payload = String::from_utf8(body[headers..total].to_vec()).unwrap();
        let headers = String::from_utf8(body[..headers].to_vec()).unwrap();
        Publish { subject: words[1].to_owned(), reply: words[2].to_owned(), headers, payload }
    }

    async fn answer(&mut self, reply: &str, body: &str) {
        self.say(&format!("MSG {reply} 1 {}\r\n{body}\r\n", body.len())).await;
    }

    /// Takes a request to this path and answers it.
    async fn api(&mut self, path: &str, body: Value) -> Value {
        let publish = self.publish().await;
        assert_eq!(publish.subject, format!("$JS.API.{path}"));
        self.answer(&publish.reply, &body.to_string()).await;
        if publish.payload.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&publish.payload).unwrap()
        }
    }

    async fn stored(&mut self, publish: &Publish, at: u64) {
        self.answer(&publish.reply, &json!({ "stream": "T", "seq": at }).to_string()).await;
    }

    /// Up to the question for the last message.
    async fn stream(&mut self, change: Value) {
        self.greet(json!({})).await;
        self.say("PONG\r\n").await;
        let asked = self.api("STREAM.NAMES", json!({ "total": 1, "streams": ["T"] })).await;
        assert_eq!(asked, json!({ "subject": "tidegate.gw.s" }));
        let mut config = json!({ "name": "T", "retention": "limits", "storage": "file",
            "max_msgs": -1, "max_msgs_per_subject": -1, "max_msg_size": -1,
            "duplicate_window": 1 });
        config.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        self.api("STREAM.INFO.T", json!({ "config": config })).await;
    }

    /// All of it, with a subject that has no message yet.
    async fn welcome(&mut self, change: Value) {
        self.stream(change).await;
        let asked = self.api("STREAM.MSG.GET.T", refusal(404, 10_037, "no message found")).await;
        assert_eq!(asked, json!({ "last_by_subj": "tidegate.gw.s" }));
    }

    /// Reads until the driver has closed the connection.
    async fn closed(&mut self) {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, self.socket.read_to_end(&mut rest)).await;
        // Reset or end of file, both are gone.
        let _ = end.expect("the driver keeps the socket");
    }
}

fn refusal(code: u32, err_code: u32, description: &str) -> Value {
    json!({ "error": { "code": code, "err_code": err_code, "description": description } })
}

/// The headers of record `seq`, as a message in JSON carries them.
fn headers(seq: u64, floor: &str) -> String {
    let floor = if floor.is_empty() { String::new() } else { format!("tg-floor: {floor}\r\n") };
    format!(
        "NATS/1.0\r\nNats-Msg-Id: gw/1/s/{seq}\r\ntg-v: 1\r\ntg-gw: gw\r\ntg-epoch: 1\r\n\
         tg-stream: s\r\ntg-seq: {seq}\r\ntg-topic: t\r\ntg-client: c\r\ntg-time: 0\r\n\
         tg-clock: synced\r\n{floor}\r\n"
    )
}

fn message(at: u64, headers: &str) -> Value {
    let text = crate::base64::encode_for_url(headers.as_bytes());
    let hdrs = text.replace('-', "+").replace('_', "/");
    json!({ "message": { "subject": "tidegate.gw.s", "seq": at, "hdrs": hdrs } })
}

async fn listen(options: NatsOptions) -> (TcpListener, Driver) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Driver::start(target(port, options)))
}

/// A driver in session 1 on an empty subject, its first publish through: record 1 is in message
/// 11.
async fn publishing(change: Value) -> (TcpListener, Peer, Driver) {
    let (listener, mut driver) = listen(NatsOptions::default()).await;
    driver.connect(1).await;
    let mut peer = Peer::accept(&listener).await;
    peer.welcome(change).await;
    driver.connected(1, None).await;
    driver.send(1, 1).await;
    let first = peer.publish().await;
    peer.stored(&first, 11).await;
    driver.acknowledged(1, 1).await;
    (listener, peer, driver)
}

#[test]
fn record_is_on_the_wire_with_its_envelope_id_and_fence() {
    on_side_thread(async {
        let (listener, mut driver) = listen(NatsOptions::default()).await;
        driver.connect(1).await;
        let mut peer = Peer::accept(&listener).await;
        peer.welcome(json!({})).await;
        driver.connected(1, None).await;
        driver.send(1, 1).await;
        let first = peer.publish().await;
        assert_eq!((&*first.subject, &*first.payload), ("tidegate.gw.s", "1"));
        let fenced =
            headers(1, "").replace("tg-v: 1", "Nats-Expected-Last-Subject-Sequence: 0\r\ntg-v: 1");
        assert_eq!(first.headers, fenced);
        peer.stored(&first, 11).await;
        driver.acknowledged(1, 1).await;
        driver.send(1, 2).await;
        let second = peer.publish().await;
        assert_eq!(second.headers, headers(2, "1/1@11"));
    });
}

#[test]
fn each_acknowledgement_reaches_the_record_it_is_for_in_whatever_order() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver) = publishing(json!({})).await;
        let mut sent = Vec::new();
        for seq in 2..=5 {
            driver.send(1, seq).await;
        }
        for seq in 2..=5_u64 {
            let publish = peer.publish().await;
            assert_eq!(publish.payload, seq.to_string());
            assert_eq!(publish.header("Nats-Expected-Last-Subject-Sequence"), None);
            sent.push(publish);
        }
        for at in [2, 0, 3, 1] {
            let duplicate = json!({ "stream": "T", "seq": 1, "duplicate": true }).to_string();
            peer.answer(&sent[at].reply, &duplicate).await;
            driver.acknowledged(1, at as u64 + 2).await;
        }
    });
}

#[test]
fn nothing_follows_the_fenced_publish_until_it_is_through() {
    on_side_thread(async {
        let (listener, mut driver) = listen(NatsOptions::default()).await;
        driver.connect(1).await;
        let mut peer = Peer::accept(&listener).await;
        peer.welcome(json!({})).await;
        driver.connected(1, None).await;
        for seq in 1..=3 {
            driver.send(1, seq).await;
        }
        let first = peer.publish().await;
        // The answer to this PING proves that nothing came behind the first publish.
        peer.say("PING\r\n").await;
        assert_eq!(peer.line().await, "PONG");
        peer.stored(&first, 11).await;
        for seq in ["2", "3"] {
            assert_eq!(peer.publish().await.payload, seq);
        }
        driver.acknowledged(1, 1).await;
    });
}

#[test]
fn failed_fence_leads_to_a_session_that_reads_again() {
    on_side_thread(async {
        let (listener, mut driver) = listen(NatsOptions::default()).await;
        driver.connect(1).await;
        let mut peer = Peer::accept(&listener).await;
        peer.welcome(json!({})).await;
        driver.connected(1, None).await;
        driver.send(1, 1).await;
        driver.send(1, 2).await;
        let first = peer.publish().await;
        let wrong = refusal(400, 10_071, "wrong last sequence: 12").to_string();
        peer.answer(&first.reply, &wrong).await;
        let why = driver.ended(1).await;
        assert!(why.contains("has got a message") && why.contains("10071"), "{why}");
        peer.closed().await;

        driver.connect(2).await;
        let mut peer = Peer::accept(&listener).await;
        peer.stream(json!({})).await;
        peer.api("STREAM.MSG.GET.T", message(12, &headers(2, "1/1@11"))).await;
        driver.connected(2, Some(2)).await;
        driver.send(2, 3).await;
        let third = peer.publish().await;
        assert_eq!(third.header("Nats-Expected-Last-Subject-Sequence"), Some("12"));
        assert_eq!(third.header("tg-floor"), Some("1/2@12"));
    });
}

#[test]
fn what_lies_behind_the_floor_is_read_and_only_what_is_missing_is_sent() {
    on_side_thread(async {
        let (listener, mut driver) = listen(NatsOptions::default()).await;
        driver.connect(1).await;
        let mut peer = Peer::accept(&listener).await;
        peer.stream(json!({})).await;
        peer.api("STREAM.MSG.GET.T", message(30, &headers(9, "1/5@20"))).await;
        let create = peer.publish().await;
        assert_eq!(create.subject, "$JS.API.CONSUMER.CREATE.T");
        let asked: Value = serde_json::from_str(&create.payload).unwrap();
        let config = &asked["config"];
        assert_eq!(config["filter_subject"], "tidegate.gw.s");
        assert_eq!((&config["opt_start_seq"], &config["headers_only"]), (&json!(21), &json!(true)));
        // 6 and 8 are there, 7 is not; one message is none of ours. Some come before the answer.
        let mut deliver = String::new();
        for (left, at, seq) in [(3, 22, 6), (2, 25, 8), (1, 28, 0), (0, 30, 9)] {
            let block = if seq == 0 { "NATS/1.0\r\n\r\n".to_owned() } else { headers(seq, "") };
            let bytes = block.len();
            let reply = format!("$JS.ACK.T.c1.1.{at}.1.1700000000000.{left}");
            let line = format!("HMSG tidegate.gw.s 2 {reply} {bytes} {bytes}\r\n{block}\r\n");
            deliver.push_str(&line);
            if at == 22 {
                peer.say(&deliver).await;
                deliver.clear();
                peer.answer(&create.reply, &json!({ "name": "c1" }).to_string()).await;
            }
        }
        peer.say(&deliver).await;
        driver.connected_with_gap(1, 6, 9).await;
        assert_eq!(peer.publish().await.subject, "$JS.API.CONSUMER.DELETE.T.c1");
        for seq in 7..=10 {
            driver.send(1, seq).await;
        }
        for seq in [8, 9] {
            driver.acknowledged(1, seq).await;
        }
        let seventh = peer.publish().await;
        assert_eq!(seventh.payload, "7");
        assert_eq!(seventh.header("Nats-Expected-Last-Subject-Sequence"), Some("30"));
        assert_eq!(seventh.header("tg-floor"), Some("1/6@22"));
        peer.stored(&seventh, 31).await;
        driver.acknowledged(1, 7).await;
        let tenth = peer.publish().await;
        assert_eq!((&*tenth.payload, tenth.header("tg-floor")), ("10", Some("1/9@30")));
    });
}

#[test]
fn stream_that_is_full_ends_the_session_as_busy() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver) = publishing(json!({})).await;
        driver.send(1, 2).await;
        let second = peer.publish().await;
        let full = refusal(503, 10_077, "maximum messages exceeded").to_string();
        peer.answer(&second.reply, &full).await;
        match driver.event().await {
            UplinkEvent::Busy { session: 1, retry_after: None, why } => {
                assert!(why.contains("tidegate.gw.s: maximum messages exceeded"), "{why}");
            }
            other => panic!("{other:?}"),
        }
        peer.closed().await;
    });
}

#[test]
fn subject_that_nobody_takes_any_more_and_stream_made_anew_end_the_session() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver) = publishing(json!({})).await;
        driver.send(1, 2).await;
        let second = peer.publish().await;
        let status = "NATS/1.0 503\r\n\r\n";
        peer.say(&format!("HMSG {} 1 16 16\r\n{status}\r\n", second.reply)).await;
        let why = driver.ended(1).await;
        assert!(why.contains("no stream takes the subject"), "{why}");

        for (body, part) in [
            (json!({ "stream": "T", "seq": 1 }), "made anew"),
            (json!({ "stream": "U", "seq": 12 }), "now is by U"),
        ] {
            let (_listener, mut peer, mut driver) = publishing(json!({})).await;
            driver.send(1, 2).await;
            let second = peer.publish().await;
            peer.answer(&second.reply, &body.to_string()).await;
            let why = driver.ended(1).await;
            assert!(why.contains(part), "{why}");
        }
    });
}

#[test]
fn record_that_is_too_large_is_refused_and_those_behind_it_go() {
    on_side_thread(async {
        let (listener, mut driver) = listen(NatsOptions::default()).await;
        driver.connect(1).await;
        let mut peer = Peer::accept(&listener).await;
        peer.welcome(json!({ "max_msg_size": 400 })).await;
        driver.connected(1, None).await;
        let large = Action::Send { session: 1, token: 1_001, batch: batch(1, &[b'x'; 400]) };
        driver.act(large).await;
        match driver.event().await {
            UplinkEvent::Refused { session: 1, token: 1_001, reason } => match reason {
                RefuseReason::PacketTooLarge { bytes: Some(bytes), max: Some(400) } => {
                    assert!(bytes > 500, "{bytes}");
                }
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
        driver.send(1, 2).await;
        let second = peer.publish().await;
        assert_eq!(second.header("Nats-Expected-Last-Subject-Sequence"), Some("0"));
        driver.send(1, 3).await;
        let refused = refusal(400, 10_054, "message size exceeds maximum allowed");
        peer.answer(&second.reply, &refused.to_string()).await;
        let reason = RefuseReason::PacketTooLarge { bytes: None, max: None };
        let expected = UplinkEvent::Refused { session: 1, token: 1_002, reason };
        assert_eq!(driver.event().await, expected);
        assert_eq!(peer.publish().await.payload, "3");
    });
}

#[test]
fn forbidden_publish_is_refused_and_other_complaints_end_the_session() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver) = publishing(json!({})).await;
        driver.send(1, 2).await;
        peer.publish().await;
        peer.say("-ERR 'Permissions Violation for Publish to \"tidegate.gw.s\"'\r\n").await;
        let reason = RefuseReason::NotAuthorized;
        let expected = UplinkEvent::Refused { session: 1, token: 1_002, reason };
        assert_eq!(driver.event().await, expected);
        peer.say("-ERR 'Stale Connection'\r\n").await;
        let why = driver.ended(1).await;
        assert!(why.contains("complains: Stale Connection"), "{why}");

        let (_listener, mut peer, mut driver) = publishing(json!({})).await;
        peer.say("-ERR 'Maximum Payload Violation'\r\n").await;
        assert!(matches!(driver.event().await, UplinkEvent::Expelled { session: 1, .. }));
    });
}

#[test]
fn what_a_server_lacks_is_said_before_anything_is_sent() {
    on_side_thread(async {
        let (listener, mut driver) = listen(NatsOptions::default()).await;
        let none = async {
            let mut peer = Peer::accept(&listener).await;
            peer.greet(json!({})).await;
            peer.say("PONG\r\n").await;
            peer.api("STREAM.NAMES", json!({ "total": 0, "streams": null })).await;
        };
        let (why, ()) = tokio::join!(driver.failure(1), none);
        assert!(why.contains("no JetStream stream") && why.contains("tidegate.gw.s"), "{why}");

        let disabled = async {
            let mut peer = Peer::accept(&listener).await;
            peer.greet(json!({})).await;
            peer.say("PONG\r\n").await;
            let asked = peer.publish().await;
            let status = "NATS/1.0 503\r\n\r\n";
            peer.say(&format!("HMSG {} 1 16 16\r\n{status}\r\n", asked.reply)).await;
        };
        let (why, ()) = tokio::join!(driver.failure(2), disabled);
        assert!(why.contains("has no JetStream for this account"), "{why}");

        let unfit = async {
            let mut peer = Peer::accept(&listener).await;
            peer.stream(json!({ "retention": "workqueue", "no_ack": true })).await;
        };
        let (why, ()) = tokio::join!(driver.failure(3), unfit);
        assert!(why.contains("retention") && why.contains("no_ack"), "{why}");

        let foreign = async {
            let mut peer = Peer::accept(&listener).await;
            peer.stream(json!({})).await;
            peer.api("STREAM.MSG.GET.T", message(5, "NATS/1.0\r\na: b\r\n\r\n")).await;
        };
        let (why, ()) = tokio::join!(driver.failure(4), foreign);
        assert!(why.contains("sequence 5") && why.contains("somebody else"), "{why}");

        let forbidden = async {
            let mut peer = Peer::accept(&listener).await;
            peer.greet(json!({})).await;
            peer.say("PONG\r\n").await;
            peer.publish().await;
            let said = "Permissions Violation for Publish to \"$JS.API.STREAM.NAMES\"";
            peer.say(&format!("-ERR '{said}'\r\n")).await;
        };
        let (why, ()) = tokio::join!(driver.failure(5), forbidden);
        assert!(why.contains("does not permit") && why.contains("STREAM.NAMES"), "{why}");
    });
}

#[test]
fn each_way_not_to_connect_is_reported_as_a_sentence() {
    on_side_thread(async {
        let (listener, mut driver) = listen(NatsOptions::default()).await;
        let cases = [
            ("HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the NATS protocol"),
            ("PING\r\n", "did not greet as a NATS server does"),
            ("INFO {\"version\":\"1.4.0\"}\r\n", "NATS 1.4.0, which has no headers"),
            ("INFO nonsense\r\n", "INFO that cannot be read"),
            ("INFO {\"headers\":true,\"tls_required\":true}\r\n", "write tls://"),
            (
                "INFO {\"headers\":true}\r\n-ERR 'Authorization Violation'\r\n",
                "does not accept the login",
            ),
        ];
        for (session, (said, part)) in (1..).zip(cases) {
            let serve = async {
                let mut peer = Peer::accept(&listener).await;
                peer.say(said).await;
                peer.closed().await;
            };
            let (why, ()) = tokio::join!(driver.failure(session), serve);
            assert!(why.contains(part), "{why}");
        }
        let hang_up = async { drop(Peer::accept(&listener).await) };
        let (why, ()) = tokio::join!(driver.failure(10), hang_up);
        assert!(
            why.contains("closed the connection") || why.contains("cannot be reached"),
            "{why}"
        );
        drop(listener);
        let why = driver.failure(11).await;
        assert!(why.contains("nothing listens there"), "{why}");
        let url = "nats://no-such-host.invalid";
        let nowhere = NatsTarget::parse("gw", "up", url, NatsOptions::default()).unwrap();
        let why = Driver::start(nowhere).failure(1).await;
        assert!(why.contains("no-such-host.invalid:4222"), "{why}");
    });
}

#[test]
fn login_goes_up_as_the_url_has_it() {
    on_side_thread(async {
        for (login, expected) in [
            ("bob:p%40ss", [("user", "bob"), ("pass", "p@ss")].as_slice()),
            ("secret", [("auth_token", "secret")].as_slice()),
        ] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let url = format!("nats://{login}@{address}");
            let target = NatsTarget::parse("gw", "up", &url, NatsOptions::default()).unwrap();
            let driver = Driver::start(target);
            driver.connect(1).await;
            let mut peer = Peer::accept(&listener).await;
            let connect = peer.greet(json!({ "nonce": "n" })).await;
            for (key, value) in expected {
                assert_eq!(connect[key], *value);
            }
            assert_eq!(
                (&connect["name"], &connect["sig"]),
                (&json!("tidegate-gw-up"), &Value::Null)
            );
        }
    });
}

#[test]
fn session_ends_at_once_when_told_so_while_the_server_does_not_answer() {
    on_side_thread(async {
        let (listener, mut driver) = listen(NatsOptions::default()).await;
        driver.connect(1).await;
        let mut first = Peer::accept(&listener).await;
        first.greet(json!({})).await;
        driver.act(Action::Disconnect { session: 1, why: String::new() }).await;
        first.closed().await;
        driver.connect(2).await;
        let mut second = Peer::accept(&listener).await;
        second.welcome(json!({})).await;
        driver.connected(2, None).await;
    });
}

#[test]
fn session_ends_at_once_when_told_so_while_a_write_is_stuck() {
    on_side_thread(async {
        let (_listener, mut peer, driver) = publishing(json!({})).await;
        // More than any socket buffer holds, and the peer reads none of it.
        for seq in 2..20_000 {
            let batch = batch(seq, &[b'x'; 500]);
            driver.act(Action::Send { session: 1, token: 1_000 + seq, batch }).await;
        }
        driver.act(Action::Disconnect { session: 1, why: String::new() }).await;
        peer.closed().await;
    });
}

#[test]
fn server_that_says_nothing_any_more_is_found_out() {
    on_side_thread(async {
        let keep_alive = Duration::from_millis(20);
        let (listener, mut driver) =
            listen(NatsOptions { keep_alive, ..NatsOptions::default() }).await;
        driver.connect(1).await;
        let mut peer = Peer::accept(&listener).await;
        peer.welcome(json!({})).await;
        driver.connected(1, None).await;
        for _ in 0..3 {
            assert_eq!(peer.line().await, "PING");
            peer.say("PONG\r\n").await;
        }
        let why = driver.ended(1).await;
        assert!(why.contains("has said nothing for 60ms"), "{why}");
        peer.closed().await;
    });
}

#[test]
fn actions_of_a_session_that_is_over_are_ignored() {
    on_side_thread(async {
        let (_listener, mut peer, driver) = publishing(json!({})).await;
        driver.send(7, 2).await;
        driver.act(Action::Disconnect { session: 7, why: String::new() }).await;
        driver.send(1, 3).await;
        assert_eq!(peer.publish().await.payload, "3");
    });
}

#[test]
fn what_was_taken_leaves_before_the_daemon_ends() {
    on_side_thread(async {
        let (_listener, mut peer, driver) = publishing(json!({})).await;
        driver.send(1, 2).await;
        drop(driver.actions);
        assert_eq!(peer.publish().await.payload, "2");
        peer.closed().await;
        driver.task.await.unwrap();
    });
}
