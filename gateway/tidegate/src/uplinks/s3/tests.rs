//! What the driver does with each answer that a server of S3 may give.

use std::fs::{self, Permissions};
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use flate2::read::GzDecoder;
use tidegate_uplink::BodyFormat;
use tokio::net::TcpListener;

use super::*;
use crate::scratch::Scratch;
use crate::uplinks::web::scripted::{Driver, Peer, batch, listen, on_side_thread};

fn keys(scratch: &Scratch, token: &str) -> S3Options {
    let file = scratch.path().join("credentials");
    let text = format!("aws_access_key_id = KEYID\naws_secret_access_key = s3cret\n{token}");
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    S3Options { credentials_file: Some(file), ..S3Options::default() }
}

/// A driver in session 1, connected.
async fn connected(options: S3Options) -> (TcpListener, Peer, Driver) {
    let (listener, port) = listen().await;
    let url = format!("s3+http://127.0.0.1:{port}/bucket/raw");
    let target = S3Target::parse("gw-01", &url, options).unwrap();
    assert!(!format!("{target:?} {target}").contains("s3cret"));
    let mut driver = Driver::start(|actions, events| run(vec![target], actions, events));
    driver.connect(1, 0).await;
    let peer = Peer::accept(&listener).await;
    assert_eq!(driver.event().await, UplinkEvent::Connected { session: 1, held: Vec::new() });
    (listener, peer, driver)
}

#[test]
fn batch_is_put_under_the_name_of_its_range_and_signed() {
    on_side_thread(async {
        let scratch = Scratch::new();
        let options = keys(&scratch, "aws_session_token = t0ken\n");
        let (_listener, mut peer, mut driver) = connected(options).await;
        driver.send(1, 5, batch(2, 101, 103)).await;
        let asked = peer.asked().await;
        let name = "00000000000000000101-00000000000000000103.ndjson.gz";
        let line = format!("PUT /bucket/raw/gw-01/telemetry/0000000002/{name} HTTP/1.1");
        assert_eq!(asked.line, line);
        assert_eq!(asked.header("content-type"), Some("application/gzip"));
        assert_eq!(asked.header("content-encoding"), None);
        assert_eq!(asked.header("x-amz-security-token"), Some("t0ken"));
        let hash = signature::sha256_hex(&asked.body);
        assert_eq!(asked.header("x-amz-content-sha256"), Some(&hash[..]));
        let signed = asked.header("authorization").unwrap();
        let names = "SignedHeaders=content-type;host;x-amz-content-sha256;x-amz-date;\
                     x-amz-security-token, Signature=";
        assert!(signed.starts_with("AWS4-HMAC-SHA256 Credential=KEYID/2"), "{signed}");
        assert!(signed.contains("/us-east-1/s3/aws4_request, ") && signed.contains(names));
        let mut plain = Vec::new();
        GzDecoder::new(&asked.body[..]).read_to_end(&mut plain).unwrap();
        assert_eq!(plain, BodyFormat::Ndjson.encode("gw-01", &batch(2, 101, 103)));
        peer.answer(200, "etag: \"x\"\r\n", "").await;
        assert_eq!(driver.event().await, UplinkEvent::Acknowledged { session: 1, token: 5 });
    });
}

#[test]
fn batch_sent_again_has_the_same_name_and_the_same_bytes() {
    on_side_thread(async {
        let scratch = Scratch::new();
        let (listener, mut peer, driver) = connected(keys(&scratch, "")).await;
        driver.send(1, 1, batch(1, 1, 9)).await;
        let first = peer.asked().await;
        driver.connect(2, 0).await;
        let mut peer = Peer::accept(&listener).await;
        driver.send(2, 2, batch(1, 1, 9)).await;
        let again = peer.asked().await;
        assert_eq!((first.line, first.body), (again.line, again.body));
    });
}

fn error(code: &str, more: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>so</Message>{more}</Error>"
    )
}

/// What an answer must lead to.
#[derive(Debug)]
enum Expected {
    Busy(Option<u64>),
    Broken,
    Refused,
}

#[test]
fn each_answer_means_what_the_document_says() {
    use Expected::{Broken, Busy, Refused};
    let scratch = Scratch::new();
    let skewed = error("RequestTimeTooSkewed", "<ServerTime>2026-11-26T10:00:00Z</ServerTime>");
    let region = error("AuthorizationHeaderMalformed", "<Region>eu-west-1</Region>");
    let cases = [
        (200, "", String::new(), Broken, "is there a proxy"),
        (204, "", String::new(), Broken, "unexpected"),
        (301, "", error("PermanentRedirect", ""), Broken, "check region"),
        (307, "", error("TemporaryRedirect", ""), Broken, "check region"),
        (400, "", error("ExpiredToken", ""), Broken, "the keys have ended"),
        (400, "", error("EntityTooLarge", ""), Refused, "too large"),
        (400, "", error("RequestTimeout", ""), Busy(None), "trying again"),
        (400, "", error("BadDigest", ""), Busy(None), "trying again"),
        (400, "", region, Broken, "in \"eu-west-1\" region"),
        (400, "", error("InvalidRequest", ""), Broken, "400 InvalidRequest (so): unexpected"),
        (403, "", skewed, Broken, "the server 2026-11-26T10:00:00Z; set the clock"),
        (403, "", error("SignatureDoesNotMatch", ""), Broken, "check the keys"),
        (403, "", error("InvalidAccessKeyId", ""), Broken, "check the keys"),
        (403, "", error("AccessDenied", ""), Broken, "s3:PutObject"),
        (404, "", error("NoSuchBucket", ""), Broken, "no bucket \"bucket\""),
        (404, "", String::new(), Broken, "no S3 server"),
        (409, "", error("OperationAborted", ""), Busy(None), "trying again"),
        (413, "", String::new(), Refused, "too large"),
        (429, "", String::new(), Busy(None), "trying again"),
        (500, "", error("InternalError", ""), Busy(None), "trying again"),
        (502, "", String::new(), Busy(None), "trying again"),
        (503, "retry-after: 7\r\n", error("SlowDown", ""), Busy(Some(7)), "trying again"),
        (504, "", String::new(), Busy(None), "trying again"),
    ];
    for (status, headers, body, expected, part) in cases {
        on_side_thread(async {
            let (_listener, mut peer, mut driver) = connected(keys(&scratch, "")).await;
            driver.send(1, 1, batch(1, 1, 2)).await;
            peer.asked().await;
            peer.answer(status, headers, &body).await;
            let why = match (expected, driver.event().await) {
                (Broken, UplinkEvent::Disconnected { session: 1, why }) => why,
                (Refused, UplinkEvent::Expelled { session: 1, why, .. }) => why,
                (Busy(wait), UplinkEvent::Busy { session: 1, retry_after, why }) => {
                    assert_eq!(retry_after, wait.map(Duration::from_secs), "{status}");
                    why
                }
                (expected, event) => panic!("{status} {body}: {expected:?}, {event:?}"),
            };
            assert!(why.contains(part) && why.contains("127.0.0.1:"), "{status}: {why}");
            peer.closed().await;
        });
    }
}

#[test]
fn keys_that_are_gone_are_named_at_the_next_connection() {
    on_side_thread(async {
        let scratch = Scratch::new();
        let (_listener, _peer, mut driver) = connected(keys(&scratch, "")).await;
        fs::remove_file(scratch.path().join("credentials")).unwrap();
        let why = driver.failure(2).await;
        assert!(why.contains("credentials_file") && why.contains("cannot be read"), "{why}");
    });
}

#[test]
fn times_are_written_as_signatures_want_them() {
    assert_eq!(amazon_time(Utc(1_369_353_600_999)), "20130524T000000Z");
}
