//! The contract of the HTTPS sink, request by request, against the reference server with a real
//! PostgreSQL behind it. Skipped, with a word, where PostgreSQL is not installed.

#![allow(clippy::unwrap_used, reason = "a test: what fails here fails the test")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;

use serde_json::{Value, json};
use tidegate_rig::postgres::Postgres;
use tidegate_sink::database::Database;
use tidegate_sink::routes::{SinkOptions, router};

/// Serves until the process ends; returns where.
fn serve(postgres: &Postgres, options: SinkOptions) -> SocketAddr {
    let database = Database::new(&postgres.connection_string()).unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            axum::serve(listener, router(database, options)).await.unwrap();
        });
    });
    address
}

/// One request on a connection of its own; status and JSON of the answer.
fn ask(at: SocketAddr, request: &str, headers: &str, body: &[u8]) -> (u16, Value) {
    let mut socket = TcpStream::connect(at).unwrap();
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nhost: sink\r\nconnection: close\r\ncontent-length: {length}\r\n\
         {headers}\r\n"
    );
    socket.write_all(&[head.as_bytes(), body].concat()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let status = answer[9..12].parse().unwrap();
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    (status, serde_json::from_str(body).unwrap())
}

/// Lines of the records `seqs` of stream `s`, and their headers.
fn batch(epoch: u32, seqs: &[u64]) -> (String, String) {
    let line = |seq: &u64| {
        format!(
            "{{\"v\":1,\"gateway\":\"gw\",\"epoch\":{epoch},\"stream\":\"s\",\"seq\":{seq},\
             \"time_ms\":0,\"topic\":\"t\",\"client\":\"c\",\"payload\":\"{epoch}-{seq}\"}}\n"
        )
    };
    let headers = format!(
        "content-type: application/x-ndjson\r\ntg-gw: gw\r\ntg-stream: s\r\ntg-epoch: {epoch}\r\n\
         tg-first: {}\r\ntg-last: {}\r\n",
        seqs[0],
        seqs[seqs.len() - 1]
    );
    (seqs.iter().map(line).collect(), headers)
}

fn post(at: SocketAddr, epoch: u32, after: u64, seqs: &[u64]) -> (u16, Value) {
    let (body, headers) = batch(epoch, seqs);
    ask(at, "POST /v1/batches", &format!("{headers}tg-after: {after}\r\n"), body.as_bytes())
}

#[test]
fn each_record_is_stored_once_and_in_order_whatever_is_sent_again() {
    if !Path::new("/usr/lib/postgresql").exists() {
        eprintln!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
        return;
    }
    let postgres = Postgres::start().unwrap();
    let at = serve(&postgres, SinkOptions { token: None, refuse: Some("2-9".to_owned()) });
    let committed = |number: u64| (200, json!({ "committed": number }));
    let cursors = || ask(at, "GET /v1/cursors/gw", "", b"");
    assert_eq!(cursors(), (200, json!({ "cursors": [] })));
    assert_eq!(post(at, 1, 0, &[1, 2, 3]), committed(3));
    assert_eq!(post(at, 1, 0, &[1, 2, 3]), committed(3), "again: changes nothing");
    assert_eq!(post(at, 1, 0, &[2, 3, 4, 6]), committed(6), "cut differently: only what is new");
    let (status, answer) = post(at, 1, 8, &[9, 10]);
    assert_eq!((status, &answer["committed"]), (409, &json!(6)), "a gap");
    assert_eq!(post(at, 1, 6, &[9, 10]), committed(10), "7 and 8 were given up");
    assert_eq!(post(at, 2, 0, &[4, 5]), committed(5), "a new epoch uses numbers again");
    assert_eq!(post(at, 1, 0, &[5]), committed(10), "late, and long there");
    let newest = json!({ "cursors": [{ "stream": "s", "epoch": 2, "committed": 5 }] });
    assert_eq!(cursors(), (200, newest));

    let (status, answer) = post(at, 2, 5, &[8, 9]);
    assert_eq!(status, 422, "{answer}");
    assert_eq!(post(at, 2, 5, &[8]), committed(8));
    let rows = postgres.sql(
        "select string_agg(epoch || '-' || seq || '=' || convert_from(payload, 'UTF8'), ' '
         order by arrival) from tidegate_records",
    );
    let stored =
        "1-1=1-1 1-2=1-2 1-3=1-3 1-4=1-4 1-6=1-6 1-9=1-9 1-10=1-10 2-4=2-4 2-5=2-5 2-8=2-8";
    assert_eq!(rows.unwrap(), stored);
}

#[test]
fn what_is_no_batch_is_refused_with_a_reason() {
    if !Path::new("/usr/lib/postgresql").exists() {
        eprintln!("skipped: PostgreSQL is not installed (apt-get install postgresql)");
        return;
    }
    let postgres = Postgres::start().unwrap();
    let at = serve(&postgres, SinkOptions { token: Some("s3cret".to_owned()), refuse: None });
    let (body, headers) = batch(1, &[1, 2]);
    let token = "authorization: Bearer s3cret\r\ntg-after: 0\r\n";
    let good = format!("{headers}{token}");
    let cases = [
        (good.clone(), body.as_bytes().to_vec(), 200, ""),
        (headers.clone(), body.as_bytes().to_vec(), 401, "token"),
        (format!("{headers}authorization: Bearer other\r\n"), Vec::new(), 401, "token"),
        (good.replace("tg-last: 2", "tg-last: 3"), body.as_bytes().to_vec(), 400, "tg-last"),
        (good.replace("tg-after: 0", "tg-after: x"), body.as_bytes().to_vec(), 400, "tg-after"),
        (good.clone(), Vec::new(), 400, "empty"),
        (good.clone(), b"{}\n".to_vec(), 400, "version"),
        (good.replace("x-ndjson", "xml"), body.as_bytes().to_vec(), 415, "application/xml"),
        (format!("{good}content-encoding: br\r\n"), body.as_bytes().to_vec(), 415, "br"),
        (format!("{good}content-encoding: gzip\r\n"), body.as_bytes().to_vec(), 400, "gzip"),
    ];
    for (headers, body, expected, part) in cases {
        let (status, answer) = ask(at, "POST /v1/batches", &headers, &body);
        let error = answer["error"].as_str().unwrap_or_default();
        assert_eq!(status, expected, "{headers}: {answer}");
        assert!(error.contains(part), "{headers}: {error}");
    }
    assert_eq!(ask(at, "GET /v1/cursors/gw", "", b"").0, 401);
}
