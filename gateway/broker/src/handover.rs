//! QoS 2, both ways, from PUBREC on; and the client's acknowledgements of QoS 1.

use std::time::Instant;

use crate::broker::Broker;
use crate::delivery::append;
use crate::durable::format;
use crate::event::{Answer, Ticket};
use crate::inflight::{Receipt, WrongStep};
use crate::packet::fault::Fault;
use crate::packet::{Version, ack};
use crate::receipts::Known;

impl From<WrongStep> for Fault {
    fn from(WrongStep: WrongStep) -> Fault {
        Fault::protocol("an acknowledgement that does not belong to the QoS of its message")
    }
}

impl Broker {
    /// PUBACK, PUBREC or PUBCOMP of a message that the client was sent. `first` is the first byte
    /// of the packet.
    pub(crate) fn handle_ack(
        &mut self,
        now: Instant,
        slot: u32,
        first: u8,
        body: &[u8],
    ) -> Result<(), Fault> {
        let Some(open) = self.connections.get(slot).and_then(|c| c.open()) else { return Ok(()) };
        let (version, session) = (open.version, open.session);
        let ack = ack::decode(version, first, body)?;
        match first {
            ack::PUBACK => self.settle(session, |inflight| inflight.acknowledge(ack.id))?,
            ack::PUBREC if ack.is_failure() => {
                self.settle(session, |inflight| inflight.reject(ack.id))?;
            }
            ack::PUBREC => self.handle_pubrec(slot, session, ack.id)?,
            _ => {
                let Some(owner) = self.sessions.get_mut(session) else { return Ok(()) };
                if owner.answers_doubt(ack.id) {
                    self.settle_doubts(session);
                } else {
                    owner.inflight.complete(ack.id)?;
                    self.note_progress(session);
                }
            }
        }
        self.pump(now, session);
        Ok(())
    }

    fn handle_pubrec(&mut self, slot: u32, session: u32, id: u16) -> Result<(), Fault> {
        let Some(owner) = self.sessions.get_mut(session) else { return Ok(()) };
        match owner.inflight.receive(id)? {
            Receipt::Taken(delivery) => {
                owner.held_bytes -= delivery.bytes();
                owner.choked = false;
                self.queued_bytes -= delivery.bytes();
                if let (Some(durable), true) = (&mut self.durable, owner.kept.is_some()) {
                    durable.urgent.insert(session);
                }
                self.spool_done(session, delivery.seq, delivery.bytes());
                self.note_taken(session, delivery.bytes());
                self.note_progress(session);
                // [MQTT-4.3.3-5]
                self.send_when_durable(slot, session, &ack::success(ack::PUBREL, id));
            }
            Receipt::Again => {
                self.send_when_durable(slot, session, &ack::success(ack::PUBREL, id));
            }
            Receipt::Unknown => self.say(slot, ack::PUBREL, id, ack::ID_NOT_FOUND),
        }
        Ok(())
    }

    /// PUBREL of a message that the client published.
    pub(crate) fn handle_pubrel(&mut self, slot: u32, body: &[u8]) -> Result<(), Fault> {
        let Some(open) = self.connections.get_mut(slot).and_then(|c| c.open_mut()) else {
            return Ok(());
        };
        let ack = ack::decode(open.version, ack::PUBREL, body)?;
        let Some(session) = self.sessions.get_mut(open.session) else { return Ok(()) };
        match session.receipts.known(ack.id) {
            Known::Waiting => Err(Fault::protocol("PUBREL of a message that has no PUBREC yet")),
            Known::Taken => {
                if session.receipts.release(ack.id) {
                    open.unfinished -= 1;
                }
                let at = open.session;
                if let (Some(durable), Some(kept)) = (&mut self.durable, &session.kept) {
                    durable.delete(format::receipt_key(kept.number, ack.id));
                }
                // [MQTT-4.3.3-11]
                self.send_when_durable(slot, at, &ack::success(ack::PUBCOMP, ack.id));
                Ok(())
            }
            Known::New => {
                self.say(slot, ack::PUBCOMP, ack.id, ack::ID_NOT_FOUND);
                Ok(())
            }
        }
    }

    /// The owner has answered a message of QoS 2 whose connection is gone: its repetition on a
    /// later one is answered likewise.
    pub(crate) fn answer_orphan(&mut self, now: Instant, ticket: Ticket, answer: &Answer) {
        let Some((slot, id)) = self.orphans.remove(&ticket) else { return };
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Some(uncounted) = session.receipts.answer(id, ticket, answer.is_acceptance()) else {
            return;
        };
        let Some(slot) = session.connection else { return };
        let Some(open) = self.connections.get_mut(slot).and_then(|c| c.open_mut()) else { return };
        open.unfinished -= u32::from(uncounted);
        open.pending.answer_repetitions(id, answer);
        self.send_acks(now, slot);
        self.resume_if_possible(now, slot);
    }

    /// Sends PUBREL or PUBCOMP. Reasons are for MQTT 5 clients.
    fn say(&mut self, slot: u32, first: u8, id: u16, reason: u8) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let Some(open) = connection.open() else { return };
        let (version, max_packet) = (open.version, open.max_packet);
        append(connection, &mut self.events, |out| match (version, reason) {
            (Version::V3_1_1, _) | (Version::V5, 0) => out.extend(ack::success(first, id)),
            (Version::V5, reason) => ack::encode(out, first, id, reason, "", max_packet),
        });
    }
}
