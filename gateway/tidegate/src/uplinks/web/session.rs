//! The course of a session over HTTP, the same for all such sinks: open, then one batch after the
//! other, each answered before the next is sent.
//!
//! Invariants: a session ends at once, with its socket, also in the middle of an exchange; actions
//! are taken at all times; whatever is not a success ends the session, so that nothing overtakes a
//! batch that is to be sent again: the uplink core begins anew at its cursor.
//!
//! Not here: what a request looks like and what an answer means ([`Delivery`]), retries, windows,
//! delays and timeouts (the uplink core).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Duration;

use tidegate_uplink::{Action, Batch, Held, RefuseReason, UplinkEvent};
use tokio::sync::Notify;
use tokio::sync::mpsc::Receiver;

use crate::uplinks::sessions::{self, After, Asked};

/// Why a session ended, each with a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::uplinks) enum Ending {
    /// The link broke, or only the operator can help.
    Broken(String),
    /// The server may take the same later; the pause is what it asks for.
    Busy(Option<Duration>, String),
    /// The server will not take this batch.
    Refused(RefuseReason, String),
}

impl Ending {
    fn event(self, session: u64) -> UplinkEvent {
        match self {
            Ending::Broken(why) => UplinkEvent::Disconnected { session, why },
            Ending::Busy(retry_after, why) => UplinkEvent::Busy { session, retry_after, why },
            Ending::Refused(reason, why) => UplinkEvent::Expelled { session, reason, why },
        }
    }
}

/// An open session with one kind of sink.
pub(in crate::uplinks) trait Delivery: Sized {
    /// A server of this kind.
    type Server;

    /// Connects; also says what the server holds already.
    async fn open(server: &Self::Server) -> Result<(Self, Vec<Held>), Ending>;

    /// Sends one batch and hears that the server has it, durably.
    async fn deliver(&mut self, batch: Batch) -> Result<(), Ending>;
}

/// Carries out the actions of one uplink core until their channel closes. `events` must not block,
/// and must not lose anything: per session at most one answer for each batch sent, and two for the
/// connection.
pub(in crate::uplinks) async fn run<D: Delivery>(
    servers: &[D::Server],
    actions: Receiver<Action>,
    events: impl Fn(UplinkEvent),
) {
    let serve = async |server: &D::Server, session, actions: &mut Receiver<Action>| {
        let (queue, filled) = (RefCell::default(), Notify::new());
        let serving = Session { server, session, events: &events, queue, filled };
        serving.serve::<D>(actions).await
    };
    sessions::run(servers, actions, &events, serve).await;
}

struct Session<'a, S, E> {
    server: &'a S,
    session: u64,
    events: &'a E,
    /// Sent by the core and not yet by us: at most its window.
    queue: RefCell<VecDeque<(u64, Batch)>>,
    filled: Notify,
}

impl<S, E: Fn(UplinkEvent)> Session<'_, S, E> {
    async fn serve<D: Delivery<Server = S>>(&self, actions: &mut Receiver<Action>) -> After {
        let mut work = std::pin::pin!(self.work::<D>());
        loop {
            tokio::select! {
                ending = &mut work => {
                    (self.events)(ending.event(self.session));
                    return After::Idle;
                }
                action = actions.recv() => {
                    if let Some(after) = self.take(action) {
                        return after;
                    }
                }
            }
        }
    }

    /// What follows, when the session ends by this action.
    fn take(&self, action: Option<Action>) -> Option<After> {
        match sessions::asked(self.session, action) {
            Asked::Send(token, batch) => {
                self.queue.borrow_mut().push_back((token, batch));
                self.filled.notify_one();
                None
            }
            Asked::End(after) => Some(after),
            Asked::Other => None,
        }
    }

    /// The session from its first byte; returns why it ended.
    async fn work<D: Delivery<Server = S>>(&self) -> Ending {
        let session = self.session;
        let (mut delivery, held) = match D::open(self.server).await {
            Ok(opened) => opened,
            Err(ending) => return ending,
        };
        (self.events)(UplinkEvent::Connected { session, held });
        loop {
            let Some((token, batch)) = self.next() else {
                self.filled.notified().await;
                continue;
            };
            let alone = batch.records.len() == 1;
            match delivery.deliver(batch).await {
                Ok(()) => (self.events)(UplinkEvent::Acknowledged { session, token }),
                // Of one record the server's word is final; of several, the core finds the culprit.
                Err(Ending::Refused(reason, why)) if alone => {
                    (self.events)(UplinkEvent::Refused { session, token, reason });
                    return Ending::Broken(why);
                }
                Err(ending) => return ending,
            }
        }
    }

    fn next(&self) -> Option<(u64, Batch)> {
        self.queue.borrow_mut().pop_front()
    }
}
