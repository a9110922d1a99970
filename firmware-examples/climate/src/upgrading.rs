//! Firmware upgrades, on boards that have a bootloader.

use cortex_m::peripheral::SCB;
use embedded_storage::nor_flash::NorFlash;
use firmware_crypto::Salty;
use tidegate_agent::{Agent, Budget, Config, Millis, Next, Obedience};
use tidegate_boot::{Identity, Layout, Trust};
use tidegate_link::{Micros, Outgoing};
use tidegate_wire::message::{CHANNEL, Reason};

use crate::{Serial, now};

/// What takes firmware in.
pub trait Firmware {
    /// A message on a channel of the line that is not MQTT's.
    fn take(&mut self, channel: u8, message: &[u8]);

    /// The line has a new session.
    fn connected(&mut self);

    /// The device does what it is for: a release on trial may stay.
    fn is_well(&mut self);

    /// Does a piece of work, and says what there is to say; when it has to be called again, if nothing comes before.
    fn work(&mut self, link: &mut Serial) -> Option<Micros>;
}

/// A board without a bootloader takes none.
impl Firmware for () {
    fn take(&mut self, _: u8, _: &[u8]) {}

    fn connected(&mut self) {}

    fn is_well(&mut self) {}

    fn work(&mut self, _: &mut Serial) -> Option<Micros> {
        None
    }
}

/// Settings of a board that upgrades itself.
#[must_use]
pub fn config<'l>(layout: Layout<'l>, trust: Trust<'l>, identity: Identity) -> Config<'l> {
    Config {
        layout,
        trust,
        identity,
        factory_version: "1.0.0",
        block: 472,
        window: 4,
        message: 1_280,
        budget: Budget { erases: 512, tries: 8 },
        obedience: Obedience::Gateway,
    }
}

/// The agent, with its flash and a watchdog that it feeds.
pub struct Upgrading<'l, F, W> {
    agent: Agent<'l, Salty>,
    flash: F,
    feed: W,
    says: Outgoing<512>,
}

impl<'l, F: NorFlash, W: FnMut()> Upgrading<'l, F, W> {
    /// Goes on with what was begun. A flash that fails is tried again, from the start.
    #[must_use]
    pub fn start(config: &'l Config<'l>, mut flash: F, feed: W) -> Upgrading<'l, F, W> {
        let Ok(agent) = Agent::start(millis(), &mut flash, config, Salty, Reason::Power) else {
            SCB::sys_reset()
        };
        Upgrading { agent, flash, feed, says: Outgoing::new() }
    }
}

impl<F: NorFlash, W: FnMut()> Firmware for Upgrading<'_, F, W> {
    fn take(&mut self, channel: u8, message: &[u8]) {
        let taken = channel != CHANNEL
            || self.agent.handle_message(millis(), &mut self.flash, message).is_ok();
        if !taken {
            SCB::sys_reset();
        }
    }

    fn connected(&mut self) {
        self.agent.connected();
    }

    fn is_well(&mut self) {
        self.agent.self_test(true);
    }

    fn work(&mut self, link: &mut Serial) -> Option<Micros> {
        (self.feed)();
        let mut said = false;
        if link.is_up()
            && let Some(room) = self.says.room()
            && let Ok(Some(length)) = self.agent.poll_output(millis(), &mut self.flash, room)
        {
            self.says.put(CHANNEL, length);
            said = true;
        }
        self.says.send(link);
        match self.agent.poll(millis(), &mut self.flash) {
            Ok(Next::Work) => Some(Micros(0)),
            Ok(Next::Wait(until)) => until.map(|until| Micros::from_millis(until.0)),
            // What it says of it goes out first.
            Ok(Next::Restart) if said => Some(Micros(0)),
            Ok(Next::Restart) | Err(_) => SCB::sys_reset(),
        }
    }
}

fn millis() -> Millis {
    Millis(now().0 / 1_000)
}
