//! What the administration and HTTP ask of the core, answered between its other work.

use tidegate_flow::attributes::Attributes;
use tidegate_stream::{ReadLimit, ReadOutcome, Seq, StreamId};

use super::{Core, clock};
use crate::core_handle::{CoreRequest, DeadLetterNote, TailPage, TailRecord};

/// Pages that wait for the disk; a further question is refused.
const MAX_WAITING: usize = 16;

/// Pages that wait for the disk.
#[derive(Default)]
pub(crate) struct Tails {
    waiting: Vec<Tail>,
}

struct Tail {
    stream: StreamId,
    next: Seq,
    max: usize,
    max_bytes: usize,
    page: TailPage,
    reply: tokio::sync::oneshot::Sender<Result<TailPage, String>>,
}

impl Tails {
    /// Answers a request, now or when the disk has delivered.
    pub(crate) fn serve(&mut self, core: &Core, request: CoreRequest) {
        match request {
            CoreRequest::Status { reply } => {
                // The asker may have given up; then nobody wants the answer.
                let _ = reply.send(core.gateway.borrow().status(clock::now()));
            }
            CoreRequest::Tail { stream, from, max, max_bytes, reply } => {
                let gateway = core.gateway.borrow();
                let Some(id) = gateway.stream(&stream) else {
                    let known = gateway.stream_names().collect::<Vec<_>>().join(", ");
                    let _ = reply.send(Err(format!("no stream \"{stream}\"; there is: {known}")));
                    return;
                };
                let log = gateway.log();
                let (first, end) = (log.first_seq(id), log.durable_seq(id));
                let from = from.unwrap_or_else(|| end.0.saturating_sub(max as u64));
                let next = Seq(from.max(first.0));
                let page = TailPage { records: Vec::new(), next: next.0 };
                drop(gateway);
                if self.waiting.len() >= MAX_WAITING {
                    let _ = reply.send(Err("too many pages are being read; try again".to_owned()));
                    return;
                }
                self.waiting.push(Tail { stream: id, next, max, max_bytes, page, reply });
                self.go_on(core);
            }
        }
    }

    /// Reads on where the disk has delivered.
    pub(crate) fn go_on(&mut self, core: &Core) {
        for mut tail in std::mem::take(&mut self.waiting) {
            if tail.reply.is_closed() {
                continue;
            }
            if tail.read(core) {
                let _ = tail.reply.send(Ok(tail.page));
            } else {
                self.waiting.push(tail);
            }
        }
    }
}

impl Tail {
    /// True when the page is complete.
    fn read(&mut self, core: &Core) -> bool {
        let mut gateway = core.gateway.borrow_mut();
        let now = clock::now().instant;
        while self.page.records.len() < self.max && self.max_bytes > 0 {
            let limit =
                ReadLimit { records: self.max - self.page.records.len(), bytes: self.max_bytes };
            let records = &mut self.page.records;
            let max_bytes = &mut self.max_bytes;
            let outcome = gateway.log_mut().read(
                now,
                self.stream,
                self.next,
                limit,
                &mut |seq, epoch, record| {
                    let bytes = record.payload.len() + record.topic.len() + record.client.len();
                    *max_bytes = max_bytes.saturating_sub(bytes.max(1));
                    let dead = Attributes::decode(record.attributes).ok().and_then(|a| a.dead);
                    records.push(TailRecord {
                        seq: seq.0,
                        epoch: epoch.0,
                        unix_ms: record.unix_ms,
                        topic: record.topic.to_owned(),
                        client: record.client.to_owned(),
                        dead_letter: dead.map(|dead| DeadLetterNote {
                            function: dead.function,
                            stream: dead.stream,
                            seq: dead.seq,
                            attempts: dead.attempts,
                            reason: dead.reason,
                        }),
                        payload: record.payload.to_vec(),
                    });
                },
            );
            match outcome {
                ReadOutcome::Read { next } | ReadOutcome::Lost { next } => self.next = next,
                ReadOutcome::Fetching => return false,
                ReadOutcome::End => break,
            }
        }
        self.page.next = self.next.0;
        true
    }
}
