//! Inbound QoS 2: which packet identifiers of a client are in use, so that a message that is
//! sent again is not taken a second time [MQTT-4.3.3-10].

use std::collections::BTreeMap;

use crate::event::Ticket;

/// The identifiers between PUBLISH and PUBREL of one session.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    by_id: BTreeMap<u16, Receipt>,
}

#[derive(Debug)]
struct Receipt {
    /// The message's ticket until its owner has answered.
    waits_for: Option<Ticket>,
    /// Whether it counts against Receive Maximum of the present connection.
    counted: bool,
}

/// What is known of an identifier when a PUBLISH brings it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing: a new message.
    New,
    /// The message came before and is not answered yet.
    Waiting,
    /// The message came before and was taken.
    Taken,
}

impl Receipts {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// What is known of `id`.
    pub(crate) fn known(&self, id: u16) -> Known {
        match self.by_id.get(&id) {
            None => Known::New,
            Some(Receipt { waits_for: Some(_), .. }) => Known::Waiting,
            Some(Receipt { waits_for: None, .. }) => Known::Taken,
        }
    }

    /// A new message under `id`, whose owner answers with this ticket.
    pub(crate) fn begin(&mut self, id: u16, ticket: Ticket) {
        self.by_id.insert(id, Receipt { waits_for: Some(ticket), counted: true });
    }

    /// A repetition on the present connection: true when it counts against Receive Maximum from
    /// now on.
    pub(crate) fn count(&mut self, id: u16) -> bool {
        let receipt = self.by_id.get_mut(&id);
        receipt.is_some_and(|receipt| !std::mem::replace(&mut receipt.counted, true))
    }

    /// The owner's answer: taken, or refused and forgotten. `None` if the ticket is not awaited
    /// any more, else whether the identifier was forgotten while it counted.
    pub(crate) fn answer(&mut self, id: u16, ticket: Ticket, taken: bool) -> Option<bool> {
        let receipt = self.by_id.get_mut(&id)?;
        if receipt.waits_for != Some(ticket) {
            return None;
        }
        if taken {
            receipt.waits_for = None;
            return Some(false);
        }
        self.by_id.remove(&id).map(|receipt| receipt.counted)
    }

    /// An identifier that was in use when the process ended.
    pub(crate) fn restore(&mut self, id: u16) {
        self.by_id.insert(id, Receipt { waits_for: None, counted: false });
    }

    /// All of them.
    pub(crate) fn ids(&self) -> impl Iterator<Item = u16> {
        self.by_id.keys().copied()
    }

    /// PUBREL: forgets the identifier, and says whether it counted.
    pub(crate) fn release(&mut self, id: u16) -> bool {
        self.by_id.remove(&id).is_some_and(|receipt| receipt.counted)
    }

    /// The session has lost its connection: gives what still waits for an answer.
    pub(crate) fn restart(&mut self) -> impl Iterator<Item = (Ticket, u16)> {
        self.by_id.iter_mut().filter_map(|(id, receipt)| {
            receipt.counted = false;
            receipt.waits_for.map(|ticket| (ticket, *id))
        })
    }
}
