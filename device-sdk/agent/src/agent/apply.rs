//! From staged to confirmed, or back.

use embedded_storage::nor_flash::NorFlash;
use tidegate_boot::{Flash, FlashFailed, Outcome, Phase, State};
use tidegate_wire::crypto::Crypto;
use tidegate_wire::divided;
use tidegate_wire::manifest::Apply;
use tidegate_wire::message::{Command, Order, Refusal};

use super::{Agent, Next, Obedience, OnTrial, Task};
use crate::budget::Millis;

const MINUTES_OF_A_DAY: u16 = 24 * 60;
/// How often the window is looked at, milliseconds.
const LOOK: u64 = 60_000;

impl<C: Crypto> Agent<'_, C> {
    #[inline(never)]
    pub(super) fn handle_command<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        command: Command,
    ) -> Result<(), FlashFailed> {
        let under_way = self.release.as_ref();
        let is_meant = under_way.is_some_and(|it| it.ledger.campaign == command.campaign);
        match (command.order, is_meant) {
            (Order::Hello, _) => self.outbox.hello = true,
            (Order::Apply, true) => match self.config.obedience {
                Obedience::Gateway => self.apply(),
                Obedience::Application => {}
            },
            (Order::Cancel, true) => self.give_up(now, flash, Refusal::Cancelled)?,
            (Order::Apply | Order::Cancel | Order::Other(_), _) => {}
        }
        Ok(())
    }

    /// Everything is there: starts into it as soon as that is allowed.
    #[inline(never)]
    pub(super) fn poll_staged<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
    ) -> Result<Next, FlashFailed> {
        let (Task::Staged { asked }, Some(release)) = (&self.task, &self.release) else {
            return Ok(Next::Work);
        };
        let wanted = match release.content.policy.apply {
            Apply::Auto => true,
            Apply::Ask => *asked,
            Apply::Window { from, minutes } => {
                self.time(now).is_some_and(|time| is_within(time, from, minutes))
            }
        };
        if !wanted || !self.may_restart || !self.is_idle() {
            return Ok(Next::Wait(Some(now.after(LOOK))));
        }
        let state = State {
            phase: Phase::Staged,
            outcome: Outcome::None,
            code: 0,
            reported: false,
            manifest: release.content.manifest,
            ..*self.log.state()
        };
        self.log.store(flash, &self.config.layout, state)?;
        (self.task, self.release) = (Task::Restarting, None);
        Ok(Next::Restart)
    }

    /// Waits for the application and the gateway.
    #[inline(never)]
    pub(super) fn poll_trial<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        trial: OnTrial,
    ) -> Result<Next, FlashFailed> {
        let self_test = trial.since.after(u64::from(trial.policy.self_test) * 1_000);
        let contact = trial.since.after(u64::from(trial.policy.contact) * 1_000);
        let code = match (self.passed, self.contact) {
            (Some(false), _) => Some(Refusal::SelfTest),
            (None, _) if now >= self_test => Some(Refusal::SelfTest),
            (_, false) if now >= contact => Some(Refusal::Contact),
            (Some(true), true) if trial.unreadable => Some(Refusal::Signature),
            (Some(true), true) => {
                self.confirm(now, flash, trial)?;
                return Ok(Next::Work);
            }
            (None | Some(true), _) => None,
        };
        let Some(code) = code else {
            let deadline = if self.passed.is_none() { self_test } else { contact };
            return Ok(Next::Wait(Some(deadline)));
        };
        let state =
            State { phase: Phase::Reverting, step: 0, code: code.code(), ..*self.log.state() };
        self.log.store(flash, &self.config.layout, state)?;
        self.task = Task::Restarting;
        Ok(Next::Restart)
    }

    /// There is no way back from here.
    #[inline(never)]
    fn confirm<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        trial: OnTrial,
    ) -> Result<(), FlashFailed> {
        let state = *self.log.state();
        let state = State {
            phase: Phase::Idle,
            sides: state.next_sides,
            attempts: 0,
            ledger: Some(state.next_ledger()),
            outcome: Outcome::Confirmed,
            code: 0,
            reported: false,
            step: 0,
            sequence: trial.sequence,
            floor: state.floor.max(trial.floor),
            ..state
        };
        self.log.store(flash, &self.config.layout, state)?;
        self.task = Task::Rest;
        self.outbox.hello = true;
        self.resume_outcome(now, flash)
    }
}

/// Whether a time, in seconds since 1970, is in a daily window.
fn is_within(time: u64, from: u16, minutes: u16) -> bool {
    let (_, minute) = divided(divided(time, 60).0, MINUTES_OF_A_DAY);
    let day = u32::from(MINUTES_OF_A_DAY);
    let since = (minute + day - u32::from(from)) % day;
    since < u32::from(minutes)
}

#[cfg(test)]
mod tests {
    use super::is_within;

    #[test]
    fn a_window_may_reach_over_midnight() {
        let at = |hour: u64, minute: u64| (20_000 * 24 + hour) * 3_600 + minute * 60;
        assert!(is_within(at(23, 0), 23 * 60, 120));
        assert!(is_within(at(0, 59), 23 * 60, 120));
        assert!(!is_within(at(1, 0), 23 * 60, 120));
        assert!(!is_within(at(22, 59), 23 * 60, 120));
        assert!(is_within(at(12, 0), 0, 1_440));
    }
}
