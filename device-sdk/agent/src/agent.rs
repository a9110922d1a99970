//! The agent: its state, and what drives it.

mod apply;
mod hello;
mod offer;
mod report;
mod resume;
mod transfer;

use embedded_storage::nor_flash::NorFlash;
use tidegate_boot::{
    Flash, FlashFailed, Identity, KeyStore, Layout, Ledger, Phase, Plan, Region, StateLog, Travels,
    Trust,
};
use tidegate_wire::crypto::Crypto;
use tidegate_wire::digest::Digest8;
use tidegate_wire::key_set::KeySet;
use tidegate_wire::manifest::Policy;
use tidegate_wire::message::{self, Answer, Reason, Refusal, Report, ToDevice};

use crate::budget::{Budget, Left, Millis};
use crate::decode::Decoder;
use crate::pages::Pages;
use transfer::Loading;

/// Version of this SDK, as devices say it.
pub const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Whether the gateway may say when a release that waits to be asked is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Obedience {
    /// Only the application says it ([`Agent::apply`]).
    Application,
    /// A command of the gateway says it as well.
    Gateway,
}

/// What an agent is built with. It is lent: as a constant it takes no memory.
#[derive(Clone, Copy, Debug)]
pub struct Config<'l> {
    /// Where things are in flash.
    pub layout: Layout<'l>,
    /// Roots and the first key set: those of the bootloader.
    pub trust: Trust<'l>,
    /// What the device is.
    pub identity: Identity,
    /// Version of the image that the factory has put there.
    pub factory_version: &'l str,
    /// Bytes of a block, 32 to 1,024: 472 on a serial link, which fill two frames of the default size; 1,024 on MQTT.
    pub block: u16,
    /// Blocks that may be on the way at once, 1 to 32.
    pub window: u8,
    /// Most bytes of a message that the transport takes.
    pub message: u16,
    /// Limits of a day.
    pub budget: Budget,
    /// Who says when.
    pub obedience: Obedience,
}

/// What the main loop has to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Next {
    /// Call [`Agent::poll`] again soon.
    Work,
    /// Nothing until something comes in, or until then.
    Wait(Option<Millis>),
    /// Reset the device. Until that is done, this comes again.
    Restart,
}

/// What the agent is in the middle of.
enum Task<H> {
    Rest,
    Loading(Loading),
    /// Digests are read back: of which image, how much, the hash so far.
    Checking {
        at: usize,
        done: u32,
        hash: H,
    },
    /// All is there and right.
    Staged {
        asked: bool,
    },
    /// The release on trial.
    Trial(OnTrial),
    /// The state asks the bootloader for something.
    Restarting,
}

/// A release that was taken.
struct Release {
    ledger: Ledger,
    content: Content,
}

/// What there is to know of a release that was checked. It is large: functions hand it on by reference, and it is
/// copied once, to where it stays.
#[derive(Clone, Copy)]
struct Content {
    plan: Plan,
    manifest: Digest8,
    sequence: u64,
    policy: Policy,
}

#[derive(Clone, Copy)]
struct OnTrial {
    since: Millis,
    policy: Policy,
    sequence: u64,
    floor: u64,
    /// The manifest could not be read back: nothing can be confirmed.
    unreadable: bool,
}

/// What is to be sent.
#[derive(Default)]
struct Outbox {
    hello: bool,
    /// When a hello that was not welcomed is said again, and the wait after that.
    hello_again: Millis,
    hello_wait: u64,
    answer: Option<Answer>,
    report: Option<Waiting>,
    /// Reports since the start.
    reports: u8,
}

/// A report that the gateway has not received yet.
#[derive(Clone, Copy)]
struct Waiting {
    report: Report,
    due: Millis,
    wait: u64,
}

/// The agent of a device.
pub struct Agent<'l, C: Crypto> {
    config: &'l Config<'l>,
    crypto: C,
    log: StateLog,
    keys: Option<KeySet>,
    task: Task<C::Hash>,
    /// What is loaded, checked or staged; otherwise there is none.
    release: Option<Release>,
    decoder: Decoder,
    pages: Pages,
    outbox: Outbox,
    budget: Left,
    reason: Reason,
    /// The application's word.
    passed: Option<bool>,
    may_restart: bool,
    /// The gateway has welcomed this start.
    contact: bool,
    /// Seconds since 1970 at the device's start, if the gateway knew.
    epoch: Option<u64>,
    retries: u32,
    bytes: u32,
}

impl<'l, C: Crypto> Agent<'l, C> {
    /// An agent that has not looked at the flash yet: [`Agent::begin`] has to follow, and until then it
    /// takes nothing. In two steps, so that it can be built where it stays; as the result of one call it would be
    /// on the stack too, with everything that call needs. `why` is what the device knows of its start; a trial
    /// and a revert are known from the state.
    #[inline(never)]
    pub fn new(now: Millis, config: &'l Config<'l>, crypto: C, why: Reason) -> Agent<'l, C> {
        let nowhere = Region { from: 0, to: 0 };
        Agent {
            config,
            crypto,
            log: StateLog::FACTORY,
            keys: None,
            task: Task::Rest,
            release: None,
            decoder: Decoder::new(Travels::AsItIs),
            pages: Pages::new(nowhere, 0, 0, nowhere),
            outbox: Outbox { hello: true, ..Outbox::default() },
            budget: Left::new(config.budget, now),
            reason: why,
            passed: None,
            may_restart: true,
            contact: false,
            epoch: None,
            retries: 0,
            bytes: 0,
        }
    }

    /// Reads the state, and goes on with what was begun. Call it once, before anything else.
    ///
    /// # Errors
    /// The flash has failed.
    #[inline(never)]
    pub fn begin<F: NorFlash>(&mut self, now: Millis, flash: &mut F) -> Result<(), FlashFailed> {
        let flash = &mut Flash::new(flash);
        let Config { layout, trust, .. } = self.config;
        self.log = StateLog::load(flash, layout)?;
        self.keys = KeyStore::load(flash, layout, trust, self.log.state(), &self.crypto)?;
        self.resume(now, flash)
    }

    /// [`Agent::new`] and [`Agent::begin`], where the stack is large.
    ///
    /// # Errors
    /// The flash has failed.
    pub fn start<F: NorFlash>(
        now: Millis,
        flash: &mut F,
        config: &'l Config<'l>,
        crypto: C,
        why: Reason,
    ) -> Result<Agent<'l, C>, FlashFailed> {
        let mut agent = Agent::new(now, config, crypto, why);
        agent.begin(now, flash)?;
        Ok(agent)
    }

    /// The application's self-test has passed, or failed. Before that, a release on trial is not confirmed.
    pub fn self_test(&mut self, passed: bool) {
        self.passed = Some(passed);
    }

    /// Whether the application can bear a restart now. It can, until it says otherwise.
    pub fn allow_restart(&mut self, allowed: bool) {
        self.may_restart = allowed;
    }

    /// Starts into a release whose policy is to ask.
    pub fn apply(&mut self) {
        if let Task::Staged { asked } = &mut self.task {
            *asked = true;
        }
    }

    /// The transport has a connection: the gateway is told who is there.
    pub fn connected(&mut self) {
        self.outbox.hello = true;
    }

    /// Whether what runs is on trial.
    #[must_use]
    pub fn is_on_trial(&self) -> bool {
        self.log.state().phase == Phase::Trial
    }

    /// The sequence of the confirmed release, and the floor.
    #[must_use]
    pub fn sequence(&self) -> (u64, u64) {
        (self.log.state().sequence, self.log.state().floor)
    }

    /// A message of the gateway. What is malformed, unknown or not expected is dropped.
    ///
    /// # Errors
    /// The flash has failed.
    #[inline(never)]
    pub fn handle_message<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut F,
        message: &[u8],
    ) -> Result<(), FlashFailed> {
        let Ok(message) = ToDevice::read(message) else { return Ok(()) };
        let flash = &mut Flash::new(flash);
        match message {
            ToDevice::Welcome(welcome) => {
                // One that comes before the hello was meant for the start before this.
                self.contact |= !self.outbox.hello;
                let seconds = now.seconds();
                self.epoch = welcome.time.map_or(self.epoch, |time| time.checked_sub(seconds));
            }
            ToDevice::Offer(offer) => self.handle_offer(now, flash, &offer)?,
            ToDevice::Block(block) => self.handle_block(now, flash, &block)?,
            ToDevice::Command(command) => self.handle_command(now, flash, command)?,
            ToDevice::Received(received) => self.handle_received(flash, received)?,
            ToDevice::Unknown(_) => {}
        }
        Ok(())
    }

    /// Does a bounded piece of work: at most a page is read, or a record written.
    ///
    /// # Errors
    /// The flash has failed.
    #[inline(never)]
    pub fn poll<F: NorFlash>(&mut self, now: Millis, flash: &mut F) -> Result<Next, FlashFailed> {
        let flash = &mut Flash::new(flash);
        let next = match self.task {
            Task::Rest => Next::Wait(None),
            Task::Loading(_) => self.poll_loading(now),
            Task::Checking { .. } => self.poll_checking(now, flash)?,
            Task::Staged { .. } => self.poll_staged(now, flash)?,
            Task::Trial(trial) => self.poll_trial(now, flash, trial)?,
            Task::Restarting => Next::Restart,
        };
        Ok(match next {
            Next::Wait(until) => {
                let report = self.outbox.report.map(|waiting| waiting.due);
                let hello = (!self.contact).then_some(self.outbox.hello_again);
                let sooner = |one: Option<Millis>, other: Option<Millis>| match (one, other) {
                    (Some(one), Some(other)) => Some(one.min(other)),
                    (one, other) => one.or(other),
                };
                Next::Wait(sooner(sooner(until, report), hello))
            }
            Next::Work | Next::Restart => next,
        })
    }

    /// Writes the next message into `out`; answers its bytes, `None` when there is none. `out` has to have
    /// 512 bytes: what does not fit is dropped.
    ///
    /// # Errors
    /// The flash has failed.
    #[inline(never)]
    pub fn poll_output<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut F,
        out: &mut [u8],
    ) -> Result<Option<usize>, FlashFailed> {
        let flash = &mut Flash::new(flash);
        if self.outbox.hello || (!self.contact && now >= self.outbox.hello_again) {
            self.outbox.hello = false;
            let wait = self.outbox.hello_wait.max(report::AGAIN_FIRST);
            self.outbox.hello_again = now.after(wait);
            self.outbox.hello_wait = (2 * wait).min(report::AGAIN_MOST);
            return self.write_hello(flash, out);
        }
        let written = if let Some(answer) = self.outbox.answer.take() {
            answer.write(out)
        } else if let Some(report) = self.report_due(now) {
            report.write(out)
        } else if let Some(request) = self.next_request(now) {
            request.write(out)
        } else {
            return Ok(None);
        };
        Ok(written.ok())
    }

    /// Seconds since 1970, as far as the gateway knows.
    fn time(&self, now: Millis) -> Option<u64> {
        Some(self.epoch? + now.seconds())
    }

    /// Gives up what is under way, if anything is; its ledger goes.
    fn give_up<F: NorFlash>(
        &mut self,
        now: Millis,
        flash: &mut Flash<'_, F>,
        why: Refusal,
    ) -> Result<(), FlashFailed> {
        let Some(Release { ledger, content }) = &self.release else { return Ok(()) };
        let (ledger, sequence) = (*ledger, content.sequence);
        Ledger::drop_from(flash, self.ledger_at(self.log.state().next_ledger()))?;
        (self.task, self.release) = (Task::Rest, None);
        self.outbox.hello = true;
        self.say(now, &ledger, sequence, message::Phase::Failed, why.code());
        Ok(())
    }

    /// Where a ledger is.
    fn ledger_at(&self, which: u8) -> Region {
        self.config.layout.ledgers[usize::from(which & 1)]
    }
}
