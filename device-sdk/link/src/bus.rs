//! Several devices on one line: the gateway gives each the turn, one after the other.
//!
//! Invariant: at any time at most one side is to speak. All links of a bus have
//! [`crate::Turns::Shared`].

use crate::link::Link;
use crate::micros::Micros;

/// Whose turn it is on a line that several links share. The links are the caller's; they are
/// always given in the same order.
#[derive(Clone, Copy, Debug)]
pub struct Bus {
    /// How long a device may take to begin, and go on, speaking.
    turn_time: Micros,
    at: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next link gets the turn.
    Next,
    /// The gateway's link speaks.
    Speaking,
    /// The device is to speak until then at least.
    Listening { until: Micros },
}

impl Bus {
    /// A bus on which a device that does not begin within `turn_time`, or stops for so long, has had
    /// its turn: 20 ms and the time of two frames.
    #[must_use]
    pub fn new(turn_time: Micros) -> Bus {
        Bus { turn_time, at: 0, state: State::Next }
    }

    /// Bytes have come in. All links hear them; their addresses tell whose they are.
    pub fn handle_input<
        const FRAME: usize,
        const WINDOW: usize,
        const MESSAGE: usize,
        const OUT: usize,
    >(
        &mut self,
        now: Micros,
        bytes: &[u8],
        links: &mut [Link<FRAME, WINDOW, MESSAGE, OUT>],
    ) {
        let mut back = false;
        for (n, link) in links.iter_mut().enumerate() {
            link.handle_input(now, bytes);
            back |= link.take_turn_back() && n == self.at;
        }
        match self.state {
            State::Listening { .. } if back => self.pass_on(links.len()),
            State::Listening { .. } => {
                self.state = State::Listening { until: now.after(self.turn_time) };
            }
            State::Next | State::Speaking => {}
        }
    }

    /// Writes what is to be sent now: one frame, or nothing (0).
    pub fn poll_output<
        const FRAME: usize,
        const WINDOW: usize,
        const MESSAGE: usize,
        const OUT: usize,
    >(
        &mut self,
        now: Micros,
        links: &mut [Link<FRAME, WINDOW, MESSAGE, OUT>],
        out: &mut [u8],
    ) -> usize {
        if self.state == (State::Listening { until: self.until() }) && now >= self.until() {
            self.pass_on(links.len());
        }
        let Some(link) = links.get_mut(self.at) else { return 0 };
        if self.state == State::Next {
            link.give_turn(now);
            self.state = State::Speaking;
        }
        if self.state != State::Speaking {
            return 0;
        }
        let length = link.poll_output(now, out);
        if !link.has_turn() {
            self.state = State::Listening { until: now.after(self.turn_time) };
        }
        length
    }

    /// When [`Bus::poll_output`] has to be called, if nothing comes in before.
    #[must_use]
    pub fn next_deadline(&self) -> Micros {
        self.until()
    }

    fn until(&self) -> Micros {
        match self.state {
            State::Next | State::Speaking => Micros(0),
            State::Listening { until } => until,
        }
    }

    fn pass_on(&mut self, links: usize) {
        self.at = (self.at + 1) % links.max(1);
        self.state = State::Next;
    }
}
