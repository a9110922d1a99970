//! Numbered publishes that were refused while later ones of the same client were taken: when
//! they come again they are no duplicates, although their number is below the newest.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use tidegate_stream::PublisherIdentity;

/// Most refusals remembered, over all clients; the oldest are forgotten.
const MAX_REFUSALS: usize = 4096;

/// The refusals since the start. A restart forgets them.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    known: BTreeSet<(Arc<str>, PublisherIdentity)>,
    /// In order of time, those included that were stored since.
    order: VecDeque<(Arc<str>, PublisherIdentity)>,
}

impl Refusals {
    /// This publish was refused.
    pub(crate) fn note(&mut self, client: &Arc<str>, publisher: PublisherIdentity) {
        if !self.known.insert((client.clone(), publisher)) {
            return;
        }
        self.order.push_back((client.clone(), publisher));
        if self.order.len() > MAX_REFUSALS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether it was refused and not stored since.
    pub(crate) fn contains(&self, client: &Arc<str>, publisher: PublisherIdentity) -> bool {
        !self.known.is_empty() && self.known.contains(&(client.clone(), publisher))
    }

    /// It is in the log now.
    pub(crate) fn stored(&mut self, client: &Arc<str>, publisher: PublisherIdentity) {
        if !self.known.is_empty() {
            self.known.remove(&(client.clone(), publisher));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_refusals_are_remembered_until_they_are_stored() {
        let mut refusals = Refusals::default();
        let client: Arc<str> = "c".into();
        let number = |seq| PublisherIdentity { boot: 1, seq };
        for seq in 0..=MAX_REFUSALS as u64 {
            refusals.note(&client, number(seq));
            refusals.note(&client, number(seq));
        }
        assert!(!refusals.contains(&client, number(0)));
        assert!(refusals.contains(&client, number(1)));
        assert!(!refusals.contains(&"d".into(), number(1)));
        refusals.stored(&client, number(1));
        assert!(!refusals.contains(&client, number(1)));
    }
}
