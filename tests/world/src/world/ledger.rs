//! Looks at the ledger whenever something was entered: what is dropped has to be due at that
//! moment, and what stays has to be within the quota.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_flow::ClockQuality;
use tidegate_stream::trace::Traced;
use tidegate_stream::{Loss, LossReason, Seq, StreamId};

use super::World;
use crate::plan::STREAMS;

/// Before 1 January 2026 no clock was right: such a stamp says nothing about a record's age.
const EARLIEST_MS: i64 = 1_767_225_600_000;
/// Records that room is made for, and that may not come then.
const EXPECTED: u64 = 2;

/// What is known of the records and of the ledger in the present life.
#[derive(Debug, Default)]
pub(crate) struct LedgerWatch {
    entered: u64,
    /// Last sequence of each entry, by stream, reason and first sequence.
    entries: BTreeMap<(StreamId, LossReason, Seq), Seq>,
    /// When each record was appended, and its own time.
    appended: BTreeMap<(StreamId, Seq), (Duration, i64)>,
}

impl LedgerWatch {
    /// When the record that has this sequence now was appended.
    pub(crate) fn appended_at(&self, stream: StreamId, seq: Seq) -> Option<Duration> {
        self.appended.get(&(stream, seq)).map(|(at, _)| *at)
    }

    /// The part of an entry that was not there before.
    fn news(&mut self, loss: &Loss) -> Option<(Seq, Seq)> {
        let known = self.entries.insert((loss.stream, loss.reason, loss.first), loss.last);
        let first = known.map_or(loss.first, |last| last.plus(1));
        (first <= loss.last).then_some((first, loss.last))
    }
}

impl World {
    /// A life begins: what its ledger holds was looked at before.
    pub(super) fn begin_ledger(&mut self) {
        let Some(gateway) = &self.gateway else { return };
        let log = gateway.log();
        self.ledger.entries.clear();
        self.ledger.entered = log.losses_entered();
        for loss in log.losses() {
            self.ledger.news(loss);
        }
    }

    /// Notes what was appended, and looks at what went for it.
    pub(super) fn note_appended(&mut self) {
        let appended: Vec<Traced> = self.trace.take();
        for traced in &appended {
            let when = (self.time.clock, traced.record.unix_ms);
            self.ledger.appended.insert((traced.stream, traced.seq), when);
        }
        let grown: BTreeSet<StreamId> = appended.iter().map(|traced| traced.stream).collect();
        self.appended.extend(appended);
        if !grown.is_empty() {
            self.watch_quotas(&grown);
        }
        self.watch_ledger();
    }

    fn watch_quotas(&mut self, grown: &BTreeSet<StreamId>) {
        let Some(gateway) = &self.gateway else { return };
        let mut faults = Vec::new();
        for (name, limits) in STREAMS.into_iter().zip(&self.options.streams) {
            let (Some(max), Some(stream)) = (limits.max_records, gateway.stream(name)) else {
                continue;
            };
            let log = gateway.log();
            let (first, next) = (log.first_seq(stream), log.next_seq(stream));
            // What is not durable cannot go yet.
            if grown.contains(&stream) && next.0 - first.0 > max && first < log.durable_seq(stream)
            {
                let durable = log.durable_seq(stream);
                faults.push(format!(
                    "{name} keeps {first:?} to {next:?}, durable to {durable:?}, more than {max} \
                     records"
                ));
            }
        }
        faults.iter().for_each(|fault| self.fault(fault));
    }

    fn watch_ledger(&mut self) {
        let Some(gateway) = &self.gateway else { return };
        let log = gateway.log();
        if log.losses_entered() == self.ledger.entered {
            return;
        }
        self.ledger.entered = log.losses_entered();
        let losses: Vec<Loss> = log.losses().copied().collect();
        for loss in losses {
            if let Some((first, last)) = self.ledger.news(&loss) {
                self.check_loss(&loss, first, last);
            }
        }
    }

    fn check_loss(&mut self, loss: &Loss, first: Seq, last: Seq) {
        let Some(gateway) = &self.gateway else { return };
        let at = STREAMS.iter().position(|name| gateway.stream(name) == Some(loss.stream));
        let Some(at) = at else { return };
        let (name, limits) = (STREAMS[at], self.options.streams[at]);
        let next = gateway.log().next_seq(loss.stream);
        match loss.reason {
            LossReason::Quota => {
                let needed =
                    limits.counts_records_only().is_none_or(|max| last.0 + max < next.0 + EXPECTED);
                if !needed {
                    self.fault(&format!("{name}: {last:?} of {next:?} dropped within the quota"));
                }
            }
            LossReason::Expired => {
                let early =
                    (first.0..=last.0).find(|seq| !self.is_too_old(at, loss.stream, Seq(*seq)));
                if let Some(seq) = early {
                    let now = self.time.now();
                    let known = self.ledger.appended.get(&(loss.stream, Seq(seq)));
                    self.fault(&format!(
                        "{name}: {seq} of {first:?} to {last:?}, appended at {known:?}, expired too \
                         early: {} {:?}, {:?} are allowed",
                        now.unix_ms, now.clock, limits.max_age
                    ));
                }
            }
            LossReason::Damaged
            | LossReason::DeadLetter
            | LossReason::Discarded
            | LossReason::Refused
            | LossReason::LostUpstream => {}
        }
    }

    /// Whether a trusted clock says that a record is older than its stream allows: by the
    /// record's own time, or by what a trusted clock has shown since it came.
    fn is_too_old(&self, at: usize, stream: StreamId, seq: Seq) -> bool {
        let now = self.time.now();
        let Some(max_age) = self.options.streams[at].max_age else { return false };
        let Some((since, own_ms)) = self.ledger.appended.get(&(stream, seq)) else { return false };
        let own_ms = Some(*own_ms).filter(|own| (EARLIEST_MS..=now.unix_ms).contains(own));
        let seen_ms = self.time.least_trusted_ms(*since);
        let counted_ms = own_ms.into_iter().chain(seen_ms).min();
        now.clock == ClockQuality::Synced
            && counted_ms.is_some_and(|ms| now.unix_ms - ms >= max_age.as_millis() as i64)
    }
}
