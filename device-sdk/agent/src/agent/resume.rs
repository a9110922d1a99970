//! Goes on after a start.

use embedded_storage::nor_flash::NorFlash;
use tidegate_boot::{Flash, FlashFailed, Ledger, Phase, Plan};
use tidegate_wire::crc32c::extend;
use tidegate_wire::crypto::Crypto;
use tidegate_wire::manifest::Manifest;
use tidegate_wire::message::Reason;

use super::{Agent, OnTrial, Release, Task};
use crate::budget::Millis;

impl<C: Crypto> Agent<'_, C> {
    #[inline(never)]
    pub(super) fn resume<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
    ) -> Result<(), FlashFailed> {
        match self.log.state().phase {
            Phase::Idle => {
                self.resume_outcome(now, flash)?;
                self.resume_loading(now, flash)
            }
            Phase::Trial => {
                self.reason = Reason::Trial;
                let trial = self.on_trial(now, flash)?;
                self.task = Task::Trial(trial);
                self.say_trial(now, flash, trial.sequence)
            }
            // The bootloader has to do something first: this image should not run.
            Phase::Staged | Phase::Swapping | Phase::Reverting => {
                self.task = Task::Restarting;
                Ok(())
            }
        }
    }

    #[inline(never)]
    fn on_trial<F: NorFlash>(
        &self,
        now: Millis,
        flash: &mut Flash<'_, F>,
    ) -> Result<OnTrial, FlashFailed> {
        let mut trial = OnTrial {
            since: now,
            policy: tidegate_wire::manifest::Policy::default(),
            sequence: 0,
            floor: 0,
            unreadable: true,
        };
        let region = self.ledger_at(self.log.state().next_ledger());
        let (Some(ledger), Some(keys)) = (Ledger::open(flash, region)?, &self.keys) else {
            return Ok(trial);
        };
        let mut buffer = [0; Ledger::RELEASE];
        let (envelope, second) = ledger.release(flash, &mut buffer)?;
        if let Ok(payload) = keys.open_manifest(envelope, second, &self.crypto)
            && let Ok(manifest) = Manifest::read(payload)
        {
            trial.policy = manifest.policy;
            (trial.sequence, trial.floor) = (manifest.sequence, manifest.floor);
            trial.unreadable = false;
        }
        Ok(trial)
    }

    /// A release whose pages are in flash in part goes on with the next one.
    #[inline(never)]
    fn resume_loading<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
    ) -> Result<(), FlashFailed> {
        let region = self.ledger_at(self.log.state().next_ledger());
        let Some(mut ledger) = Ledger::open(flash, region)? else { return Ok(()) };
        let checked = self.check_ledger(now, flash, &ledger)?;
        let Ok(content) = &checked else { return Ok(()) };
        // Without a page in the journal the ledger's header may be torn, and nothing is lost.
        if let Some((at, image, travelled)) = whole_pages(flash, &mut ledger, &content.plan)? {
            self.release = Some(Release { ledger, content: *content });
            self.load(at, image, travelled);
        }
        Ok(())
    }
}

/// How far a release is by the pages in its journal, which are read back: the image, how much of it is there, and
/// how much has travelled for that. `None` when there is no page. A function of its own, so that its buffer
/// is not on the stack with the manifest's.
#[inline(never)]
fn whole_pages<F: NorFlash>(
    flash: &mut Flash<'_, F>,
    ledger: &mut Ledger,
    plan: &Plan,
) -> Result<Option<(usize, u32, u32)>, FlashFailed> {
    let page = flash.page();
    let (mut at, mut image, mut travelled, mut any) = (0, 0u32, 0, false);
    while let Some(done) = ledger.next_done(flash)? {
        let Some(choice) = plan.iter().nth(at) else { break };
        // Records of pages that were written again, or do not follow, do not count.
        let follows = done.part == choice.part && u32::from(done.page) * page == image;
        let bytes = choice.size.saturating_sub(image).min(page);
        let mut crc = 0;
        if follows {
            flash.each(choice.to.from + image, bytes, |piece| crc = extend(crc, piece))?;
        }
        if !follows || crc != done.crc || done.travelled > choice.travelling {
            continue;
        }
        any = true;
        image += bytes;
        travelled = done.travelled;
        if image == choice.size {
            (at, image, travelled) = (at + 1, 0, 0);
        }
    }
    Ok(any.then_some((at, image, travelled)))
}
