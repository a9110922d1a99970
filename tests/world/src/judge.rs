//! What must be true of every world when it is done. The judge knows which record each sequence
//! number was given to, what every sensor was promised and what every sink took; the gateway's
//! only word that it takes is the ledger's.

use std::collections::{BTreeMap, BTreeSet};

use tidegate_flow::{DEAD_LETTER_STREAM, Gateway};
use tidegate_stream::LossReason;
use tidegate_stream::trace::Traced;

use crate::function::count_key;
use crate::plan::{FUNCTION, STREAMS};
use crate::publisher::{Publisher, ReadingKind, kind_of};
use crate::sink::{Key, SinkKind};
use crate::tally::Tally;
use crate::world::World;
use crate::world::upstream::Upstream;

/// What a stream holds or held, by sequence: of all that was appended what was not lost again.
struct Account<'w> {
    name: &'static str,
    records: BTreeMap<u64, &'w Traced>,
    /// Sequences that the ledger names.
    lost: BTreeSet<u64>,
}

/// A reading as the streams know it: the sensor's name and number.
type Reading = (String, u64);

impl World {
    /// Everything that is wrong, in words; empty when the promises were kept.
    pub fn verdict(&mut self) -> Vec<String> {
        let mut wrong = std::mem::take(&mut self.faults);
        for publisher in &mut self.publishers {
            wrong.append(&mut publisher.complaints);
        }
        for upstream in &mut self.upstreams {
            let name = upstream.kind.name();
            let conflicts = std::mem::take(&mut upstream.sink.conflicts);
            wrong.extend(conflicts.iter().map(|c| format!("{name}: one identity twice: {c}")));
        }
        if let Some(mut gateway) = self.gateway.take() {
            let accounts = self.accounts(&gateway, &mut wrong);
            for publisher in &self.publishers {
                judge_publisher(publisher, &accounts, &mut wrong);
            }
            for upstream in &self.upstreams {
                for account in accounts.iter().filter(|a| STREAMS.contains(&a.name)) {
                    judge_sink(upstream, account, &mut wrong);
                }
            }
            judge_function(&self.publishers, &accounts, &mut gateway, &mut wrong);
            let counted = self.counted(&accounts);
            *self.tally_mut() += &counted;
        }
        wrong
    }

    fn accounts<'w>(&'w self, gateway: &Gateway, wrong: &mut Vec<String>) -> Vec<Account<'w>> {
        let names = STREAMS.into_iter().chain([DEAD_LETTER_STREAM]);
        let account = |name| {
            let id = gateway.stream(name).expect("a stream of the plan");
            let next = gateway.log().next_seq(id).0;
            let own = self.appended.iter().filter(|t| t.stream == id && t.seq.0 < next);
            // What was appended again under a number had been lost before it was durable.
            let records = own.map(|traced| (traced.seq.0, traced)).collect::<BTreeMap<_, _>>();
            if records.len() as u64 != next - 1 {
                wrong.push(format!("{name}: {} records for {next}", records.len()));
            }
            let mut account = Account { name, records, lost: BTreeSet::new() };
            for loss in gateway.log().losses().filter(|loss| loss.stream == id) {
                let explained = match loss.reason {
                    LossReason::Quota => name == "journal",
                    LossReason::LostUpstream => self.tally().set_back > 0,
                    LossReason::Expired
                    | LossReason::Damaged
                    | LossReason::DeadLetter
                    | LossReason::Discarded
                    | LossReason::Refused => false,
                };
                if !explained {
                    wrong.push(format!("{name}: a loss that nothing explains: {loss:?}"));
                }
                for seq in loss.first.0..=loss.last.0 {
                    if !account.lost.insert(seq) || seq >= next {
                        wrong.push(format!("{name}: the ledger has no reason to name {seq}"));
                    }
                }
            }
            account
        };
        names.map(account).collect()
    }

    /// What only the end shows.
    fn counted(&self, accounts: &[Account<'_>]) -> Tally {
        let everywhere = |account: &Account<'_>, seq: &u64| {
            account.records.get(seq).is_some_and(|traced| {
                let key = key_of(account.name, traced);
                self.upstreams.iter().all(|upstream| upstream.sink.arrived(&key).is_some())
            })
        };
        let late = |account: &Account<'_>| {
            account.lost.iter().filter(|seq| everywhere(account, seq)).count() as u64
        };
        let sinks = || self.upstreams.iter().map(|upstream| &upstream.sink);
        let publishers = || self.publishers.iter();
        Tally {
            records: accounts.iter().map(|account| account.records.len() as u64).sum(),
            dropped: accounts.iter().map(|account| account.lost.len() as u64).sum(),
            dropped_late: accounts.iter().map(late).sum(),
            effects: sinks().map(|sink| sink.effects.len() as u64).sum(),
            repeated: sinks().map(|sink| sink.repeated).sum(),
            acknowledged: publishers().map(|p| p.acknowledged.len() as u64).sum(),
            refused: publishers().map(|p| p.refused.len() as u64).sum(),
            sent_again: publishers().map(|p| p.sent_again).sum(),
            ..Tally::default()
        }
    }
}

impl Account<'_> {
    /// The publisher's readings here, in order.
    fn readings_of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = u64> + 'a {
        self.records.values().filter_map(move |traced| {
            let (sensor, number) = reading_of(&traced.record.payload)?;
            (sensor == name && traced.record.client == name).then_some(number)
        })
    }

    /// How often each reading is here, whoever published it.
    fn counts(&self) -> BTreeMap<Reading, u64> {
        let mut counts = BTreeMap::new();
        for traced in self.records.values() {
            if let Some(reading) = reading_of(&traced.record.payload) {
                *counts.entry(reading).or_default() += 1;
            }
        }
        counts
    }
}

fn key_of(stream: &str, traced: &Traced) -> Key {
    (stream.to_owned(), traced.epoch.0, traced.seq.0)
}

/// The `id` field of a payload, taken apart.
fn reading_of(payload: &[u8]) -> Option<Reading> {
    let text = std::str::from_utf8(payload).ok()?;
    let start = text.find("\"id\":\"")? + 6;
    let end = text[start..].find('"')?;
    let (sensor, number) = text[start..start + end].split_once('-')?;
    Some((sensor.to_owned(), number.parse().ok()?))
}

/// Acknowledged means logged, in each of its streams; in order; with an identity once.
fn judge_publisher(publisher: &Publisher, accounts: &[Account<'_>], wrong: &mut Vec<String>) {
    let name = &publisher.name;
    let route = publisher.sensor.route;
    for account in accounts.iter().filter(|a| route.streams().contains(&a.name)) {
        let stream = account.name;
        let mut times: BTreeMap<u64, u64> = BTreeMap::new();
        let mut newest = None;
        for reading in account.readings_of(name) {
            let times = times.entry(reading).or_default();
            *times += 1;
            if *times > 1 || publisher.refused.contains(&reading) {
                continue;
            }
            if newest.is_some_and(|newest| reading < newest) {
                wrong.push(format!("{stream}: {name}-{reading} came after {newest:?}"));
            }
            newest = newest.max(Some(reading));
        }
        for reading in publisher.acknowledged.iter().filter(|r| !times.contains_key(r)) {
            wrong.push(format!("{stream}: {name}-{reading} was acknowledged and is lost"));
        }
        if publisher.is_identified() {
            for (reading, times) in times.iter().filter(|(_, times)| **times > 1) {
                wrong.push(format!("{stream}: {name}-{reading} is there {times} times"));
            }
        }
    }
}

/// Each record is at the sink or named by the ledger; once; in order; as it was appended.
fn judge_sink(upstream: &Upstream, account: &Account<'_>, wrong: &mut Vec<String>) {
    let (sink, kind, stream) = (&upstream.sink, upstream.kind.name(), account.name);
    let mut effects: BTreeSet<&Key> = BTreeSet::new();
    let mut newest = (0, 0);
    // What the server refused for its quota comes again behind its successors.
    let ordered = upstream.kind != SinkKind::Consumer || !upstream.has_refused;
    for key in sink.effects.iter().filter(|key| key.0 == stream) {
        let (_, epoch, seq) = key;
        if !effects.insert(key) {
            wrong.push(format!("{kind}: {key:?} took effect twice"));
        }
        if ordered && (*epoch, *seq) < newest {
            wrong.push(format!("{kind}: {key:?} came after {newest:?}"));
        }
        newest = newest.max((*epoch, *seq));
        let known = account.records.get(seq).filter(|traced| traced.epoch.0 == *epoch);
        let Some(traced) = known else {
            wrong.push(format!("{kind}: {key:?} was sent and is not in the log"));
            continue;
        };
        let record = &traced.record;
        let same = sink.arrived(key).is_some_and(|arrived| {
            (&arrived.client, &arrived.topic, &arrived.payload)
                == (&record.client, &record.topic, &record.payload)
        });
        if !same {
            wrong.push(format!("{kind}: {key:?} is not what was appended: {record:?}"));
        }
    }
    for (seq, traced) in &account.records {
        let key = key_of(stream, traced);
        if !effects.contains(&key) && !account.lost.contains(seq) {
            wrong.push(format!("{kind}: {key:?} is neither there nor in the ledger"));
        }
    }
}

/// One alert or dead letter for each record that asks for it, and each record counted once.
fn judge_function(
    publishers: &[Publisher],
    accounts: &[Account<'_>],
    gateway: &mut Gateway,
    wrong: &mut Vec<String>,
) {
    let of = |name: &str| accounts.iter().find(|account| account.name == name);
    let counts = |name| of(name).map(Account::counts).unwrap_or_default();
    let (inputs, alerts, dead) =
        (counts("telemetry"), counts("alerts"), counts(DEAD_LETTER_STREAM));
    let times = |counts: &BTreeMap<Reading, u64>, of| counts.get(of).copied().unwrap_or(0);
    let mut handled: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (reading, records) in &inputs {
        let (alerts, dead) = (times(&alerts, reading), times(&dead, reading));
        let kind = kind_of(reading.1);
        let right = match kind {
            ReadingKind::Over => alerts + dead == *records,
            ReadingKind::Poison => alerts == 0 && dead == *records,
            ReadingKind::Ordinary => alerts == 0 && dead <= *records,
        };
        if !right {
            wrong.push(format!(
                "{reading:?}, {kind:?}: {records} records made {alerts} alerts and {dead} dead letters"
            ));
        }
        // A call that failed to the end counted nothing; one that gave up a poisoned record did.
        let (least, most) = handled.entry(&reading.0).or_default();
        *least += records - dead.min(*records);
        *most += if kind == ReadingKind::Poison { *records } else { records - dead.min(*records) };
    }
    let Ok(table) = gateway.log_mut().table(&format!("fn/{FUNCTION}")) else { return };
    let state = gateway.log().table_entries(table);
    for publisher in publishers {
        let (least, most) = handled.get(publisher.name.as_str()).copied().unwrap_or_default();
        let value = state
            .get(&count_key(&publisher.name))
            .map_or(Ok(0), |value| value.as_slice().try_into().map(u64::from_le_bytes));
        if !value.is_ok_and(|count| (least..=most).contains(&count)) {
            let name = &publisher.name;
            wrong.push(format!("{name}: counted {value:?}, not {least} to {most}"));
        }
    }
}
