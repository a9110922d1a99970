//! What the drivers have in common: one session after the other, as the uplink core asks for them.

use tidegate_uplink::{Action, Batch, UplinkEvent};
use tokio::sync::mpsc::Receiver;

/// What comes after a session.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum After {
    /// Nothing, until the core wants to connect again.
    Idle,
    /// The session with this number, at this endpoint.
    Connect(u64, usize),
    /// The daemon ends.
    Close,
}

/// What an action means to a session.
pub(super) enum Asked {
    /// This batch, with its token, is to be sent.
    Send(u64, Batch),
    /// The session is over.
    End(After),
    /// It is for another session, or not for a driver.
    Other,
}

/// What the next action (`None`: there will be no more) means to the session of this number.
pub(super) fn asked(session: u64, action: Option<Action>) -> Asked {
    match action {
        Some(Action::Send { session: of, token, batch }) if of == session => {
            Asked::Send(token, batch)
        }
        Some(Action::Disconnect { session: of, .. }) if of == session => Asked::End(After::Idle),
        Some(Action::Connect { session, endpoint }) => {
            Asked::End(After::Connect(session, endpoint))
        }
        Some(
            Action::Send { .. }
            | Action::Disconnect { .. }
            | Action::Seal { .. }
            | Action::Advance { .. }
            | Action::Reject { .. },
        ) => Asked::Other,
        None => Asked::End(After::Close),
    }
}

/// Serves the sessions that the core asks for until its channel closes. `serve` gets the server
/// of the endpoint and the number of the session.
pub(super) async fn run<S>(
    servers: &[S],
    mut actions: Receiver<Action>,
    events: &impl Fn(UplinkEvent),
    mut serve: impl AsyncFnMut(&S, u64, &mut Receiver<Action>) -> After,
) {
    let mut after = After::Idle;
    loop {
        after = match after {
            After::Idle => {
                // Sessions count from 1: what is for another one is for one that has ended.
                match asked(0, actions.recv().await) {
                    Asked::End(after) => after,
                    Asked::Send(..) | Asked::Other => After::Idle,
                }
            }
            After::Connect(session, endpoint) => match servers.get(endpoint) {
                Some(server) => serve(server, session, &mut actions).await,
                None => {
                    let why = format!("there is no server {endpoint} in the configuration");
                    events(UplinkEvent::Disconnected { session, why });
                    After::Idle
                }
            },
            After::Close => return,
        };
    }
}
