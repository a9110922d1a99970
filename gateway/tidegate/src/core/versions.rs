//! Pushed functions: their threads, and what runs again after a start.

use tidegate_flow::{FunctionOrder, Gateway, Resume, Version};
use tidegate_wire::Digest;
use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender};

use super::functions::{FunctionThreads, Loaded};
use super::pump::Pump;
use super::{Event, clock};
use crate::config::PackageSettings;
use crate::guest_log::GuestLog;
use crate::packages::{Store, compile};
use crate::secrets::Granted;

/// What threads of pushed functions are made with.
pub(crate) struct Versions {
    store: Store,
    log: GuestLog,
    /// Weak, so that the core notices when all other threads are gone.
    events: WeakUnboundedSender<Event>,
}

impl Versions {
    pub(crate) fn new(store: Store, log: GuestLog, events: &UnboundedSender<Event>) -> Versions {
        Versions { store, log, events: events.downgrade() }
    }

    /// Packages are here from now on, signed by these keys.
    pub(crate) fn set_store(&mut self, store: Store) {
        self.store = store;
    }

    /// The way to the core; `None` on the way down.
    pub(crate) fn events(&self) -> Option<UnboundedSender<Event>> {
        self.events.upgrade()
    }

    fn start(
        &self,
        index: usize,
        name: &str,
        package: Digest,
        workers: usize,
    ) -> Result<FunctionThreads, String> {
        let events = self.events.upgrade().ok_or("the gateway is shutting down")?;
        let (store, own_name, log) = (self.store.clone(), name.to_owned(), self.log.clone());
        let load = move || {
            let contents = store.load(package)?;
            let module = compile(&contents.manifest, &contents.module)?;
            let manifest = contents.manifest;
            let vault = store.vault.clone();
            let granted = Granted::new(&own_name, &manifest.wants.secrets, vault);
            let (name, config, log) = (own_name.clone(), manifest.config, log.clone());
            Ok(Loaded { name, module, config, log, granted })
        };
        FunctionThreads::start_with(index, name, workers, load, &events)
            .map_err(|error| format!("cannot start a thread: {error}"))
    }

    /// Goes on with the versions that names stand for. One whose package is not there, or not
    /// trusted any more, does not run: its records wait.
    pub(crate) fn resume(&self, gateway: &mut Gateway, settings: &PackageSettings) {
        let aliases: Vec<_> =
            gateway.aliases().map(|(name, alias)| (name.to_owned(), alias)).collect();
        for (name, alias) in aliases {
            let Some(current) = alias.current else { continue };
            let previous = alias.previous.map(|version| self.store.plan(version.package));
            let resumed = self.store.plan(current.package).and_then(|plan| {
                let previous = previous.and_then(Result::ok);
                let resume = Resume { plan, previous, trial: settings.trial };
                let resumed = gateway.resume_version(clock::now(), resume);
                resumed.map_err(|error| error.to_string())
            });
            if let Err(why) = resumed {
                let version = current.label;
                tracing::error!(function = name, version, why, "not loaded; its records wait");
            } else if let Some(canary) = alias.canary {
                self.resume_canary(gateway, settings, &name, &canary.version);
            }
        }
    }

    /// One that cannot go on is taken back, or waits for the next start to be.
    fn resume_canary(
        &self,
        gateway: &mut Gateway,
        settings: &PackageSettings,
        name: &str,
        version: &Version,
    ) {
        let resumed = self.store.plan(version.package).and_then(|plan| {
            let resumed = gateway.resume_canary(clock::now(), &plan, settings.trial);
            resumed.map_err(|error| error.to_string())
        });
        if let Err(why) = resumed
            && let Err(error) = gateway.withdraw_canary(clock::now(), name, &why)
        {
            tracing::error!(function = name, why, %error, "its canary does not go on");
        }
    }
}

impl Pump {
    pub(crate) fn carry_out_order(&mut self, order: FunctionOrder) {
        match order {
            FunctionOrder::Start { function, name, package, workers } => {
                tracing::info!(function = name, package = %package, "a version starts");
                match self.versions.start(function, &name, package, workers) {
                    Ok(thread) => drop(self.functions.insert(function, thread)),
                    Err(why) => self.not_started(function, why),
                }
            }
            FunctionOrder::Stop { function } => drop(self.functions.remove(&function)),
        }
    }

    pub(crate) fn not_started(&self, function: usize, why: String) {
        tracing::error!(why, "a pushed function is not loaded");
        self.core.gateway.borrow_mut().not_started(clock::now(), function, why);
    }
}
