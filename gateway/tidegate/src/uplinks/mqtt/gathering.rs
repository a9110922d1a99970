//! How long acknowledgements are left to gather in the socket, so that many are read at a time and make
//! room for many messages. A server that takes one message at a time and answers it would else
//! wake us, and the core, for each.
//!
//! The time is right when between a half and three quarters of what is owed has come by its end: much
//! at a time, and the server has never nothing to do because we wait.

use std::time::Duration;

/// Much below a round trip to anywhere but this machine.
const LONGEST: Duration = Duration::from_micros(300);
/// Below it a timer costs more than what it saves.
const SHORTEST: Duration = Duration::from_micros(20);
/// So many messages must be unanswered: with fewer, each one counts.
const WORTH_IT: usize = 4;

/// See the module.
#[derive(Debug)]
pub(super) struct Gathering {
    wait: Duration,
}

impl Gathering {
    pub(super) fn new() -> Gathering {
        Gathering { wait: LONGEST }
    }

    /// How long to leave the socket alone while so many messages are unanswered; `None`: not at
    /// all.
    pub(super) fn wait(&self, owed: usize) -> Option<Duration> {
        (owed >= WORTH_IT).then_some(self.wait)
    }

    /// Of so many unanswered messages, so many were left when the wait was over.
    pub(super) fn heard(&mut self, owed: usize, left: usize) {
        if left * 4 <= owed {
            self.wait = (self.wait / 2).max(SHORTEST);
        } else if left * 2 > owed {
            self.wait = (self.wait * 5 / 4).min(LONGEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wait that is left after many rounds with a server that answers one message in `each`,
    /// with room for `window`.
    fn settled(window: usize, each: Duration) -> Duration {
        let mut gathering = Gathering::new();
        for _ in 0..100 {
            let Some(wait) = gathering.wait(window) else { panic!("{window} are worth it") };
            let answered = (wait.as_nanos() / each.as_nanos()) as usize;
            gathering.heard(window, window.saturating_sub(answered));
        }
        gathering.wait
    }

    #[test]
    fn server_with_a_small_window_is_never_left_without_work() {
        for (window, each) in [(20, 10), (20, 5), (8, 10), (100, 2)] {
            let wait = settled(window, Duration::from_micros(each));
            let all = Duration::from_micros(each * window as u64);
            assert!(wait < all, "{window} in flight, {each} us each: {wait:?}");
            assert!(wait * 4 >= all, "{window} in flight, {each} us each: {wait:?}");
        }
    }

    #[test]
    fn server_with_a_large_window_or_far_away_is_asked_as_seldom_as_allowed() {
        assert_eq!(settled(1_000, Duration::from_micros(20)), LONGEST);
        assert_eq!(settled(20, Duration::from_millis(50)), LONGEST);
    }

    #[test]
    fn few_messages_are_not_waited_for() {
        assert_eq!(Gathering::new().wait(3), None);
        assert_eq!(settled(20, Duration::from_nanos(1)), SHORTEST);
    }
}
