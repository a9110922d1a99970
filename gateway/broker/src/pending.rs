//! Inbound publishes that wait for their acknowledgement, in their order.

use std::collections::VecDeque;

use crate::event::Answer;
use crate::packet::ack;

/// The publishes of one connection with QoS 1 and 2, each with its answer once it has one.
/// PUBACKs leave in this order [MQTT-4.6.0-2], and so do PUBRECs [MQTT-4.6.0-3].
#[derive(Debug)]
pub(crate) struct PendingAcks {
    /// Number of the first one.
    first: u64,
    acks: VecDeque<Pending>,
    /// Repetitions among them that wait for the answer to the first copy.
    repetitions: usize,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) kind: Kind,
    pub(crate) id: u16,
    answer: Option<Answer>,
}

/// What it is to be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// PUBACK.
    Ack,
    /// PUBREC.
    Receipt,
    /// PUBREC to a message that came before.
    ReceiptAgain,
}

impl Kind {
    /// First byte of the packet.
    pub(crate) const fn first_byte(self) -> u8 {
        match self {
            Kind::Ack => ack::PUBACK,
            Kind::Receipt | Kind::ReceiptAgain => ack::PUBREC,
        }
    }
}

impl PendingAcks {
    pub(crate) fn new(first: u64) -> PendingAcks {
        PendingAcks { first, acks: VecDeque::new(), repetitions: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.acks.len()
    }

    /// Number of the next one.
    pub(crate) fn next_number(&self) -> u64 {
        self.first + self.acks.len() as u64
    }

    pub(crate) fn push(&mut self, kind: Kind, id: u16, answer: Option<Answer>) {
        if kind == Kind::ReceiptAgain && answer.is_none() {
            self.repetitions += 1;
        }
        self.acks.push_back(Pending { kind, id, answer });
    }

    /// Notes the answer to number `number` and says to what it was. A second answer, or one to a
    /// publish that is not there any more, is ignored.
    pub(crate) fn answer(&mut self, number: u64, answer: Answer) -> Option<(Kind, u16)> {
        let at = number.checked_sub(self.first)?;
        let pending = self.acks.get_mut(at as usize)?;
        if pending.answer.is_some() {
            return None;
        }
        let (kind, id) = (pending.kind, pending.id);
        if kind == Kind::Receipt && self.repetitions > 0 {
            self.answer_repetitions(id, &answer);
        }
        if let Some(pending) = self.acks.get_mut(at as usize) {
            pending.answer = Some(answer);
        }
        Some((kind, id))
    }

    /// The first copy of the message under `id` has been answered.
    pub(crate) fn answer_repetitions(&mut self, id: u16, answer: &Answer) {
        for pending in &mut self.acks {
            if pending.kind == Kind::ReceiptAgain && pending.id == id && pending.answer.is_none() {
                pending.answer = Some(answer.clone());
                self.repetitions -= 1;
            }
        }
    }

    /// Takes the oldest one, if it has been answered.
    pub(crate) fn pop_answered(&mut self) -> Option<(Kind, u16, Answer)> {
        match self.acks.front() {
            Some(Pending { answer: Some(_), .. }) => {}
            Some(Pending { answer: None, .. }) | None => return None,
        }
        let Pending { kind, id, answer } = self.acks.pop_front()?;
        self.first += 1;
        Some((kind, id, answer?))
    }
}
