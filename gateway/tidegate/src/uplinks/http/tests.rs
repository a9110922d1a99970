//! What the driver does with each answer that a server may give: the contract's table, line by
//! line, against a server that does what the test says.

mod tls;

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use flate2::read::GzDecoder;
use tidegate_stream::{Epoch, Seq};
use tidegate_uplink::{BodyFormat, Held, LaneId, RefuseReason, UplinkEvent};
use tokio::net::TcpListener;

use super::*;
use crate::scratch::Scratch;
use crate::uplinks::web::scripted::{Asked, Driver, Peer, batch, listen, on_side_thread};

const NOTHING: &str = r#"{"cursors":[]}"#;

fn options() -> HttpOptions {
    HttpOptions::default()
}

fn lanes() -> [String; 2] {
    ["telemetry".to_owned(), "alerts".to_owned()]
}

fn target(port: u16, options: HttpOptions) -> HttpTarget {
    HttpTarget::parse("gw-01", &format!("http://127.0.0.1:{port}/in/"), options).unwrap()
}

fn start(target: HttpTarget) -> Driver {
    start_with(vec![target])
}

fn start_with(servers: Vec<HttpTarget>) -> Driver {
    Driver::start(|actions, events| async move { run(servers, &lanes(), actions, events).await })
}

/// A driver in session 1, connected; the server said `cursors`.
async fn connected(options: HttpOptions, cursors: &str) -> (TcpListener, Peer, Driver, Vec<Held>) {
    let (listener, port) = listen().await;
    let mut driver = start(target(port, options));
    driver.connect(1, 0).await;
    let mut peer = Peer::accept(&listener).await;
    assert_eq!(peer.asked().await.line, "GET /in/v1/cursors/gw-01 HTTP/1.1");
    peer.answer(200, "", cursors).await;
    match driver.event().await {
        UplinkEvent::Connected { session: 1, held } => (listener, peer, driver, held),
        other => panic!("{other:?}"),
    }
}

fn acknowledged(token: u64) -> UplinkEvent {
    UplinkEvent::Acknowledged { session: 1, token }
}

fn after(asked: &Asked) -> Option<&str> {
    asked.header("tg-after")
}

#[test]
fn what_the_server_holds_is_reported_by_lane() {
    on_side_thread(async {
        let cursors = r#"{"cursors":[
            {"stream":"alerts","epoch":2,"committed":7,"more":true},
            {"stream":"elsewhere","epoch":1,"committed":9},
            {"stream":"telemetry","epoch":4294967295,"committed":18446744073709551615}],"x":1}"#;
        let (.., held) = connected(options(), cursors).await;
        let one = |lane, epoch, seq| Held::through(LaneId(lane), Epoch(epoch), Seq(seq));
        assert_eq!(held, [one(1, 2, 7), one(0, u32::MAX, u64::MAX)]);
    });
}

#[test]
fn batch_is_sent_as_the_contract_says() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver, _) = connected(options(), NOTHING).await;
        driver.send(1, 5, batch(3, 101, 103)).await;
        let asked = peer.asked().await;
        assert_eq!(asked.line, "POST /in/v1/batches HTTP/1.1");
        let headers = [
            ("content-type", "application/cbor"),
            ("content-encoding", "gzip"),
            ("tg-gw", "gw-01"),
            ("tg-stream", "telemetry"),
            ("tg-epoch", "3"),
            ("tg-first", "101"),
            ("tg-last", "103"),
            ("tg-after", "0"),
        ];
        for (name, value) in headers {
            assert_eq!(asked.header(name), Some(value), "{name}");
        }
        assert!(asked.header("host").unwrap().starts_with("127.0.0.1:"));
        assert_eq!(asked.header("authorization"), None);
        let mut plain = Vec::new();
        GzDecoder::new(&asked.body[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, BodyFormat::Cbor.encode("gw-01", &batch(3, 101, 103)));
        peer.answer(200, "", r#"{"committed":103}"#).await;
        assert_eq!(driver.event().await, acknowledged(5));
    });
}

#[test]
fn body_may_be_ndjson_and_plain() {
    on_side_thread(async {
        let options = HttpOptions { format: BodyFormat::Ndjson, gzip: false, ..options() };
        let (_listener, mut peer, driver, _) = connected(options, NOTHING).await;
        driver.send(1, 5, batch(3, 1, 2)).await;
        let asked = peer.asked().await;
        assert_eq!(asked.header("content-type"), Some("application/x-ndjson"));
        assert_eq!(asked.header("content-encoding"), None);
        assert_eq!(asked.body, BodyFormat::Ndjson.encode("gw-01", &batch(3, 1, 2)));
    });
}

#[test]
fn gateway_goes_on_behind_what_the_server_said_last_in_each_epoch() {
    on_side_thread(async {
        let cursors = r#"{"cursors":[{"stream":"telemetry","epoch":3,"committed":100}]}"#;
        let (_listener, mut peer, mut driver, _) = connected(options(), cursors).await;
        for (token, sent, known, committed) in [
            (1, batch(3, 101, 102), "100", 102),
            // More than was sent: a request of an earlier session was carried out after all.
            (2, batch(3, 103, 103), "102", 105),
            (3, batch(3, 104, 106), "105", 106),
            (4, batch(4, 1, 1), "0", 1),
            (5, batch(4, 2, 2), "1", 2),
        ] {
            driver.send(1, token, sent).await;
            assert_eq!(after(&peer.asked().await), Some(known), "{token}");
            peer.answer(200, "", &format!(r#"{{"committed":{committed}}}"#)).await;
            assert_eq!(driver.event().await, acknowledged(token));
        }
    });
}

#[test]
fn one_batch_is_on_the_way_at_a_time_and_nothing_is_sent_after_a_failure() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver, _) = connected(options(), NOTHING).await;
        for token in 1..=3 {
            driver.send(1, token, batch(1, token, token)).await;
        }
        assert_eq!(peer.asked().await.header("tg-first"), Some("1"));
        peer.answer(200, "", r#"{"committed":1}"#).await;
        assert_eq!(driver.event().await, acknowledged(1));
        assert_eq!(peer.asked().await.header("tg-first"), Some("2"));
        peer.answer(503, "", "").await;
        assert!(matches!(driver.event().await, UplinkEvent::Busy { session: 1, .. }));
        // The third would overtake the second.
        peer.closed().await;
    });
}

/// What an answer to a batch of two records must lead to.
enum Expected {
    Busy(Option<u64>),
    Broken,
    Refused,
}

#[test]
fn each_status_to_a_batch_means_what_the_contract_says() {
    use Expected::{Broken, Busy, Refused};
    let error = r#"{"error":"no\nsuch unit"}"#;
    let cases = [
        (200, "", r#"{"committed":1}"#, Broken, "it breaks the contract"),
        (200, "", "{}", Broken, "without saying what it has committed"),
        (200, "", "<html>", Broken, "without saying what it has committed"),
        (201, "", "", Broken, "not an answer of this contract"),
        (204, "", "", Broken, "not an answer of this contract"),
        (301, "location: https://other.example/?token=secret\r\n", "", Broken, "other.example/:"),
        (302, "", "", Broken, "another place: redirects are not followed"),
        (307, "", "", Broken, "redirects are not followed"),
        (308, "", "", Broken, "redirects are not followed"),
        (400, "", error, Refused, "400: nosuch unit"),
        (400, "", "<html>", Broken, "is there a proxy"),
        (401, "", error, Broken, "check token_file"),
        (403, "", "", Broken, "check token_file"),
        (404, "", "", Broken, "check url"),
        (405, "", "", Broken, "check url"),
        (408, "", "", Busy(None), "trying again"),
        (409, "", r#"{"committed":0}"#, Broken, "holds up to 0 of stream telemetry"),
        (409, "", "", Broken, "holds less of stream telemetry"),
        (410, "", "", Broken, "check url"),
        (413, "", "<html>", Refused, "too large"),
        (415, "", error, Broken, "change format or compression"),
        (422, "", error, Refused, "422: nosuch unit"),
        (422, "", "", Broken, "is there a proxy"),
        (425, "", "", Busy(None), "trying again"),
        (429, "retry-after: 7\r\n", "", Busy(Some(7)), "trying again"),
        (500, "", "", Busy(None), "trying again"),
        (501, "", "", Broken, "check url"),
        (502, "", "", Busy(None), "trying again"),
        (503, "retry-after: 86400\r\n", error, Busy(Some(3_600)), "trying again"),
        (504, "", "", Busy(None), "trying again"),
        (505, "", "", Broken, "not an answer of this contract"),
        (599, "", "", Broken, "not an answer of this contract"),
    ];
    for (status, headers, body, expected, part) in cases {
        on_side_thread(async {
            let (_listener, mut peer, mut driver, _) = connected(options(), NOTHING).await;
            driver.send(1, 1, batch(1, 1, 2)).await;
            peer.asked().await;
            peer.answer(status, headers, body).await;
            let why = match (expected, driver.event().await) {
                (Broken, UplinkEvent::Disconnected { session: 1, why }) => why,
                (Refused, UplinkEvent::Expelled { session: 1, why, .. }) => why,
                (Busy(wait), UplinkEvent::Busy { session: 1, retry_after, why }) => {
                    assert_eq!(retry_after, wait.map(Duration::from_secs), "{status}");
                    why
                }
                (_, event) => panic!("{status} {body}: {event:?}"),
            };
            assert!(why.contains(part) && why.contains("127.0.0.1:"), "{status}: {why}");
            assert!(!why.contains("secret") && !why.contains('\n'), "{why}");
            peer.closed().await;
        });
    }
}

#[test]
fn refusal_of_a_single_record_is_final_and_ends_the_session() {
    on_side_thread(async {
        let (_listener, mut peer, mut driver, _) = connected(options(), NOTHING).await;
        driver.send(1, 1, batch(1, 1, 1)).await;
        peer.asked().await;
        peer.answer(413, "", "").await;
        let reason = RefuseReason::PacketTooLarge { bytes: None, max: None };
        assert_eq!(driver.event().await, UplinkEvent::Refused { session: 1, token: 1, reason });
        assert!(matches!(driver.event().await, UplinkEvent::Disconnected { session: 1, .. }));
    });
}

#[test]
fn each_way_not_to_connect_is_reported_as_a_sentence() {
    on_side_thread(async {
        let (listener, port) = listen().await;
        let mut driver = start(target(port, options()));
        let answers = [
            (200, "", "{}", "is url that of a Tidegate sink?"),
            (302, "location: /login\r\n", "", "points to /login: redirects"),
            (401, "", r#"{"error":"no token"}"#, "401 (no token): check token_file"),
            (404, "", "", "no Tidegate sink"),
        ];
        let mut session = 0;
        for (status, headers, body, part) in answers {
            session += 1;
            let (why, ()) = tokio::join!(driver.failure(session), async {
                let mut peer = Peer::accept(&listener).await;
                peer.asked().await;
                peer.answer(status, headers, body).await;
            });
            assert!(why.contains(part), "{why}");
        }
        let babble = "x".repeat(100);
        let long =
            format!("HTTP/1.1 200 OK\r\ncontent-length: 70000\r\n\r\n{}", "x".repeat(70_000));
        let head = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(70_000));
        for (bytes, part) in [
            ("", "broke"),
            (&babble, "not HTTP/1.1"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{", "broke"),
            (&long, "more than 65536 bytes"),
            (&head, "not HTTP/1.1"),
        ] {
            session += 1;
            let (why, ()) = tokio::join!(driver.failure(session), async {
                let mut peer = Peer::accept(&listener).await;
                peer.asked().await;
                peer.say(bytes.as_bytes()).await;
            });
            assert!(why.contains(part) && why.len() < 300, "{why}");
        }
        drop(listener);
        let why = driver.failure(session + 1).await;
        assert!(why.contains("nothing listens there"), "{why}");
        let nowhere = HttpTarget::parse("gw-01", "http://no-such-host.invalid", options()).unwrap();
        let why = start(nowhere).failure(1).await;
        assert!(why.contains("no-such-host.invalid:80 cannot be resolved"), "{why}");
    });
}

#[test]
fn server_that_wants_a_pause_at_once_is_heard() {
    on_side_thread(async {
        let (listener, port) = listen().await;
        let mut driver = start(target(port, options()));
        driver.connect(1, 0).await;
        let mut peer = Peer::accept(&listener).await;
        peer.asked().await;
        peer.answer(503, "retry-after: 30\r\n", "").await;
        match driver.event().await {
            UplinkEvent::Busy { session: 1, retry_after, .. } => {
                assert_eq!(retry_after, Some(Duration::from_secs(30)));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn connection_that_the_server_closed_while_idle_is_made_anew_without_ending_the_session() {
    on_side_thread(async {
        let (listener, peer, mut driver, _) = connected(options(), NOTHING).await;
        drop(peer);
        // The driver has to notice; until then the exchange fails, which is legal but not tested.
        tokio::task::yield_now().await;
        driver.send(1, 1, batch(1, 1, 1)).await;
        let mut peer = Peer::accept(&listener).await;
        assert_eq!(peer.asked().await.header("tg-first"), Some("1"));
        peer.answer(200, "connection: close\r\n", r#"{"committed":1}"#).await;
        assert_eq!(driver.event().await, acknowledged(1));
        driver.send(1, 2, batch(1, 2, 2)).await;
        let mut peer = Peer::accept(&listener).await;
        assert_eq!(after(&peer.asked().await), Some("1"));
    });
}

#[test]
fn session_ends_at_once_when_told_so_while_the_server_does_not_answer() {
    on_side_thread(async {
        let (listener, port) = listen().await;
        let mut driver = start(target(port, options()));
        driver.connect(1, 0).await;
        let mut peer = Peer::accept(&listener).await;
        peer.asked().await;
        driver.disconnect(1).await;
        peer.closed().await;
        driver.connect(2, 0).await;
        let mut peer = Peer::accept(&listener).await;
        peer.asked().await;
        peer.answer(200, "", NOTHING).await;
        assert!(matches!(driver.event().await, UplinkEvent::Connected { session: 2, .. }));
        driver.send(1, 1, batch(1, 1, 1)).await;
        driver.disconnect(1).await;
        driver.send(2, 2, batch(1, 2, 2)).await;
        assert_eq!(peer.asked().await.header("tg-first"), Some("2"), "of the session that is over");
        driver.connect(3, 0).await;
        peer.closed().await;
        let mut peer = Peer::accept(&listener).await;
        peer.asked().await;
        drop(driver.actions);
        peer.closed().await;
    });
}

#[test]
fn next_server_is_taken_when_the_core_says_so() {
    on_side_thread(async {
        let (first, port) = listen().await;
        let (second, other) = listen().await;
        let servers = vec![target(port, options()), target(other, options())];
        let mut driver = start_with(servers);
        driver.connect(1, 1).await;
        Peer::accept(&second).await.asked().await;
        driver.connect(2, 0).await;
        Peer::accept(&first).await.asked().await;
        driver.connect(3, 9).await;
        loop {
            match driver.event().await {
                UplinkEvent::Disconnected { session: 3, why } => break assert!(why.contains('9')),
                UplinkEvent::Disconnected { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn token_is_read_at_each_connection_and_never_told() {
    on_side_thread(async {
        let scratch = Scratch::new();
        let file = scratch.path().join("token");
        let write = |token: &str| {
            fs::write(&file, token).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        };
        write("first-s3cret\n");
        let (listener, port) = listen().await;
        let options = HttpOptions { token_file: Some(file.clone()), ..options() };
        let target = target(port, options);
        assert!(!format!("{target:?} {target}").contains("s3cret"));
        let mut driver = start(target);
        for (session, token) in [(1, "first-s3cret"), (2, "second-s3cret")] {
            write(token);
            driver.connect(session, 0).await;
            let mut peer = Peer::accept(&listener).await;
            let bearer = format!("Bearer {token}");
            assert_eq!(peer.asked().await.header("authorization"), Some(&bearer[..]));
            peer.answer(200, "", NOTHING).await;
            assert!(matches!(driver.event().await, UplinkEvent::Connected { .. }));
            driver.send(session, 1, batch(1, 1, 1)).await;
            assert_eq!(peer.asked().await.header("authorization"), Some(&bearer[..]));
        }
        write("two s3cret\nlines");
        let why = driver.failure(3).await;
        assert!(why.contains("token_file") && !why.contains("s3cret"), "{why}");
        fs::remove_file(&file).unwrap();
        let why = driver.failure(4).await;
        assert!(why.contains("cannot be read"), "{why}");
    });
}

#[test]
fn wrong_settings_are_named_with_their_key() {
    let scratch = Scratch::new();
    let open = scratch.path().join("open");
    fs::write(&open, "s3cret").unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o644)).unwrap();
    let with = |file: &str| HttpOptions { token_file: Some(file.into()), ..options() };
    let cases = [
        ("sink.example", options(), "url", "has no scheme"),
        ("ftp://sink.example", options(), "url", "is not https or http"),
        ("https://sink.example/a b", options(), "url", "percent-encoded (%20)"),
        ("https://u:s3cret@sink.example", options(), "url", "must not hold a login"),
        ("http://127.0.0.1", with("/nowhere/token"), "token_file", "cannot be read"),
        ("http://127.0.0.1", with(open.to_str().unwrap()), "token_file", "chmod 600"),
        ("http://sink.example", with(open.to_str().unwrap()), "token_file", "unprotected"),
    ];
    for (url, options, key, why) in cases {
        let mistakes = HttpTarget::parse("gw-01", url, options).unwrap_err();
        let shown = mistakes[0].to_string();
        assert_eq!(mistakes[0].key, key, "{url}: {shown}");
        assert!(shown.contains(why) && !shown.contains("s3cret"), "{url}: {shown}");
    }
}
