//! The uplinks' promise: each record is at each sink once, under one name and in order, or in
//! the ledger.

use std::collections::BTreeSet;

use tidegate_flow::LATE_SUFFIX;
use tidegate_stream::trace::Traced;

use super::Account;
use crate::options::UplinkKind;
use crate::sink::{Key, SinkKind};
use crate::world::upstream::Upstream;

/// What a record may be known by: in its stream's lane and in the late one.
pub(super) fn keys_of(stream: &str, traced: &Traced) -> [Key; 2] {
    let key = |name: String| (name, traced.epoch.0, traced.seq.0);
    [key(stream.to_owned()), key(format!("{stream}{LATE_SUFFIX}"))]
}

pub(super) fn judge(
    upstream: &Upstream,
    uplink: &UplinkKind,
    accounts: &[Account<'_>],
    wrong: &mut Vec<String>,
) {
    let kind = upstream.kind.name();
    let mut found: Vec<String> = upstream.sink.mistakes();
    let effects = upstream.sink.effects();
    for account in accounts.iter().filter(|account| upstream.streams.contains(&account.name)) {
        let of_lane = |lane: &str| effects.iter().filter(|key| key.0 == lane).collect::<Vec<_>>();
        let [live, late] = lanes(account.name).map(|lane| of_lane(&lane));
        if !late.is_empty() && !uplink.live_first.contains(&account.name) {
            found.push(format!("{} was never live first and has a late lane", account.name));
        }
        judge_lane(upstream, account, &live, &mut found);
        judge_lane(upstream, account, &late, &mut found);
        let there: BTreeSet<&Key> = live.into_iter().chain(late).collect();
        judge_records(upstream, account, &there, &mut found);
        judge_objects(upstream, account, &mut found);
    }
    wrong.extend(found.iter().map(|what| format!("{kind}: {what}")));
}

fn lanes(stream: &str) -> [String; 2] {
    [stream.to_owned(), format!("{stream}{LATE_SUFFIX}")]
}

/// Each once; in order; as it was appended.
fn judge_lane(
    upstream: &Upstream,
    account: &Account<'_>,
    effects: &[&Key],
    found: &mut Vec<String>,
) {
    let mut before: BTreeSet<&Key> = BTreeSet::new();
    let mut newest = (0, 0);
    // What the server refused for its quota comes again behind its successors.
    let ordered = upstream.kind != SinkKind::Consumer || !upstream.has_refused;
    for key in effects {
        let (_, epoch, seq) = key;
        if !before.insert(key) {
            found.push(format!("{key:?} took effect twice"));
        }
        if ordered && (*epoch, *seq) < newest {
            found.push(format!("{key:?} came after {newest:?}"));
        }
        newest = newest.max((*epoch, *seq));
        let known = account.records.get(seq).filter(|traced| traced.epoch.0 == *epoch);
        let Some(traced) = known else {
            found.push(format!("{key:?} was sent and is not in the log"));
            continue;
        };
        let record = &traced.record;
        let same = upstream.sink.arrived(key).is_some_and(|arrived| {
            (&arrived.client, &arrived.topic, &arrived.payload)
                == (&record.client, &record.topic, &record.payload)
        });
        if !same {
            found.push(format!("{key:?} is not what was appended: {record:?}"));
        }
    }
}

/// Each record is there or in the ledger, and was never sent under both names.
fn judge_records(
    upstream: &Upstream,
    account: &Account<'_>,
    there: &BTreeSet<&Key>,
    found: &mut Vec<String>,
) {
    for (seq, traced) in &account.records {
        let keys = keys_of(account.name, traced);
        if keys.iter().all(|key| !there.contains(key)) && !account.lost.contains_key(seq) {
            found.push(format!("{:?} is neither there nor in the ledger", keys[0]));
        }
        if keys.iter().all(|key| upstream.sink.arrived(key).is_some()) {
            found.push(format!("{:?} went up under both names", keys[0]));
        }
    }
}

/// An object that was put again held the same records, but for what the ledger names.
fn judge_objects(upstream: &Upstream, account: &Account<'_>, found: &mut Vec<String>) {
    let names = lanes(account.name);
    for key in upstream.sink.varied().filter(|key| names.contains(&key.0)) {
        if !account.lost.contains_key(&key.2) {
            found.push(format!("{key:?} was in an object and not in another of its name"));
        }
    }
}
