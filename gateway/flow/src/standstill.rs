//! Notices when every publisher stands still because it waits for an acknowledgement: then
//! nothing more will arrive before the group is on flash, and waiting for the log's quiet time
//! would only cost time.
//!
//! A publisher with a window shows it by its rhythm: it fills the window, waits for the
//! acknowledgements, fills it again. One whose highest number of unacknowledged publishes was the
//! same in [`CONFIRMATIONS`] rounds is taken to stand still when it has that many again. Everyone
//! stands still when this holds for all who published within [`RECENT`]. A publisher that sends
//! at its own pace never shows the rhythm for long, because its publishes go on while a group is
//! being written; so the wear of a busy gateway is as the group rule wants it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tidegate_broker::Ticket;

/// Rounds with the same highest number before it is believed.
const CONFIRMATIONS: u8 = 4;
/// Who has not published for so long is not waited for, and its rhythm is forgotten.
const RECENT: Duration = Duration::from_secs(1);
/// With more publishers than this their rhythms are not followed: the group rule is good enough,
/// and the memory is bounded.
const MAX_PUBLISHERS: usize = 1024;

/// The publishers' rhythms.
#[derive(Debug, Default)]
pub(crate) struct Standstill {
    publishers: BTreeMap<u32, Rhythm>,
    standing: usize,
    /// Those whose acknowledgements have been released since the last round ended.
    answered: Vec<u32>,
    /// Somebody publishes without waiting for anything.
    unpaced: Option<Instant>,
    pruned: Option<Instant>,
}

#[derive(Debug)]
struct Rhythm {
    in_flight: u32,
    highest: u32,
    /// The highest number of the last rounds, and how many rounds had it.
    limit: u32,
    confirmed: u8,
    last: Instant,
    stands: bool,
    /// It is in `answered`.
    answered: bool,
}

impl Standstill {
    /// A publish for a stream was taken in. True when now everyone stands still.
    pub(crate) fn published(&mut self, now: Instant, ticket: Option<Ticket>) -> bool {
        let Some(ticket) = ticket else {
            self.unpaced = Some(now);
            return false;
        };
        self.prune(now);
        let connection = ticket.connection();
        if self.publishers.len() >= MAX_PUBLISHERS && !self.publishers.contains_key(&connection) {
            self.unpaced = Some(now);
            return false;
        }
        let rhythm = self.publishers.entry(connection).or_insert_with(|| Rhythm {
            in_flight: 0,
            highest: 0,
            limit: 0,
            confirmed: 0,
            last: now,
            stands: false,
            answered: false,
        });
        rhythm.in_flight += 1;
        rhythm.highest = rhythm.highest.max(rhythm.in_flight);
        rhythm.last = now;
        if rhythm.in_flight > rhythm.limit {
            rhythm.confirmed = 0;
        }
        self.standing = rhythm.update(self.standing);
        self.standing == self.publishers.len() && !self.is_unpaced(now)
    }

    /// A publish was acknowledged.
    pub(crate) fn acknowledged(&mut self, ticket: Ticket) {
        let connection = ticket.connection();
        if let Some(rhythm) = self.publishers.get_mut(&connection) {
            rhythm.in_flight = rhythm.in_flight.saturating_sub(1);
            if !std::mem::replace(&mut rhythm.answered, true) {
                self.answered.push(connection);
            }
            self.standing = rhythm.update(self.standing);
        }
    }

    /// The acknowledgements of one group have all been released.
    pub(crate) fn round_ended(&mut self) {
        for connection in std::mem::take(&mut self.answered) {
            let Some(rhythm) = self.publishers.get_mut(&connection) else { continue };
            if rhythm.highest == rhythm.limit {
                rhythm.confirmed = rhythm.confirmed.saturating_add(1);
            } else {
                rhythm.limit = rhythm.highest;
                rhythm.confirmed = 0;
            }
            rhythm.highest = rhythm.in_flight;
            rhythm.answered = false;
        }
    }

    fn is_unpaced(&self, now: Instant) -> bool {
        self.unpaced.is_some_and(|at| now.saturating_duration_since(at) < RECENT)
    }

    fn prune(&mut self, now: Instant) {
        let due = self.pruned.is_none_or(|at| now.saturating_duration_since(at) >= RECENT / 4);
        if !due {
            return;
        }
        self.pruned = Some(now);
        self.publishers.retain(|_, rhythm| {
            rhythm.in_flight > 0 || now.saturating_duration_since(rhythm.last) < RECENT
        });
        self.standing = self.publishers.values().filter(|rhythm| rhythm.stands).count();
    }
}

impl Rhythm {
    /// Looks again whether it stands still; answers the new number of those who do.
    fn update(&mut self, standing: usize) -> usize {
        let stands = self.confirmed >= CONFIRMATIONS && self.in_flight >= self.limit;
        let before = std::mem::replace(&mut self.stands, stands);
        match (before, stands) {
            (false, true) => standing + 1,
            (true, false) => standing - 1,
            (true, true) | (false, false) => standing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(connection: u32) -> Ticket {
        let ticket = Ticket(u64::from(connection) << 44);
        assert_eq!(ticket.connection(), connection);
        ticket
    }

    struct Scene {
        standstill: Standstill,
        now: Instant,
    }

    impl Scene {
        fn new() -> Scene {
            #[expect(clippy::disallowed_methods, reason = "simulated time has to begin somewhere")]
            let now = Instant::now();
            Scene { standstill: Standstill::default(), now }
        }

        fn publish(&mut self, connection: u32) -> bool {
            self.standstill.published(self.now, Some(ticket(connection)))
        }

        fn acknowledge(&mut self, connection: u32, count: usize) {
            for _ in 0..count {
                self.standstill.acknowledged(ticket(connection));
            }
        }

        fn round(&mut self, connections: &[u32], window: usize) -> bool {
            let mut still = false;
            for connection in connections {
                for _ in 0..window {
                    still = self.publish(*connection);
                }
            }
            for connection in connections {
                self.acknowledge(*connection, window);
            }
            self.standstill.round_ended();
            self.now += Duration::from_millis(1);
            still
        }
    }

    #[test]
    fn a_publisher_with_a_window_is_recognised_after_a_few_rounds() {
        let mut scene = Scene::new();
        let seen: Vec<bool> = (0..8).map(|_| scene.round(&[1], 20)).collect();
        assert_eq!(seen, [false, false, false, false, false, true, true, true]);
    }

    #[test]
    fn everyone_must_stand_still_not_only_one() {
        let mut scene = Scene::new();
        for _ in 0..8 {
            scene.round(&[1, 2], 20);
        }
        for _ in 0..20 {
            assert!(!scene.publish(1), "the other has nothing on its way");
        }
        for sent in 0..20 {
            assert_eq!(scene.publish(2), sent == 19);
        }
    }

    #[test]
    fn a_publisher_that_goes_on_while_it_is_unanswered_is_not_believed() {
        let mut scene = Scene::new();
        for round in 0..50 {
            // Five a round, and some more before the acknowledgements come.
            let extra = round % 4;
            for _ in 0..5 + extra {
                assert!(!scene.publish(1), "round {round}");
            }
            scene.acknowledge(1, 5);
            scene.standstill.round_ended();
            scene.acknowledge(1, extra);
        }
    }

    #[test]
    fn qos_0_for_a_stream_means_that_nobody_knows() {
        let mut scene = Scene::new();
        for _ in 0..8 {
            scene.round(&[1], 2);
        }
        scene.standstill.published(scene.now, None);
        assert!(!scene.round(&[1], 2));
        scene.now += RECENT;
        assert!((0..8).any(|_| scene.round(&[1], 2)), "the rhythm is learned anew");
    }

    #[test]
    fn who_has_gone_is_not_waited_for() {
        let mut scene = Scene::new();
        for _ in 0..8 {
            scene.round(&[1, 2], 3);
        }
        assert!(!scene.round(&[1], 3));
        scene.now += RECENT;
        assert!((0..8).any(|_| scene.round(&[1], 3)), "the rhythm is learned anew");
    }
}
