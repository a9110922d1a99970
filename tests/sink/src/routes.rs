//! The two requests of the contract, and the answer to each.

use std::io::Read;
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::batch::Batch;
use crate::database::{Database, Stored};

/// Longest body as sent; a longer one is answered with 413.
pub const MAX_BODY: usize = 8 << 20;
/// Longest body after decompression: a small body may unfold to very much.
const MAX_UNFOLDED: u64 = 64 << 20;

/// What the server asks of requests.
#[derive(Clone, Debug, Default)]
pub struct SinkOptions {
    /// The bearer token that each request must carry.
    pub token: Option<String>,
    /// Refuse records whose payload holds this text.
    pub refuse: Option<String>,
}

struct Sink {
    database: Database,
    options: SinkOptions,
}

/// The server over this database.
pub fn router(database: Database, options: SinkOptions) -> Router {
    Router::new()
        .route("/v1/cursors/{gateway}", get(cursors))
        .route("/v1/batches", post(batches))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(Sink { database, options }))
}

async fn cursors(
    State(sink): State<Arc<Sink>>,
    headers: HeaderMap,
    Path(gateway): Path<String>,
) -> Response {
    if !sink.admits(&headers) {
        return stranger();
    }
    match sink.database.cursors(&gateway).await {
        Ok(cursors) => {
            let cursors = cursors.iter().map(|cursor| {
                let (stream, epoch) = (&cursor.stream, cursor.epoch);
                json!({ "stream": stream, "epoch": epoch, "committed": cursor.committed })
            });
            answer(StatusCode::OK, &json!({ "cursors": cursors.collect::<Vec<_>>() }))
        }
        Err(error) => unavailable(&error),
    }
}

async fn batches(State(sink): State<Arc<Sink>>, headers: HeaderMap, body: Bytes) -> Response {
    if !sink.admits(&headers) {
        return stranger();
    }
    let plain = match unfolded(&headers, &body) {
        Ok(plain) => plain,
        Err((status, why)) => return complaint(status, &why),
    };
    let kind = text(&headers, "content-type").unwrap_or_default();
    if !matches!(kind, "application/cbor" | "application/x-ndjson") {
        return complaint(StatusCode::UNSUPPORTED_MEDIA_TYPE, &format!("content type {kind}"));
    }
    let batch = match Batch::read(kind, &plain) {
        Ok(batch) => batch,
        Err(error) => return complaint(StatusCode::BAD_REQUEST, &format!("{error:#}")),
    };
    let after = match agreeing(&headers, &batch) {
        Ok(after) => after,
        Err(why) => return complaint(StatusCode::BAD_REQUEST, &why),
    };
    if let Some(why) = unstorable(&batch, sink.options.refuse.as_deref()) {
        return complaint(StatusCode::UNPROCESSABLE_ENTITY, &why);
    }
    match sink.database.store(&batch, after).await {
        Ok(Stored::Committed(committed)) => {
            answer(StatusCode::OK, &json!({ "committed": committed }))
        }
        Ok(Stored::Gap(committed)) => {
            let why = format!("records {} to {after} are missing", committed + 1);
            answer(StatusCode::CONFLICT, &json!({ "committed": committed, "error": why }))
        }
        Err(error) => unavailable(&error),
    }
}

impl Sink {
    fn admits(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.options.token else { return true };
        text(headers, "authorization").and_then(|value| value.strip_prefix("Bearer "))
            == Some(token)
    }
}

/// The body without its compression.
fn unfolded(headers: &HeaderMap, body: &Bytes) -> Result<Vec<u8>, (StatusCode, String)> {
    match text(headers, "content-encoding") {
        None | Some("identity") => Ok(body.to_vec()),
        Some("gzip") => {
            let mut plain = Vec::new();
            let read = GzDecoder::new(&body[..]).take(MAX_UNFOLDED + 1).read_to_end(&mut plain);
            match read {
                Ok(_) if plain.len() as u64 > MAX_UNFOLDED => {
                    Err((StatusCode::PAYLOAD_TOO_LARGE, "unfolds to too much".to_owned()))
                }
                Ok(_) => Ok(plain),
                Err(error) => Err((StatusCode::BAD_REQUEST, format!("gzip: {error}"))),
            }
        }
        Some(other) => {
            Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("content encoding {other}")))
        }
    }
}

/// `tg-after`, when the headers say the same as the body.
fn agreeing(headers: &HeaderMap, batch: &Batch) -> Result<u64, String> {
    let first = batch.records.first().map_or(0, |record| record.seq);
    let last = batch.records.last().map_or(0, |record| record.seq);
    let expected = [
        ("tg-gw", batch.gateway.clone()),
        ("tg-stream", batch.stream.clone()),
        ("tg-epoch", batch.epoch.to_string()),
        ("tg-first", first.to_string()),
        ("tg-last", last.to_string()),
    ];
    for (name, value) in expected {
        if text(headers, name) != Some(&value) {
            return Err(format!("header {name} is not {value}, as the body says"));
        }
    }
    let after = text(headers, "tg-after").and_then(|value| value.parse().ok());
    let after = after.ok_or("header tg-after is missing or no number")?;
    Ok(after)
}

/// Why a record can never be stored: PostgreSQL has no zero character in its texts and no sequence
/// beyond 2^63, and the tests want a record refused now and then.
fn unstorable(batch: &Batch, refuse: Option<&str>) -> Option<String> {
    batch.records.iter().find_map(|record| {
        let texts = [Some(&record.topic), Some(&record.client), record.key.as_ref()];
        let zero = texts.into_iter().flatten().any(|text| text.contains('\0'));
        let told = refuse.is_some_and(|part| {
            let part = part.as_bytes();
            record.payload.windows(part.len().max(1)).any(|window| window == part)
        });
        let why = if zero {
            "holds a zero character"
        } else if i64::try_from(record.seq).is_err() {
            "has a sequence beyond 2^63"
        } else if told {
            "is of the kind that this sink was told to refuse"
        } else {
            return None;
        };
        Some(format!("record {} {why}", record.seq))
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn answer(status: StatusCode, body: &Value) -> Response {
    let kind = [(header::CONTENT_TYPE, "application/json")];
    (status, kind, body.to_string()).into_response()
}

fn complaint(status: StatusCode, why: &str) -> Response {
    answer(status, &json!({ "error": why }))
}

fn stranger() -> Response {
    complaint(StatusCode::UNAUTHORIZED, "no token, or not the right one")
}

/// Trouble of the database is the server's, never the record's.
fn unavailable(error: &anyhow::Error) -> Response {
    eprintln!("tidegate-sink: {error:#}");
    let mut response = complaint(StatusCode::SERVICE_UNAVAILABLE, "the database is not available");
    response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
    response
}
