//! From bytes that arrive to a version that runs, step by step; nothing changes before everything
//! that can be checked has been.
//!
//! Invariant: one change at a time, so that what a check found holds when the change is made.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tidegate_flow::{CanaryTerms, FunctionEntry, HttpRoute, Install, Version, Wish};
use tidegate_wire::Digest;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::ceiling::{Ceiling, Surroundings, problems};
use super::package::{Contents, Package};
use super::shelf::Progress;
use super::store::{Store, compile};
use crate::config::Settings;
use crate::core_handle::CoreHandle;
use crate::secrets::{Granted, Vault};

/// What the operator says of pushed functions, and where they are kept.
#[derive(Debug)]
pub struct Installer {
    store: Store,
    ceiling: Ceiling,
    trial: Duration,
    /// Names of streams, and of those whose records have a key.
    streams: BTreeSet<String>,
    keyed: BTreeSet<String>,
    /// Held by the change that is under way.
    turn: Mutex<()>,
}

/// A version that runs now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// The function's name.
    pub name: String,
    /// The version.
    pub version: String,
    /// The hash of its package.
    pub package: String,
    /// How long it is on trial, in milliseconds; 0 when it ran already.
    pub trial_ms: u64,
}

/// A share of the keys that a version is tried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// In hundredths of a percent.
    pub share: u16,
    /// Records that it must have been given before it is promoted.
    pub records: u32,
}

impl Installer {
    /// For a gateway with these settings.
    ///
    /// # Errors
    /// The directory of packages cannot be made.
    pub fn new(settings: &Settings) -> anyhow::Result<Installer> {
        let streams = || settings.streams.iter();
        let keyed = streams().filter(|stream| stream.key.is_some());
        Ok(Installer {
            store: settings.store()?,
            ceiling: settings.packages.ceiling.clone(),
            trial: settings.packages.trial,
            streams: streams().map(|stream| stream.name.clone()).collect(),
            keyed: keyed.map(|stream| stream.name.clone()).collect(),
            turn: Mutex::new(()),
        })
    }

    /// Begins an upload, or says where it goes on.
    pub(crate) async fn begin(
        &self,
        core: &CoreHandle,
        package: Digest,
        size: u64,
    ) -> Result<Progress, String> {
        let _turn = self.turn.lock().await;
        if self.store.trusted.is_empty() {
            return Err("this gateway takes no packages: its configuration has no \
                        functions.trusted_keys"
                .to_owned());
        }
        let needed = needed(&functions(core).await?);
        let shelf = self.store.shelf.clone();
        off_thread(move || shelf.begin(package, size, &needed).map_err(|e| e.to_string())).await
    }

    /// Takes a block; answers how much is there.
    pub(crate) async fn append(
        &self,
        package: Digest,
        offset: u64,
        block: Vec<u8>,
    ) -> Result<u64, String> {
        let _turn = self.turn.lock().await;
        let shelf = self.store.shelf.clone();
        off_thread(move || shelf.append(package, offset, &block).map_err(|e| e.to_string())).await
    }

    /// Checks what has arrived, and lets it run in place of what has its name, or beside it.
    pub(crate) async fn install(
        &self,
        core: &CoreHandle,
        package: Digest,
        canary: Option<Canary>,
    ) -> Result<Installed, String> {
        let _turn = self.turn.lock().await;
        let store = self.store.clone();
        let contents = off_thread(move || {
            let bytes = store.shelf.finish(package).map_err(|error| error.to_string())?;
            let opened = Package::open(&bytes, &store.trusted);
            Ok(opened.map_err(|error| format!("not installed: {error}"))?.into_contents())
        })
        .await?;
        let listed = functions(core).await?;
        let manifest = &contents.manifest;
        let (name, label) = (manifest.name.clone(), manifest.version.clone());
        let entry = listed.iter().find(|entry| entry.name == name);
        let current = entry.and_then(|entry| entry.version.as_ref());
        if current.is_some_and(|current| current.package == package.to_string()) {
            let package = package.to_string();
            return Ok(Installed { name, version: label, package, trial_ms: 0 });
        }
        let version = Version { package, label };
        if let Err(reason) = self.check(contents.clone(), &listed).await {
            let told = core.tell_refused(name, version, reason.clone()).await;
            told.map_err(|error| error.to_string())?;
            return Err(reason);
        }
        let wish = match canary {
            Some(Canary { share, records }) => {
                Wish::Canary(CanaryTerms { share, records, length: self.trial })
            }
            None => Wish::Pushed(self.trial),
        };
        let plan = manifest.plan();
        let installed = Installed {
            name,
            version: version.label.clone(),
            package: package.to_string(),
            trial_ms: self.trial.as_millis() as u64,
        };
        let install = Install { plan, version, wish };
        core.install(install).await.map_err(|error| error.to_string())?;
        self.collect(core).await;
        Ok(installed)
    }

    /// Takes the version before back.
    pub(crate) async fn roll_back(
        &self,
        core: &CoreHandle,
        name: String,
    ) -> Result<Installed, String> {
        let _turn = self.turn.lock().await;
        let listed = functions(core).await?;
        let entry = listed.into_iter().find(|entry| entry.name == name && entry.source == "pushed");
        let entry = entry.ok_or_else(|| format!("no function \"{name}\" was pushed"))?;
        if let (Some(_), Some(present)) = (entry.canary, entry.version) {
            let withdrawn = core.withdraw_canary(name.clone(), "the operator took it back").await;
            withdrawn.map_err(|error| error.to_string())?;
            self.collect(core).await;
            let (version, package) = (present.version, present.package);
            return Ok(Installed { name, version, package, trial_ms: 0 });
        }
        let previous = entry.previous.ok_or_else(|| {
            format!("function \"{name}\" has no version to go back to; push the one you want")
        })?;
        let package = Digest::parse(&previous.package).ok_or("the version has no hash")?;
        let store = self.store.clone();
        let plan = off_thread(move || store.plan(package)).await?;
        let version = Version { package, label: previous.version.clone() };
        let install = Install { plan, version, wish: Wish::TakenBack };
        core.install(install).await.map_err(|error| error.to_string())?;
        let (version, package) = (previous.version, previous.package);
        Ok(Installed { name, version, package, trial_ms: 0 })
    }

    /// Takes a function out.
    pub(crate) async fn remove(&self, core: &CoreHandle, name: String) -> Result<(), String> {
        let _turn = self.turn.lock().await;
        core.remove_function(name).await.map_err(|error| error.to_string())?;
        self.collect(core).await;
        Ok(())
    }

    /// Everything that can be checked before anything changes.
    async fn check(&self, contents: Contents, listed: &[FunctionEntry]) -> Result<(), String> {
        let of = |source: &str| {
            let those = listed.iter().filter(|entry| entry.source == source);
            those.map(|entry| entry.name.clone()).collect()
        };
        let around = Surroundings {
            streams: self.streams.clone(),
            keyed: self.keyed.clone(),
            configured: of("configuration"),
            pushed: of("pushed"),
            routes: answered(listed),
        };
        let mut found = problems(&contents.manifest, &self.ceiling, &around);
        let vault = self.store.vault.clone();
        let started = off_thread(move || start(&contents, vault)).await;
        found.extend(started.err());
        if found.is_empty() {
            return Ok(());
        }
        Err(format!("not installed:\n  {}", found.join("\n  ")))
    }

    /// Old versions go when they are not needed any more. What cannot be removed now goes later.
    async fn collect(&self, core: &CoreHandle) {
        let collected = async {
            let needed = needed(&functions(core).await?);
            let shelf = self.store.shelf.clone();
            off_thread(move || shelf.collect(&needed).map_err(|error| error.to_string())).await
        };
        if let Err(error) = collected.await {
            tracing::warn!(error, "packages that no function needs could not be removed");
        }
    }
}

/// Compiles the module and starts an instance of it, which goes away again.
fn start(contents: &Contents, vault: Vault) -> Result<(), String> {
    let module = compile(&contents.manifest, &contents.module)?;
    let manifest = &contents.manifest;
    let mut granted = Granted::new(&manifest.name, &manifest.wants.secrets, vault);
    let started = module.instantiate_with(&manifest.config, granted.now());
    started.map(drop).map_err(|failure| format!("it cannot start: {failure}"))
}

async fn functions(core: &CoreHandle) -> Result<Vec<FunctionEntry>, String> {
    core.functions().await.map_err(|error| error.to_string())
}

/// The routes that functions answer.
fn answered(listed: &[FunctionEntry]) -> Vec<(String, HttpRoute)> {
    let of = |entry: &FunctionEntry| {
        let routes = entry.routes.iter().filter_map(|text| HttpRoute::parse(text).ok());
        routes.map(|route| (entry.name.clone(), route)).collect::<Vec<_>>()
    };
    listed.iter().flat_map(of).collect()
}

/// The packages of versions that run, or may be taken back.
fn needed(listed: &[FunctionEntry]) -> BTreeSet<Digest> {
    let versions = listed.iter().flat_map(|entry| {
        let canary = entry.canary.iter().map(|canary| &canary.version);
        entry.version.iter().chain(&entry.previous).chain(canary)
    });
    versions.filter_map(|version| Digest::parse(&version.package)).collect()
}

/// Waits for work that blocks.
/// Does work that blocks, such as on a disk.
pub(crate) async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    spawn_blocking(work).await.map_err(|error| error.to_string())?
}
