//! Offers: everything is checked before anything is erased.

use embedded_storage::nor_flash::NorFlash;
use tidegate_boot::{
    Flash, FlashFailed, KeyStore, Ledger, Outcome, Phase, State, Taken, choose, digest_of, judge,
};
use tidegate_wire::crypto::{Crypto, Sha256};
use tidegate_wire::digest::Digest;
use tidegate_wire::key_set::{KeySet, MAX_KEY_SET};
use tidegate_wire::manifest::{MAX_ENVELOPE, MAX_MANIFEST, Manifest};
use tidegate_wire::message::{self, Answer, Offer, Refusal, Verdict};

use super::{Agent, Content, Release, Task};
use crate::budget::Millis;

/// Whether a key set is newer than the device's.
struct IsNew(bool);

/// When a device that is busy wants to be asked again, seconds.
const LATER: u32 = 600;

impl<C: Crypto> Agent<'_, C> {
    #[inline(never)]
    pub(super) fn handle_offer<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        offer: &Offer<'_>,
    ) -> Result<(), FlashFailed> {
        let verdict = match self.consider(now, flash, offer)? {
            Ok(verdict) => verdict,
            Err(refusal) => Verdict::Reject(refusal),
        };
        self.outbox.answer = Some(Answer { campaign: offer.campaign, verdict });
        Ok(())
    }

    fn consider<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        offer: &Offer<'_>,
    ) -> Result<Result<Verdict, Refusal>, FlashFailed> {
        if matches!(self.task, Task::Trial(_) | Task::Restarting) {
            return Ok(Ok(Verdict::Defer(LATER)));
        }
        if let Some(envelope) = offer.key_set {
            match self.take_key_set(now, flash, envelope)? {
                // Not from where it is taken: the two need much of the stack.
                Ok(IsNew(true)) => self.drop_revoked(now, flash)?,
                Ok(IsNew(false)) => {}
                Err(refusal) => return Ok(Err(refusal)),
            }
        }
        let checked = self.check(now, flash, offer.envelope, offer.second)?;
        let content = match &checked {
            Ok(content) => content,
            Err(refusal) => return Ok(Err(*refusal)),
        };
        if let Some(Release { content: busy, .. }) = &self.release {
            if busy.manifest == content.manifest {
                return Ok(Ok(Verdict::Accept));
            }
            if busy.sequence >= content.sequence {
                return Ok(Ok(Verdict::Defer(LATER)));
            }
        }
        let unit = flash.page();
        let pages: u32 = content.plan.iter().map(|choice| choice.size.div_ceil(unit)).sum();
        let budget = self.budget.at(now);
        if budget.tries == 0 || budget.erases < pages + 2 {
            return Ok(Err(Refusal::Budget));
        }
        self.accept(now, flash, offer, content)?;
        Ok(Ok(Verdict::Accept))
    }

    /// Everything that must hold of a release.
    pub(super) fn check<F: NorFlash>(
        &self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        envelope: &[u8],
        second: Option<&[u8]>,
    ) -> Result<Result<Content, Refusal>, FlashFailed> {
        match self.open(envelope, second) {
            Ok(payload) => self.check_payload(now, flash, payload),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// What is signed. A function of its own, so that nothing else is on the stack with the curve.
    #[inline(never)]
    fn open<'a>(&self, envelope: &'a [u8], second: Option<&[u8]>) -> Result<&'a [u8], Refusal> {
        let length = envelope.len() + second.map_or(0, <[u8]>::len);
        if envelope.len() > MAX_ENVELOPE || length > Ledger::RELEASE {
            return Err(Refusal::Form);
        }
        let keys = self.keys.as_ref().ok_or(Refusal::KeySet)?;
        let opened = keys.open_manifest(envelope, second, &self.crypto);
        opened.map_err(|_| Refusal::Signature)
    }

    #[inline(never)]
    fn check_payload<F: NorFlash>(
        &self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        payload: &[u8],
    ) -> Result<Result<Content, Refusal>, FlashFailed> {
        let Some(keys) = &self.keys else { return Ok(Err(Refusal::KeySet)) };
        if payload.len() > MAX_MANIFEST {
            return Ok(Err(Refusal::Form));
        }
        let Ok(manifest) = Manifest::read(payload) else { return Ok(Err(Refusal::Form)) };
        let (state, time) = (self.log.state(), self.time(now));
        if let Err(refusal) = judge(&manifest, &self.config.identity, state, keys, time) {
            return Ok(Err(refusal));
        }
        let name = C::Hash::of(payload).short();
        let given_up = matches!(state.outcome, Outcome::Reverted | Outcome::Refused);
        if given_up && state.manifest == name {
            return Ok(Err(Refusal::FailedBefore));
        }
        let is_base = |part: usize, size: u32, digest: &Digest| {
            let Some(region) = self.running(part).filter(|region| size <= region.length()) else {
                return Ok(false);
            };
            Ok(digest_of::<F, C::Hash>(flash, region.from, size)? == *digest)
        };
        let plan = choose(&manifest, &self.config.identity, &self.config.layout, state, is_base)?;
        let Manifest { sequence, policy, .. } = manifest;
        Ok(plan.map(|plan| Content { plan, manifest: name, sequence, policy }))
    }

    #[inline(never)]
    fn accept<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        offer: &Offer<'_>,
        content: &Content,
    ) -> Result<(), FlashFailed> {
        // The record that says that nothing else is under way may be torn: it is written again
        // before the way back is erased.
        let state = *self.log.state();
        self.log.store(flash, &self.config.layout, state)?;
        self.budget.tried();
        let taken = Taken {
            campaign: offer.campaign,
            from: state.sequence,
            envelope: offer.envelope,
            second: offer.second,
        };
        let region = self.ledger_at(state.next_ledger());
        let ledger = Ledger::begin(flash, region, &taken)?;
        self.budget.erased(region.length() / flash.page());
        (self.retries, self.bytes) = (0, 0);
        self.outbox.hello = true;
        self.say(now, &ledger, content.sequence, message::Phase::Accepted, 0);
        self.release = Some(Release { ledger, content: *content });
        self.load(0, 0, 0);
        Ok(())
    }

    /// Takes a key set that a root has signed, if it is newer.
    #[inline(never)]
    fn take_key_set<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        envelope: &[u8],
    ) -> Result<Result<IsNew, Refusal>, FlashFailed> {
        let trust = &self.config.trust;
        if envelope.len() > MAX_KEY_SET {
            return Ok(Err(Refusal::KeySet));
        }
        let Ok(Ok(set)) = KeySet::open(envelope, &trust.roots, &self.crypto) else {
            return Ok(Err(Refusal::KeySet));
        };
        let newest = self.keys.map_or(0, |keys| keys.version).max(self.log.state().key_set);
        if set.version <= newest {
            // The one that is here already is no news; an older one is an attempt.
            return Ok(if set.version == newest { Ok(IsNew(false)) } else { Err(Refusal::KeySet) });
        }
        if self.budget.at(now).erases == 0 {
            return Ok(Err(Refusal::Budget));
        }
        let state = *self.log.state();
        KeyStore::store(flash, &self.config.layout, &state, set.version, envelope)?;
        self.budget.erased(1);
        let state = State { key_set: set.version, ..state };
        self.log.store(flash, &self.config.layout, state)?;
        self.keys = Some(set);
        self.outbox.hello = true;
        Ok(Ok(IsNew(true)))
    }

    /// What is under way may have been signed by a key that is revoked now.
    #[inline(never)]
    fn drop_revoked<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
    ) -> Result<(), FlashFailed> {
        let Some(release) = &self.release else { return Ok(()) };
        match self.check_ledger(now, flash, &release.ledger)? {
            Ok(_) => Ok(()),
            Err(refusal) => self.give_up(now, flash, refusal),
        }
    }

    /// [`Agent::check`] of a release in flash.
    #[inline(never)]
    pub(super) fn check_ledger<F: NorFlash>(
        &self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        ledger: &Ledger,
    ) -> Result<Result<Content, Refusal>, FlashFailed> {
        let mut buffer = [0; Ledger::RELEASE];
        let (envelope, second) = ledger.release(flash, &mut buffer)?;
        self.check(now, flash, envelope, second)
    }

    /// Whether the state lets a release be loaded.
    pub(super) fn is_idle(&self) -> bool {
        self.log.state().phase == Phase::Idle
    }
}
