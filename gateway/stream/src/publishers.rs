//! What the gateway already holds from each publisher that numbers its messages.

use std::collections::HashMap;

use crate::record::PublisherIdentity;
use crate::varint;

#[derive(Debug, Clone, Copy)]
struct Heard {
    last: PublisherIdentity,
    /// When it was last heard, in messages of all publishers.
    tick: u64,
}

/// Publishers and their newest message; when there are too many, those not heard for longest
/// are forgotten.
#[derive(Debug, Default)]
pub(crate) struct Publishers {
    // Looked up, never iterated into an output without sorting.
    by_client: HashMap<Box<str>, Heard>,
    tick: u64,
}

impl Publishers {
    #[inline]
    pub(crate) fn note(&mut self, client: &str, identity: PublisherIdentity, max: usize) {
        self.tick += 1;
        let tick = self.tick;
        if let Some(heard) = self.by_client.get_mut(client) {
            // A message that was sent again must not turn the count back.
            let newer = heard.last.boot != identity.boot || identity.seq > heard.last.seq;
            if newer {
                heard.last = identity;
            }
            heard.tick = tick;
            return;
        }
        self.by_client.insert(client.into(), Heard { last: identity, tick });
        if self.by_client.len() > max {
            self.forget(max);
        }
    }

    /// Makes room for an eighth of `max`, so that this is seldom done.
    fn forget(&mut self, max: usize) {
        let mut ticks: Vec<u64> = self.by_client.values().map(|heard| heard.tick).collect();
        ticks.sort_unstable();
        let keep = max - max / 8;
        let oldest = ticks[ticks.len() - keep.clamp(1, ticks.len())];
        self.by_client.retain(|_, heard| heard.tick >= oldest);
    }

    pub(crate) fn last(&self, client: &str) -> Option<PublisherIdentity> {
        self.by_client.get(client).map(|heard| heard.last)
    }

    /// Number of entries and their encoding, least recently heard first.
    pub(crate) fn encode(&self) -> (u32, Vec<u8>) {
        let mut all: Vec<_> = self.by_client.iter().collect();
        all.sort_unstable_by_key(|(_, heard)| heard.tick);
        let mut out = Vec::new();
        for (client, heard) in &all {
            varint::put_bytes(&mut out, client.as_bytes());
            out.extend_from_slice(&heard.last.boot.to_le_bytes());
            varint::put(&mut out, heard.last.seq);
        }
        (all.len() as u32, out)
    }

    /// Takes in what [`Publishers::encode`] gave; `None` when it is malformed.
    pub(crate) fn decode(&mut self, bytes: &[u8], count: u32, max: usize) -> Option<()> {
        let mut at = 0;
        for _ in 0..count {
            let client = std::str::from_utf8(varint::get_bytes(bytes, &mut at)?).ok()?;
            let boot = u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
            at += 8;
            let seq = varint::get(bytes, &mut at)?;
            self.note(client, PublisherIdentity { boot, seq }, max);
        }
        (at == bytes.len()).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_publishers_heard_last_are_remembered() {
        let mut publishers = Publishers::default();
        for n in 0..100 {
            publishers.note(&format!("c{n}"), PublisherIdentity { boot: n, seq: n }, 16);
        }
        assert!(publishers.by_client.len() <= 16);
        assert_eq!(publishers.last("c99"), Some(PublisherIdentity { boot: 99, seq: 99 }));
        assert_eq!(publishers.last("c0"), None);
        let (count, bytes) = publishers.encode();
        let mut again = Publishers::default();
        again.decode(&bytes, count, 16).expect("well formed");
        assert_eq!(again.encode(), (count, bytes));
    }

    #[test]
    fn a_message_sent_again_does_not_turn_the_count_back() {
        let mut publishers = Publishers::default();
        for (boot, seq) in [(1, 5), (1, 3), (1, 6), (1, 6)] {
            publishers.note("a", PublisherIdentity { boot, seq }, 8);
        }
        assert_eq!(publishers.last("a"), Some(PublisherIdentity { boot: 1, seq: 6 }));
        publishers.note("a", PublisherIdentity { boot: 2, seq: 1 }, 8);
        assert_eq!(publishers.last("a"), Some(PublisherIdentity { boot: 2, seq: 1 }));
    }
}
