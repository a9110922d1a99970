//! What operators order of functions, on its way to flash: each is answered when it is durable.

use tidegate_flow::{ControlError, Gateway, LetterError, ResetDone};
use tidegate_stream::{AppendError, CommitError, Position};
use tokio::sync::oneshot::Sender;

use super::clock;
use crate::core_handle::{ControlDone, ControlOrder, LetterAct};

/// Orders that wait for the disk; a further one is refused.
const MAX_WAITING: usize = 16;

/// The orders under way.
#[derive(Default)]
pub(crate) struct Controls {
    waiting: Vec<Control>,
}

struct Control {
    order: ControlOrder,
    /// What is done of it, and from where on it holds across a power cut.
    done: ControlDone,
    position: Option<Position>,
    ended: bool,
    reply: Sender<Result<ControlDone, String>>,
}

/// What came of a try.
enum Tried {
    /// The log's memory is full, or a record has to be read: again when the disk has caught up.
    Later,
    /// It is in the log.
    Done,
    Refused(String),
}

impl Controls {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Carries an order out.
    pub(crate) fn take(
        &mut self,
        gateway: &mut Gateway,
        order: ControlOrder,
        reply: Sender<Result<ControlDone, String>>,
    ) {
        if self.waiting.len() >= MAX_WAITING {
            // Who asked may have given up; then nobody wants the answer.
            let _ = reply.send(Err("too many orders are under way; try again".to_owned()));
            return;
        }
        let (done, position, ended) = (ControlDone::default(), None, false);
        self.waiting.push(Control { order, done, position, ended, reply });
        self.go_on(gateway);
    }

    /// Answers what is on flash, and tries again what was held.
    pub(crate) fn go_on(&mut self, gateway: &mut Gateway) {
        for mut control in std::mem::take(&mut self.waiting) {
            if control.reply.is_closed() {
                continue;
            }
            if !control.ended {
                match control.go_on(gateway) {
                    Tried::Later => {}
                    Tried::Done => control.ended = true,
                    Tried::Refused(why) => {
                        let _ = control.reply.send(Err(why));
                        continue;
                    }
                }
            }
            let durable = gateway.log().durable();
            if control.ended && control.position.is_none_or(|position| durable >= position) {
                let _ = control.reply.send(Ok(control.done));
            } else {
                self.waiting.push(control);
            }
        }
    }
}

impl Control {
    fn go_on(&mut self, gateway: &mut Gateway) -> Tried {
        let now = clock::now();
        let result = match &mut self.order {
            ControlOrder::Pause(name) => gateway.pause_function(now, name),
            ControlOrder::Resume(name) => gateway.resume_function(now, name),
            ControlOrder::Drain(name) => gateway.drain_function(now, name),
            ControlOrder::Reset { name, stream, to } => {
                let done = gateway.reset_function(now, name, stream.as_deref(), *to);
                done.map(|ResetDone { position, stream, from, to }| {
                    self.done = ControlDone { stream, from, to, ..ControlDone::default() };
                    position
                })
            }
            ControlOrder::Letters { name, seqs, act } => {
                while let Some(seq) = seqs.front().copied() {
                    let settled = match act {
                        LetterAct::Redrive => gateway.redrive(now, name, seq),
                        LetterAct::Purge => gateway.purge_letter(now, name, seq),
                    };
                    match settled {
                        Ok(position) => {
                            self.position = Some(position);
                            self.done.settled += 1;
                        }
                        Err(LetterError::Later) => return Tried::Later,
                        // What is left is for another order, when there is room.
                        Err(LetterError::LaneFull(_)) => break,
                        Err(error @ LetterError::Function(_)) => {
                            return Tried::Refused(error.to_string());
                        }
                        Err(
                            error @ (LetterError::NotKept { .. }
                            | LetterError::OfAnother { .. }
                            | LetterError::Settled(_)
                            | LetterError::NotRead { .. }
                            | LetterError::StillToCome { .. }
                            | LetterError::TooMany
                            | LetterError::Log(_)),
                        ) => self.done.failed.push((seq, error.to_string())),
                    }
                    seqs.pop_front();
                }
                self.done.left = seqs.len() as u64;
                return Tried::Done;
            }
        };
        match result {
            Ok(position) => {
                self.position = Some(position);
                Tried::Done
            }
            Err(ControlError::Log(CommitError::Append(AppendError::Busy { .. }))) => Tried::Later,
            Err(error) => Tried::Refused(error.to_string()),
        }
    }
}
