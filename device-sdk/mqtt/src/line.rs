//! The client on a serial link: docs/formats/link.md, "MQTT on channel 2".

use tidegate_link::{Event as LinkEvent, Link, Micros};

use crate::client::{Client, Event};
use crate::retry::Retry;

/// The channel of a link that carries MQTT.
pub const MQTT: u8 = 2;

/// Waits before a connection that the gateway has ended is begun again.
const LEAST_WAIT: Micros = Micros::from_millis(1_000);
const MOST_WAIT: Micros = Micros::from_millis(30_000);

/// What has come in from a link.
#[derive(Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Incoming<'a> {
    /// Something of the client.
    Mqtt(Event<'a>),
    /// A message on another channel.
    Other {
        /// Which: 1 is firmware.
        channel: u8,
        /// The message.
        bytes: &'a [u8],
    },
    /// A session of the link has begun.
    LinkUp,
    /// It has ended.
    LinkDown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The link has no session.
    Down,
    /// There is a session, and no MQTT connection until then.
    Rests { until: Micros },
    /// There is a connection.
    Open,
    /// This side has ended it: the end has to be said, and the other side's to come.
    Ending { said: bool },
    /// The other side has ended it; that has to be answered.
    Ended,
}

/// Carries the bytes of a client over a link.
#[derive(Debug)]
pub struct Line {
    state: State,
    retry: Retry,
}

impl Line {
    /// For a link without a session. `seed` should differ between devices.
    #[must_use]
    pub const fn new(seed: u32) -> Line {
        Line { state: State::Down, retry: Retry::new(LEAST_WAIT, MOST_WAIT, seed) }
    }

    /// Carries everything that there is, both ways; hands over what has come in. To be called after bytes
    /// have come in, before [`Link::poll_output`], and when a deadline has passed.
    pub fn exchange<
        const FRAME: usize,
        const WINDOW: usize,
        const MESSAGE: usize,
        const OUT: usize,
    >(
        &mut self,
        now: Micros,
        link: &mut Link<FRAME, WINDOW, MESSAGE, OUT>,
        client: &mut Client<'_>,
        mut take: impl FnMut(Incoming<'_>),
    ) {
        while let Some(event) = link.take_event() {
            client.disconnected();
            match event {
                LinkEvent::Up => {
                    self.state = State::Rests { until: now };
                    take(Incoming::LinkUp);
                }
                LinkEvent::Down(_) => {
                    self.state = State::Down;
                    take(Incoming::LinkDown);
                }
            }
        }
        while let Some(message) = link.receive() {
            match message.channel {
                MQTT => self.handle(now, client, message.bytes, &mut take),
                channel => take(Incoming::Other { channel, bytes: message.bytes }),
            }
        }
        // A deadline of the client may have passed.
        self.feed(now, client, &mut &[][..], &mut take);
        if let State::Rests { until } = self.state
            && now >= until
        {
            self.state = State::Open;
            client.connected(now);
        }
        self.send(now, link, client);
    }

    /// When [`Line::exchange`] has to be called, if nothing comes in and nothing is published before.
    #[must_use]
    pub fn next_deadline(&self, client: &Client<'_>) -> Option<Micros> {
        match self.state {
            State::Rests { until } => Some(until),
            State::Open => client.next_deadline(),
            State::Down | State::Ending { .. } | State::Ended => None,
        }
    }

    /// Whether there is a connection, of which the client says what has become of it.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    fn handle(
        &mut self,
        now: Micros,
        client: &mut Client<'_>,
        mut bytes: &[u8],
        take: &mut impl FnMut(Incoming<'_>),
    ) {
        match (self.state, bytes.is_empty()) {
            (State::Open, false) => self.feed(now, client, &mut bytes, take),
            (State::Open, true) => {
                client.disconnected();
                self.state = State::Ended;
            }
            (State::Ending { said: true }, true) => self.rest(now),
            // Both have ended it at once: what has come is the answer to what will be said.
            (State::Ending { said: false }, true) => self.state = State::Ended,
            (State::Ending { .. } | State::Ended | State::Down | State::Rests { .. }, _) => {}
        }
    }

    fn feed(
        &mut self,
        now: Micros,
        client: &mut Client<'_>,
        bytes: &mut &[u8],
        take: &mut impl FnMut(Incoming<'_>),
    ) {
        if self.state != State::Open {
            return;
        }
        while let Some(event) = client.handle_input(now, bytes) {
            match event {
                Event::Up { .. } => self.retry.succeeded(),
                Event::Refused(_) | Event::Down(_) => self.state = State::Ending { said: false },
                Event::Subscribed { .. } | Event::Acknowledged { .. } | Event::Message(_) => {}
            }
            take(Incoming::Mqtt(event));
        }
    }

    fn rest(&mut self, now: Micros) {
        self.state = State::Rests { until: self.retry.next(now) };
    }

    fn send<const FRAME: usize, const WINDOW: usize, const MESSAGE: usize, const OUT: usize>(
        &mut self,
        now: Micros,
        link: &mut Link<FRAME, WINDOW, MESSAGE, OUT>,
        client: &mut Client<'_>,
    ) {
        let payload = link.max_payload().unwrap_or(0);
        match self.state {
            State::Open => loop {
                let output = client.output(now);
                let piece = output.get(..output.len().min(payload)).unwrap_or_default();
                if piece.is_empty() {
                    return;
                }
                match link.send(MQTT, piece) {
                    Ok(count) if count > 0 => client.sent(now, count),
                    Ok(_) | Err(_) => return,
                }
            },
            State::Ending { said: false } if link.send(MQTT, &[]).is_ok() => {
                self.state = State::Ending { said: true };
            }
            State::Ended if link.send(MQTT, &[]).is_ok() => self.rest(now),
            State::Ending { .. } | State::Ended | State::Down | State::Rests { .. } => {}
        }
    }
}
