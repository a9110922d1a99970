//! A core for tests: it answers, or it does not.

use tidegate_flow::status::Status;
use tokio::sync::watch;

use crate::core_handle::{CoreHandle, CoreRequest, TailPage, TailRecord};

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
        while let Some(request) = requests.recv().await {
            match (&answers, request) {
                (Answers::Nothing, request) => unanswered.push(request),
                (Answers::Status(status), CoreRequest::Status { reply }) => {
                    let _ = reply.send(status.clone());
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
        dead_letter: None,
        payload: if seq % 2 == 0 { vec![0xff, 0] } else { seq.to_string().into_bytes() },
    };
    Ok(TailPage { records: (from..next).map(record).collect(), next })
}
