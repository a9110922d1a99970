//! Files on their way to flash: each is answered when its record is durable, and not before.

use tidegate_flow::{FileDrop, FileError, Gateway};
use tidegate_stream::Position;
use tokio::sync::oneshot::Sender;

use super::clock;
use crate::core_handle::FileRequest;

/// The file under way: the thread that looks into the folders waits for each.
#[derive(Default)]
pub(crate) struct Files {
    waiting: Option<Waiting>,
}

struct Waiting {
    stage: Stage,
    reply: Sender<Result<(), FileError>>,
}

enum Stage {
    /// The log's memory is full: tried again when the disk has caught up.
    Held(Box<FileDrop>),
    /// In the log, on its way to the disk.
    Taken(Position),
}

impl Files {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// Answers a request, now or when the file is on flash.
    pub(crate) fn serve(&mut self, gateway: &mut Gateway, request: FileRequest) {
        // Who asked may have ended; then nobody wants the answer.
        match request {
            FileRequest::Left { folder, reply } => {
                let _ = reply.send(gateway.files_left(&folder));
            }
            FileRequest::Take { file, reply } => {
                self.waiting = Some(Waiting { stage: Stage::Held(file), reply });
                self.go_on(gateway);
            }
            FileRequest::Forget { folder, name, reply } => {
                gateway.forget_file(clock::now(), &folder, &name);
                let _ = reply.send(());
            }
            FileRequest::Refused { folder, why, reply } => {
                gateway.file_refused(&folder, why);
                let _ = reply.send(());
            }
        }
    }

    /// Answers when it is on flash, and tries again what was held.
    pub(crate) fn go_on(&mut self, gateway: &mut Gateway) {
        let Some(Waiting { stage, reply }) = self.waiting.take() else { return };
        let position = match stage {
            Stage::Held(file) => match gateway.take_file(clock::now(), &file) {
                Ok(position) => position,
                Err(FileError::Later) => {
                    self.waiting = Some(Waiting { stage: Stage::Held(file), reply });
                    return;
                }
                Err(error @ (FileError::Waits(_) | FileError::Never(_))) => {
                    let _ = reply.send(Err(error));
                    return;
                }
            },
            Stage::Taken(position) => position,
        };
        if gateway.log().durable() >= position {
            let _ = reply.send(Ok(()));
        } else {
            self.waiting = Some(Waiting { stage: Stage::Taken(position), reply });
        }
    }
}
