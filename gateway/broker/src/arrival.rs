//! Publishes of clients: their way in, and their acknowledgements in order.

use std::sync::Arc;
use std::time::Instant;

use crate::broker::Broker;
use crate::delivery::append;
use crate::durable::{Change, format};
use crate::event::{Answer, BrokerEvent, CloseReason, RefuseReason, Ticket};
use crate::message::{Message, QoS};
use crate::packet::fault::{Fault, Reason};
use crate::packet::publish;
use crate::packet::{Version, ack};
use crate::pending::Kind;
use crate::receipts::Known;
use crate::will::WillFate;

/// Most bytes of a refusal's text on the wire.
const MAX_REASON_TEXT: usize = 200;

/// QoS 2 messages between PUBLISH and PUBREL that one session may have, for each one that Receive
/// Maximum allows.
const RECEIPTS_FOR_EACH: usize = 4;

impl Broker {
    pub(crate) fn handle_publish(
        &mut self,
        now: Instant,
        slot: u32,
        flags: u8,
        body: &[u8],
    ) -> Result<(), Fault> {
        let limits = &self.limits;
        let Some(open) = self.connections.get_mut(slot).and_then(|c| c.open_mut()) else {
            return Ok(());
        };
        let inbound = publish::decode(open.version, flags, body, limits.max_user_properties)?;
        let topic = open.topic(&inbound, limits)?;
        if topic.is_reserved() {
            return self.refuse_reserved(now, slot, (inbound.qos, inbound.id));
        }
        if !open.may_publish(&topic) {
            return self.deny_publish(now, slot, (inbound.qos, inbound.id), &topic);
        }
        let ticket = match inbound.qos {
            QoS::AtMostOnce => {
                self.counters.received_qos0 += 1;
                None
            }
            QoS::AtLeastOnce => {
                let ticket = self.expect_answer(slot, Kind::Ack, inbound.id, None)?;
                self.counters.received_qos1 += 1;
                Some(ticket)
            }
            QoS::ExactlyOnce => match self.begin_handover(now, slot, inbound.id)? {
                Some(ticket) => Some(ticket),
                None => return Ok(()),
            },
        };
        let Some(open) = self.connections.get(slot).and_then(|c| c.open()) else { return Ok(()) };
        let message = Arc::new(Message {
            topic,
            payload: bytes::Bytes::copy_from_slice(inbound.payload),
            qos: inbound.qos,
            retain: inbound.retain,
            properties: inbound.properties.into(),
            publisher: Some(open.client.clone()),
        });
        let (client, session) = (open.client.clone(), open.session);
        let mut change = None;
        if inbound.qos == QoS::ExactlyOnce
            && let Some(kept) = self.sessions.get(session).and_then(|session| session.kept.as_ref())
        {
            let key = format::receipt_key(kept.number, inbound.id);
            change = Some(Change { key, value: Some(Vec::new()) });
            // That the identifier was free again comes before that it is in use.
            self.hand_out_changes();
        }
        self.announce(BrokerEvent::Publish { ticket, client, message, change });
        Ok(())
    }

    /// A publish that is acknowledged in its turn, which counts against Receive Maximum.
    fn expect_answer(
        &mut self,
        slot: u32,
        kind: Kind,
        id: u16,
        answer: Option<Answer>,
    ) -> Result<Ticket, Fault> {
        let gone = Fault::protocol("the connection is not open");
        let open = self.connections.get_mut(slot).and_then(|c| c.open_mut()).ok_or(gone)?;
        if kind != Kind::ReceiptAgain {
            if open.version == Version::V5
                && open.unfinished >= u32::from(self.limits.receive_maximum)
            {
                // [MQTT-3.3.4-7]
                let text = "more publishes are unfinished than Receive Maximum allows";
                return Err(Fault::new(Reason::ReceiveMaximumExceeded, text));
            }
            open.unfinished += 1;
        }
        let number = open.pending.next_number();
        open.pending.push(kind, id, answer);
        if let Some(next) = self.next_ticket.get_mut(slot as usize) {
            *next = number + 1;
        }
        Ok(Ticket(u64::from(slot) << Ticket::NUMBER_BITS | number))
    }

    /// A message of QoS 2. One that came before under the same identifier is not taken again,
    /// whatever it says now, but answered again, and no earlier than the first time
    /// [MQTT-4.3.3-10].
    fn begin_handover(
        &mut self,
        now: Instant,
        slot: u32,
        id: u16,
    ) -> Result<Option<Ticket>, Fault> {
        let Some(open) = self.connections.get_mut(slot).and_then(|c| c.open_mut()) else {
            return Ok(None);
        };
        let at = open.session;
        let Some(session) = self.sessions.get_mut(at) else { return Ok(None) };
        let answer = match session.receipts.known(id) {
            Known::New => {
                let most = usize::from(self.limits.receive_maximum) * RECEIPTS_FOR_EACH;
                if session.receipts.len() >= most {
                    let text = "too many messages of QoS 2 wait for their PUBREL";
                    return Err(Fault::new(Reason::ReceiveMaximumExceeded, text));
                }
                let ticket = self.expect_answer(slot, Kind::Receipt, id, None)?;
                if let Some(session) = self.sessions.get_mut(at) {
                    session.receipts.begin(id, ticket);
                }
                self.counters.received_qos2 += 1;
                return Ok(Some(ticket));
            }
            Known::Waiting => None,
            Known::Taken => Some(Answer::Success),
        };
        open.unfinished += u32::from(session.receipts.count(id));
        self.expect_answer(slot, Kind::ReceiptAgain, id, answer)?;
        self.send_acks(now, slot);
        Ok(None)
    }

    /// Clients may not publish to topics that begin with `$`. MQTT 5 has a reason code for it.
    /// A 3.1.1 client is answered as if the message had been taken, which is one of the two ways
    /// that it may be told [MQTT-3.3.5-2].
    fn refuse_reserved(
        &mut self,
        now: Instant,
        slot: u32,
        publish: (QoS, u16),
    ) -> Result<(), Fault> {
        self.counters.refused_reserved += 1;
        let Some(open) = self.connections.get(slot).and_then(|c| c.open()) else { return Ok(()) };
        let answer = match open.version {
            Version::V3_1_1 => Answer::Success,
            // The code says it all; some clients cannot read a text here.
            Version::V5 => {
                let reason = RefuseReason::TopicNameInvalid;
                Answer::Refused { reason, text: String::new() }
            }
        };
        self.answer_publish(now, slot, publish, answer)
    }

    /// A publish that its owner is not asked about: it is answered in its turn.
    pub(crate) fn answer_publish(
        &mut self,
        now: Instant,
        slot: u32,
        (qos, id): (QoS, u16),
        answer: Answer,
    ) -> Result<(), Fault> {
        match qos {
            QoS::AtMostOnce => return Ok(()),
            QoS::AtLeastOnce => {
                self.expect_answer(slot, Kind::Ack, id, Some(answer))?;
            }
            QoS::ExactlyOnce => {
                if let Some(ticket) = self.begin_handover(now, slot, id)? {
                    self.answer_in_turn(slot, ticket, answer);
                }
            }
        }
        self.send_acks(now, slot);
        Ok(())
    }

    /// The owner's answer to an inbound publish. Acknowledgements leave in the order of the
    /// publishes [MQTT-4.6.0-2], [MQTT-4.6.0-3]; an answer given early waits for those before it.
    /// A ticket whose connection has gone, or that has been answered, is ignored, except that a
    /// message of QoS 2 counts as taken by a session that goes on.
    pub fn acknowledge(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        self.now = Some(now);
        let slot = ticket.connection();
        if !self.orphans.is_empty() {
            self.answer_orphan(now, ticket, &answer);
        }
        if self.answer_in_turn(slot, ticket, answer) {
            self.send_acks(now, slot);
            self.resume_if_possible(now, slot);
        }
    }

    /// Notes the answer; false if nobody waits for it.
    fn answer_in_turn(&mut self, slot: u32, ticket: Ticket, answer: Answer) -> bool {
        let number = ticket.0 & ((1 << Ticket::NUMBER_BITS) - 1);
        let open = self.connections.get_mut(slot).and_then(|c| c.open_mut());
        let Some(open) = open else { return false };
        let taken = answer.is_acceptance();
        let Some((kind, id)) = open.pending.answer(number, answer) else { return false };
        if kind == Kind::Receipt
            && let Some(session) = self.sessions.get_mut(open.session)
            && session.receipts.answer(id, ticket, taken) == Some(true)
        {
            open.unfinished -= 1;
        }
        true
    }

    pub(crate) fn send_acks(&mut self, now: Instant, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        while let Some(open) = connection.open_mut()
            && let Some((kind, id, answer)) = open.pending.pop_answered()
        {
            let first = kind.first_byte();
            let (version, max_packet) = (open.version, open.max_packet);
            if kind == Kind::Ack {
                open.unfinished -= 1;
            }
            if answer.is_acceptance() && kind != Kind::ReceiptAgain {
                self.counters.acknowledged += 1;
            }
            let (reason, text) = match answer {
                Answer::Success => (0, String::new()),
                Answer::NoSubscribers => (ack::NO_SUBSCRIBERS, String::new()),
                Answer::Refused { reason, text } => {
                    self.counters.refused += 1;
                    if version == Version::V3_1_1 {
                        let why = CloseReason::PublishRefused(text);
                        self.close(now, slot, why, None, WillFate::Publish);
                        return;
                    }
                    // [MQTT-3.1.2-29]
                    (reason.code(), if open.problem_info { text } else { String::new() })
                }
            };
            append(connection, &mut self.events, |out| match (version, reason) {
                (Version::V3_1_1, _) | (Version::V5, 0) => out.extend(ack::success(first, id)),
                (Version::V5, reason) => {
                    ack::encode(out, first, id, reason, shorten(&text), max_packet);
                }
            });
        }
    }
}

fn shorten(text: &str) -> &str {
    let mut end = text.len().min(MAX_REASON_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
