//! Reliable frames on their way out: window, credit, what is sent again and when.
//!
//! Invariant: frames are given up only with the session. `slots` from `head` on hold `count` frames
//! with the sequences from `base` on, in order; behind them, if there is one, a message that may be lost.

use crate::micros::Micros;

/// Bounds of the time-out, microseconds. They fit 32 bits, and what is computed with them does.
const LEAST: u32 = 50_000;
const MOST: u32 = 2_000_000;
/// Time-out before a round trip was measured.
const FIRST: u32 = 500_000;
/// Time-outs without progress that end the session.
pub(crate) const STRIKES: u8 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not sent yet, or to be sent again.
    Waiting,
    /// On the way.
    Sent,
    /// The other side has it, and waits for one before it.
    There,
}

#[derive(Clone, Copy, Debug)]
struct Slot<const FRAME: usize> {
    payload: [u8; FRAME],
    length: usize,
    channel: u8,
    more: bool,
    state: State,
    /// It was sent before.
    again: bool,
    /// When it was sent last, and a number that rises with each sending.
    at: Micros,
    order: u32,
}

/// A frame to be sent now.
pub(crate) struct Outgoing<'a> {
    pub(crate) seq: u8,
    pub(crate) channel: u8,
    pub(crate) more: bool,
    pub(crate) payload: &'a [u8],
}

pub(crate) struct Sending<const FRAME: usize, const OUT: usize> {
    slots: [Slot<FRAME>; OUT],
    head: usize,
    count: usize,
    base: u8,
    /// Channel and bytes of a message of one frame that may be lost and was not sent yet. It is in the first
    /// slot that is free, and nothing else is taken in until it is gone.
    loose: Option<(u8, usize)>,
    /// Frames from `base` on that the other side takes.
    credit: u8,
    /// The channel of a message that has begun and not ended.
    begun: Option<u8>,
    order: u32,
    trip: RoundTrip,
    strikes: u8,
    /// When the oldest frame's time-out began.
    waiting_since: Micros,
    /// Frames that were sent again.
    pub(crate) resent: u32,
}

impl<const FRAME: usize, const OUT: usize> Sending<FRAME, OUT> {
    pub(crate) const fn new() -> Self {
        let slot = Slot {
            payload: [0; FRAME],
            length: 0,
            channel: 0,
            more: false,
            state: State::Waiting,
            again: false,
            at: Micros(0),
            order: 0,
        };
        Sending {
            slots: [slot; OUT],
            head: 0,
            count: 0,
            base: 0,
            loose: None,
            credit: 0,
            begun: None,
            order: 0,
            trip: RoundTrip { smoothed: None, deviation: 0 },
            strikes: 0,
            waiting_since: Micros(0),
            resent: 0,
        }
    }

    /// Forgets everything: a new session, in which the other side has room for `credit` frames.
    pub(crate) fn clear(&mut self, credit: u8) {
        (self.head, self.count, self.base, self.credit, self.strikes) = (0, 0, 0, credit, 0);
        (self.begun, self.loose) = (None, None);
    }

    /// The channel of a message that has begun and not ended.
    pub(crate) fn begun(&self) -> Option<u8> {
        self.begun
    }

    /// Takes in as much of the rest of a message as fits in frames of this payload; answers how
    /// much. The message has ended when all of it was taken.
    pub(crate) fn push(&mut self, channel: u8, rest: &[u8], payload: usize) -> usize {
        let mut taken = 0;
        while self.has_room() && (taken < rest.len() || rest.is_empty()) {
            let left = rest.get(taken..).unwrap_or_default();
            let part = left.get(..payload).unwrap_or(left);
            let more = part.len() < left.len();
            let Some(slot) = self.slots.get_mut((self.head + self.count) % OUT) else { break };
            let Some(place) = slot.payload.get_mut(..part.len()) else { break };
            place.copy_from_slice(part);
            slot.length = part.len();
            (slot.channel, slot.more) = (channel, more);
            (slot.state, slot.again) = (State::Waiting, false);
            self.count += 1;
            self.begun = more.then_some(channel);
            taken += part.len();
            if !more {
                break;
            }
        }
        taken
    }

    /// Whether a frame could be taken in.
    pub(crate) fn has_room(&self) -> bool {
        self.count < OUT && self.loose.is_none()
    }

    /// Takes in a message of one frame that is sent once; `None` without room.
    pub(crate) fn push_loose(&mut self, channel: u8, message: &[u8]) -> Option<()> {
        if !self.has_room() {
            return None;
        }
        let slot = self.slots.get_mut((self.head + self.count) % OUT)?;
        slot.payload.get_mut(..message.len())?.copy_from_slice(message);
        self.loose = Some((channel, message.len()));
        Some(())
    }

    /// Whether one waits.
    pub(crate) fn has_loose(&self) -> bool {
        self.loose.is_some()
    }

    /// Its channel and its bytes, once.
    pub(crate) fn next_loose(&mut self) -> Option<(u8, &[u8])> {
        let (channel, length) = self.loose.take()?;
        let slot = self.slots.get((self.head + self.count) % OUT)?;
        Some((channel, slot.payload.get(..length)?))
    }

    /// The other side has all before `ack`, and takes `credit` from there.
    pub(crate) fn acknowledge(&mut self, now: Micros, ack: u8, credit: u8) {
        let there = usize::from(ack.wrapping_sub(self.base));
        let unsent = |slot: &Slot<FRAME>| slot.state == State::Waiting && !slot.again;
        if there > self.count || self.slots().take(there).any(unsent) {
            return;
        }
        for _ in 0..there {
            if let Some(slot) = self.slots.get(self.head)
                && slot.state == State::Sent
                && !slot.again
            {
                self.trip.take(now.since(slot.at));
            }
            self.head = (self.head + 1) % OUT;
        }
        if there > 0 {
            (self.strikes, self.waiting_since) = (0, now);
        }
        self.count -= there;
        self.base = ack;
        self.credit = credit;
    }

    /// The other side has some behind `ack` already: bit n stands for `ack + 1 + n`. Frames that
    /// were sent before one of them and are not there are lost: they are sent again.
    pub(crate) fn acknowledge_some(&mut self, ack: u8, bitmap: u8) {
        if ack != self.base {
            return;
        }
        let mut newest = None;
        for n in (0..8usize).filter(|n| bitmap >> n & 1 == 1) {
            let Some(slot) = self.slot_mut(n + 1) else { continue };
            match slot.state {
                State::Sent => {
                    newest = newest.max(Some(slot.order));
                    slot.state = State::There;
                }
                State::Waiting if slot.again => slot.state = State::There,
                State::Waiting | State::There => {}
            }
        }
        let Some(newest) = newest else { return };
        for n in 0..self.count {
            let Some(slot) = self.slot_mut(n) else { continue };
            if slot.state == State::Sent && slot.order < newest {
                (slot.state, slot.again) = (State::Waiting, true);
            }
        }
    }

    /// The next frame to send, which counts as sent.
    pub(crate) fn next(&mut self, now: Micros) -> Option<Outgoing<'_>> {
        let n = self.first_waiting()?;
        if self.slots().all(|slot| slot.state != State::Sent) {
            self.waiting_since = now;
        }
        let order = self.order;
        self.order += 1;
        let seq = self.base.wrapping_add(n as u8);
        let again = u32::from(self.slot_mut(n)?.again);
        self.resent = self.resent.saturating_add(again);
        let slot = self.slot_mut(n)?;
        (slot.state, slot.at, slot.order) = (State::Sent, now, order);
        let payload = slot.payload.get(..slot.length)?;
        Some(Outgoing { seq, channel: slot.channel, more: slot.more, payload })
    }

    /// Whether there is a frame to send now.
    pub(crate) fn is_ready(&self) -> bool {
        self.first_waiting().is_some()
    }

    /// Whether there are frames, none of them on the way, and no credit for one.
    pub(crate) fn is_starved(&self) -> bool {
        self.count > 0
            && self.first_waiting().is_none()
            && self.slots().all(|slot| slot.state == State::Waiting)
    }

    /// How long a lone frame is waited for.
    pub(crate) fn time_out(&self) -> Micros {
        let doubled = self.trip.time_out() << self.strikes.min(STRIKES);
        Micros(doubled.min(MOST).into())
    }

    /// When the time-out ends, if something is on the way.
    pub(crate) fn deadline(&self) -> Option<Micros> {
        let sent = self.slots().any(|slot| slot.state == State::Sent);
        sent.then(|| self.waiting_since.after(self.time_out()))
    }

    /// The time-out has ended, or a turn has brought nothing: the oldest frame is sent again, or
    /// (`all`) each that is on the way. False when that was tried often enough.
    pub(crate) fn strike(&mut self, now: Micros, all: bool) -> bool {
        self.strikes += 1;
        self.waiting_since = now;
        for n in 0..self.count {
            let Some(slot) = self.slot_mut(n) else { continue };
            if slot.state == State::Sent {
                (slot.state, slot.again) = (State::Waiting, true);
                if !all {
                    break;
                }
            }
        }
        self.strikes < STRIKES
    }

    fn first_waiting(&self) -> Option<usize> {
        let within = self.slots().take(self.credit.into());
        within.enumerate().find(|(_, slot)| slot.state == State::Waiting).map(|(n, _)| n)
    }

    fn slots(&self) -> impl Iterator<Item = &Slot<FRAME>> {
        (0..self.count).filter_map(|n| self.slots.get((self.head + n) % OUT))
    }

    fn slot_mut(&mut self, n: usize) -> Option<&mut Slot<FRAME>> {
        if n < self.count { self.slots.get_mut((self.head + n) % OUT) } else { None }
    }
}

/// Round trips, smoothed (RFC 6298), in microseconds.
struct RoundTrip {
    smoothed: Option<u32>,
    deviation: u32,
}

impl RoundTrip {
    /// A trip that took longer than any time-out says no more than one that took as long.
    fn take(&mut self, Micros(trip): Micros) {
        let trip = trip.min(MOST.into()) as u32;
        match self.smoothed {
            None => (self.smoothed, self.deviation) = (Some(trip), trip / 2),
            Some(smoothed) => {
                self.deviation = (3 * self.deviation + smoothed.abs_diff(trip)) / 4;
                self.smoothed = Some((7 * smoothed + trip) / 8);
            }
        }
    }

    fn time_out(&self) -> u32 {
        match self.smoothed {
            None => FIRST,
            Some(smoothed) => (smoothed + 4 * self.deviation).clamp(LEAST, MOST),
        }
    }
}
