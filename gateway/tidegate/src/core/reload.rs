//! Another configuration, as the core's thread takes it: threads first, then the gateway, which
//! takes all of it or nothing, and then what cannot fail.

use std::collections::BTreeMap;

use tidegate_flow::Reload;

use super::clock;
use super::functions::{FunctionThreads, Loaded};
use super::pump::Pump;
use super::uplinks::Sink;
use crate::config::Settings;
use crate::reload::Reloading;
use crate::secrets::Granted;

impl Pump {
    /// Lets another configuration count.
    ///
    /// # Errors
    /// In words; nothing has changed then.
    pub(crate) fn reload(&mut self, wish: Reloading) -> Result<(), String> {
        let Reloading { before, after, functions, uplinks, store } = wish;
        let names = functions.keys().cloned().collect();
        let mut threads = self.start_threads(&after, functions)?;
        if !after.uplinks.is_empty() {
            let started = self.uplinks.make_ready();
            started.map_err(|error| format!("cannot start the uplinks' thread: {error}"))?;
        }
        let (before, plan) = (before.plan(), after.plan());
        let wish = Reload { before: &before, after: &plan, functions: &names, uplinks: &uplinks };
        let reloaded = self.core.gateway.borrow_mut().reload(clock::now(), &wish);
        let reloaded = reloaded.map_err(|error| error.to_string())?;
        for begun in reloaded.functions {
            let name = &after.functions[begun.place].name;
            match threads.remove(name) {
                Some(thread) => drop(self.functions.insert(begun.index, thread)),
                None => self.not_started(begun.index, format!("no module for {name}")),
            }
        }
        reloaded.ended.iter().for_each(|index| self.uplinks.end(*index));
        for begun in reloaded.uplinks {
            let settings = &after.uplinks[begun.place];
            let lanes = self.core.gateway.borrow().uplink_lanes(begun.index);
            let (target, window) = (settings.target.clone(), settings.window);
            let started = self.uplinks.start(begun.index, Sink { target, window, lanes });
            if let Err(error) = started {
                tracing::error!(uplink = settings.name, %error, "the uplink does not start");
            }
        }
        self.versions.set_store(store);
        self.core.gateway.borrow_mut().serve_firmware(clock::now(), after.firmware.limits);
        self.core.take_security(&after.security);
        self.show_routes();
        Ok(())
    }

    /// The threads of functions that come or change; they wait for calls.
    fn start_threads(
        &self,
        settings: &Settings,
        mut modules: BTreeMap<String, tidegate_runtime::Module>,
    ) -> Result<BTreeMap<String, FunctionThreads>, String> {
        let events = self.versions.events().ok_or("the gateway is shutting down")?;
        let mut threads = BTreeMap::new();
        for function in &settings.functions {
            let Some(module) = modules.remove(&function.name) else { continue };
            let granted = Granted::new(&function.name, &function.secrets, settings.vault());
            let (name, config) = (function.name.clone(), function.config.clone());
            let loaded =
                Loaded { name: name.clone(), module, config, log: self.log.clone(), granted };
            let started = FunctionThreads::start(loaded, function.workers, &events);
            let started = started.map_err(|e| format!("cannot start a thread for {name}: {e}"))?;
            threads.insert(name, started);
        }
        Ok(threads)
    }
}
