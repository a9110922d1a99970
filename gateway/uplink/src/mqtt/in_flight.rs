//! Which messages wait for their acknowledgement, by packet identifier: an array, because the
//! identifiers are small numbers of our own.

use std::collections::VecDeque;

/// See the module. Identifiers count from 1; one that was answered is used again after all others,
/// so that an acknowledgement which comes twice seldom meets another message.
#[derive(Debug)]
pub(super) struct InFlight {
    /// The token under identifier `place + 1`. Grows up to `ids`, as it is used.
    tokens: Vec<Option<u64>>,
    /// Identifiers that are free again, the longest first.
    free: VecDeque<u16>,
    /// How many identifiers there are.
    ids: u16,
    /// How many the server allows at once.
    allowed: u16,
    count: u16,
}

impl InFlight {
    pub(super) fn new(ids: u16) -> InFlight {
        let ids = ids.max(1);
        InFlight { tokens: Vec::new(), free: VecDeque::new(), ids, allowed: ids, count: 0 }
    }

    /// The server's Receive Maximum.
    pub(super) fn allow(&mut self, receive_maximum: u16) {
        self.allowed = self.ids.min(receive_maximum);
    }

    /// How many messages wait.
    pub(super) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// The identifier of the next message; `None` as long as there is no room for one.
    pub(super) fn next_id(&self) -> Option<u16> {
        if self.count >= self.allowed {
            return None;
        }
        if self.tokens.len() < usize::from(self.ids) {
            return Some(self.tokens.len() as u16 + 1);
        }
        self.free.front().copied()
    }

    /// The message with this token goes under [`next_id`](Self::next_id).
    pub(super) fn send(&mut self, token: u64) {
        if self.tokens.len() < usize::from(self.ids) {
            self.tokens.push(Some(token));
        } else if let Some(id) = self.free.pop_front() {
            self.tokens[usize::from(id) - 1] = Some(token);
        }
        self.count += 1;
    }

    /// The token under this identifier, which is free from now on; `None` when nothing is on its
    /// way under it.
    pub(super) fn answer(&mut self, id: u16) -> Option<u64> {
        let place = usize::from(id).checked_sub(1)?;
        let token = self.tokens.get_mut(place)?.take()?;
        self.free.push_back(id);
        self.count -= 1;
        Some(token)
    }
}
