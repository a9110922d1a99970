//! A server like NATS JetStream: a message whose id it has stored within its window is not
//! stored again; one that comes later is, so whoever was away for longer has to ask for the last
//! message of the subject first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Key;

#[derive(Debug)]
pub(super) struct Windowed {
    window: Duration,
    /// When each id was stored; forgotten after the window.
    ids: BTreeMap<Key, Duration>,
    last: BTreeMap<String, (u32, u64)>,
}

impl Windowed {
    pub(super) fn new(window: Duration) -> Windowed {
        Windowed { window, ids: BTreeMap::new(), last: BTreeMap::new() }
    }

    /// Whether the record is stored.
    pub(super) fn is_new(&mut self, now: Duration, key: &Key) -> bool {
        if self.ids.get(key).is_some_and(|stored| *stored + self.window > now) {
            return false;
        }
        self.ids.insert(key.clone(), now);
        self.last.insert(key.0.clone(), (key.1, key.2));
        true
    }

    pub(super) fn last(&self, stream: &str) -> Option<(u32, u64)> {
        self.last.get(stream).copied()
    }
}
