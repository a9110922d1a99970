//! Imports on their way to flash: each is answered when its records are durable, and not before.

use tidegate_flow::{Gateway, ImportBatch, ImportError};
use tidegate_stream::Position;
use tokio::sync::oneshot::Sender;

use super::clock;

/// Batches that wait at a time; a further one is refused. The administration makes few.
const MAX_WAITING: usize = 4;

/// The batches under way.
#[derive(Default)]
pub(crate) struct Imports {
    waiting: Vec<Import>,
}

struct Import {
    stage: Stage,
    reply: Sender<Result<u64, String>>,
}

enum Stage {
    /// The log's memory is full: tried again when the disk has caught up.
    Held(ImportBatch),
    /// In the log, on its way to the disk; so many records of the import will be in.
    Taken(Position, u64),
}

impl Imports {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes a batch in.
    pub(crate) fn take(
        &mut self,
        gateway: &mut Gateway,
        batch: ImportBatch,
        reply: Sender<Result<u64, String>>,
    ) {
        if self.waiting.len() >= MAX_WAITING {
            // Who asked may have given up; then nobody wants the answer.
            let _ = reply.send(Err("too many imports are under way; try again".to_owned()));
            return;
        }
        self.waiting.push(Import { stage: Stage::Held(batch), reply });
        self.go_on(gateway);
    }

    /// Answers what is on flash, and tries again what was held.
    pub(crate) fn go_on(&mut self, gateway: &mut Gateway) {
        for Import { stage, reply } in std::mem::take(&mut self.waiting) {
            let stage = match stage {
                Stage::Held(_) if reply.is_closed() => continue,
                Stage::Held(batch) => match gateway.import(clock::now(), &batch) {
                    Ok(position) => {
                        Stage::Taken(position, batch.start + batch.records.len() as u64)
                    }
                    Err(ImportError::Later) => Stage::Held(batch),
                    Err(
                        error @ (ImportError::NoStream(_)
                        | ImportError::Elsewhere { .. }
                        | ImportError::Refused(_)),
                    ) => {
                        let _ = reply.send(Err(error.to_string()));
                        continue;
                    }
                },
                Stage::Taken(position, done) => Stage::Taken(position, done),
            };
            match stage {
                Stage::Taken(position, done) if gateway.log().durable() >= position => {
                    let _ = reply.send(Ok(done));
                }
                Stage::Taken(..) | Stage::Held(_) => self.waiting.push(Import { stage, reply }),
            }
        }
    }
}
