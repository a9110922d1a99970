//! Changes of pushed functions on their way to flash: each is answered when it is durable.

use tidegate_flow::{Gateway, VersionError};
use tidegate_stream::Position;
use tokio::sync::oneshot::Sender;

use super::clock;
use crate::core_handle::FunctionChange;

/// The changes under way. The installer makes one at a time.
#[derive(Default)]
pub(crate) struct Changes {
    waiting: Vec<Change>,
}

struct Change {
    stage: Stage,
    reply: Sender<Result<(), String>>,
}

enum Stage {
    /// The log's memory is full: tried again when the disk has caught up.
    Held(Box<FunctionChange>),
    /// In the log, on its way to the disk.
    Taken(Position),
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Makes a change.
    pub(crate) fn take(
        &mut self,
        gateway: &mut Gateway,
        change: Box<FunctionChange>,
        reply: Sender<Result<(), String>>,
    ) {
        self.waiting.push(Change { stage: Stage::Held(change), reply });
        self.go_on(gateway);
    }

    /// Answers what is on flash, and tries again what was held.
    pub(crate) fn go_on(&mut self, gateway: &mut Gateway) {
        for Change { stage, reply } in std::mem::take(&mut self.waiting) {
            let stage = match stage {
                Stage::Held(_) if reply.is_closed() => continue,
                Stage::Held(change) => match make(gateway, &change) {
                    Ok(position) => Stage::Taken(position),
                    Err(VersionError::Later) => Stage::Held(change),
                    Err(
                        error @ (VersionError::Configured(_)
                        | VersionError::Unknown(_)
                        | VersionError::Slots
                        | VersionError::Refused(_)),
                    ) => {
                        // Who asked may have given up; then nobody wants the answer.
                        let _ = reply.send(Err(error.to_string()));
                        continue;
                    }
                },
                Stage::Taken(position) => Stage::Taken(position),
            };
            match stage {
                Stage::Taken(position) if gateway.log().durable() >= position => {
                    let _ = reply.send(Ok(()));
                }
                Stage::Taken(_) | Stage::Held(_) => self.waiting.push(Change { stage, reply }),
            }
        }
    }
}

fn make(gateway: &mut Gateway, change: &FunctionChange) -> Result<Position, VersionError> {
    let now = clock::now();
    match change {
        FunctionChange::Install(install) => gateway.install(now, (**install).clone()),
        FunctionChange::Remove(name) => gateway.remove_version(now, name),
        FunctionChange::WithdrawCanary { name, reason } => {
            gateway.withdraw_canary(now, name, reason)
        }
        FunctionChange::Refused { name, version, reason } => {
            gateway.tell_refused(now, name, version, reason);
            Ok(gateway.log().durable())
        }
    }
}
