//! What the server's answers mean: the table in `docs/formats/https-sink.md`.

use hyper::StatusCode;
use serde::Deserialize;
use tidegate_stream::{Epoch, Seq};
use tidegate_uplink::{Held, LaneId, RefuseReason};

use super::target::HttpTarget;
use crate::uplinks::web::{Answer, Ending, retry_after};

/// Characters of the server's own words that are shown.
const MAX_SAID: usize = 200;

/// What a request says about its batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) after: Seq,
    pub(super) first: Seq,
    pub(super) last: Seq,
}

#[derive(Deserialize)]
struct Cursors {
    cursors: Vec<Cursor>,
}

#[derive(Deserialize)]
struct Cursor {
    stream: String,
    epoch: u32,
    committed: u64,
}

#[derive(Deserialize)]
struct Committed {
    committed: u64,
}

#[derive(Deserialize)]
struct Complaint {
    error: String,
}

/// What the server holds of our streams, in all epochs that it lists.
pub(super) fn cursors(target: &HttpTarget, answer: &Answer) -> Result<Vec<Held>, Ending> {
    let at = target.address();
    if answer.status != StatusCode::OK {
        return Err(other(&at, answer));
    }
    let cursors: Cursors = serde_json::from_slice(&answer.body).map_err(|error| {
        Ending::Broken(format!(
            "{at} answered the question for its cursors with something else than the contract \
             says ({error}); is url that of a Tidegate sink?"
        ))
    })?;
    let held = cursors.cursors.into_iter().filter_map(|cursor| {
        let lane = target.lanes().iter().position(|name| *name == cursor.stream)?;
        Some(Held::through(LaneId(lane), Epoch(cursor.epoch), Seq(cursor.committed)))
    });
    Ok(held.collect())
}

/// The sequence that is committed after a batch.
pub(super) fn batch(
    target: &HttpTarget,
    stream: &str,
    span: &Span,
    answer: &Answer,
) -> Result<Seq, Ending> {
    let at = target.address();
    let status = answer.status.as_u16();
    match (status, complaint(answer)) {
        (200, _) => committed(&at, stream, span, answer),
        (400 | 422, Some(said)) => {
            let why = format!("{at} answered {status}: {said}");
            Err(Ending::Refused(RefuseReason::Unencodable(why.clone()), why))
        }
        (413, _) => {
            let reason = RefuseReason::PacketTooLarge { bytes: None, max: None };
            Err(Ending::Refused(reason, format!("{at} answered 413: the batch is too large")))
        }
        (409, _) => {
            let holds = serde_json::from_slice::<Committed>(&answer.body);
            let holds =
                holds.map_or("less".to_owned(), |holds| format!("up to {}", holds.committed));
            Err(Ending::Broken(format!(
                "{at} holds {holds} of stream {stream}, not up to {} as it said before (is it \
                 restored, or does another gateway send as {}?); asking again",
                span.after.0,
                target.gateway()
            )))
        }
        _ => Err(other(&at, answer)),
    }
}

fn committed(at: &str, stream: &str, span: &Span, answer: &Answer) -> Result<Seq, Ending> {
    match serde_json::from_slice::<Committed>(&answer.body) {
        Ok(holds) if holds.committed >= span.last.0 => Ok(Seq(holds.committed)),
        Ok(holds) => Err(Ending::Broken(format!(
            "{at} accepted records {} to {} of stream {stream} and says that it holds up to {}: \
             it breaks the contract",
            span.first.0, span.last.0, holds.committed
        ))),
        Err(error) => Err(Ending::Broken(format!(
            "{at} answered 200 without saying what it has committed ({error}); is url that of a \
             Tidegate sink?"
        ))),
    }
}

/// Statuses that mean the same to both requests.
fn other(at: &str, answer: &Answer) -> Ending {
    let why = trouble(at, answer);
    match answer.status.as_u16() {
        408 | 425 | 429 | 500 | 502 | 503 | 504 => Ending::Busy(retry_after(answer), why),
        _ => Ending::Broken(why),
    }
}

/// A sentence about a status that is no success.
fn trouble(at: &str, answer: &Answer) -> String {
    let status = answer.status.as_u16();
    let advice = match status {
        300..=399 => {
            // Without the query, which may hold somebody's token.
            let place = answer.header("location").and_then(|place| place.split('?').next());
            let place = place.map_or("another place".to_owned(), shown);
            return format!(
                "{at} answered {status} and points to {place}: redirects are not followed; \
                 change url"
            );
        }
        401 | 403 => "check token_file or the client certificate, and that this gateway may write",
        404 | 405 | 410 | 501 => "there is no Tidegate sink (version 1); check url",
        415 => "it does not take such bodies; change format or compression",
        408 | 425 | 429 | 500 | 502..=504 => "trying again",
        _ => "not an answer of this contract; is there a proxy in between?",
    };
    let said = complaint(answer).map(|said| format!(" ({said})")).unwrap_or_default();
    format!("{at} answered {status}{said}: {advice}")
}

/// Why, in the server's own words.
fn complaint(answer: &Answer) -> Option<String> {
    let complaint: Complaint = serde_json::from_slice(&answer.body).ok()?;
    Some(shown(&complaint.error))
}

/// A peer's text, fit for a log.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect()
}
