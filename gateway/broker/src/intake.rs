//! Packets in: framing, and when to stop reading.

use std::time::Instant;

use crate::broker::Broker;
use crate::connection::{Open, Phase};
use crate::delivery::append;
use crate::event::BrokerEvent;
use crate::packet::fault::Fault;
use crate::packet::frame::{self, Frame};
use crate::packet::{Version, ack, disconnect};

/// Capacity kept for unread bytes between packets.
const KEEP_UNREAD: usize = 4 * 1024;

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
                Phase::AwaitingConnect | Phase::Authenticating(_) | Phase::Settling(_) => {
                    self.limits.max_packet_before_connect
                }
                Phase::Open(_) | Phase::Closing => self.limits.max_packet,
            };
            let handled = match frame::first(&bytes[used..], max_packet) {
                Ok(None) => return used,
                Ok(Some(frame)) => {
                    if self.waits_its_turn(slot, frame.kind)
                        || frame.kind == frame::PUBLISH && self.holds_back(now, slot)
                    {
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
                self.handle_connect(now, slot, frame);
                return Ok(());
            }
            // [MQTT-3.1.0-1]
            return Err(Fault::protocol("the first packet is not CONNECT"));
        };
        let version = open.version;
        frame.check_minimal(version)?;
        match frame.kind {
            frame::PUBLISH => self.handle_publish(now, slot, frame.flags, frame.body),
            frame::PUBACK => self.handle_ack(now, slot, ack::PUBACK, frame.body),
            frame::PUBREC => self.handle_ack(now, slot, ack::PUBREC, frame.body),
            frame::PUBCOMP => self.handle_ack(now, slot, ack::PUBCOMP, frame.body),
            frame::PUBREL => self.handle_pubrel(slot, frame.body),
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
            // [MQTT-4.12.0-7]; to 3.1.1 the type is forbidden.
            frame::AUTH if version == Version::V5 => {
                Err(Fault::protocol("AUTH without an authentication method in CONNECT"))
            }
            frame::AUTH => Err(Fault::malformed("packet type 15 is forbidden")),
            _ => Err(Fault::protocol("a packet that only servers send")),
        }
    }

    /// A subscription begins and ends between messages: what was published before, by whomever,
    /// is delivered or retained before, and that is the owner's turn.
    fn waits_its_turn(&mut self, slot: u32, kind: u8) -> bool {
        let waits = self.untaken > 0 && matches!(kind, frame::SUBSCRIBE | frame::UNSUBSCRIBE);
        if waits {
            self.in_turn.insert(slot);
        }
        waits
    }

    fn hear(&mut self, now: Instant, slot: u32) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.heard = now;
        }
    }

    /// Stops reading at a publish that somebody has to be waited for, or beyond the unanswered ones that are allowed: 3.1.1 has no other
    /// way to hold a client back. Its pings and acknowledgements up to there still pass.
    fn holds_back(&mut self, now: Instant, slot: u32) -> bool {
        if self.waits_for_others(slot) {
            return true;
        }
        let Some(connection) = self.connections.get_mut(slot) else { return false };
        let crowd = connection.crowd;
        let Some(open) = connection.open_mut() else { return false };
        let wait = if waits_for_answers(open, self.limits.receive_maximum) {
            None
        } else {
            let limits = &self.limits;
            // It may have been counted when it was held back the first time.
            let due = open.due.take().or_else(|| {
                let rate = limits.max_publishes_per_second;
                let by_client = rate.map(|rate| open.throttle.count(now, rate));
                let rate = crowd.zip(limits.max_publishes_per_second_per_address);
                let by_address = rate.map(|(crowd, rate)| self.crowds.count(crowd, now, rate));
                if by_client.max(by_address) > Some(now) {
                    let counters = &mut self.counters;
                    match by_client > by_address {
                        true => counters.slowed_by_client += 1,
                        false => counters.slowed_by_address += 1,
                    }
                }
                by_client.max(by_address)
            });
            if due.is_none_or(|due| due <= now) {
                return false;
            }
            open.due = due;
            due
        };
        connection.paused = true;
        self.events.push_back(BrokerEvent::Pause(connection.id));
        if wait.is_some() {
            self.arm_connection(slot, wait);
        }
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
        if !self.waited_for.is_empty() && self.held_back.contains(&slot)
            || waits_for_answers(open, self.limits.receive_maximum / 2 + 1)
            || open.due.is_some_and(|due| due > now)
        {
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
