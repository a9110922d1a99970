//! The client: what the application and the transport see of it.

use crate::Micros;
use crate::publish::{Publish, PublishError};
use crate::shelf::{Shelf, Stage};

mod input;
mod output;

use self::input::Receiving;
use self::output::{Piece, Rope, SMALL};

/// How long a server may take to answer a CONNECT.
const CONNACK_WAIT: Micros = Micros::from_millis(10_000);
/// Messages that a server may send before the first is acknowledged.
const INCOMING: usize = 4;
/// SUBSCRIBE packets have the identifiers from here on, publishes those below.
const SUBSCRIPTIONS_FROM: u16 = 0xff00;

/// User name and password.
#[derive(Clone, Copy, Debug)]
pub struct Login<'c> {
    /// The name.
    pub user: &'c str,
    /// What proves it.
    pub password: &'c [u8],
}

/// What a client is to be. Texts have at most 65,535 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Config<'c> {
    /// The name of the session. On a serial line the device's name.
    pub client_id: &'c str,
    /// On a serial line the line itself says who it is.
    pub login: Option<Login<'c>>,
    /// Seconds of silence after which the connection is no good; 0: the transport notices itself, as a
    /// serial link does.
    pub keep_alive: u16,
    /// Seconds that the server keeps the session without a connection; 0: none is kept.
    pub session_expiry: u32,
    /// Filters that are subscribed to, with QoS 1; at most 255.
    pub subscriptions: &'c [&'c str],
}

impl<'c> Config<'c> {
    /// A session that is kept for a day, no login, no keep-alive.
    #[must_use]
    pub const fn new(client_id: &'c str) -> Config<'c> {
        Config { client_id, login: None, keep_alive: 0, session_expiry: 86_400, subscriptions: &[] }
    }
}

/// Why a connection is over. The transport's should be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Why {
    /// What came is no MQTT 5, or nothing that a server may send to this client.
    Malformed,
    /// A packet is longer than the input buffer, which the server was told.
    TooLong,
    /// Nothing came for too long.
    Silence,
    /// The server says so, by this reason code of MQTT 5.
    Server(u8),
}

/// A message of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Message<'a> {
    /// Where it was published.
    pub topic: &'a str,
    /// What.
    pub payload: &'a [u8],
    /// It was kept by the server, and is not new.
    pub retain: bool,
    /// Where the sender of a request wants the reply.
    pub response_topic: Option<&'a str>,
    /// What it wants to see in the reply.
    pub correlation: Option<&'a [u8]>,
}

/// What has become of a connection, or has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event<'a> {
    /// The server has let the client in.
    Up {
        /// It has kept the session.
        session_present: bool,
    },
    /// The server does not let the client in, for this reason code of MQTT 5.
    Refused(u8),
    /// The answer to a subscription.
    Subscribed {
        /// Which of the configuration's.
        index: usize,
        /// From 0x80 on it was refused.
        reason: u8,
    },
    /// A message is acknowledged, and gone from the shelf.
    Acknowledged {
        /// What [`Client::publish`] has answered.
        id: u16,
        /// From 0x80 on it was refused: another try would be too.
        reason: u8,
    },
    /// A message. It is acknowledged with the next output.
    Message(Message<'a>),
    /// The connection is over.
    Down(Why),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No transport.
    Offline,
    /// CONNECT goes out, or has; its answer is missing.
    Begun {
        until: Micros,
    },
    Up,
    /// What is still to be said is that this is the end.
    Leaving,
    /// The transport is to be closed.
    Over,
}

/// The client. Its buffers bound what it holds: `shelf` the messages that are not acknowledged (at
/// most [`crate::MAX_WAITING`]), `input` the longest packet that comes in.
#[derive(Debug)]
pub struct Client<'b> {
    config: Config<'b>,
    phase: Phase,
    shelf: Shelf<'b>,
    receiving: Receiving<'b>,
    piece: Piece<'b>,
    small: [u8; SMALL],
    rope: Option<Rope>,
    /// Bytes of the piece that are sent.
    at: usize,
    connect_due: bool,
    /// The next subscription to ask for.
    subscribe: usize,
    /// The server has answered one since the start: its session has what this one wants.
    subscribed: bool,
    acknowledge: [u16; INCOMING],
    acknowledges: usize,
    next_id: u16,
    /// The server's limits.
    keep_alive: Micros,
    quota: u16,
    max_packet: u32,
    spoke: Micros,
    pinged: Option<Micros>,
    dropped: u32,
}

impl<'b> Client<'b> {
    /// A client without a connection.
    #[must_use]
    pub fn new(config: Config<'b>, shelf: &'b mut [u8], input: &'b mut [u8]) -> Client<'b> {
        Client {
            config,
            phase: Phase::Offline,
            shelf: Shelf::new(shelf),
            receiving: Receiving::new(input),
            piece: Piece::Nothing,
            small: [0; SMALL],
            rope: None,
            at: 0,
            connect_due: false,
            subscribe: 0,
            subscribed: false,
            acknowledge: [0; INCOMING],
            acknowledges: 0,
            next_id: 1,
            keep_alive: Micros(0),
            quota: 0,
            max_packet: u32::MAX,
            spoke: Micros(0),
            pinged: None,
            dropped: 0,
        }
    }

    /// Whether the server has let the client in.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// Whether nothing waits: all messages are acknowledged, and nothing is left to be sent.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let quiet = matches!(self.piece, Piece::Nothing) && self.rope.is_none();
        self.shelf.slots().is_empty() && self.acknowledges == 0 && quiet
    }

    /// Messages that were taken and then found to be longer than the server takes.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Takes a message; answers the identifier under which it will be acknowledged, 0 without an
    /// acknowledgement.
    ///
    /// # Errors
    /// It was not taken.
    pub fn publish(&mut self, publish: &Publish<'_>) -> Result<u16, PublishError> {
        publish.check()?;
        let length = publish.length();
        let most = self.shelf.capacity().min(usize::from(u16::MAX));
        if length > most || length as u64 > u64::from(self.max_packet) {
            return Err(PublishError::TooLong);
        }
        let id = match publish.qos {
            crate::Qos::AtMostOnce => 0,
            crate::Qos::AtLeastOnce => self.free_id(),
        };
        let room = self.shelf.room().ok_or(PublishError::Full)?;
        let written = publish.write(id, room).ok_or(PublishError::Full)?;
        self.shelf.put(written, id);
        Ok(id)
    }

    /// The transport has a connection.
    pub fn connected(&mut self, now: Micros) {
        self.disconnected();
        self.phase = Phase::Begun { until: now.after(CONNACK_WAIT) };
        self.connect_due = true;
        self.spoke = now;
    }

    /// The transport has none any more. Its messages stay.
    pub fn disconnected(&mut self) {
        self.phase = Phase::Offline;
        self.shelf.rewind();
        self.receiving.clear();
        self.piece = Piece::Nothing;
        self.rope = None;
        self.at = 0;
        self.connect_due = false;
        self.acknowledges = 0;
        self.pinged = None;
        self.max_packet = u32::MAX;
    }

    /// Ends the connection as it should end: the server is told, with what [`Client::output`] gives next,
    /// and keeps the session. What is not acknowledged stays for the next connection.
    pub fn leave(&mut self) {
        self.phase = match self.phase {
            Phase::Up | Phase::Leaving => Phase::Leaving,
            Phase::Begun { .. } | Phase::Over => Phase::Over,
            Phase::Offline => Phase::Offline,
        };
    }

    /// When [`Client::handle_input`] and [`Client::output`] have to be called, if nothing comes in and
    /// nothing is published before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        match self.phase {
            Phase::Begun { until } => Some(until),
            Phase::Up if self.keep_alive > Micros(0) => Some(match self.pinged {
                Some(pinged) => pinged.after(self.keep_alive),
                None => self.spoke.after(self.keep_alive),
            }),
            Phase::Up | Phase::Offline | Phase::Leaving | Phase::Over => None,
        }
    }

    /// An identifier that no waiting message has. There are more than there are slots.
    fn free_id(&mut self) -> u16 {
        loop {
            let id = self.next_id;
            self.next_id = if id + 1 == SUBSCRIPTIONS_FROM { 1 } else { id + 1 };
            if self.shelf.index_of(id).is_none() {
                return id;
            }
        }
    }

    /// Messages on their way to the server.
    fn in_flight(&self) -> usize {
        self.shelf.slots().iter().filter(|slot| slot.stage == Stage::Sent).count()
    }

    fn end(&mut self, why: Why) -> Event<'static> {
        self.phase = Phase::Over;
        Event::Down(why)
    }
}
