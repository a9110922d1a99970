//! A sink that holds less than it acknowledged: it was restored from a backup, or lost its end.
//!
//! What it acknowledged is what lies below the cursor and is not in the loss ledger. Where sending
//! again cannot make a duplicate the cursor goes back, and what is not kept any more is entered in
//! the ledger; elsewhere the operator is told.
//!
//! Not seen: at sinks that cannot tell what they hold, and in streams that are sent live first,
//! whose cursors pass what the other lane sends.

use tidegate_stream::{Log, Loss, LossReason, Position, Seq, StreamId, Transaction};
use tidegate_uplink::{Held, LaneId};

use crate::clock::Now;
use crate::gateway::{BuildError, Gateway, Notice, Output};
use crate::late::Part;
use crate::plan::{Setback, UplinkPlan};
use crate::uplink::Lane;

/// What an uplink knows of its server's setbacks.
#[derive(Default)]
pub(crate) struct Setbacks {
    /// Acknowledged records that the server did not have any more when it was asked.
    pub(crate) missing: u64,
    /// The last one, for the operator.
    pub(crate) last: Option<String>,
}

/// One lane's setback.
struct Fall {
    /// Behind the newest record that the server holds.
    after: Seq,
    /// Where sending would have to go on.
    from: Seq,
    /// What it acknowledged and does not have: first, and end.
    missing: Vec<(Seq, Seq)>,
    /// The server may have some of it: it named another store's epoch, and its list of newest
    /// epochs hides older ones of ours.
    hidden: bool,
}

/// Finds out from where on this uplink has sent each lane's stream, and persists it together with
/// new readers: one table an uplink, by the lane's name 8 bytes, little-endian. Of a reader
/// that was there before the table, what is below its cursor now is not known.
pub(crate) fn define(
    log: &mut Log,
    now: Now,
    plan: &UplinkPlan,
    lanes: &mut [Lane],
) -> Result<(), BuildError> {
    if plan.setback == Setback::Unseen {
        return Ok(());
    }
    let table = log.table(&format!("uplink/{}/since", plan.name))?;
    let mut tx = Transaction::new();
    let mut news = false;
    for lane in lanes {
        let key = lane.upstream_name(plan).into_bytes();
        let known = log.table_entries(table).get(&key).filter(|_| !lane.is_new);
        if lane.part != Part::Whole {
            // The cursors pass what the other lane sends. When the stream goes in order again, only
            // what is sent from then on counts.
            if known.is_some() {
                tx.delete(table, key);
                news = true;
            }
            continue;
        }
        let known = known.and_then(|value| <[u8; 8]>::try_from(&**value).ok());
        lane.since = Some(match known {
            Some(bytes) => Seq(u64::from_le_bytes(bytes)),
            None => {
                let cursor = log.cursor(lane.reader);
                news = true;
                tx.put(table, key, cursor.0.to_le_bytes().to_vec());
                cursor
            }
        });
    }
    if news {
        // When the tables are full it is found out anew at the next start, from there on.
        let _ = log.commit(now.instant, tx);
    }
    Ok(())
}

impl Gateway {
    /// A session begins, and the server holds this of our records. Gives the position at which what
    /// is lost is in the ledger: sent before, later records would hide it from the next life.
    pub(crate) fn answer_setbacks(
        &mut self,
        now: Now,
        index: usize,
        held: &[Held],
    ) -> Option<Position> {
        let before = self.log.end();
        for at in 0..self.uplinks[index].lanes.len() {
            let Some(fall) = self.fall(index, at, held) else { continue };
            let run = &mut self.uplinks[index];
            let lane = &mut run.lanes[at];
            let again = run.plan.setback == Setback::SentAgain && !fall.hidden;
            if !again && lane.told == Some(fall.after) {
                continue;
            }
            lane.told = Some(fall.after);
            let (stream, reader) = (lane.stream, lane.reader);
            let kept_from = self.log.first_seq(stream);
            let what = fall.sentence(&run.plan.streams[lane.name], kept_from, again);
            run.setbacks.missing += count(&fall.missing);
            run.setbacks.last = Some(what.clone());
            let uplink = run.plan.name.clone();
            if again {
                run.core.go_back(LaneId(at), fall.from);
                self.enter_gone(now, stream, &fall.missing, kept_from);
                if fall.from < self.log.cursor(reader) {
                    self.log.advance(now.instant, reader, fall.from);
                }
            }
            self.emit(Output::Notice(Notice::Setback { uplink, what }));
        }
        let end = self.log.end();
        (end > before).then(|| {
            self.log.flush(now.instant);
            end
        })
    }

    fn fall(&self, index: usize, at: usize, held: &[Held]) -> Option<Fall> {
        let run = &self.uplinks[index];
        let lane = &run.lanes[at];
        let since = lane.since.filter(|_| lane.part == Part::Whole)?;
        let newest = held.iter().filter(|held| held.lane.0 == at).map(|held| held.newest).max();
        let after = match (newest, run.plan.setback) {
            (Some((_, seq)), _) => seq.plus(1),
            (None, Setback::SentAgain) => Seq(1),
            // Messages expire there.
            (None, Setback::Told | Setback::Unseen) => return None,
        };
        let (cursor, kept_from) = (self.log.cursor(lane.reader), self.log.first_seq(lane.stream));
        let missing = self.log.not_in_ledger(lane.stream, after.max(since), cursor);
        let current = newest.is_none_or(|(epoch, _)| epoch == self.log.epoch());
        // Sequences of an older epoch may have been used again: what is held is passed one by one.
        let from = if current { after.max(since).max(kept_from) } else { kept_from };
        let hidden = lane.foreign.is_some_and(|epoch| self.log.had_before(epoch));
        (!missing.is_empty()).then(|| Fall { after, from: from.min(cursor), missing, hidden })
    }

    fn enter_gone(&mut self, now: Now, stream: StreamId, missing: &[(Seq, Seq)], kept_from: Seq) {
        for (first, end) in missing.iter().filter(|(first, _)| *first < kept_from) {
            let end = (*end).min(kept_from);
            let loss = Loss {
                stream,
                first: *first,
                last: Seq(end.0 - 1),
                records: end.0 - first.0,
                bytes: 0,
                reason: LossReason::LostUpstream,
                unix_ms: now.unix_ms,
            };
            self.log.record_loss(now.instant, loss);
        }
    }
}

impl Fall {
    fn sentence(&self, stream: &str, kept_from: Seq, again: bool) -> String {
        let before = |(first, end): &(Seq, Seq)| (*first, (*end).min(kept_from).max(*first));
        let all = count(&self.missing);
        let gone = count(&self.missing.iter().map(before).collect::<Vec<_>>());
        let kept = all - gone;
        let holds = match self.after.0 - 1 {
            0 => "holds none of stream".to_owned(),
            last => format!("holds nothing behind record {last} of stream"),
        };
        let end = self.missing.last().map_or(0, |(_, end)| end.0 - 1);
        let what = format!(
            "the server {holds} {stream}, and had acknowledged {all} records up to {end}: it was \
             restored from a backup, or lost them"
        );
        match (again, gone) {
            (true, 0) => format!("{what}. They are sent again"),
            (true, _) => format!(
                "{what}. {kept} are kept here and sent again; {gone} are not, and are lost (tidegate \
                 stream losses {stream}); a longer retain would have kept them"
            ),
            (false, _) if self.hidden => format!(
                "{what}. It holds another store's records as well, and does not tell how many of \
                 these: they are not sent again; {kept} of them are kept here (tidegate stream \
                 export {stream})"
            ),
            (false, _) => format!(
                "{what}, or they were deleted there. They are not sent again, because what was \
                 deleted on purpose would come back; {kept} of them are kept here (tidegate stream \
                 export {stream})"
            ),
        }
    }
}

fn count(ranges: &[(Seq, Seq)]) -> u64 {
    ranges.iter().map(|(first, end)| end.0 - first.0).sum()
}
