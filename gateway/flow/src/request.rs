//! Requests over HTTP that wait for a function, and what they are answered with.
//!
//! Invariants:
//! - a request that is taken in is answered once;
//! - an answer leaves when everything that it tells of is durable.
//!
//! Not here: sockets, who may ask, which route a path is of.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidegate_stream::{Record, Seq};

use crate::attributes::Attributes;
use crate::queue::InputRecord;

/// Requests that wait for one function: with bodies of 1 MiB, the most that the shell takes, 16 MiB.
/// A further one is answered with 503.
pub const MAX_WAITING_REQUESTS: usize = 16;

/// When a client that was turned away may come again.
pub(crate) const COME_AGAIN: Duration = Duration::from_secs(1);

/// Which request it is. The shell numbers them, each with a number of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A request, complete and allowed.
#[derive(Debug, Clone)]
pub struct Request {
    /// Which one it is; its answer comes under this.
    pub id: RequestId,
    /// Index of the function that answers.
    pub function: usize,
    /// The pattern of the route.
    pub route: String,
    /// Its properties, in the order of the contract (`docs/formats/abi-tg1.md`).
    pub properties: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
    /// There when it is to be done once, however often it is sent.
    pub once: Option<Once>,
    /// How long its client waits.
    pub patience: Duration,
}

/// What a request that is to be done once is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Once {
    /// The same for all that are the same request: a digest of who asks and of the key that was
    /// sent with it.
    pub key: [u8; 32],
    /// A digest of what is asked: a key that comes with something else is a mistake.
    pub fingerprint: [u8; 32],
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status, 200 to 599.
    pub status: u16,
    /// Media type of the body; empty = none.
    pub media_type: String,
    /// The body.
    pub body: Bytes,
    /// Nothing was done; the client may ask again after so long.
    pub again: Option<Duration>,
    /// An earlier request with the same key was answered with this.
    pub repeated: bool,
}

impl Answer {
    /// An answer in words, one line.
    pub(crate) fn text(status: u16, text: &str) -> Answer {
        Answer {
            status,
            media_type: "text/plain; charset=utf-8".to_owned(),
            body: Bytes::from(format!("{text}\n")),
            again: None,
            repeated: false,
        }
    }

    /// Without a body.
    pub(crate) fn bare(status: u16) -> Answer {
        let (media_type, body) = (String::new(), Bytes::new());
        Answer { status, media_type, body, again: None, repeated: false }
    }

    /// Nothing was done.
    pub(crate) fn later(text: &str) -> Answer {
        Answer { again: Some(COME_AGAIN), ..Answer::text(503, text) }
    }
}

/// A request of a function.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) request: Request,
    /// When it was there, in milliseconds since 1970.
    pub(crate) unix_ms: i64,
    /// Of all that the function was given.
    pub(crate) seq: u64,
}

impl Asked {
    /// The entry of its frame, as far as effects refer to it.
    pub(crate) fn stand_in(&self) -> InputRecord {
        let attributes =
            Attributes { user: self.request.properties.clone(), ..Attributes::default() };
        InputRecord::new(0, Seq(self.seq), self.record(Vec::new()), attributes)
    }

    /// The request as a record, for the dead letters.
    pub(crate) fn record(&self, attributes: Vec<u8>) -> Record {
        Record {
            unix_ms: self.unix_ms,
            topic: self.request.route.clone(),
            client: String::new(),
            publisher: None,
            attributes,
            payload: self.request.body.clone(),
        }
    }
}

/// A request that has been answered by its function, with what goes into the commit of that.
pub(crate) struct Done {
    pub(crate) asked: Asked,
    pub(crate) answer: Answer,
    /// The function gave it up, and why.
    pub(crate) dead: Option<String>,
}

/// The requests that wait for one function.
#[derive(Debug, Default)]
pub(crate) struct Requests {
    waiting: VecDeque<Asked>,
    /// How many were given; what was given and not committed may be numbered again after a start.
    sequence: u64,
    /// The last call was a request's: others have their turn.
    pub(crate) given_last: bool,
}

impl Requests {
    /// Goes on behind what the table of answers has.
    pub(crate) fn behind(sequence: u64) -> Requests {
        Requests { sequence, ..Requests::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.waiting.len() >= MAX_WAITING_REQUESTS
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Asked> {
        self.waiting.iter()
    }

    pub(crate) fn push(&mut self, unix_ms: i64, request: Request) {
        self.waiting.push_back(Asked { request, unix_ms, seq: 0 });
    }

    /// The one that has waited longest.
    pub(crate) fn take(&mut self) -> Option<Asked> {
        let mut asked = self.waiting.pop_front()?;
        self.given_last = true;
        self.sequence += 1;
        asked.seq = self.sequence;
        Some(asked)
    }

    /// Takes one out; false when it does not wait.
    pub(crate) fn remove(&mut self, id: RequestId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|asked| asked.request.id != id);
        self.waiting.len() < before
    }
}

/// The requests that have no answer yet, and until when their clients wait.
#[derive(Debug, Default)]
pub(crate) struct Open {
    by_id: BTreeMap<RequestId, (Instant, usize)>,
}

impl Open {
    pub(crate) fn insert(&mut self, id: RequestId, until: Instant, function: usize) {
        self.by_id.insert(id, (until, function));
    }

    /// False when it has been answered.
    pub(crate) fn remove(&mut self, id: RequestId) -> bool {
        self.by_id.remove(&id).is_some()
    }

    /// When the first client has waited long enough.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.by_id.values().map(|(until, _)| *until).min()
    }

    /// Those whose clients have waited long enough, with their functions.
    pub(crate) fn late(&self, now: Instant) -> Vec<(RequestId, usize)> {
        let late = self.by_id.iter().filter(|(_, (until, _))| *until <= now);
        late.map(|(id, (_, function))| (*id, *function)).collect()
    }

    /// Those of a function.
    pub(crate) fn of(&self, function: usize) -> Vec<RequestId> {
        let those = self.by_id.iter().filter(|(_, (_, of))| *of == function);
        those.map(|(id, _)| *id).collect()
    }
}
