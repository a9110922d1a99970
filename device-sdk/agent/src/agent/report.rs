//! Reports: repeated until the gateway has them.

use embedded_storage::nor_flash::NorFlash;
use tidegate_boot::{Flash, FlashFailed, Ledger, Outcome, State};
use tidegate_wire::crypto::Crypto;
use tidegate_wire::manifest::Manifest;
use tidegate_wire::message::{self, Reason, Received, Report};

use super::{Agent, Waiting};
use crate::budget::Millis;

/// First and longest wait before a report, or a hello, is sent again, milliseconds.
pub(super) const AGAIN_FIRST: u64 = 5_000;
pub(super) const AGAIN_MOST: u64 = 600_000;

impl<C: Crypto> Agent<'_, C> {
    pub(super) fn say_trial<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        sequence: u64,
    ) -> Result<(), FlashFailed> {
        let ledger = self.log.state().next_ledger();
        let (campaign, from, _) = self.ledger_says(flash, ledger)?;
        self.queue(now, campaign, from, sequence, message::Phase::Trial, 0);
        Ok(())
    }

    /// The gateway has to hear how the last release ended.
    pub(super) fn resume_outcome<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
    ) -> Result<(), FlashFailed> {
        let state = *self.log.state();
        let (phase, ledger) = match state.outcome {
            Outcome::None => return Ok(()),
            Outcome::Confirmed => (message::Phase::Confirmed, state.ledger),
            Outcome::Reverted => (message::Phase::Reverted, Some(state.next_ledger())),
            Outcome::Refused => (message::Phase::Failed, Some(state.next_ledger())),
        };
        if state.reported {
            return Ok(());
        }
        if state.outcome == Outcome::Reverted {
            self.reason = Reason::Reverted;
        }
        let (campaign, from, to) = match ledger {
            Some(ledger) => self.ledger_says(flash, ledger)?,
            None => (0, 0, 0),
        };
        self.queue(now, campaign, from, to, phase, state.code);
        Ok(())
    }

    #[inline(never)]
    pub(super) fn handle_received<F: NorFlash>(
        &mut self,
        flash: &mut Flash<'_, F>,
        received: Received,
    ) -> Result<(), FlashFailed> {
        let Some(waiting) = self.outbox.report else { return Ok(()) };
        if waiting.report.number != received.number {
            return Ok(());
        }
        self.outbox.report = None;
        let ended = match waiting.report.phase {
            message::Phase::Confirmed | message::Phase::Reverted | message::Phase::Failed => {
                self.log.state().outcome != Outcome::None && !self.log.state().reported
            }
            message::Phase::Accepted
            | message::Phase::Staged
            | message::Phase::Trial
            | message::Phase::Other(_) => false,
        };
        if ended && self.is_idle() {
            let state = State { reported: true, ..*self.log.state() };
            self.log.store(flash, &self.config.layout, state)?;
        }
        Ok(())
    }

    /// The report that has to be sent now.
    pub(super) fn report_due(&mut self, now: Millis) -> Option<Report> {
        let waiting = self.outbox.report.as_mut().filter(|waiting| now >= waiting.due)?;
        waiting.due = now.after(waiting.wait);
        waiting.wait = (2 * waiting.wait).min(AGAIN_MOST);
        Some(waiting.report)
    }

    pub(super) fn say(
        &mut self,
        now: Millis,
        ledger: &Ledger,
        sequence: u64,
        phase: message::Phase,
        code: u8,
    ) {
        self.queue(now, ledger.campaign, ledger.from, sequence, phase, code);
    }

    /// A newer report takes the place of one that was not received: it says more.
    fn queue(
        &mut self,
        now: Millis,
        campaign: u64,
        from: u64,
        to: u64,
        phase: message::Phase,
        code: u8,
    ) {
        self.outbox.reports = self.outbox.reports.wrapping_add(1);
        // A receipt that was under way while the device started is not to be taken for that of another report:
        // the count begins again, the state that is stored between them does not.
        let since = [phase.code(), self.outbox.reports];
        let number = self.log.generation() << 12 | u32::from(u16::from_be_bytes(since));
        let (retries, bytes) = (self.retries, self.bytes);
        let report = Report { number, campaign, from, to, phase, code, retries, bytes };
        self.outbox.report = Some(Waiting { report, due: now, wait: AGAIN_FIRST });
    }

    /// Campaign, the sequence before and the sequence of a ledger; zeros where it cannot be read.
    fn ledger_says<F: NorFlash>(
        &self,
        flash: &mut Flash<'_, F>,
        ledger: u8,
    ) -> Result<(u64, u64, u64), FlashFailed> {
        let mut buffer = [0; Ledger::RELEASE];
        // Only to be reported: nothing is done because of it.
        let found = Ledger::look_into(flash, self.ledger_at(ledger), &mut buffer)?;
        let Some((ledger, manifest)) = found else { return Ok((0, 0, 0)) };
        let to = Manifest::read(manifest).map_or(0, |manifest| manifest.sequence);
        Ok((ledger.campaign, ledger.from, to))
    }
}
