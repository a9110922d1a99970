//! Routes on real sockets, with a core that says what it was asked.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use tidegate_flow::HttpRoute;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use super::tokens::hash_token;
use super::{Gate, MAX_CONNECTIONS, ServedRoute};
use crate::config;
use crate::http::{HttpListener, MAX_BUFFER};
use crate::links::hash_password;
use crate::sample;
use crate::scratch::Scratch;
use crate::serving::{Answers, serve_core};
use crate::shutdown::Shutdown;

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    address: SocketAddr,
    routes: watch::Sender<super::Served>,
    _shutdown: Shutdown,
    scratch: Scratch,
}

fn served(routes: &[&str]) -> super::Served {
    let one = |(function, text): (usize, &&str)| ServedRoute {
        function,
        name: format!("f{function}"),
        route: HttpRoute::parse(text).unwrap(),
    };
    routes.iter().enumerate().map(one).collect()
}

fn write(scratch: &Scratch, name: &str, text: &str) {
    let file = scratch.path().join(name);
    std::fs::write(&file, text).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Serves these routes by these rules; there are a token `tgt_1` of `panel`, `tgt_2` of `ops`, and
/// the user `ann` with the password `pw`.
fn start(rules: &str, routes: &[&str], answers: Answers) -> Running {
    let scratch = Scratch::new();
    let tokens = format!("panel:{}\nops:{}\n", hash_token("tgt_1"), hash_token("tgt_2"));
    write(&scratch, "tokens", &tokens);
    write(&scratch, "users", &format!("ann:{}\n", hash_password(b"pw").unwrap()));
    let text = format!(
        "[gateway]\nid = \"gw\"\ndata_dir = \"data\"\n[mqtt]\nlisten = \"127.0.0.1:0\"\n\
         users_file = \"users\"\n[[mqtt.acl]]\ntopics = [\"#\"]\n\
         [mqtt.limits]\nfailed_logins_per_minute = 3\n{rules}"
    );
    write(&scratch, "tidegate.toml", &text);
    let settings = config::load(&scratch.path().join("tidegate.toml")).unwrap();
    let (routes, receiver) = watch::channel(served(routes));
    let gate = Gate::new(&settings, receiver, serve_core(answers)).unwrap();
    let listener = HttpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.address().unwrap();
    let shutdown = Shutdown::default();
    let stops = shutdown.clone();
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        listener.serve_with(&|peer| gate.router(peer), &slots, &stops).await
    });
    Running { address, routes, _shutdown: shutdown, scratch }
}

fn open(routes: &[&str]) -> Running {
    start(
        "[[http.route]]\npath = \"/\"\nauth = \"none\"\n",
        routes,
        Answers::Status(sample::status()),
    )
}

/// Sends bytes, and reads what comes until the server closes.
async fn send(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may close before it has read everything.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn ask(running: &Running, line: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    send(running.address, request.as_bytes()).await
}

#[tokio::test]
async fn a_request_reaches_its_function_with_everything_that_the_contract_has() {
    let running = open(&["GET /other", "GET,PUT /s/{id}/limit"]);
    let headers = "Content-Type: a/b\r\nX-One: 1\r\nx-one: 2\r\nAuthorization: Bearer secret\r\n\
                   Cookie: secret\r\nTE: trailers\r\nX-Bin: \u{e9}\r\n";
    let answer = ask(&running, "PUT /s/g%203/limit?unit=C&x", headers, "31.5").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    assert_eq!(
        body,
        "function 1 route /s/{id}/limit\n:method=PUT\n:path=/s/g%203/limit\n{id}=g 3\n\
         ?query=unit=C&x\nhost=x\ncontent-type=a/b\nx-one=1\nx-one=2\nx-bin=\u{e9}\n31.5"
    );
}

#[tokio::test]
async fn what_no_function_answers_is_said_so_and_routes_come_and_go() {
    let running = open(&["GET,PUT /s/{id}"]);
    assert!(ask(&running, "GET /t", "", "").await.starts_with("HTTP/1.1 404"));
    let answer = ask(&running, "POST /s/1", "", "").await;
    assert!(answer.starts_with("HTTP/1.1 405") && answer.contains("\r\nallow: GET, PUT\r\n"));
    assert!(ask(&running, "GET /s/%ff", "", "").await.starts_with("HTTP/1.1 400"));
    running.routes.send_replace(served(&["GET /t"]));
    assert!(ask(&running, "GET /t", "", "").await.starts_with("HTTP/1.1 200"));
    assert!(ask(&running, "GET /s/1", "", "").await.starts_with("HTTP/1.1 404"));
    let ruled = start(
        "[[http.route]]\npath = \"/s\"\nauth = \"none\"\n",
        &["GET /t"],
        Answers::Status(sample::status()),
    );
    assert!(ask(&ruled, "GET /t", "", "").await.starts_with("HTTP/1.1 404"), "without a rule");
}

#[tokio::test]
async fn a_token_lets_in_by_its_name_and_what_is_wrong_does_not() {
    let rules = "[[http.route]]\npath = \"/ops\"\ntokens_file = \"tokens\"\nusers = [\"ops\"]\n\
                 [[http.route]]\npath = \"/\"\ntokens_file = \"tokens\"\n";
    let running = start(rules, &["GET /a", "GET /ops"], Answers::Status(sample::status()));
    let with = |line: &'static str, token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        let running = &running;
        async move { ask(running, line, &header, "").await }
    };
    let answer = with("GET /a", "tgt_1").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\n:user=panel\n"), "{answer}");
    assert!(with("GET /ops", "tgt_1").await.starts_with("HTTP/1.1 403"));
    assert!(with("GET /ops", "tgt_2").await.starts_with("HTTP/1.1 200"));
    let none = ask(&running, "GET /a", "", "").await;
    assert!(none.starts_with("HTTP/1.1 401") && none.contains("www-authenticate: Bearer\r\n"));
    write(&running.scratch, "tokens", &format!("panel:{}\n", hash_token("tgt_3")));
    assert!(with("GET /a", "tgt_1").await.starts_with("HTTP/1.1 401"), "it was replaced");
    assert!(with("GET /a", "tgt_3").await.starts_with("HTTP/1.1 200"));
    for _ in 0..2 {
        with("GET /a", "tgt_1").await;
    }
    let barred = with("GET /a", "tgt_3").await;
    assert!(barred.starts_with("HTTP/1.1 429") && barred.contains("retry-after: 60\r\n"));
}

#[tokio::test]
async fn a_login_of_the_broker_lets_in() {
    let rules = "[[http.route]]\npath = \"/\"\nauth = \"login\"\n";
    let running = start(rules, &["GET /a"], Answers::Status(sample::status()));
    let with = |login: &str| {
        let header = format!("Authorization: Basic {login}\r\n");
        let running = &running;
        async move { ask(running, "GET /a", &header, "").await }
    };
    let answer = with("YW5uOnB3").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\n:user=ann\n"), "{answer}");
    let wrong = with("YW5uOm5v").await;
    assert!(wrong.starts_with("HTTP/1.1 401") && wrong.contains("www-authenticate: Basic realm="));
    assert!(with("!").await.starts_with("HTTP/1.1 401"));
    assert!(ask(&running, "GET /a", "", "").await.starts_with("HTTP/1.1 401"));
}

#[tokio::test]
async fn bodies_and_rates_have_their_limits() {
    let rules = "[[http.route]]\npath = \"/\"\nauth = \"none\"\nmax_body = \"8B\"\n\
                 requests_per_second = 4\n";
    let running = start(rules, &["PUT /a", "PUT /b"], Answers::Status(sample::status()));
    assert!(ask(&running, "PUT /a", "", "12345678").await.starts_with("HTTP/1.1 200"));
    assert!(ask(&running, "PUT /a", "", "123456789").await.starts_with("HTTP/1.1 413"));
    let chunks =
        "PUT /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let long = format!("{chunks}5\r\n12345\r\n5\r\n67890\r\n0\r\n\r\n");
    let answer = send(running.address, long.as_bytes());
    assert!(answer.await.starts_with("HTTP/1.1 413"), "nobody said how much it is");
    let answer = send(running.address, format!("{chunks}3\r\n123\r\n0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("123"), "{answer}");
    let mut answers = Vec::new();
    for _ in 0..4 {
        answers.push(ask(&running, "PUT /a", "", "").await);
    }
    let refused = answers.iter().find(|answer| answer.starts_with("HTTP/1.1 429")).unwrap();
    assert!(refused.contains("retry-after: 1\r\n"), "{refused}");
    assert!(ask(&running, "PUT /b", "", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn an_idempotency_key_goes_with_the_request_and_a_wrong_one_is_refused() {
    let running = open(&["PUT /a"]);
    let key = |text: &str| format!("Idempotency-Key: {text}\r\n");
    let answer = ask(&running, "PUT /a", &key("\"8e03978e\""), "x").await;
    assert!(answer.contains("\r\nidempotent-replayed: true\r\n"), "{answer}");
    assert!(!ask(&running, "PUT /a", "", "x").await.contains("idempotent-replayed"));
    for wrong in [key(""), key(&"k".repeat(256)), key("a") + &key("b")] {
        assert!(ask(&running, "PUT /a", &wrong, "x").await.starts_with("HTTP/1.1 400"), "{wrong}");
    }
}

#[tokio::test]
async fn a_core_that_hangs_is_a_time_out() {
    let rules = "[[http.route]]\npath = \"/\"\nauth = \"none\"\ntimeout = \"100ms\"\n";
    let running = start(rules, &["GET /a"], Answers::Nothing);
    assert!(ask(&running, "GET /a", "", "").await.starts_with("HTTP/1.1 504"));
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order() {
    let running = open(&["GET /{n}"]);
    let one = |n: u32, close: &str| format!("GET /{n} HTTP/1.1\r\nHost: x\r\n{close}\r\n");
    let all = (1..20).map(|n| one(n, "")).collect::<String>() + &one(20, "Connection: close\r\n");
    let answer = send(running.address, all.as_bytes()).await;
    let paths: Vec<&str> = answer.lines().filter_map(|line| line.strip_prefix(":path=/")).collect();
    assert_eq!(paths, (1..=20).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn hostile_heads_and_bodies_end_their_own_connection_only() {
    let running = open(&["PUT /a"]);
    let long = "x".repeat(2 * MAX_BUFFER);
    let many = "A: b\r\n".repeat(100);
    for (request, status) in [
        (format!("PUT /a HTTP/1.1\r\nHost: x\r\nA: {long}\r\n\r\n"), "431"),
        (format!("PUT /a HTTP/1.1\r\nHost: x\r\n{many}\r\n"), "431"),
        (format!("PUT /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), "4"),
        ("PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".to_owned(), "413"),
        ("PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx".to_owned(), "400"),
        ("PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_owned(), "400"),
        ("PUT /a HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n".to_owned(), "400"),
        ("PUT /a\r\nHost: x\r\n\r\n".to_owned(), "400"),
        (
            "PUT /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".to_owned(),
            "400",
        ),
    ] {
        let answer = send(running.address, request.as_bytes()).await;
        let start = format!("HTTP/1.1 {status}");
        assert!(answer.starts_with(&start), "{}: {answer}", &request[..request.len().min(60)]);
    }
    // One that stops in the middle of its body holds its own slot, and its bytes, alone.
    let mut slow = TcpStream::connect(running.address).await.unwrap();
    slow.write_all(b"PUT /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n12").await.unwrap();
    assert!(ask(&running, "PUT /a", "", "x").await.starts_with("HTTP/1.1 200"));
}
