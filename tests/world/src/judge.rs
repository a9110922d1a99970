//! What must be true of every world when it is done. The judge knows which record each sequence
//! number was given to, what every sensor was promised and what every sink took; the gateway's
//! only word that it takes is the ledger's.

mod calls;
mod function;
mod sessions;
mod sinks;
mod told;

use std::collections::BTreeMap;

use tidegate_flow::{DEAD_LETTER_STREAM, Gateway, LOSS_STREAM};
use tidegate_stream::trace::Traced;
use tidegate_stream::{LossReason, Overflow};

use crate::clerk::RUNS;
use crate::folder::FOLDER;
use crate::options::StreamLimits;
use crate::plan::{OVERFLOW, STREAMS};
use crate::publisher::Publisher;
use crate::tally::Tally;
use crate::world::World;

/// What a stream holds or held, by sequence: of all that was appended what was not lost again.
struct Account<'w> {
    name: &'static str,
    records: BTreeMap<u64, &'w Traced>,
    /// How often each reading is in it.
    times: BTreeMap<Reading, u64>,
    /// Sequences that the ledger names, and why.
    lost: BTreeMap<u64, LossReason>,
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
        for subscriber in &mut self.subscribers {
            wrong.append(&mut subscriber.complaints);
        }
        if let Some(mut gateway) = self.gateway.take() {
            let accounts = self.accounts(&gateway, &mut wrong);
            for publisher in &self.publishers {
                judge_publisher(publisher, &accounts, &mut wrong);
            }
            for (upstream, uplink) in self.upstreams.iter().zip(&self.options.uplinks) {
                sinks::judge(upstream, uplink, &accounts, &mut wrong);
            }
            function::judge(&self.names(), &accounts, &mut gateway, &mut wrong);
            if self.options.calls.watched {
                function::judge_watcher(&mut gateway, &mut wrong);
            }
            self.judge_calls(&accounts, &mut gateway, &mut wrong);
            let spool = self.spool(&gateway, &mut wrong);
            told::judge(&accounts, &spool, &mut wrong);
            for subscriber in &self.subscribers {
                self.judge_subscriber(subscriber, &accounts, &spool, &mut wrong);
            }
            let counted =
                Tally { spool_dropped: spool.entered.len() as u64, ..self.counted(&accounts) };
            *self.tally_mut() += &counted;
        }
        wrong
    }

    /// What readings are known by, those in files included.
    fn names(&self) -> Vec<&str> {
        let sensors = self.publishers.iter().map(|publisher| publisher.name.as_str());
        sensors.chain((self.options.calls.files > 0).then_some(FOLDER)).collect()
    }

    fn accounts<'w>(&'w self, gateway: &Gateway, wrong: &mut Vec<String>) -> Vec<Account<'w>> {
        let names = STREAMS.into_iter().chain([DEAD_LETTER_STREAM, LOSS_STREAM]);
        let account = |name| {
            let id = gateway.stream(name).expect("a stream of the plan");
            let next = gateway.log().next_seq(id).0;
            let own = self.appended.iter().filter(|t| t.stream == id && t.seq.0 < next);
            // What was appended again under a number had been lost before it was durable.
            let records = own.map(|traced| (traced.seq.0, traced)).collect::<BTreeMap<_, _>>();
            if records.len() as u64 != next - 1 {
                wrong.push(format!("{name}: {} records for {next}", records.len()));
            }
            let times = count(records.values());
            let mut account = Account { name, records, times, lost: BTreeMap::new() };
            for loss in gateway.log().losses().filter(|loss| loss.stream == id) {
                if !self.explains(name, loss.reason) {
                    wrong.push(format!("{name}: a loss that nothing explains: {loss:?}"));
                }
                for seq in loss.first.0..=loss.last.0 {
                    if account.lost.insert(seq, loss.reason).is_some() || seq >= next {
                        wrong.push(format!("{name}: the ledger has no reason to name {seq}"));
                    }
                }
            }
            account
        };
        names.map(account).collect()
    }

    /// Whether a stream may lose records for this reason.
    fn explains(&self, name: &str, reason: LossReason) -> bool {
        let Some(at) = STREAMS.iter().position(|stream| *stream == name) else { return false };
        let StreamLimits { max_age, .. } = self.options.streams[at];
        match reason {
            LossReason::Quota => OVERFLOW[at] == Overflow::DropOldest,
            LossReason::Expired => max_age.is_some(),
            LossReason::LostUpstream => self.tally().set_back > 0,
            LossReason::Damaged
            | LossReason::DeadLetter
            | LossReason::Discarded
            | LossReason::Refused => false,
        }
    }

    /// What only the end shows.
    fn counted(&self, accounts: &[Account<'_>]) -> Tally {
        let everywhere = |account: &Account<'_>, seq: &u64| {
            account.records.get(seq).is_some_and(|traced| {
                let keys = sinks::keys_of(account.name, traced);
                let mut with_it =
                    self.upstreams.iter().filter(|u| u.streams.contains(&account.name)).peekable();
                with_it.peek().is_some()
                    && with_it.all(|u| keys.iter().any(|key| u.sink.arrived(key).is_some()))
            })
        };
        let late = |account: &Account<'_>| {
            account.lost.keys().filter(|seq| everywhere(account, seq)).count() as u64
        };
        let expired = |account: &Account<'_>| {
            account.lost.values().filter(|reason| **reason == LossReason::Expired).count() as u64
        };
        let sinks = || self.upstreams.iter().map(|upstream| &upstream.sink);
        let publishers = || self.publishers.iter();
        let is_run = |traced: &&&Traced| traced.record.topic.starts_with(RUNS);
        Tally {
            records: accounts.iter().map(|account| account.records.len() as u64).sum(),
            dropped: accounts.iter().map(|account| account.lost.len() as u64).sum(),
            expired: accounts.iter().map(expired).sum(),
            dropped_late: accounts.iter().map(late).sum(),
            effects: sinks().map(|sink| sink.effects().len() as u64).sum(),
            repeated: sinks().map(|sink| sink.repeated).sum(),
            acknowledged: publishers().map(|p| p.acknowledged.len() as u64).sum(),
            refused: publishers().map(|p| p.refused.len() as u64).sum(),
            sent_again: publishers().map(|p| p.sent_again).sum(),
            released_again: publishers().map(|p| p.released_again).sum(),
            delivered: self.subscribers.iter().map(|s| s.got.len() as u64).sum(),
            files: self.options.calls.files,
            runs: accounts.iter().flat_map(|a| a.records.values()).filter(is_run).count() as u64,
            told: self.callers.told().count() as u64,
            asked_again: self.callers.asked_again,
            delivered_again: self.subscribers.iter().map(|s| s.repeated).sum(),
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

    /// How often one reading is here.
    fn counts_of(&self, reading: &Reading) -> u64 {
        self.times.get(reading).copied().unwrap_or(0)
    }

    /// The same of what the ledger names.
    fn lost_counts(&self) -> BTreeMap<Reading, u64> {
        count(self.lost.keys().filter_map(|seq| self.records.get(seq)))
    }
}

fn count<'t, 'w: 't>(records: impl Iterator<Item = &'t &'w Traced>) -> BTreeMap<Reading, u64> {
    let mut counts = BTreeMap::new();
    for traced in records {
        if let Some(reading) = reading_of(&traced.record.payload) {
            *counts.entry(reading).or_default() += 1;
        }
    }
    counts
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
        if publisher.is_once() {
            for (reading, times) in times.iter().filter(|(_, times)| **times > 1) {
                wrong.push(format!("{stream}: {name}-{reading} is there {times} times"));
            }
        }
    }
}
