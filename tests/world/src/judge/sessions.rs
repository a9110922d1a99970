//! The promise to subscribers with kept sessions: what was acknowledged reaches each whose
//! subscription had been acknowledged before, with QoS 2 once, with QoS 1 at least once and in
//! order, unless the ledger says that the spool had no room for it. What they get is durable.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tidegate_flow::Gateway;
use tidegate_stream::{LossReason, Seq, StreamId};

use super::{Account, Reading, reading_of};
use crate::mqtt::{Message, Qos};
use crate::publisher::{Publisher, is_empty};
use crate::subscriber::Subscriber;
use crate::world::World;

/// Name of the stream that has alerts.
const ALERTS: &str = "alerts";

/// Name of the spool in the ledger.
pub(super) const SPOOL: &str = "$mqtt";

/// What the ledger says is gone from the spool.
pub(super) struct Spool {
    /// By topic and reading.
    lost: BTreeSet<(String, Reading)>,
    /// By sequence, and why.
    pub(super) entered: BTreeMap<u64, LossReason>,
}

impl World {
    /// What the ledger says of the spool.
    pub(super) fn spool(&self, gateway: &Gateway, wrong: &mut Vec<String>) -> Spool {
        let mut spool = Spool { lost: BTreeSet::new(), entered: BTreeMap::new() };
        let log = gateway.log();
        let Some((_, id, _)) = log.readers().find(|(_, _, name)| *name == "sessions") else {
            wrong.push("nobody reads the spool".to_owned());
            return spool;
        };
        for loss in log.losses().filter(|loss| loss.stream == id) {
            if loss.reason != LossReason::Quota || self.options.spool_bytes.is_none() {
                wrong.push(format!("the spool: a loss that nothing explains: {loss:?}"));
            }
            spool.entered.extend((loss.first.0..=loss.last.0).map(|seq| (seq, loss.reason)));
        }
        for traced in self.appended.iter().filter(|traced| traced.stream == id) {
            let gone = spool.entered.contains_key(&traced.seq.0);
            // Who gets it stands in front, in bytes that are no text.
            let text = String::from_utf8_lossy(&traced.record.payload);
            if let (true, Some(reading)) = (gone, reading_of(text.as_bytes())) {
                spool.lost.insert((traced.record.topic.clone(), reading));
            }
        }
        spool
    }

    /// Everything that is wrong with what one of them got.
    pub(super) fn judge_subscriber(
        &self,
        subscriber: &Subscriber,
        accounts: &[Account<'_>],
        spool: &Spool,
        wrong: &mut Vec<String>,
    ) {
        let name = &subscriber.name;
        let Some(since) = subscriber.subscribed_at else {
            return wrong.push(format!("{name} has never subscribed"));
        };
        let mut by_topic: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
        for got in subscriber.got.values() {
            by_topic.entry(&got.message.topic).or_default().push(&got.message);
        }
        let mut found = Vec::new();
        found.extend(subscriber.unreleased().map(|id| format!("{id} was never released")));
        for publisher in &self.publishers {
            let topic = publisher.topic();
            let messages = by_topic.remove(topic.as_str()).unwrap_or_default();
            let got = Delivered { publisher, messages: &messages, since };
            match subscriber.kind.wants(publisher.sensor.route) {
                Some(most) => {
                    got.judge(most.min(publisher.sensor.qos), accounts, spool, &mut found);
                }
                None if messages.is_empty() => {}
                None => found.push(format!("{topic}: got, and not subscribed")),
            }
        }
        let (alerts, others): (Vec<_>, Vec<_>) =
            by_topic.into_iter().partition(|(topic, _)| topic.starts_with("alerts/"));
        found.extend(others.iter().map(|(topic, _)| format!("{topic} is nobody's")));
        let alerts: Vec<&Message> = alerts.into_iter().flat_map(|(_, got)| got).collect();
        match subscriber.kind.wants_alerts() {
            Some(_) => self.judge_alerts(&alerts, since, accounts, spool, &mut found),
            None if alerts.is_empty() => {}
            None => found.push("alerts: got, and not subscribed".to_owned()),
        }
        wrong.extend(found.iter().map(|what| format!("{name}: {what}")));
    }

    /// As often as they are in their stream, from the subscription on.
    fn judge_alerts(
        &self,
        messages: &[&Message],
        since: Duration,
        accounts: &[Account<'_>],
        spool: &Spool,
        found: &mut Vec<String>,
    ) {
        let Some(account) = accounts.iter().find(|account| account.name == ALERTS) else { return };
        let came_after = |stream: StreamId, seq: Seq| {
            self.ledger.appended_at(stream, seq).is_some_and(|at| at > since)
        };
        let mut due: BTreeMap<(&str, Reading), (u64, u64)> = BTreeMap::new();
        for traced in account.records.values() {
            let Some(reading) = reading_of(&traced.record.payload) else { continue };
            let key = (traced.record.topic.as_str(), reading);
            let (least, most) = due.entry(key).or_default();
            *most += 1;
            *least += u64::from(came_after(traced.stream, traced.seq));
        }
        let mut got: BTreeMap<(&str, Reading), u64> = BTreeMap::new();
        for message in messages {
            match reading_of(&message.payload) {
                Some(reading) => *got.entry((&message.topic, reading)).or_default() += 1,
                None => found.push(format!("an alert of nothing: {message:?}")),
            }
        }
        for (key, times) in &got {
            let most = due.get(key).map_or(0, |(_, most)| *most);
            if *times > most {
                found.push(format!("{key:?}: {times} alerts of {most}"));
            }
        }
        for (key, (least, _)) in &due {
            let times = got.get(key).copied().unwrap_or(0);
            let lost = spool.lost.contains(&(key.0.to_owned(), key.1.clone()));
            if times < *least && !lost {
                found.push(format!("{key:?}: {times} alerts, {least} were due"));
            }
        }
    }
}

/// What a subscriber got of one publisher, in the order of the spool.
struct Delivered<'a> {
    publisher: &'a Publisher,
    messages: &'a [&'a Message],
    /// When its subscription was acknowledged.
    since: Duration,
}

impl Delivered<'_> {
    fn judge(&self, qos: Qos, accounts: &[Account<'_>], spool: &Spool, found: &mut Vec<String>) {
        let (publisher, topic) = (self.publisher, self.publisher.topic());
        let times = self.count(qos, spool, found);
        for (reading, times) in &times {
            let sent = publisher.sent.get(*reading as usize).map_or(0, |(_, sent)| *sent);
            let most = if publisher.is_once() { sent.min(1) } else { sent };
            if *times > most {
                found.push(format!("{topic}: {reading} came as {times} messages, of {most}"));
            }
            let key = (publisher.name.clone(), *reading);
            for account in accounts {
                let streams = publisher.sensor.route.streams();
                let records = || account.counts_of(&key);
                if streams.contains(&account.name) && *times > records() {
                    let stream = account.name;
                    found
                        .push(format!("{topic}: {reading} came more often than it is in {stream}"));
                }
            }
        }
        for reading in &publisher.acknowledged {
            let due = self.is_since(*reading) && !is_empty(publisher.sensor.route, *reading);
            if due && !times.contains_key(reading) && !self.is_lost(*reading, spool) {
                found.push(format!("{topic}: {reading} was acknowledged and has not come"));
            }
        }
    }

    /// Whether the spool gave up a copy of it.
    fn is_lost(&self, reading: u64, spool: &Spool) -> bool {
        let publisher = self.publisher;
        spool.lost.contains(&(publisher.topic(), (publisher.name.clone(), reading)))
    }

    /// Whether it was sent after the subscription only.
    fn is_since(&self, reading: u64) -> bool {
        let sent = self.publisher.sent.get(reading as usize);
        sent.is_some_and(|(first, _)| *first > self.since)
    }

    /// Messages by reading; each as it was published, and the first of each in order.
    fn count(&self, qos: Qos, spool: &Spool, found: &mut Vec<String>) -> BTreeMap<u64, u64> {
        let (publisher, topic) = (self.publisher, self.publisher.topic());
        let mut times: BTreeMap<u64, u64> = BTreeMap::new();
        let mut newest = None;
        for message in self.messages.iter().filter(|message| !message.payload.is_empty()) {
            let reading = reading_of(&message.payload).filter(|(name, _)| *name == publisher.name);
            let Some((_, reading)) = reading else {
                found.push(format!("{topic}: {message:?} is nobody's"));
                continue;
            };
            // A retained one was kept before the subscription, and came with that one alone.
            let right = message.retain || message.qos == qos;
            if message.payload != publisher.payload(reading).as_bytes() || !right {
                found.push(format!("{topic}: {reading} is not as it was published: {message:?}"));
            }
            if message.retain {
                continue;
            }
            let times = times.entry(reading).or_default();
            *times += 1;
            // One that was on its way before the subscription, or whose first copy had no room in
            // the spool, may come when it is sent again.
            let again = *times > 1 || publisher.refused.contains(&reading);
            if again || !self.is_since(reading) || self.is_lost(reading, spool) {
                continue;
            }
            if newest.is_some_and(|newest| reading < newest) {
                found.push(format!("{topic}: {reading} came after {newest:?}"));
            }
            newest = newest.max(Some(reading));
        }
        times
    }
}
