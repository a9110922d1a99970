//! What stands at the other end of an uplink, with the means against duplicates that it really
//! has. None of them shares code with the gateway.

mod committed;
mod consumer;
mod objects;
mod windowed;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use committed::Committed;
use consumer::Consumer;
use objects::Objects;
use windowed::Windowed;

/// The kinds of sinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SinkKind {
    /// An MQTT 5 broker and behind it a consumer that keeps what docs/formats/envelope.md asks
    /// for. May refuse single messages for its quota.
    Consumer,
    /// A server that keeps the last committed (epoch, sequence) of each stream, in one
    /// transaction with the records.
    Committed,
    /// A server that remembers message ids for a while, and can be asked for the last message of
    /// a subject.
    Windowed {
        /// How long.
        window: Duration,
    },
    /// An object store: a batch is an object, and the same name overwrites.
    Objects,
}

impl SinkKind {
    /// Name of the uplink.
    pub(crate) fn name(self) -> &'static str {
        match self {
            SinkKind::Consumer => "mqtt",
            SinkKind::Committed => "https",
            SinkKind::Windowed { .. } => "nats",
            SinkKind::Objects => "s3",
        }
    }
}

/// What a record is known by at a sink: (stream, epoch, sequence); one gateway a world.
pub(crate) type Key = (String, u32, u64);

/// What one transmission carries: records of one lane and epoch.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) stream: String,
    pub(crate) epoch: u32,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) records: Vec<Arrived>,
}

/// A record as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) key: Key,
    /// Original topic.
    pub(crate) topic: String,
    /// Original client.
    pub(crate) client: String,
    pub(crate) payload: Vec<u8>,
}

impl Arrived {
    /// From a message with its envelope in headers.
    pub(crate) fn from_headers(headers: &[(String, String)], payload: &[u8]) -> Arrived {
        let value = |name: &str| {
            let found = headers.iter().find(|(key, _)| key == name).map(|(_, value)| value);
            found.unwrap_or_else(|| panic!("a message without {name}: {headers:?}")).clone()
        };
        let number = |name: &str| value(name).parse::<u64>().expect("a number");
        Arrived {
            key: (value("tg-stream"), number("tg-epoch") as u32, number("tg-seq")),
            topic: value("tg-topic"),
            client: value("tg-client"),
            payload: payload.to_vec(),
        }
    }
}

/// A sink and what it has seen.
#[derive(Debug)]
pub(crate) struct Sink {
    rule: Rule,
    /// First arrivals, whatever became of them.
    arrivals: BTreeMap<Key, Arrived>,
    /// What took effect, in order; not of objects.
    effects: Vec<Key>,
    /// Arrivals that the rule did not let take effect.
    pub(crate) repeated: u64,
    /// Identities that came again with other content: never allowed.
    conflicts: Vec<String>,
}

/// The database of a sink at one moment.
#[derive(Debug)]
pub(crate) struct Backup {
    committed: Committed,
    effects: Vec<Key>,
}

#[derive(Debug)]
enum Rule {
    Consumer(Consumer),
    Committed(Committed),
    Windowed(Windowed),
    Objects(Objects),
}

impl Sink {
    pub(crate) fn new(kind: SinkKind) -> Sink {
        let rule = match kind {
            SinkKind::Consumer => Rule::Consumer(Consumer::default()),
            SinkKind::Committed => Rule::Committed(Committed::default()),
            SinkKind::Windowed { window } => Rule::Windowed(Windowed::new(window)),
            SinkKind::Objects => Rule::Objects(Objects::default()),
        };
        Sink {
            rule,
            arrivals: BTreeMap::new(),
            effects: Vec::new(),
            repeated: 0,
            conflicts: Vec::new(),
        }
    }

    /// A batch arrives at `now`.
    pub(crate) fn take(&mut self, now: Duration, delivery: Delivery) {
        if let Rule::Objects(objects) = &mut self.rule
            && !objects.put(&delivery)
        {
            self.repeated += delivery.records.len() as u64;
        }
        for record in delivery.records {
            self.take_record(now, record);
        }
    }

    fn take_record(&mut self, now: Duration, record: Arrived) {
        let key = record.key.clone();
        let new = match &mut self.rule {
            Rule::Consumer(consumer) => Some(consumer.is_new(&key)),
            Rule::Committed(committed) => Some(committed.is_new(&key)),
            Rule::Windowed(windowed) => Some(windowed.is_new(now, &key)),
            Rule::Objects(_) => None,
        };
        match new {
            Some(true) => self.effects.push(key.clone()),
            Some(false) => self.repeated += 1,
            None => {}
        }
        match self.arrivals.get(&key) {
            None => drop(self.arrivals.insert(key, record)),
            Some(before) if *before == record => {}
            Some(before) => {
                self.conflicts.push(format!("{before:?}, then {record:?}"));
            }
        }
    }

    /// A backup of its database, of a sink that has one.
    pub(crate) fn backup(&self) -> Option<Backup> {
        match &self.rule {
            Rule::Committed(committed) => {
                Some(Backup { committed: committed.clone(), effects: self.effects.clone() })
            }
            Rule::Consumer(_) | Rule::Windowed(_) | Rule::Objects(_) => None,
        }
    }

    /// Forgets what it took since; how many records.
    pub(crate) fn restore(&mut self, backup: Backup) -> u64 {
        let gone = self.effects.len() - backup.effects.len();
        self.rule = Rule::Committed(backup.committed);
        self.effects = backup.effects;
        gone as u64
    }

    /// What took effect, in order; of objects, what they hold, as a listing shows it.
    pub(crate) fn effects(&self) -> Cow<'_, [Key]> {
        match &self.rule {
            Rule::Consumer(_) | Rule::Committed(_) | Rule::Windowed(_) => {
                Cow::Borrowed(&self.effects)
            }
            Rule::Objects(objects) => Cow::Owned(objects.records()),
        }
    }

    /// Records that were in an object and not in another of the same name.
    pub(crate) fn varied(&self) -> impl Iterator<Item = &Key> {
        let objects = match &self.rule {
            Rule::Objects(objects) => Some(objects),
            Rule::Consumer(_) | Rule::Committed(_) | Rule::Windowed(_) => None,
        };
        objects.into_iter().flat_map(Objects::varied)
    }

    /// What is wrong with it whatever was sent.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        let conflicts = self.conflicts.iter().map(|c| format!("one identity twice: {c}"));
        let of_objects = match &self.rule {
            Rule::Objects(objects) => objects.mistakes(),
            Rule::Consumer(_) | Rule::Committed(_) | Rule::Windowed(_) => Vec::new(),
        };
        conflicts.chain(of_objects).collect()
    }

    /// What it says it holds of a stream, when it is asked: (epoch, sequence).
    pub(crate) fn held(&self, stream: &str) -> Option<(u32, u64)> {
        match &self.rule {
            Rule::Consumer(_) | Rule::Objects(_) => None,
            Rule::Committed(committed) => committed.last(stream),
            Rule::Windowed(windowed) => windowed.last(stream),
        }
    }

    /// The record of this identity, if it arrived.
    pub(crate) fn arrived(&self, key: &Key) -> Option<&Arrived> {
        self.arrivals.get(key)
    }
}
