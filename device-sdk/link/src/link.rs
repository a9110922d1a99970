//! One side of a link to one device.

use crate::clock::Clock;
use crate::cobs::{self, Decoder, Ended};
use crate::control::Terms;
use crate::frame::{MAX_CHANNEL, MAX_MTU, MIN_MTU, OVERHEAD};
use crate::micros::Micros;
use crate::receiving::{Message, Receiving};
use crate::sending::Sending;
use crate::session::{Role, Session, Sessions};

mod input;
mod output;

/// How long a lone frame waits for something that carries its acknowledgement.
const ACK_DELAY: Micros = Micros::from_millis(10);
/// Silence after which a side pings, and after which the session ends.
const KEEP_ALIVE: Micros = Micros::from_millis(5_000);
const DEAD: Micros = Micros::from_millis(15_000);
/// A gateway without a session begins with a hail, and answers frames by one, no more often than this.
const HAIL_EVERY: Micros = Micros::from_millis(250);
/// Frames that a side sends in one turn.
const TURN_FRAMES: u8 = 8;

/// Who may speak when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Turns {
    /// A line of its own: both sides, whenever they want.
    Free,
    /// A line with several devices: whoever was given the turn ([`crate::Bus`]).
    Shared,
}

/// What a link is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Config {
    /// Which side.
    pub role: Role,
    /// The device's address, 1 to 254.
    pub address: u8,
    /// Who may speak when.
    pub turns: Turns,
}

impl Config {
    /// A line with one device of this address.
    #[must_use]
    pub const fn new(role: Role, address: u8) -> Config {
        Config { role, address, turns: Turns::Free }
    }
}

/// Why a session has ended. What was not acknowledged may have arrived or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Why {
    /// Nothing was heard for 15 s.
    Silence,
    /// A frame was sent three times and never acknowledged.
    Strikes,
    /// The other side began a new session.
    Peer,
}

/// What has become of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Event {
    /// A session has begun: messages go through.
    Up,
    /// It has ended.
    Down(Why),
}

/// Why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SendError {
    /// There is no session: wait for [`Event::Up`].
    Down,
    /// The channel is not between 1 and 15.
    Channel,
    /// The frames of a message on another channel are not all taken yet: finish that first.
    Unfinished,
    /// It does not fit one frame, and is not to be split; or those before it have to leave, or be acknowledged,
    /// first.
    NoRoom,
}

/// What has gone through, and what has not. They stop at their greatest value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Counters {
    /// Frames of this session that came in.
    pub frames: u32,
    /// Bytes that were no frame, whoever they were for.
    pub garbage: u32,
    /// Frames with a wrong CRC or of another session.
    pub strange: u32,
    /// Frames that came again.
    pub again: u32,
    /// Frames that were sent again.
    pub resent: u32,
    /// Messages that were too long, or loose ones that had no room.
    pub dropped: u32,
}

/// What of [`Counters`] is counted here.
struct Heard {
    frames: u32,
    garbage: u32,
    strange: u32,
    again: u32,
}

/// An [`Event`] that nobody has taken yet. [`Said::Nothing`] is 0 in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Nothing,
    Up,
    Silence,
    Strikes,
    Peer,
}

impl Said {
    fn event(self) -> Option<Event> {
        Some(match self {
            Said::Nothing => return None,
            Said::Up => Event::Up,
            Said::Silence => Event::Down(Why::Silence),
            Said::Strikes => Event::Down(Why::Strikes),
            Said::Peer => Event::Down(Why::Peer),
        })
    }
}

impl From<Event> for Said {
    fn from(event: Event) -> Said {
        match event {
            Event::Up => Said::Up,
            Event::Down(Why::Silence) => Said::Silence,
            Event::Down(Why::Strikes) => Said::Strikes,
            Event::Down(Why::Peer) => Said::Peer,
        }
    }
}

/// What is to be sent besides messages.
#[derive(Clone, Copy, Debug)]
struct Due {
    /// Gateway: the answer to an `open`.
    opened: Option<Session>,
    hail: bool,
    /// t1 and t2 of a ping.
    pong: Option<(u64, u64)>,
    ping: bool,
    /// When the other side has to hear what has arrived.
    ack: Option<Micros>,
}

impl Due {
    const NOTHING: Due = Due { opened: None, hail: false, pong: None, ping: false, ack: None };
}

/// One side of a link: frames of at most `FRAME` bytes, messages of at most `MESSAGE` bytes in, a window of `WINDOW`
/// frames (1 to 8). Those on their way in are kept in the place of the message, which has to have room for them; on
/// their way out it keeps `OUT` of them: a window, unless said otherwise. It takes about `FRAME` times (`OUT` + 1) +
/// `MESSAGE` bytes of memory, and 400. With one frame out, each waits until the one before is acknowledged: enough for
/// telemetry, and for firmware, which comes in.
pub struct Link<
    const FRAME: usize,
    const WINDOW: usize,
    const MESSAGE: usize,
    const OUT: usize = WINDOW,
> {
    config: Config,
    sessions: Sessions,
    decoder: Decoder<FRAME>,
    sending: Sending<FRAME, OUT>,
    receiving: Receiving<WINDOW, MESSAGE>,
    due: Due,
    clock: Clock,
    wall: (i64, bool),
    said: [Said; 2],
    heard: Micros,
    pinged: Micros,
    hailed: Option<Micros>,
    /// Frames that may still be sent in this turn; `None` when it is the other side's.
    turn: Option<u8>,
    /// Gateway: the device has given the turn back.
    turn_back: bool,
    heard_so_far: Heard,
}

impl<const FRAME: usize, const WINDOW: usize, const MESSAGE: usize, const OUT: usize>
    Link<FRAME, WINDOW, MESSAGE, OUT>
{
    /// Bytes that [`Link::poll_output`] needs room for.
    pub const MAX_OUTPUT: usize = cobs::on_line(FRAME);

    const SIZES: () = {
        assert!(
            FRAME >= MIN_MTU as usize && FRAME <= MAX_MTU as usize,
            "64 to 1,024 bytes a frame"
        );
        assert!(WINDOW >= 1 && WINDOW <= 8, "1 to 8 frames");
        assert!(OUT >= 1 && OUT <= WINDOW, "1 frame out, up to the window");
        assert!(MESSAGE >= WINDOW * (FRAME - OVERHEAD), "room for a window of frames");
    };

    /// A link that does nothing until [`Link::open`]. All its bytes are zero: a static one takes no
    /// flash, and is never on the stack, as the result of [`Link::new`] would be.
    #[must_use]
    pub const fn closed() -> Self {
        let () = Self::SIZES;
        Link {
            config: Config { role: Role::Device, address: 0, turns: Turns::Free },
            sessions: Sessions::none(),
            decoder: Decoder::new(),
            sending: Sending::new(),
            receiving: Receiving::new(),
            due: Due::NOTHING,
            clock: Clock::new(),
            wall: (0, false),
            said: [Said::Nothing; 2],
            heard: Micros(0),
            pinged: Micros(0),
            hailed: None,
            turn: None,
            turn_back: false,
            heard_so_far: Heard { frames: 0, garbage: 0, strange: 0, again: 0 },
        }
    }

    /// Makes a [`Link::closed`] one a link without a session. `seed` must be different after each start,
    /// best a random number: sessions are told apart by it. Call it once.
    pub fn open(&mut self, config: Config, seed: u64) {
        let terms = Terms { mtu: FRAME as u16, window: WINDOW as u8 };
        self.config = config;
        // A device that has a session of before, and nothing to say, would not notice for seconds.
        self.due.hail = config.role == Role::Gateway && config.turns == Turns::Free;
        self.sessions = Sessions::new(config.role, terms, seed);
    }

    /// A link without a session; see [`Link::open`].
    #[must_use]
    pub fn new(config: Config, seed: u64) -> Self {
        let mut link = Self::closed();
        link.open(config, seed);
        link
    }

    /// Whether there is a session.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.sessions.current().is_some()
    }

    /// What has gone through.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let Heard { frames, garbage, strange, again } = self.heard_so_far;
        let (dropped, resent) = (self.receiving.dropped, self.sending.resent);
        Counters { frames, garbage, strange, again, resent, dropped }
    }

    /// Bytes of the longest message that takes one frame; `None` without a session.
    #[must_use]
    pub fn max_payload(&self) -> Option<usize> {
        let session = self.sessions.current()?;
        Some(usize::from(session.terms.mtu).min(FRAME).saturating_sub(OVERHEAD))
    }

    /// The other side's time.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// What the other side is told of the time: how far the wall clock (microseconds since 1970) is
    /// ahead of `now` here, and whether it can be trusted.
    pub fn set_wall(&mut self, ahead: i64, trusted: bool) {
        self.wall = (ahead, trusted);
    }

    /// What has become of the link since the last call.
    pub fn take_event(&mut self) -> Option<Event> {
        let said = core::mem::replace(&mut self.said[0], Said::Nothing);
        self.said.swap(0, 1);
        said.event()
    }

    /// Takes in as much of a message, or of its rest, as fits; answers how many bytes. When that is
    /// not all, the rest has to be given again, when the other side has acknowledged something; no
    /// other message can be sent before.
    ///
    /// # Errors
    /// Nothing was taken.
    pub fn send(&mut self, channel: u8, rest: &[u8]) -> Result<usize, SendError> {
        let payload = self.payload(channel)?;
        if self.sending.begun().is_some_and(|begun| begun != channel) {
            return Err(SendError::Unfinished);
        }
        if rest.is_empty() && !self.sending.has_room() {
            return Err(SendError::NoRoom);
        }
        Ok(self.sending.push(channel, rest, payload))
    }

    /// Takes in a message of one frame that is sent once and may be lost. Until it has left nothing else is taken
    /// in, and it is not taken in while the frames of others fill the window.
    ///
    /// # Errors
    /// It was not taken.
    pub fn send_loose(&mut self, channel: u8, message: &[u8]) -> Result<(), SendError> {
        let payload = self.payload(channel)?;
        if message.len() > payload {
            return Err(SendError::NoRoom);
        }
        self.sending.push_loose(channel, message).ok_or(SendError::NoRoom)
    }

    /// The next message. It goes with the next call of anything else.
    pub fn receive(&mut self) -> Option<Message<'_>> {
        self.release();
        self.receiving.receive()
    }

    /// Bytes have come in.
    pub fn handle_input(&mut self, now: Micros, bytes: &[u8]) {
        self.release();
        for byte in bytes {
            match self.decoder.push(*byte) {
                Ended::Nothing => {}
                Ended::Garbage => self.count(|counters| &mut counters.garbage),
                Ended::Frame => self.handle_frame(now),
            }
        }
    }

    /// Writes what is to be sent now: one frame, or nothing (0). Call it again until nothing is left,
    /// or until the port takes no more; `out` has to have [`Link::MAX_OUTPUT`] bytes.
    pub fn poll_output(&mut self, now: Micros, out: &mut [u8]) -> usize {
        self.release();
        self.pass_time(now);
        match (self.config.turns, self.turn) {
            (Turns::Free, _) => self.next_frame(now, out).unwrap_or(0),
            (Turns::Shared, None) => 0,
            (Turns::Shared, Some(0)) => self.end_turn(now, out),
            (Turns::Shared, Some(left)) => match self.next_frame(now, out) {
                Some(length) => {
                    self.turn = Some(left - 1);
                    length
                }
                None => self.end_turn(now, out),
            },
        }
    }

    /// When [`Link::poll_output`] has to be called, if nothing comes in and nothing is sent before.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Micros> {
        if self.turn.is_none() && self.config.turns == Turns::Shared {
            return self.is_up().then(|| self.heard.after(DEAD));
        }
        let soon = Some(Micros(0));
        if self.due.opened.is_some() || self.due.hail || self.due.pong.is_some() || self.due.ping {
            return soon;
        }
        if !self.is_up() {
            return self.sessions.open_due();
        }
        if self.sending.is_ready() || self.sending.has_loose() {
            return soon;
        }
        let starved = self.sending.is_starved().then(|| self.pinged.after(self.sending.time_out()));
        [
            self.sessions.open_due(),
            self.due.ack,
            self.sending.deadline(),
            starved,
            Some(self.ping_at()),
            Some(self.heard.after(DEAD)),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Shared lines: whether it is this side's turn.
    pub(crate) fn has_turn(&self) -> bool {
        self.turn.is_some()
    }

    /// Shared lines: whether the device has given the turn back since the last call.
    pub(crate) fn take_turn_back(&mut self) -> bool {
        core::mem::take(&mut self.turn_back)
    }

    /// Shared lines: gives this side the turn.
    pub(crate) fn give_turn(&mut self, now: Micros) {
        self.turn = Some(TURN_FRAMES);
        // The other side has answered, or not: what is not acknowledged by now is lost.
        let unanswered = self.sending.deadline().is_some();
        if unanswered && !self.sending.strike(now, true) {
            self.end_session(now, Why::Strikes);
        }
    }

    fn payload(&self, channel: u8) -> Result<usize, SendError> {
        let payload = self.max_payload().ok_or(SendError::Down)?;
        if (1..=MAX_CHANNEL).contains(&channel) { Ok(payload) } else { Err(SendError::Channel) }
    }

    /// What was given out goes; the other side hears that there is room again.
    fn release(&mut self) {
        let window = self.window();
        let before = self.receiving.credit(window);
        self.receiving.release();
        if before == 0 && self.receiving.credit(window) > 0 {
            self.due.ack = Some(Micros(0));
        }
    }

    fn window(&self) -> u8 {
        self.sessions.current().map_or(0, |session| session.terms.window)
    }

    fn ping_at(&self) -> Micros {
        self.pinged.max(self.heard_for_ping()).after(KEEP_ALIVE)
    }

    /// The device pings every 5 s, for the time; the gateway after 5 s of silence.
    fn heard_for_ping(&self) -> Micros {
        match self.config.role {
            Role::Device => Micros(0),
            Role::Gateway => self.heard,
        }
    }

    fn pass_time(&mut self, now: Micros) {
        if !self.is_up() {
            return;
        }
        if now >= self.heard.after(DEAD) {
            self.end_session(now, Why::Silence);
            return;
        }
        let free = self.config.turns == Turns::Free;
        let late = free && self.sending.deadline().is_some_and(|deadline| now >= deadline);
        if late && !self.sending.strike(now, false) {
            self.end_session(now, Why::Strikes);
            return;
        }
        let starved = self.sending.is_starved();
        let starved = starved && now >= self.pinged.after(self.sending.time_out());
        if starved || now >= self.ping_at() {
            self.due.ping = true;
            self.pinged = now;
        }
    }

    fn end_session(&mut self, now: Micros, why: Why) {
        self.sessions.leave();
        self.sending.clear(0);
        self.receiving.clear(0);
        self.due = Due::NOTHING;
        self.say(Event::Down(why));
        match self.config.role {
            Role::Device => self.sessions.open(now),
            Role::Gateway => {}
        }
    }

    fn begin_session(&mut self, now: Micros) {
        self.sending.clear(self.window());
        self.receiving.clear(self.max_payload().unwrap_or(0));
        (self.heard, self.pinged) = (now, now);
        // The device's shows the gateway that it is in the session.
        self.due = Due { ping: self.config.role == Role::Device, ..Due::NOTHING };
        self.say(Event::Up);
    }

    /// An `Up` that nobody has taken yet goes with its `Down`; of several, the newest count.
    fn say(&mut self, event: Event) {
        if self.said[0] == Said::Nothing {
            self.said[0] = event.into();
        } else {
            if self.said[1] != Said::Nothing {
                self.said.swap(0, 1);
            }
            self.said[1] = event.into();
        }
    }

    fn count(&mut self, which: impl Fn(&mut Heard) -> &mut u32) {
        let counter = which(&mut self.heard_so_far);
        *counter = counter.saturating_add(1);
    }
}
