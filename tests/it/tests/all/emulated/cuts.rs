//! When the power is cut: what a device is in the middle of, as its flash says.

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_boot::{Outcome, Phase, State};
use tidegate_device_sim::random::Random;

use super::device::Device;

/// A stretch of an upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Nothing of it.
    Rest,
    /// From the first byte of the release in flash until everything is there and read back.
    Transfer,
    /// Until the images have changed places.
    Exchange,
    /// Until the release has proved itself.
    Trial,
    /// Until the gateway knows, and the device knows that.
    Confirm,
}

impl Step {
    const CUT: [Step; 4] = [Step::Transfer, Step::Exchange, Step::Trial, Step::Confirm];

    /// `offered` is the newest sequence in the ledger for the release that comes.
    pub(super) fn of(state: &State, offered: Option<u64>) -> Step {
        match state.phase {
            Phase::Staged | Phase::Swapping => Step::Exchange,
            Phase::Trial => Step::Trial,
            Phase::Idle if state.outcome == Outcome::Confirmed && !state.reported => Step::Confirm,
            Phase::Idle if offered > Some(state.sequence) => Step::Transfer,
            Phase::Idle | Phase::Reverting => Step::Rest,
        }
    }

    /// Microseconds, more than it takes.
    fn longest_us(self) -> usize {
        match self {
            Step::Transfer | Step::Exchange => 300_000,
            Step::Trial => 120_000,
            Step::Confirm => 4_000,
            Step::Rest => 1,
        }
    }
}

/// All cuts, and how many each step has to have.
pub(super) const CUTS: usize = 60;
const EACH: usize = 10;

/// What was cut.
#[derive(Debug, Default)]
pub(super) struct Tally {
    cuts: BTreeMap<Step, usize>,
    /// Cuts that were aimed at a step, and came too late.
    missed: BTreeMap<Step, usize>,
}

impl Tally {
    pub(super) fn count(&self) -> usize {
        self.cuts.values().sum()
    }

    /// The step that has had the fewest.
    pub(super) fn next(&self) -> Step {
        let cuts = |step: &Step| self.cuts.get(step).copied().unwrap_or(0);
        Step::CUT.into_iter().min_by_key(cuts).unwrap()
    }

    /// How long to wait in a step: somewhere between its beginning and its end. How long it is depends on the
    /// machine: where it was over too soon, the next cuts of it are sooner.
    pub(super) fn moment(&self, step: Step, random: &mut Random) -> Duration {
        let missed = self.missed.get(&step).copied().unwrap_or(0);
        let longest_us = step.longest_us() >> missed.min(6);
        Duration::from_micros(random.below(longest_us) as u64)
    }

    /// The power is gone; what does the flash say?
    pub(super) fn note(&mut self, aimed: Step, step: Step) {
        *self.cuts.entry(step).or_insert(0) += 1;
        if aimed != step {
            *self.missed.entry(aimed).or_insert(0) += 1;
        }
    }

    /// Each step was cut often enough.
    pub(super) fn check(&self) {
        for step in Step::CUT {
            assert!(self.cuts.get(&step) >= Some(&EACH), "{step:?} is missing: {:?}", self.cuts);
        }
        println!("{} cuts: {:?}", self.count(), self.cuts);
    }
}

/// After a cut, one of the two images is there, and the one that its state says.
pub(super) fn check_image(device: &Device, old: &[u8], new: &[u8], sequence: u64) {
    let state = device.state();
    let (old, new) = (device.runs(old), device.runs(new));
    // It may be exchanging already, in which nobody should look at it.
    let phase = if device.state() == state { state.phase } else { Phase::Swapping };
    match phase {
        Phase::Idle => assert!(if state.sequence == sequence { new } else { old }, "{state:?}"),
        Phase::Trial => assert!(new, "{state:?}"),
        // The agent has staged it since.
        Phase::Staged => assert!(old, "{state:?}"),
        Phase::Swapping | Phase::Reverting => {}
    }
    assert_ne!(state.outcome, Outcome::Refused);
    assert_ne!(state.outcome, Outcome::Reverted);
}
