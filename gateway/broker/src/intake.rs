//! Packets in: framing, publishes with their acknowledgements, and when to stop reading.

use std::sync::Arc;
use std::time::Instant;

use crate::broker::Broker;
use crate::connection::{Open, Phase};
use crate::delivery::append;
use crate::event::{Answer, BrokerEvent, CloseReason, Ticket};
use crate::message::{Message, QoS};
use crate::packet::fault::{Fault, Reason};
use crate::packet::frame::{self, Frame};
use crate::packet::{Version, ack, disconnect, publish};
use crate::will::WillFate;

/// Capacity kept for unread bytes between packets.
const KEEP_UNREAD: usize = 4 * 1024;

/// Most bytes of a refusal's text on the wire.
const MAX_REASON_TEXT: usize = 200;

impl Broker {
    /// Handles the whole packets at the start of `bytes` until reading pauses, and returns how
    /// many bytes they took.
    pub(crate) fn read(&mut self, now: Instant, slot: u32, bytes: &[u8]) -> usize {
        let mut used = 0;
        loop {
            let Some(connection) = self.connections.get_mut(slot) else { return used };
            if connection.paused || connection.is_closing() || used == bytes.len() {
                return used;
            }
            let max_packet = match connection.phase {
                Phase::AwaitingConnect | Phase::Authenticating(_) => {
                    self.limits.max_packet_before_connect
                }
                Phase::Open(_) | Phase::Closing => self.limits.max_packet,
            };
            let handled = match frame::first(&bytes[used..], max_packet) {
                Ok(None) => return used,
                Ok(Some(frame)) => {
                    if frame.kind == frame::PUBLISH && self.holds_back(slot) {
                        return used;
                    }
                    used += frame.bytes;
                    self.hear(now, slot);
                    self.handle_packet(now, slot, frame)
                }
                Err(fault) => Err(fault),
            };
            if let Err(fault) = handled {
                self.close_for(now, slot, fault);
            }
            self.pause_if_necessary(slot);
        }
    }

    pub(crate) fn read_unread(&mut self, now: Instant, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let mut unread = std::mem::take(&mut connection.unread);
        let used = self.read(now, slot, &unread);
        unread.drain(..used);
        if unread.is_empty() {
            unread.shrink_to(KEEP_UNREAD);
        }
        if let Some(connection) = self.connections.get_mut(slot)
            && !connection.is_closing()
        {
            connection.unread = unread;
        }
    }

    pub(crate) fn keep_unread(&mut self, slot: u32, rest: &[u8]) {
        if let Some(connection) = self.connections.get_mut(slot)
            && !connection.is_closing()
            && !rest.is_empty()
        {
            connection.unread.extend_from_slice(rest);
        }
    }

    fn handle_packet(&mut self, now: Instant, slot: u32, frame: Frame<'_>) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(slot) else { return Ok(()) };
        let Phase::Open(open) = &mut connection.phase else {
            if frame.kind == frame::CONNECT {
                self.handle_connect(now, slot, frame.body);
                return Ok(());
            }
            // [MQTT-3.1.0-1]
            return Err(Fault::protocol("the first packet is not CONNECT"));
        };
        let (version, session) = (open.version, open.session);
        match frame.kind {
            frame::PUBLISH => self.handle_publish(now, slot, frame.flags, frame.body),
            frame::PUBACK => {
                let id = ack::decode(version, frame.body)?;
                self.settle(session, id);
                self.pump(now, session);
                Ok(())
            }
            frame::SUBSCRIBE => self.handle_subscribe(now, slot, frame.body),
            frame::UNSUBSCRIBE => self.handle_unsubscribe(now, slot, frame.body),
            frame::PINGREQ if frame.body.is_empty() => {
                // [MQTT-3.12.4-1]
                append(connection, &mut self.events, |out| out.extend(frame::PINGRESP));
                Ok(())
            }
            frame::PINGREQ => Err(Fault::malformed("PINGREQ is not empty")),
            frame::DISCONNECT => {
                let goodbye = disconnect::decode(version, frame.body)?;
                self.handle_goodbye(now, slot, goodbye)
            }
            // [MQTT-3.1.0-2]
            frame::CONNECT => Err(Fault::protocol("a second CONNECT")),
            frame::AUTH => Err(Fault::protocol("AUTH without extended authentication")),
            frame::PUBREC | frame::PUBREL | frame::PUBCOMP => {
                Err(Fault::protocol("a packet of QoS 2, which is not supported"))
            }
            _ => Err(Fault::protocol("a packet that only servers send")),
        }
    }

    fn handle_publish(
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
        if !open.may_publish(&topic) {
            return self.deny_publish(now, slot, (inbound.qos, inbound.id), &topic);
        }
        let ticket = match inbound.qos {
            QoS::AtMostOnce => {
                self.counters.received_qos0 += 1;
                None
            }
            QoS::AtLeastOnce => {
                if open.version == Version::V5
                    && open.pending.len() >= usize::from(limits.receive_maximum)
                {
                    let text = "more publishes wait for their PUBACK than Receive Maximum allows";
                    return Err(Fault::new(Reason::ReceiveMaximumExceeded, text));
                }
                self.counters.received_qos1 += 1;
                let number = open.pending.next_number();
                open.pending.push(inbound.id);
                if let Some(next) = self.next_ticket.get_mut(slot as usize) {
                    *next = number + 1;
                }
                Some(Ticket(u64::from(slot) << Ticket::NUMBER_BITS | number))
            }
        };
        let message = Arc::new(Message {
            topic,
            payload: bytes::Bytes::copy_from_slice(inbound.payload),
            qos: inbound.qos,
            retain: inbound.retain,
            properties: inbound.properties,
            publisher: Some(open.client.clone()),
        });
        let client = open.client.clone();
        self.events.push_back(BrokerEvent::Publish { ticket, client, message });
        Ok(())
    }

    /// The owner's answer to an inbound publish. PUBACKs leave in the order of the publishes
    /// [MQTT-4.6.0-2]; an answer given early waits for those before it. A ticket whose
    /// connection has gone, or that has been answered, is ignored.
    pub fn acknowledge(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        self.now = Some(now);
        let slot = ticket.connection();
        let number = ticket.0 & ((1 << Ticket::NUMBER_BITS) - 1);
        let Some(open) = self.connections.get_mut(slot).and_then(|c| c.open_mut()) else { return };
        open.pending.answer(number, answer);
        self.send_acks(now, slot);
        self.resume_if_possible(now, slot);
    }

    pub(crate) fn send_acks(&mut self, now: Instant, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        while let Some(open) = connection.open_mut()
            && let Some((id, answer)) = open.pending.pop_answered()
        {
            let (version, problem_info, max_packet) =
                (open.version, open.problem_info, open.max_packet);
            match answer {
                Answer::Success => self.counters.acknowledged += 1,
                Answer::NoSubscribers => {
                    self.counters.acknowledged += 1;
                    if version == Version::V5 {
                        append(connection, &mut self.events, |out| {
                            ack::encode(out, id, 0x10, "", max_packet);
                        });
                        continue;
                    }
                }
                Answer::Refused { reason, text } => {
                    self.counters.refused += 1;
                    if version == Version::V3_1_1 {
                        let why = CloseReason::PublishRefused(text);
                        self.close(now, slot, why, None, WillFate::Publish);
                        return;
                    }
                    let text = if problem_info { shorten(&text) } else { "" };
                    append(connection, &mut self.events, |out| {
                        ack::encode(out, id, reason.code(), text, max_packet);
                    });
                    continue;
                }
            }
            append(connection, &mut self.events, |out| out.extend(ack::success(id)));
        }
    }

    fn hear(&mut self, now: Instant, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.heard = now;
        }
    }

    /// Stops reading at a publish beyond the unanswered ones that are allowed: 3.1.1 has no other
    /// way to hold a client back. Its pings and acknowledgements up to there still pass.
    fn holds_back(&mut self, slot: u32) -> bool {
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        let Some(open) = connection.open() else { return false };
        if !waits_for_answers(open, self.limits.receive_maximum) {
            return false;
        }
        connection.paused = true;
        self.events.push_back(BrokerEvent::Pause(connection.id));
        true
    }

    /// Stops reading from a client that does not take its answers.
    fn pause_if_necessary(&mut self, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if connection.open().is_none() {
            return;
        }
        let (share, total) = (self.limits.min_unsent_bytes, self.limits.max_unsent_bytes_total);
        let unsent = connection.outbox.len() > self.limits.max_unsent_bytes
            || connection.outbox.exceeds_share(0, share, total);
        if unsent && !connection.paused {
            connection.paused = true;
            connection.wants_room = true;
            self.events.push_back(BrokerEvent::Pause(connection.id));
        }
    }

    /// Goes on reading when half of what made it stop is gone.
    pub(crate) fn resume_if_possible(&mut self, now: Instant, slot: u32) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        if !connection.paused {
            return;
        }
        let Some(open) = connection.open() else { return };
        if waits_for_answers(open, self.limits.receive_maximum / 2 + 1) {
            return;
        }
        if connection.outbox.len() > self.limits.max_unsent_bytes / 2 {
            connection.wants_room = true;
            return;
        }
        connection.paused = false;
        connection.heard = now;
        self.events.push_back(BrokerEvent::Resume(connection.id));
        self.read_unread(now, slot);
    }
}

/// MQTT 5 clients keep to Receive Maximum by themselves.
fn waits_for_answers(open: &Open, limit: u16) -> bool {
    open.version == Version::V3_1_1 && open.pending.len() >= usize::from(limit)
}

fn shorten(text: &str) -> &str {
    let mut end = text.len().min(MAX_REASON_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
