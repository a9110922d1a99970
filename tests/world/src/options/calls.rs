//! What calls functions beside the records of devices: files, the clock, requests, changes of a
//! state.

use std::time::Duration;

use tidegate_flow::{Cron, Missed, Rhythm, SchedulePlan};

use super::Options;
use crate::random::Random;

/// What calls functions in a world.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calls {
    /// Files that come into a folder; each becomes a record of `telemetry`.
    pub files: u64,
    /// Schedules of a function.
    pub schedules: Vec<SchedulePlan>,
    /// By how much the wall clock is before a whole minute when the world begins.
    pub before_minute: Duration,
    /// Requests with an Idempotency-Key to that function.
    pub requests: u64,
    /// That function is told of its starts, and is to be given nothing before.
    pub told_of_start: bool,
    /// A function is told of each count that the first one changes in its state.
    pub watched: bool,
}

impl Calls {
    /// Whether there is a function for the clock and for requests.
    pub(crate) fn has_clerk(&self) -> bool {
        !self.schedules.is_empty() || self.requests > 0
    }
}

impl Options {
    /// Each in a third of the worlds. Drawn apart: the rest of a world stays as it is.
    pub(super) fn with_calls(mut self) -> Options {
        let random = &mut Random::new(self.seed.rotate_left(48) ^ 0x63_61_6c_6c);
        let calls = &mut self.calls;
        if random.one_in(3) {
            calls.files = random.range(5, 40);
        }
        if random.one_in(3) {
            calls.requests = random.range(5, 40);
        }
        if random.one_in(3) {
            calls.schedules = schedules(random);
            calls.before_minute = random.millis(50, 1_500);
            if random.one_in(2) {
                let by_ms = random.pick(&[50_000, 59_000, -5_000, 180_000, 7_200_000]);
                self.clock_jumps.push((random.millis(0, 1_500), by_ms));
            }
        }
        calls.told_of_start = calls.has_clerk() && random.one_in(2);
        if random.one_in(3) {
            calls.watched = true;
            // What a call changes is told in its commit, which has to fit into a frame.
            self.frame_bytes = self.frame_bytes.max(8 * 1024);
        }
        self
    }
}

/// One that is due more often than the gateway is away, one that is due less often, and a time table.
fn schedules(random: &mut Random) -> Vec<SchedulePlan> {
    let often = Rhythm::Every(random.millis(8, 300));
    let seldom = Rhythm::Every(random.millis(900, 2_500));
    let table = Rhythm::Cron(Cron::parse("* * * * *").expect("a time table"));
    let schedule = |(name, rhythm): (&str, Rhythm)| SchedulePlan {
        name: name.to_owned(),
        rhythm,
        missed: random.pick(&[Missed::Skip, Missed::Once, Missed::All]),
    };
    [("often", often), ("seldom", seldom), ("table", table)].map(schedule).into()
}
