//! When the link is cut and when the demo ends.

use std::time::Duration;

/// Without an end: the first outage, and the time from one outage's start to the next.
const FIRST_OUTAGE: Duration = Duration::from_secs(20);
const BETWEEN_OUTAGES: Duration = Duration::from_secs(120);
const OPEN_ENDED_OUTAGE: Duration = Duration::from_secs(25);
/// Shortest outage that is worth looking at, where the run is long enough for it.
const SHORTEST_OUTAGE: Duration = Duration::from_secs(15);

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Cut { length: Duration },
    Restore,
    End,
}

#[derive(Debug)]
pub(super) struct Schedule {
    run_time: Option<Duration>,
    length: Duration,
    next_cut: Option<Duration>,
    restore: Option<Duration>,
    outages: usize,
}

impl Schedule {
    /// With a run time: one outage from its first quarter on, 30 % of it or at least 15 s (but
    /// never more than 60 %). Without: one every two minutes.
    pub(super) fn new(run_time: Option<Duration>, outage: Option<Duration>) -> Schedule {
        let (first, usual) = match run_time {
            Some(total) => {
                let usual = total.mul_f64(0.3).max(SHORTEST_OUTAGE).min(total.mul_f64(0.6));
                (total / 4, usual)
            }
            None => (FIRST_OUTAGE, OPEN_ENDED_OUTAGE),
        };
        let length = outage.unwrap_or(usual);
        Schedule { run_time, length, next_cut: Some(first), restore: None, outages: 0 }
    }

    /// What is due `elapsed` after the data began to flow, if anything. An outage longer than
    /// the run prolongs the run.
    pub(super) fn step(&mut self, elapsed: Duration) -> Option<Step> {
        if let Some(restore) = self.restore {
            if elapsed < restore {
                return None;
            }
            self.restore = None;
            return Some(Step::Restore);
        }
        if let Some(cut) = self.next_cut.filter(|cut| elapsed >= *cut) {
            self.outages += 1;
            self.restore = Some(cut.max(elapsed) + self.length);
            self.next_cut = match self.run_time {
                Some(_) => None,
                None => Some(cut + BETWEEN_OUTAGES.max(2 * self.length)),
            };
            return Some(Step::Cut { length: self.length });
        }
        self.run_time.filter(|total| elapsed >= *total).map(|_| Step::End)
    }

    /// The phase, in words.
    pub(super) fn phase(&self) -> &'static str {
        match (self.restore, self.outages) {
            (Some(_), _) => "outage",
            (None, 0) => "online",
            (None, _) => "online again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(schedule: &mut Schedule, until: u64) -> Vec<(u64, Step)> {
        // Asked ten times a second; nothing is asked after the end.
        let mut steps = Vec::new();
        for tenth in 0..=until * 10 {
            let Some(step) = schedule.step(Duration::from_millis(tenth * 100)) else { continue };
            steps.push((tenth / 10, step));
            if step == Step::End {
                break;
            }
        }
        steps
    }

    fn cut(seconds: u64) -> Step {
        Step::Cut { length: Duration::from_secs(seconds) }
    }

    #[test]
    fn a_minute_has_one_outage_of_eighteen_seconds_inside_it() {
        let mut schedule = Schedule::new(Some(Duration::from_secs(60)), None);
        let steps = seconds(&mut schedule, 60);
        assert_eq!(steps, [(15, cut(18)), (33, Step::Restore), (60, Step::End)]);
    }

    #[test]
    fn a_short_run_has_a_short_outage_and_a_long_outage_prolongs_the_run() {
        let mut schedule = Schedule::new(Some(Duration::from_secs(10)), None);
        let steps = seconds(&mut schedule, 10);
        assert_eq!(steps, [(2, cut(6)), (8, Step::Restore), (10, Step::End)]);
        let outage = Some(Duration::from_secs(20));
        let mut schedule = Schedule::new(Some(Duration::from_secs(20)), outage);
        let steps = seconds(&mut schedule, 26);
        assert_eq!(steps, [(5, cut(20)), (25, Step::Restore), (25, Step::End)]);
    }

    #[test]
    fn without_an_end_the_link_is_cut_every_two_minutes() {
        let mut schedule = Schedule::new(None, None);
        let steps = seconds(&mut schedule, 200);
        let restored = Step::Restore;
        assert_eq!(steps, [(20, cut(25)), (45, restored), (140, cut(25)), (165, restored)]);
    }
}
