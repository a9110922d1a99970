//! A core for tests: it answers, or it does not.

use std::collections::BTreeMap;

use tidegate_flow::status::Status;
use tidegate_stream::Record;
use tokio::sync::watch;

use crate::core_handle::{
    ControlDone, CoreHandle, CoreRequest, ExportPage, FirmwareAnswer, TailPage, TailRecord,
};
use crate::export::{Blob, CarriedRecord, Publisher};
use crate::sample;

/// What the core does.
#[expect(clippy::large_enum_variant, reason = "one of it a test")]
pub(crate) enum Answers {
    /// Takes requests and never answers.
    Nothing,
    /// Always this status, and for each of its streams the records 1 to `next_seq`.
    Status(Status),
}

/// Starts the core on the current runtime.
pub(crate) fn serve_core(answers: Answers) -> CoreHandle {
    serve_watched_core(answers).0
}

/// Starts the core, and shows the sequence that a page was last asked from.
pub(crate) fn serve_watched_core(answers: Answers) -> (CoreHandle, watch::Receiver<Option<u64>>) {
    let (handle, mut requests) = CoreHandle::new();
    let (asked, watch) = watch::channel(None);
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        // Records of each import.
        let mut imports: BTreeMap<(String, String), Vec<Record>> = BTreeMap::new();
        while let Some(request) = requests.recv().await {
            match (&answers, request) {
                (Answers::Nothing, request) => unanswered.push(request),
                (Answers::Status(status), CoreRequest::Status { reply }) => {
                    let _ = reply.send(status.clone());
                }
                (Answers::Status(status), CoreRequest::Losses { stream, reply }) => {
                    let known = status.streams.iter().any(|known| known.name == stream);
                    let report = known.then(sample::losses);
                    let _ = reply.send(report.ok_or_else(|| format!("no stream \"{stream}\"")));
                }
                (
                    Answers::Status(status),
                    CoreRequest::Export { stream, from, max, max_bytes: _, reply },
                ) => {
                    let _ = reply.send(export_page(status, &stream, from, max));
                }
                (Answers::Status(_), CoreRequest::Imported { stream, id, reply }) => {
                    let done = imports.get(&(stream, id)).map_or(0, Vec::len);
                    let _ = reply.send(Ok(done as u64));
                }
                (Answers::Status(_), CoreRequest::Import { batch, reply }) => {
                    let records = imports.entry((batch.stream, batch.id)).or_default();
                    assert_eq!(records.len() as u64, batch.start, "batches follow each other");
                    let full = batch.records.iter().any(|record| record.payload == REFUSED);
                    if !full {
                        records.extend(batch.records);
                    }
                    let done = records.len() as u64;
                    let _ =
                        reply.send(if full { Err("the stream is full".into()) } else { Ok(done) });
                }
                (Answers::Status(_), CoreRequest::Functions { reply }) => {
                    let _ = reply.send(sample::functions());
                }
                (Answers::Status(_), CoreRequest::Control { reply, .. }) => {
                    let _ = reply.send(Ok(ControlDone::default()));
                }
                (Answers::Status(_), CoreRequest::Ask { request, reply }) => {
                    let _ = reply.send(retold(&request));
                }
                (Answers::Status(_), CoreRequest::Firmware { reply, .. }) => {
                    let _ = reply.send(Ok(FirmwareAnswer::Done));
                }
                (Answers::Status(_), CoreRequest::Reload { reply, .. }) => {
                    let _ = reply.send(Ok(()));
                }
                // Nobody looks into folders here.
                (Answers::Status(_), CoreRequest::File(_)) => {}
                (Answers::Status(_), CoreRequest::Change { reply, .. }) => {
                    let _ = reply.send(Ok(()));
                }
                (Answers::Status(status), CoreRequest::Tail { stream, from, max, reply, .. }) => {
                    let _ = reply.send(page(status, &stream, from, max));
                    asked.send_replace(from);
                }
            }
        }
    });
    (handle, watch)
}

/// An answer that says what was asked.
fn retold(request: &tidegate_flow::Request) -> tidegate_flow::Answer {
    let mut text = format!("function {} route {}\n", request.function, request.route);
    for (key, value) in &request.properties {
        text.push_str(&format!("{key}={value}\n"));
    }
    text.push_str(&String::from_utf8_lossy(&request.body));
    tidegate_flow::Answer {
        status: 200,
        media_type: "text/plain".to_owned(),
        body: text.into(),
        again: None,
        repeated: request.once.is_some(),
    }
}

/// The payload of a record that no import takes.
pub(crate) const REFUSED: &[u8] = b"refused";

fn export_page(status: &Status, name: &str, from: u64, max: usize) -> Result<ExportPage, String> {
    let page = page(status, name, Some(from), max)?;
    let record = |record: TailRecord| CarriedRecord {
        seq: record.seq,
        epoch: record.epoch,
        unix_ms: record.unix_ms,
        topic: record.topic,
        client: record.client,
        key: record.key,
        publisher: Some(Publisher { boot: 1, seq: record.seq }),
        payload: Blob(record.payload),
        ..CarriedRecord::default()
    };
    let end = status.streams.iter().find(|stream| stream.name == name);
    Ok(ExportPage {
        gateway: status.gateway.clone(),
        next: page.next,
        end: end.map_or(0, |stream| stream.durable_seq),
        records: page.records.into_iter().map(record).collect(),
    })
}

fn page(status: &Status, name: &str, from: Option<u64>, max: usize) -> Result<TailPage, String> {
    let stream = status.streams.iter().find(|stream| stream.name == name);
    let stream = stream.ok_or_else(|| format!("no stream \"{name}\""))?;
    let from = from.unwrap_or(stream.durable_seq.saturating_sub(max as u64));
    let from = from.max(stream.first_seq);
    let next = stream.durable_seq.min(from + max as u64).max(from);
    let record = |seq| TailRecord {
        seq,
        epoch: status.epoch,
        unix_ms: 1_700_000_000_000 + i64::try_from(seq).unwrap(),
        topic: "sensors/1/telemetry".into(),
        client: "sensor-1".into(),
        key: (seq % 2 == 1).then(|| "sensor-1".into()),
        dead_letter: None,
        payload: if seq % 2 == 0 { vec![0xff, 0] } else { seq.to_string().into_bytes() },
    };
    Ok(TailPage { records: (from..next).map(record).collect(), next })
}
