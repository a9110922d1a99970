//! Which session a link is in, and how the next begins.
//!
//! Invariant: a gateway leaves a session for another only when a frame of the other has arrived, so
//! that nobody is torn out of a session by an `open` that is only an echo.

use tidegate_wire::crc32c;

use crate::control::{Control, Terms};
use crate::micros::Micros;

/// First wait for an answer to `open`; it is doubled twice.
const OPEN_FIRST: u32 = 250_000;
const OPEN_DOUBLED: u8 = 2;

/// Which side of a link this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Role {
    /// Opens sessions.
    Device,
    /// Answers.
    Gateway,
}

/// Two nonces and what both sides can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    pub(crate) device: u32,
    pub(crate) gateway: u32,
    pub(crate) terms: Terms,
}

impl Session {
    /// The seed of its frames' CRC. Never 0, which is the seed of frames outside.
    pub(crate) fn number(&self) -> u32 {
        let device = crc32c::crc32c(&self.device.to_le_bytes());
        crc32c::extend(device, &self.gateway.to_le_bytes()).max(1)
    }

    /// What tells the device of it.
    pub(crate) fn opened(&self) -> Control {
        Control::Opened { device: self.device, gateway: self.gateway, terms: self.terms }
    }
}

/// Sessions of one link.
#[derive(Debug)]
pub(crate) struct Sessions {
    own: Terms,
    random: u64,
    current: Option<Session>,
    /// Gateway: a session that the device has not used yet.
    pending: Option<Session>,
    /// Device: the nonce of the `open` that has not been answered, when it is due again, and how
    /// often it was sent.
    opening: Option<(u32, Micros, u8)>,
}

impl Sessions {
    /// No session, and nothing is done for one.
    pub(crate) const fn none() -> Sessions {
        let own = Terms { mtu: 0, window: 0 };
        Sessions { own, random: 0, current: None, pending: None, opening: None }
    }

    pub(crate) fn new(role: Role, own: Terms, seed: u64) -> Sessions {
        let mut sessions = Sessions { own, random: seed, ..Sessions::none() };
        match role {
            Role::Device => sessions.open(Micros(0)),
            Role::Gateway => {}
        }
        sessions
    }

    pub(crate) fn current(&self) -> Option<&Session> {
        self.current.as_ref()
    }

    pub(crate) fn pending(&self) -> Option<&Session> {
        self.pending.as_ref()
    }

    /// Leaves the session, if there is one.
    pub(crate) fn leave(&mut self) {
        self.current = None;
    }

    /// Device: begins to open a session, unless it is at it.
    pub(crate) fn open(&mut self, now: Micros) {
        if self.opening.is_none() {
            self.opening = Some((self.nonce(), now, 0));
        }
    }

    /// Device: when `open` has to be sent.
    pub(crate) fn open_due(&self) -> Option<Micros> {
        self.opening.map(|(_, due, _)| due)
    }

    /// Device: the nonce of an `open` that is sent now.
    pub(crate) fn send_open(&mut self, now: Micros) -> Option<(u32, Terms)> {
        let (nonce, due, times) = self.opening.as_mut()?;
        *due = now.after(Micros((OPEN_FIRST << *times).into()));
        *times = (*times + 1).min(OPEN_DOUBLED);
        Some((*nonce, self.own))
    }

    /// Gateway: a device wants a session; what to answer.
    pub(crate) fn opened_by(&mut self, device: u32, terms: Terms) -> Session {
        let same = |session: &&Session| session.device == device;
        let known = self.pending.as_ref().filter(same).or(self.current.as_ref().filter(same));
        if let Some(session) = known {
            return *session;
        }
        let session = Session { device, gateway: self.nonce(), terms: self.common(terms) };
        self.pending = Some(session);
        session
    }

    /// Device: the gateway has answered. True when that begins a session.
    pub(crate) fn answered(&mut self, device: u32, gateway: u32, terms: Terms) -> bool {
        if self.opening.is_none_or(|(nonce, ..)| nonce != device) {
            return false;
        }
        self.opening = None;
        self.current = Some(Session { device, gateway, terms: self.common(terms) });
        true
    }

    /// Gateway: a frame of the pending session has arrived.
    pub(crate) fn switch(&mut self) {
        self.current = self.pending.take();
    }

    fn common(&self, terms: Terms) -> Terms {
        Terms { mtu: self.own.mtu.min(terms.mtu), window: self.own.window.min(terms.window) }
    }

    /// SplitMix64.
    fn nonce(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as u32
    }
}
