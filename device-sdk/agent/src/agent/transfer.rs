//! Asks for blocks, and puts them into flash.

use embedded_storage::nor_flash::NorFlash;
use tidegate_boot::{Choice, Flash, FlashFailed, PageDone, Region, Travels};
use tidegate_wire::crypto::Crypto;
use tidegate_wire::message::{self, Block, MAX_TAG, Refusal, Request};

use super::{Agent, Next, Release, Task};
use crate::budget::Millis;
use crate::decode::{Decoder, Out, Undecodable};
use crate::pages::Pages;

/// First and longest wait for a block, milliseconds: at most 288 requests a day to a gateway that does not
/// answer.
const WAIT_FIRST: u64 = 2_000;
const WAIT_MOST: u64 = 300_000;
/// Pages that a block can begin.
const PAGES_OF_A_BLOCK: u32 = 2;

/// An image on its way.
#[derive(Clone, Copy)]
pub(super) struct Loading {
    /// Which image of the plan.
    at: usize,
    /// Bytes of it that have travelled.
    travelled: u32,
    tag: u8,
    /// The block behind the last that was asked for, and how many of these requests are not sent yet.
    asked: u32,
    request: Option<Request>,
    /// A block has overtaken the one that is expected, which is lost then.
    gap: bool,
    since: Millis,
    wait: u64,
}

/// The image of this place in the plan.
fn choice(release: Option<&Release>, at: usize) -> Option<Choice> {
    release?.content.plan.iter().nth(at).copied()
}

impl<C: Crypto> Agent<'_, C> {
    /// Begins, or goes on with, an image of the release.
    pub(super) fn load(&mut self, at: usize, image: u32, travelled: u32) {
        let Some(choice) = choice(self.release.as_ref(), at) else {
            let hash = <C::Hash as Default>::default();
            self.task = Task::Checking { at: 0, done: 0, hash };
            return;
        };
        self.decoder = Decoder::new(choice.travels);
        self.pages = Pages::new(choice.to, choice.size, image, self.base(&choice));
        let first = self.release.as_ref().map_or(0, |release| release.content.manifest[0]);
        self.task = Task::Loading(Loading {
            at,
            travelled,
            tag: first % (MAX_TAG + 1),
            asked: travelled / u32::from(self.config.block),
            request: None,
            gap: false,
            since: Millis(0),
            wait: WAIT_FIRST,
        });
    }

    fn base(&self, choice: &Choice) -> Region {
        let nowhere = Region { from: 0, to: 0 };
        match choice.travels {
            Travels::AsItIs | Travels::Packed => nowhere,
            Travels::Changes { base_size } => {
                self.running(choice.part.into()).map_or(nowhere, |region| Region {
                    from: region.from,
                    to: (region.from + base_size).min(region.to),
                })
            }
        }
    }

    /// Where a part runs.
    pub(super) fn running(&self, part: usize) -> Option<Region> {
        let sides = self.log.state().running_sides();
        let part_ = self.config.layout.parts.get(part)?;
        Some(match (part_.kind, sides >> part & 1) {
            (tidegate_boot::Kind::InPlace, 1) => part_.b,
            (tidegate_boot::Kind::InPlace | tidegate_boot::Kind::Swapped, _) => part_.a,
        })
    }

    #[inline(never)]
    pub(super) fn handle_block<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        block: &Block<'_>,
    ) -> Result<(), FlashFailed> {
        let size = u32::from(self.config.block);
        let Task::Loading(loading) = &mut self.task else { return Ok(()) };
        let Some(choice) = choice(self.release.as_ref(), loading.at) else { return Ok(()) };
        let expected = loading.travelled / size;
        let length = choice.travelling.saturating_sub(expected * size).min(size);
        let asked_for =
            block.tag == loading.tag && (expected..loading.asked).contains(&block.index);
        if asked_for && block.index > expected {
            loading.gap = true;
            return Ok(());
        }
        if !asked_for || block.data.len() != length as usize {
            return Ok(());
        }
        if self.budget.at(now).erases < PAGES_OF_A_BLOCK {
            return Ok(());
        }
        loading.since = now;
        loading.wait = WAIT_FIRST;
        self.bytes = self.bytes.saturating_add(length);
        let skip = (loading.travelled % size) as usize;
        let data = block.data.get(skip..).unwrap_or_default();
        match self.take(flash, choice, data) {
            Ok(()) => Ok(()),
            Err(Undecodable::Flash(failed)) => Err(failed),
            Err(Undecodable::Content) => self.give_up(now, flash, Refusal::Content),
        }
    }

    fn take<F: NorFlash>(
        &mut self,
        flash: &mut Flash<'_, F>,
        choice: Choice,
        data: &[u8],
    ) -> Result<(), Undecodable> {
        let Task::Loading(loading) = &mut self.task else { return Ok(()) };
        for byte in data {
            let mut out = Out { flash, pages: &mut self.pages };
            self.decoder.take(*byte, &mut out)?;
            loading.travelled += 1;
            if let Some(whole) = self.pages.take_whole() {
                let travelled = loading.travelled;
                let done =
                    PageDone { part: choice.part, page: whole.page, travelled, crc: whole.crc };
                if let Some(release) = &mut self.release {
                    release.ledger.add(flash, done)?;
                }
            }
        }
        let erased = self.pages.take_erased();
        self.budget.erased(erased);
        if loading.travelled == choice.travelling {
            if self.pages.left() > 0 {
                return Err(Undecodable::Content);
            }
            let at = loading.at + 1;
            self.load(at, 0, 0);
        }
        Ok(())
    }

    /// Decides what to ask for next.
    pub(super) fn poll_loading(&mut self, now: Millis) -> Next {
        let has_budget = self.budget.at(now).erases >= PAGES_OF_A_BLOCK;
        let again = self.budget.until();
        let (size, window) = (u32::from(self.config.block), u32::from(self.config.window));
        let Task::Loading(loading) = &mut self.task else { return Next::Work };
        let Some(choice) = choice(self.release.as_ref(), loading.at) else { return Next::Work };
        let manifest = self.release.as_ref().map_or([0; 8], |release| release.content.manifest);
        if !has_budget {
            loading.request = None;
            return Next::Wait(Some(again));
        }
        let expected = loading.travelled / size;
        let outstanding = loading.asked.saturating_sub(expected);
        let late = now >= loading.since.after(loading.wait);
        if outstanding > 0 && (late || loading.gap) {
            self.retries = self.retries.saturating_add(1);
            loading.tag = (loading.tag + 1) % (MAX_TAG + 1);
            if late {
                loading.wait = (2 * loading.wait).min(WAIT_MOST);
            }
            (loading.asked, loading.request, loading.since) = (expected, None, now);
            loading.gap = false;
        }
        let outstanding = loading.asked.saturating_sub(expected);
        let blocks = choice.travelling.div_ceil(size);
        let count =
            blocks.saturating_sub(loading.asked).min((window - outstanding.min(window)).min(32));
        if loading.request.is_none() && count > 0 && outstanding <= window / 2 {
            if outstanding == 0 {
                loading.since = now;
            }
            loading.request = Some(Request {
                manifest,
                entry: choice.entry,
                base: loading.asked,
                bitmap: u32::MAX >> (32 - count),
                credit: window.clamp(1, 32) as u8,
                tag: loading.tag,
            });
            loading.asked += count;
        }
        Next::Wait(Some(loading.since.after(loading.wait)))
    }

    /// The request that is to be sent.
    pub(super) fn next_request(&mut self, now: Millis) -> Option<Request> {
        self.poll_loading(now);
        match &mut self.task {
            Task::Loading(loading) => loading.request.take(),
            Task::Rest
            | Task::Checking { .. }
            | Task::Staged { .. }
            | Task::Trial(_)
            | Task::Restarting => None,
        }
    }

    /// Reads a page of an image back.
    #[inline(never)]
    pub(super) fn poll_checking<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
    ) -> Result<Next, FlashFailed> {
        use tidegate_wire::crypto::Sha256 as _;
        let Task::Checking { at, done, hash } = &mut self.task else {
            return Ok(Next::Work);
        };
        let Some(choice) = choice(self.release.as_ref(), *at) else {
            self.task = Task::Staged { asked: false };
            self.outbox.hello = true;
            if let Some(Release { ledger, content }) = &self.release {
                let (ledger, sequence) = (*ledger, content.sequence);
                self.say(now, &ledger, sequence, message::Phase::Staged, 0);
            }
            return Ok(Next::Work);
        };
        let piece = flash.page().min(choice.size - *done);
        flash.each(choice.to.from + *done, piece, |bytes| hash.update(bytes))?;
        *done += piece;
        if *done == choice.size {
            let digest = core::mem::take(hash).finish();
            (*at, *done) = (*at + 1, 0);
            if digest != choice.digest {
                self.give_up(now, flash, Refusal::Content)?;
            }
        }
        Ok(Next::Work)
    }
}
