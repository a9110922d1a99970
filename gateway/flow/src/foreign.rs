//! A sink that holds records of another store under this gateway's id.
//!
//! What it holds of an epoch that this store never had says nothing about our records: none passes
//! for sent by it. Where that epoch is older than all that waits here, it is a former store's, and
//! ours follow. Where something older waits, sending it would put it behind what is newer by every
//! rule that consumers have, and it may be an old copy's, whose numbers the other store has used
//! for records of its own: nothing is sent, and the operator is told. See
//! docs/decisions/016-epochs-of-other-stores.md.

use tidegate_stream::{Epoch, Log, Seq};
use tidegate_uplink::Held;

use crate::uplink::UplinkRun;

const ADVICE: &str = "Nothing is sent and nothing is lost; give this gateway an id of its own, or \
                      export its records and import them into a new data directory made with the \
                      clock set";

/// What of a server's answer is about this store, or why nothing may be sent to it.
pub(crate) fn own(log: &Log, run: &mut UplinkRun, held: Vec<Held>) -> Result<Vec<Held>, String> {
    for lane in &mut run.lanes {
        lane.foreign = None;
    }
    for one in &held {
        let Some(lane) = run.lanes.get_mut(one.lane.0) else { continue };
        for epoch in [one.epoch, one.newest.0] {
            if !log.has_had(epoch) {
                lane.foreign = lane.foreign.max(Some(epoch));
            }
        }
    }
    for lane in &run.lanes {
        let cursor = log.cursor(lane.reader);
        let seen = lane.first_waiting.filter(|(seq, _)| *seq == cursor);
        let waiting = seen.map_or(log.epoch(), |(_, epoch)| epoch);
        if let Some(foreign) = lane.foreign.filter(|foreign| *foreign > waiting) {
            return Err(barred(&lane.upstream_name(&run.plan), foreign, waiting));
        }
    }
    if let Some(ahead) = held.iter().find_map(|one| ahead(log, run, one)) {
        return Err(ahead);
    }
    Ok(held.into_iter().filter(|one| log.has_had(one.epoch)).collect())
}

/// Why nothing is sent, where records of the epoch `waiting` wait.
pub(crate) fn barred(stream: &str, foreign: Epoch, waiting: Epoch) -> String {
    format!(
        "the server holds records of stream {stream} from epoch {foreign}, which this data \
         directory never had, and records of the older epoch {waiting} wait here: they came from \
         another one under the same gateway.id, or this one was made while the clock was not set \
         or is an old copy. {ADVICE}"
    )
}

/// What is wrong when the server holds a record that the log has yet to number.
fn ahead(log: &Log, run: &UplinkRun, held: &Held) -> Option<String> {
    let lane = run.lanes.get(held.lane.0)?;
    let (epoch, seq) = held.newest;
    let next = log.next_seq(lane.stream);
    let stream = lane.upstream_name(&run.plan);
    (epoch == log.epoch() && seq >= next).then(|| {
        let last = Seq(next.0.saturating_sub(1));
        format!(
            "the server holds record {seq} of stream {stream}, epoch {epoch}, and this data \
             directory has come to {last} only: it is an old copy, another gateway uses the same \
             gateway.id, or its disk has lost what it had confirmed as synced. New records would \
             pass for sent. {ADVICE}"
        )
    })
}
