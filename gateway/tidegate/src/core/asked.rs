//! Requests over HTTP that wait for the core's answer.

use std::collections::BTreeMap;

use tidegate_flow::{Answer, Gateway, Request, RequestId};
use tokio::sync::oneshot::Sender;

use super::clock;

/// Who waits for the answer to which request: as many as HTTP has connections.
#[derive(Default)]
pub(crate) struct Asked {
    next: u64,
    waiting: BTreeMap<RequestId, Sender<Answer>>,
}

impl Asked {
    pub(crate) fn ask(&mut self, gateway: &mut Gateway, request: Request, reply: Sender<Answer>) {
        let id = RequestId(self.next);
        self.next += 1;
        self.waiting.insert(id, reply);
        gateway.handle_request(clock::now(), Request { id, ..request });
    }

    pub(crate) fn answered(&mut self, id: RequestId, answer: Answer) {
        if let Some(reply) = self.waiting.remove(&id) {
            // Who asked may have gone away.
            drop(reply.send(answer));
        }
    }
}
