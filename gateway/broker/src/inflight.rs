//! QoS 1 messages under way to one client: the window of a session.

use std::collections::VecDeque;

use crate::delivery::Delivery;

/// Packet identifiers are given out in a ring, so the distance of an identifier from the oldest
/// one is its place in the queue: finding the message of a PUBACK takes no search.
#[derive(Debug)]
pub(crate) struct Inflight {
    /// Number of the first place; its packet identifier follows from it.
    first: u64,
    /// In order of sending. Places acknowledged out of turn are empty.
    places: VecDeque<Option<Delivery>>,
    /// Messages in the places.
    live: usize,
    /// Number of the first place that has not been sent on the present connection.
    unsent: u64,
    /// Messages sent on the present connection and not acknowledged.
    outstanding: usize,
    /// Most places: a client that never acknowledges the oldest message while it acknowledges
    /// newer ones is sent nothing more when they are used up.
    max_places: usize,
}

const IDS: u64 = 65_535;

fn id_of(number: u64) -> u16 {
    (number % IDS) as u16 + 1
}

impl Inflight {
    pub(crate) fn new(max_inflight: u16) -> Inflight {
        Inflight {
            first: 0,
            places: VecDeque::new(),
            live: 0,
            unsent: 0,
            outstanding: 0,
            max_places: (usize::from(max_inflight) * 4).min(60_000),
        }
    }

    /// Messages under way.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Whether messages of an earlier connection wait to be sent again.
    pub(crate) fn has_unsent(&self) -> bool {
        self.unsent < self.first + self.places.len() as u64
    }

    /// Whether a client that takes `window` messages at a time may be sent one more
    /// [MQTT-3.3.4-9].
    pub(crate) fn is_open(&self, window: u16) -> bool {
        self.outstanding < usize::from(window) && self.places.len() < self.max_places
    }

    /// The same for a message that has its place already.
    pub(crate) fn may_repeat(&self, window: u16) -> bool {
        self.outstanding < usize::from(window)
    }

    /// The identifier the next message gets.
    pub(crate) fn next_id(&self) -> u16 {
        id_of(self.first + self.places.len() as u64)
    }

    /// A message has been sent under [`next_id`](Inflight::next_id).
    pub(crate) fn push(&mut self, delivery: Delivery) {
        debug_assert!(!self.has_unsent());
        self.places.push_back(Some(delivery));
        self.live += 1;
        self.outstanding += 1;
        self.unsent = self.first + self.places.len() as u64;
    }

    /// The client has acknowledged `id`. `None` if nothing is under way under it.
    pub(crate) fn acknowledge(&mut self, id: u16) -> Option<Delivery> {
        let first = u64::from(id_of(self.first));
        let distance = (u64::from(id) + IDS - first) % IDS;
        let delivery = self.places.get_mut(distance as usize)?.take()?;
        self.live -= 1;
        if self.first + distance < self.unsent {
            self.outstanding -= 1;
        }
        while let Some(None) = self.places.front() {
            self.places.pop_front();
            self.first += 1;
        }
        self.unsent = self.unsent.max(self.first);
        Some(delivery)
    }

    /// A new connection: everything is to be sent again [MQTT-4.4.0-1].
    pub(crate) fn restart(&mut self) {
        self.outstanding = 0;
        self.unsent = self.first;
    }

    /// The next message to send again, with its identifier, in the original order
    /// [MQTT-4.6.0-1].
    pub(crate) fn next_unsent(&mut self) -> Option<(u16, &Delivery)> {
        loop {
            let at = (self.unsent - self.first) as usize;
            self.places.get(at)?;
            if self.places[at].is_some() {
                break;
            }
            self.unsent += 1;
        }
        let at = (self.unsent - self.first) as usize;
        self.places[at].as_ref().map(|delivery| (id_of(self.unsent), delivery))
    }

    /// The message given by [`next_unsent`](Inflight::next_unsent) has been sent.
    pub(crate) fn sent(&mut self) {
        self.unsent += 1;
        self.outstanding += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, QoS};
    use crate::topic::TopicName;
    use std::sync::Arc;

    fn delivery() -> Delivery {
        let topic = TopicName::parse("t").unwrap();
        Delivery::new(Arc::new(Message::new(topic, "x", QoS::AtLeastOnce)), false, &[], None)
    }

    #[test]
    fn identifiers_run_through_1_to_65535_and_start_again() {
        let mut inflight = Inflight::new(1000);
        let mut seen = Vec::new();
        for _ in 0..65_536 {
            let id = inflight.next_id();
            inflight.push(delivery());
            assert!(inflight.acknowledge(id).is_some());
            seen.push(id);
        }
        assert_eq!((seen[0], seen[65_534], seen[65_535]), (1, 65_535, 1));
    }

    #[test]
    fn acknowledgements_in_any_order_across_the_wrap_find_their_message() {
        let mut inflight = Inflight::new(1000);
        inflight.first = 65_530;
        inflight.unsent = 65_530;
        let ids: Vec<u16> = (0..10)
            .map(|_| {
                let id = inflight.next_id();
                inflight.push(delivery());
                id
            })
            .collect();
        for id in ids.iter().rev() {
            assert!(inflight.acknowledge(*id).is_some(), "{id}");
            assert!(inflight.acknowledge(*id).is_none(), "{id} twice");
        }
        assert_eq!((inflight.len(), inflight.outstanding, inflight.places.len()), (0, 0, 0));
    }

    #[test]
    fn a_client_that_leaves_the_oldest_unacknowledged_is_stopped() {
        let mut inflight = Inflight::new(10);
        inflight.push(delivery());
        let mut sent = 0;
        while inflight.is_open(10) {
            let id = inflight.next_id();
            inflight.push(delivery());
            inflight.acknowledge(id).unwrap();
            sent += 1;
        }
        assert_eq!(sent, 39);
    }

    #[test]
    fn after_a_restart_only_what_is_unacknowledged_is_sent_again() {
        let mut inflight = Inflight::new(10);
        for _ in 0..4 {
            inflight.push(delivery());
        }
        inflight.acknowledge(2).unwrap();
        inflight.restart();
        let mut again = Vec::new();
        while let Some((id, _)) = inflight.next_unsent() {
            again.push(id);
            inflight.sent();
        }
        assert_eq!(again, [1, 3, 4]);
        assert!(!inflight.has_unsent());
        assert_eq!(inflight.outstanding, 3);
    }

    #[test]
    fn a_late_acknowledgement_of_an_earlier_connection_spares_the_repetition() {
        let mut inflight = Inflight::new(10);
        for _ in 0..2 {
            inflight.push(delivery());
        }
        inflight.restart();
        inflight.acknowledge(1).unwrap();
        assert_eq!(inflight.outstanding, 0);
        assert_eq!(inflight.next_unsent().unwrap().0, 2);
    }
}
