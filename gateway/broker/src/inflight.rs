//! Messages with QoS 1 and 2 under way to one client: the window of a session.

use std::collections::VecDeque;

use crate::access::Screened;
use crate::delivery::Delivery;
use crate::message::QoS;

/// Each message has a number; its packet identifier follows from it, so finding the message of an
/// acknowledgement takes no search. In sessions that are kept on a disk it is the message's place
/// in the spool, so that the identifier is the same after a restart; else it only counts.
#[derive(Debug)]
pub(crate) struct Inflight {
    /// In order of their numbers. Those done with out of turn stay until the ones before them are
    /// done too.
    places: VecDeque<Place>,
    /// Number of the next message that has none of its own.
    next: u64,
    /// Places that are not done.
    live: usize,
    /// Places from this number on have not been sent on the present connection.
    unsent: u64,
    /// Messages sent on the present connection and not finished: what Receive Maximum bounds.
    outstanding: usize,
    /// Those done with stay until they are [trimmed](Inflight::trim).
    keeps_done: bool,
    /// Most places: a client that never acknowledges the oldest message while it acknowledges
    /// newer ones is sent nothing more when they are used up.
    max_places: usize,
}

#[derive(Debug)]
struct Place {
    number: u64,
    step: Step,
    /// Whether it is among the outstanding ones.
    counted: bool,
}

/// How far the handing over of one message has come.
#[derive(Debug)]
enum Step {
    Published(Delivery),
    /// QoS 2: the client has it (PUBREC); its PUBCOMP is outstanding.
    Released,
    Done,
}

/// What a PUBREC was about.
#[derive(Debug)]
pub(crate) enum Receipt {
    /// The client has the message now.
    Taken(Delivery),
    /// It had said so before.
    Again,
    /// Nothing is under way under this identifier.
    Unknown,
}

/// The acknowledgement does not belong to the QoS of the message, or comes out of turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WrongStep;

/// Packet identifiers, from 1 on.
pub(crate) const IDS: u64 = 65_535;

/// The packet identifier of the message with this number.
pub(crate) fn id_of(number: u64) -> u16 {
    (number % IDS) as u16 + 1
}

impl Inflight {
    pub(crate) fn new(max_inflight: u16) -> Inflight {
        Inflight {
            places: VecDeque::new(),
            next: 0,
            live: 0,
            unsent: 0,
            outstanding: 0,
            keeps_done: false,
            max_places: (usize::from(max_inflight) * 4).min(60_000),
        }
    }

    /// Messages under way.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Whether something of an earlier connection waits to be said again.
    pub(crate) fn has_unsent(&self) -> bool {
        self.places.back().is_some_and(|place| place.number >= self.unsent)
    }

    /// Whether a client that takes `window` messages at a time may be sent the one with this
    /// number [MQTT-3.3.4-9].
    pub(crate) fn is_open(&self, window: u16, number: u64) -> bool {
        self.outstanding < usize::from(window)
            && self.places.len() < self.max_places
            && (!self.keeps_done || self.find(id_of(number)).is_none())
    }

    /// The same for a message that has its place already.
    pub(crate) fn may_repeat(&self, window: u16) -> bool {
        self.outstanding < usize::from(window)
    }

    /// The number of the next message that has none of its own.
    pub(crate) fn next_number(&self) -> u64 {
        self.next
    }

    /// A message has been sent under the identifier of its number.
    pub(crate) fn push(&mut self, number: u64, delivery: Delivery) {
        debug_assert!(!self.has_unsent());
        let place = Place { number, step: Step::Published(delivery), counted: true };
        self.live += 1;
        self.outstanding += 1;
        if self.places.back().is_none_or(|last| last.number < number) {
            self.places.push_back(place);
            self.next = number + 1;
            self.unsent = self.next;
        } else {
            // Read again from the spool, between later ones that are settled.
            let at = self.places.partition_point(|place| place.number < number);
            self.places.insert(at, place);
        }
    }

    /// PUBACK: the message is done with. `None` if nothing is under way under `id`.
    pub(crate) fn acknowledge(&mut self, id: u16) -> Result<Option<Delivery>, WrongStep> {
        let Some(at) = self.find(id) else { return Ok(None) };
        match &self.places[at].step {
            Step::Published(delivery) if delivery.qos() == QoS::AtLeastOnce => Ok(self.finish(at)),
            Step::Published(_) | Step::Released | Step::Done => Err(WrongStep),
        }
    }

    /// PUBREC: the client has the message. It is the client's now, and not sent again
    /// [MQTT-4.3.3-6].
    pub(crate) fn receive(&mut self, id: u16) -> Result<Receipt, WrongStep> {
        let Some(at) = self.find(id) else { return Ok(Receipt::Unknown) };
        let place = &mut self.places[at];
        match &place.step {
            Step::Published(delivery) if delivery.qos() == QoS::ExactlyOnce => {}
            Step::Published(_) => return Err(WrongStep),
            Step::Released | Step::Done => return Ok(Receipt::Again),
        }
        match std::mem::replace(&mut place.step, Step::Released) {
            Step::Published(delivery) => Ok(Receipt::Taken(delivery)),
            Step::Released | Step::Done => Ok(Receipt::Again),
        }
    }

    /// PUBREC with a failure: the message is done with [MQTT-4.3.3-4].
    pub(crate) fn reject(&mut self, id: u16) -> Result<Option<Delivery>, WrongStep> {
        let Some(at) = self.find(id) else { return Ok(None) };
        match &self.places[at].step {
            Step::Published(delivery) if delivery.qos() != QoS::ExactlyOnce => Err(WrongStep),
            Step::Published(_) | Step::Released | Step::Done => Ok(self.finish(at)),
        }
    }

    /// PUBCOMP: the message is done with.
    pub(crate) fn complete(&mut self, id: u16) -> Result<(), WrongStep> {
        let Some(at) = self.find(id) else { return Ok(()) };
        match self.places[at].step {
            Step::Released => {
                self.finish(at);
                Ok(())
            }
            Step::Published(_) | Step::Done => Err(WrongStep),
        }
    }

    /// Whether something is under way under this identifier.
    pub(crate) fn is_in_use(&self, id: u16) -> bool {
        self.find(id).is_some()
    }

    /// Whether PUBCOMP is outstanding under this identifier.
    pub(crate) fn awaits_completion(&self, id: u16) -> bool {
        self.find(id).is_some_and(|at| matches!(self.places[at].step, Step::Released))
    }

    /// The message cannot be sent to this client at all.
    pub(crate) fn give_up(&mut self, id: u16) -> Option<Delivery> {
        let at = self.find(id)?;
        self.finish(at)
    }

    /// Gives up those messages that are still to be sent, or sent again, and are `unwanted`.
    pub(crate) fn give_up_all(
        &mut self,
        screened: Screened,
        mut unwanted: impl FnMut(&Delivery) -> bool,
    ) -> Vec<Delivery> {
        let from = match screened {
            Screened::All => 0,
            Screened::Unsent => self.unsent,
        };
        let mut goes = |place: &Place| match &place.step {
            Step::Published(delivery) => place.number >= from && unwanted(delivery),
            Step::Released | Step::Done => false,
        };
        let ids: Vec<u16> =
            self.places.iter().filter(|place| goes(place)).map(|p| id_of(p.number)).collect();
        ids.into_iter().filter_map(|id| self.give_up(id)).collect()
    }

    /// The message of this number is not sent at all, and not to be read again either, where
    /// those done with stay.
    pub(crate) fn skip(&mut self, number: u64) {
        if !self.keeps_done {
            return;
        }
        debug_assert!(!self.has_unsent());
        let at = self.places.partition_point(|place| place.number < number);
        self.places.insert(at, Place { number, step: Step::Done, counted: false });
        self.next = self.next.max(number + 1);
        self.unsent = self.unsent.max(number + 1);
    }

    /// The place of what is under way under `id`.
    fn find(&self, id: u16) -> Option<usize> {
        let first = self.places.front()?.number;
        let first_id = id_of(first);
        let ahead = u64::from(id) + if id < first_id { IDS } else { 0 } - u64::from(first_id);
        // Numbers mostly follow each other without a gap.
        if let Some(place) = self.places.get(ahead as usize)
            && place.number == first + ahead
            && !matches!(place.step, Step::Done)
        {
            return Some(ahead as usize);
        }
        self.find_with_gaps(first + ahead)
    }

    /// The same for a number that the identifier may stand for, or one of those a whole round
    /// later.
    fn find_with_gaps(&self, mut number: u64) -> Option<usize> {
        let last = self.places.back()?.number;
        while number <= last {
            if let Ok(at) = self.places.binary_search_by_key(&number, |place| place.number)
                && !matches!(self.places[at].step, Step::Done)
            {
                return Some(at);
            }
            number += IDS;
        }
        None
    }

    fn finish(&mut self, at: usize) -> Option<Delivery> {
        if at == 0 && !self.keeps_done {
            // Most clients acknowledge in order: nothing has to stay.
            let place = self.places.pop_front()?;
            self.live -= 1;
            self.outstanding -= usize::from(place.counted);
            self.trim(u64::MAX);
            return match place.step {
                Step::Published(delivery) => Some(delivery),
                Step::Released | Step::Done => None,
            };
        }
        let place = &mut self.places[at];
        self.live -= 1;
        if std::mem::take(&mut place.counted) {
            self.outstanding -= 1;
        }
        let step = std::mem::replace(&mut place.step, Step::Done);
        if !self.keeps_done {
            self.trim(u64::MAX);
        }
        match step {
            Step::Published(delivery) => Some(delivery),
            Step::Released | Step::Done => None,
        }
    }

    /// Those done with stay from now on: that they are done with is to be written down.
    pub(crate) fn keep_done(&mut self) {
        self.keeps_done = true;
    }

    /// Forgets those done with before everything that is under way, or still to be read from
    /// `unread` on.
    pub(crate) fn trim(&mut self, unread: u64) {
        while let Some(Place { step: Step::Done, number, .. }) = self.places.front()
            && *number < unread
        {
            self.places.pop_front();
        }
    }

    /// Number of the oldest place.
    pub(crate) fn first(&self) -> Option<u64> {
        let live = |place: &&Place| !matches!(place.step, Step::Done);
        self.places.iter().find(live).map(|place| place.number)
    }

    /// Number of the oldest message that has been sent and not been confirmed in any way.
    pub(crate) fn first_published(&self) -> Option<u64> {
        self.published().next().map(|(number, _)| number)
    }

    /// Messages that have been sent and not been confirmed in any way, with their numbers, in
    /// order.
    pub(crate) fn published(&self) -> impl Iterator<Item = (u64, &Delivery)> {
        self.places.iter().filter_map(|place| match &place.step {
            Step::Published(delivery) => Some((place.number, delivery)),
            Step::Released | Step::Done => None,
        })
    }

    /// Whether the message of this number is one of those.
    pub(crate) fn has_published(&self, number: u64) -> bool {
        let at = self.places.binary_search_by_key(&number, |place| place.number);
        at.is_ok_and(|at| matches!(self.places[at].step, Step::Published(_)))
    }

    /// Whether the message of this number is done with, or confirmed by the client.
    pub(crate) fn knows(&self, number: u64) -> bool {
        self.places.binary_search_by_key(&number, |place| place.number).is_ok()
    }

    /// Those done with (false) and those that the client has confirmed (true), in order.
    pub(crate) fn settled(&self) -> impl Iterator<Item = (u64, bool)> {
        self.places.iter().filter_map(|place| match place.step {
            Step::Published(_) => None,
            Step::Released => Some((place.number, true)),
            Step::Done => Some((place.number, false)),
        })
    }

    /// The message of this number, of QoS 2, is given up after an earlier connection was sent it:
    /// the client may wait for its PUBREL.
    pub(crate) fn release(&mut self, number: u64) {
        let at = self.places.partition_point(|place| place.number < number);
        self.places.insert(at, Place { number, step: Step::Released, counted: false });
        self.live += 1;
        if at + 1 == self.places.len() {
            self.next = self.next.max(number + 1);
            self.unsent = self.unsent.max(number + 1);
        }
    }

    /// A place as it was written down, in order.
    pub(crate) fn restore(&mut self, number: u64, received: bool) {
        let step = if received { Step::Released } else { Step::Done };
        self.live += usize::from(received);
        self.places.push_back(Place { number, step, counted: false });
        self.next = number + 1;
    }

    /// Forgets the messages, which are read again, and returns the number of the first.
    pub(crate) fn drop_published(&mut self) -> Option<u64> {
        let published = |place: &Place| matches!(place.step, Step::Published(_));
        let first = self.places.iter().find(|place| published(place)).map(|place| place.number);
        self.places.retain(|place| !published(place));
        self.live = self.places.iter().filter(|p| matches!(p.step, Step::Released)).count();
        first
    }

    /// A new connection: everything is to be said again [MQTT-4.4.0-1], and the client's window
    /// is empty (section 4.9).
    pub(crate) fn restart(&mut self) {
        self.outstanding = 0;
        self.unsent = self.places.front().map_or(self.next, |place| place.number);
        self.places.iter_mut().for_each(|place| place.counted = false);
    }

    /// Identifiers whose PUBREL is said again on a new connection, in order. They do not wait for
    /// the window of the PUBLISHes [MQTT-3.3.4-10].
    pub(crate) fn released(&self) -> impl Iterator<Item = u16> {
        let released = |place: &&Place| matches!(place.step, Step::Released);
        self.places.iter().filter(released).map(|place| id_of(place.number))
    }

    /// The next message to send again, with its identifier, in the original order
    /// [MQTT-4.6.0-1].
    pub(crate) fn next_unsent(&mut self) -> Option<(u16, &Delivery)> {
        let at = self.places.partition_point(|place| place.number < self.unsent);
        let published = |place: &Place| matches!(place.step, Step::Published(_));
        let Some(skipped) = self.places.iter().skip(at).position(published) else {
            self.unsent = self.places.back().map_or(self.unsent, |place| place.number + 1);
            return None;
        };
        let place = &self.places[at + skipped];
        self.unsent = place.number;
        match &place.step {
            Step::Published(delivery) => Some((id_of(place.number), delivery)),
            Step::Released | Step::Done => None,
        }
    }

    /// What [`next_unsent`](Inflight::next_unsent) gave has been sent.
    pub(crate) fn sent(&mut self) {
        let at = self.places.partition_point(|place| place.number < self.unsent);
        self.unsent += 1;
        if let Some(place @ Place { step: Step::Published(_), .. }) = self.places.get_mut(at) {
            place.counted = true;
            self.outstanding += 1;
        }
    }

    /// Everything that the client has not acknowledged in any way, oldest first.
    pub(crate) fn into_unacknowledged(self) -> impl Iterator<Item = Delivery> {
        self.places.into_iter().filter_map(|place| match place.step {
            Step::Published(delivery) => Some(delivery),
            Step::Released | Step::Done => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use crate::topic::TopicName;
    use std::sync::Arc;

    fn delivery(qos: QoS) -> Delivery {
        let topic = TopicName::parse("t").unwrap();
        Delivery::new(Arc::new(Message::new(topic, "x", qos)), qos, false, &[], None)
    }

    fn one() -> Delivery {
        delivery(QoS::AtLeastOnce)
    }

    fn two() -> Delivery {
        delivery(QoS::ExactlyOnce)
    }

    #[test]
    fn identifiers_run_through_1_to_65535_and_start_again() {
        let mut inflight = Inflight::new(1000);
        let mut seen = Vec::new();
        for _ in 0..65_536 {
            let id = id_of(inflight.next);
            inflight.push(inflight.next, one());
            assert!(inflight.acknowledge(id).unwrap().is_some());
            seen.push(id);
        }
        assert_eq!((seen[0], seen[65_534], seen[65_535]), (1, 65_535, 1));
    }

    #[test]
    fn acknowledgements_in_any_order_across_the_wrap_find_their_message() {
        let mut inflight = Inflight::new(1000);
        inflight.next = 65_530;
        inflight.unsent = 65_530;
        let ids: Vec<u16> = (0..10)
            .map(|_| {
                let id = id_of(inflight.next);
                inflight.push(inflight.next, one());
                id
            })
            .collect();
        for id in ids.iter().rev() {
            assert!(inflight.acknowledge(*id).unwrap().is_some(), "{id}");
            assert!(inflight.acknowledge(*id).unwrap().is_none(), "{id} twice");
        }
        assert_eq!((inflight.len(), inflight.outstanding, inflight.places.len()), (0, 0, 0));
    }

    #[test]
    fn a_client_that_leaves_the_oldest_unacknowledged_is_stopped() {
        let mut inflight = Inflight::new(10);
        inflight.push(inflight.next, one());
        let mut sent = 0;
        while inflight.is_open(10, inflight.next) {
            let id = id_of(inflight.next);
            inflight.push(inflight.next, one());
            inflight.acknowledge(id).unwrap().unwrap();
            sent += 1;
        }
        assert_eq!(sent, 39);
    }

    #[test]
    fn after_a_restart_only_what_is_unfinished_is_said_again() {
        let mut inflight = Inflight::new(10);
        for _ in 0..4 {
            inflight.push(inflight.next, two());
        }
        assert!(matches!(inflight.receive(2), Ok(Receipt::Taken(_))));
        assert!(matches!(inflight.receive(3), Ok(Receipt::Taken(_))));
        inflight.complete(2).unwrap();
        inflight.restart();
        let mut again = Vec::new();
        while let Some((id, _)) = inflight.next_unsent() {
            again.push(id);
            inflight.sent();
        }
        assert_eq!(again, [1, 4]);
        assert_eq!(inflight.released().collect::<Vec<_>>(), [3]);
        assert!(!inflight.has_unsent());
        assert_eq!(inflight.outstanding, 2);
        inflight.complete(3).unwrap();
        assert_eq!(inflight.outstanding, 2);
    }

    #[test]
    fn a_late_acknowledgement_of_an_earlier_connection_spares_the_repetition() {
        let mut inflight = Inflight::new(10);
        for _ in 0..2 {
            inflight.push(inflight.next, one());
        }
        inflight.restart();
        inflight.acknowledge(1).unwrap().unwrap();
        assert_eq!(inflight.outstanding, 0);
        assert_eq!(inflight.next_unsent().unwrap().0, 2);
    }

    #[test]
    fn each_qos_has_its_own_acknowledgements() {
        let mut inflight = Inflight::new(10);
        inflight.push(inflight.next, one());
        inflight.push(inflight.next, two());
        assert!(matches!(inflight.receive(1), Err(WrongStep)));
        assert!(matches!(inflight.acknowledge(2), Err(WrongStep)));
        assert!(matches!(inflight.complete(2), Err(WrongStep)));
        assert!(matches!(inflight.receive(2), Ok(Receipt::Taken(_))));
        assert!(matches!(inflight.receive(2), Ok(Receipt::Again)));
        assert!(matches!(inflight.acknowledge(2), Err(WrongStep)));
        assert!(matches!(inflight.complete(2), Ok(())));
        assert!(matches!(inflight.complete(2), Ok(())));
        assert!(matches!(inflight.receive(2), Ok(Receipt::Unknown)));
        assert_eq!(inflight.len(), 1);
    }

    #[test]
    fn numbers_with_gaps_keep_their_identifiers_apart() {
        let mut inflight = Inflight::new(10);
        inflight.keep_done();
        inflight.restore(12, false);
        inflight.restore(15, true);
        inflight.restart();
        assert_eq!(inflight.released().collect::<Vec<_>>(), [16]);
        assert!(inflight.next_unsent().is_none());
        inflight.push(10, two());
        assert_eq!(inflight.first(), Some(10));
        assert!(!inflight.is_open(10, 10 + IDS), "the identifier is in use");
        inflight.push(11 + IDS, two());
        assert!(matches!(inflight.receive(12), Ok(Receipt::Taken(_))));
        inflight.complete(16).unwrap();
        assert!(inflight.reject(11).unwrap().is_some());
        inflight.trim(13);
        let settled: Vec<_> = inflight.settled().collect();
        assert_eq!(settled, [(15, false), (11 + IDS, true)]);
        assert!(inflight.knows(15) && !inflight.knows(14));
    }

    #[test]
    fn a_rejected_message_of_qos_2_is_done_with() {
        let mut inflight = Inflight::new(10);
        inflight.push(inflight.next, two());
        assert!(inflight.reject(1).unwrap().is_some());
        assert_eq!((inflight.len(), inflight.outstanding), (0, 0));
    }
}
