//! The loss ledger told upstream: each entry becomes one JSON record of the stream `losses`,
//! which an uplink may send (`docs/formats/loss.md`).
//!
//! Invariants:
//! - a record and the note that it was told are one transaction, so that each lost sequence is
//!   told once for each reason, also across power cuts;
//! - losses of the stream `losses` itself are not told in it: they would feed themselves for
//!   ever. Its own sequences have a gap then, and the ledger says why.
//!
//! An entry that is still growing (a stream at its quota drops its oldest records all the time)
//! is told again at most every [`GROWTH_INTERVAL`].

use std::time::{Duration, Instant};

use tidegate_stream::{Log, Loss, Record, StreamId, TableId, Transaction};

use crate::attributes::Attributes;
use crate::clock::Now;
use crate::gateway::{BuildError, Gateway, Notice, Output};
use crate::plan::LOSS_STREAM;
use crate::route::Routes;
use crate::told::{PieceKey, Told, Untold, encode_key, encode_piece};

/// Version of the records' JSON.
const VERSION: u32 = 1;
/// Name of the table that remembers what was told.
const TABLE: &str = "losses";
/// Client of the records.
const CLIENT: &str = "tidegate";
/// The topic of a record is this and the name of the stream that lost something.
const TOPIC: &str = "tidegate/losses/";
/// Most records of one transaction, each below 600 bytes with its note: it fits any frame.
pub(crate) const MAX_RECORDS: usize = 32;
/// Least time between two tellings of an entry that goes on growing.
pub(crate) const GROWTH_INTERVAL: Duration = Duration::from_secs(60);

/// How far the ledger has been told.
pub(crate) struct Losses {
    pub(crate) stream: StreamId,
    table: TableId,
    told: Told,
    /// What the ledger counted when everything in it had been told.
    settled: Option<u64>,
    /// When entries that have grown are told again.
    growth_at: Option<Instant>,
    /// When what sessions lost is told again.
    pub(crate) sessions_at: Option<Instant>,
    /// The operator knows that the stream takes nothing.
    waiting: bool,
}

/// What one transaction tells.
struct Round {
    parts: Vec<(Loss, Untold)>,
    forgotten: Vec<PieceKey>,
    /// Growth was left for later.
    held_back: bool,
}

impl Losses {
    pub(crate) fn define(log: &mut Log, routes: &Routes) -> Result<Losses, BuildError> {
        let stream = routes.required(LOSS_STREAM, "the loss ledger")?;
        let table = log.table(TABLE)?;
        let told = Told::read(log.table_entries(table).iter());
        let (settled, growth_at, sessions_at) = (None, None, None);
        Ok(Losses { stream, table, told, settled, growth_at, sessions_at, waiting: false })
    }

    /// What is to be told now; it counts as told from here on.
    fn next_round(&mut self, now: Instant, log: &Log) -> (Round, Transaction) {
        let mut round = Round { parts: Vec::new(), forgotten: Vec::new(), held_back: false };
        let mut transaction = Transaction::new();
        let grows = self.growth_at.is_none_or(|at| at <= now);
        for loss in log.losses().filter(|loss| loss.stream != self.stream) {
            for part in self.told.untold(loss) {
                if part.grown && !grows {
                    round.held_back = true;
                } else if round.parts.len() < MAX_RECORDS {
                    let (key, piece) = self.told.note(loss, &part);
                    transaction.put(self.table, encode_key(key), encode_piece(piece));
                    round.parts.push((*loss, part));
                }
            }
        }
        if round.parts.is_empty() {
            round.forgotten = self.told.forget(log.losses(), MAX_RECORDS);
            for key in &round.forgotten {
                transaction.delete(self.table, encode_key(*key));
            }
        }
        (round, transaction)
    }
}

impl Gateway {
    /// Tells what the ledger has and the stream `losses` has not.
    pub(crate) fn tell_losses(&mut self, now: Now) {
        let entered = self.log.losses_entered();
        if self.losses.settled == Some(entered) {
            return;
        }
        let mut grown = false;
        loop {
            let (round, mut transaction) = self.losses.next_round(now.instant, &self.log);
            if transaction.is_empty() {
                // What the log itself dropped to make room for these records is not told.
                self.losses.settled = (!round.held_back).then_some(self.log.losses_entered());
                break;
            }
            for (loss, part) in &round.parts {
                grown |= part.grown;
                transaction.append(self.losses.stream, self.loss_record(now, loss, part));
            }
            if let Err(error) = self.log.commit(now.instant, transaction) {
                return self.losses_wait(&error.to_string());
            }
            self.losses.waiting = false;
        }
        if grown {
            self.losses.growth_at = Some(now.instant + GROWTH_INTERVAL);
        }
    }

    /// Nothing of the round was told after all; the next tick tries again.
    pub(crate) fn losses_wait(&mut self, why: &str) {
        let table = self.log.table_entries(self.losses.table);
        self.losses.told = Told::read(table.iter());
        if !std::mem::replace(&mut self.losses.waiting, true) {
            self.emit(Output::Notice(Notice::LossesWait { why: why.to_owned() }));
        }
    }

    fn loss_record(&self, now: Now, loss: &Loss, part: &Untold) -> Record {
        let stream = self.log.streams().find(|(id, _)| *id == loss.stream);
        let stream = stream.map_or("", |(_, name)| name);
        telling(now, stream, json(&self.name, stream, loss, part))
    }
}

/// A record of the stream `losses` about another stream.
pub(crate) fn telling(now: Now, stream: &str, json: String) -> Record {
    let attributes = Attributes {
        clock: now.clock,
        content_type: Some("application/json".to_owned()),
        payload_utf8: true,
        ..Attributes::default()
    };
    let mut bytes = Vec::new();
    attributes.encode(&mut bytes);
    Record {
        unix_ms: now.unix_ms,
        topic: format!("{TOPIC}{stream}"),
        client: CLIENT.to_owned(),
        publisher: None,
        attributes: bytes,
        payload: json.into_bytes(),
    }
}

/// The record's payload.
fn json(gateway: &str, stream: &str, loss: &Loss, part: &Untold) -> String {
    format!(
        r#"{{"v":{VERSION},"gateway":{},"stream":{},"first":{},"last":{},"records":{},"bytes":{},"reason":"{}","unix_ms":{}}}"#,
        quoted(gateway),
        quoted(stream),
        part.first,
        part.last,
        part.records(),
        part.bytes,
        loss.reason.name(),
        loss.unix_ms
    )
}

/// A JSON string. Names from a configuration need no escapes; those of an older store may.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use tidegate_stream::{LossReason, Seq};

    use super::*;

    const GOLDEN: &str = include_str!("../../../tests/golden/loss/v1/record.json");

    #[test]
    fn the_json_is_frozen() {
        let loss = Loss {
            stream: StreamId(0),
            first: Seq(1),
            last: Seq(600),
            records: 600,
            bytes: 80_000,
            reason: LossReason::Quota,
            unix_ms: 1_780_000_000_123,
        };
        let part = Untold { first: Seq(101), last: Seq(600), bytes: 70_000, grown: true };
        assert_eq!(json("gw-01", "telemetry", &loss, &part), GOLDEN.trim_end());
    }

    #[test]
    fn names_are_escaped() {
        assert_eq!(quoted("a\"b\\c\nd°"), r#""a\"b\\c\u000ad°""#);
    }
}
