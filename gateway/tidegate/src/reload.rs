//! The configuration, read again while the gateway runs (docs/decisions/044-reload.md): by
//! `tidegate reload`, or at SIGHUP.
//!
//! Invariants:
//! - The new file counts as a whole or not at all. Whatever may fail comes before the core is asked,
//!   and the core changes everything or nothing.
//! - One at a time, so that what was compared is what counts.
//! - What is compared with is the file that counts, not the one that was refused.
//!
//! Not here: what the core makes of it ([`tidegate_flow::Reload`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_runtime::Module;
use tokio::sync::{Mutex, watch};
use tokio::task::spawn_blocking;

use crate::config::{self, FunctionSettings, Keys, SecuritySettings, Settings};
use crate::core_handle::CoreHandle;
use crate::logging::Volume;
use crate::packages::{Installer, Store};
use crate::routes::{Gate, Served};

/// What has become of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadTold {
    /// It counts.
    Done {
        /// The keys that differ from what counted before, and functions whose module has changed.
        changed: Vec<String>,
    },
    /// Nothing has changed: these mistakes are in it.
    Mistakes(String),
    /// Nothing has changed: these keys differ, and count from a start of the daemon on only.
    Restart(Vec<String>),
    /// Nothing has changed, for this reason.
    Refused(String),
}

/// A configuration for the core, checked, with everything made that may fail.
pub struct Reloading {
    /// The one that counts.
    pub(crate) before: Settings,
    /// The one that is to.
    pub(crate) after: Settings,
    /// Modules of the functions that come or change.
    pub(crate) functions: BTreeMap<String, Module>,
    /// Uplinks that change.
    pub(crate) uplinks: BTreeSet<String>,
    /// Where pushed functions are, with the keys that are trusted.
    pub(crate) store: Store,
}

impl fmt::Debug for Reloading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions: Vec<&String> = self.functions.keys().collect();
        let fields = ("functions", &functions, "uplinks", &self.uplinks);
        f.debug_struct("Reloading").field(fields.0, fields.1).field(fields.2, fields.3).finish()
    }
}

/// Reads the configuration again when it is told to.
pub(crate) struct Reloader {
    core: CoreHandle,
    volume: Volume,
    served: watch::Receiver<Served>,
    current: Mutex<Current>,
    gate: watch::Sender<Arc<Gate>>,
    installer: watch::Sender<Arc<Installer>>,
    security: watch::Sender<SecuritySettings>,
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

/// What counts.
#[derive(Clone)]
struct Current {
    settings: Settings,
    text: String,
    /// The modules' files, by function, as they were when they were read.
    modules: BTreeMap<String, Look>,
}

/// What changes when a file does: inode, size and time of change. `None`: it is not there.
type Look = Option<(u64, u64, i64, i64)>;

/// Where those listen who are told of another configuration.
pub(crate) struct Listening {
    pub(crate) gate: watch::Receiver<Arc<Gate>>,
    pub(crate) installer: watch::Receiver<Arc<Installer>>,
    pub(crate) security: watch::Receiver<SecuritySettings>,
}

/// Everything that may fail has been done.
struct Prepared {
    next: Current,
    changed: Vec<String>,
    reloading: Reloading,
    gate: Arc<Gate>,
    installer: Arc<Installer>,
}

impl Reloader {
    /// For a gateway that starts with these settings, which were read from `text`.
    ///
    /// # Errors
    /// What answers requests over HTTP, or takes packages, cannot be made.
    pub(crate) fn new(
        settings: &Settings,
        text: String,
        core: CoreHandle,
        volume: Volume,
        served: watch::Receiver<Served>,
    ) -> anyhow::Result<(Reloader, Listening)> {
        let gate = Gate::new(settings, served.clone(), core.clone())?;
        let (gate, gates) = watch::channel(gate);
        let (installer, installers) = watch::channel(Arc::new(Installer::new(settings)?));
        let (security, securities) = watch::channel(settings.security.clone());
        let (settings, modules) = (settings.clone(), looks(settings));
        let current = Mutex::new(Current { settings, text, modules });
        let listening = Listening { gate: gates, installer: installers, security: securities };
        let reloader = Reloader { core, volume, served, current, gate, installer, security };
        Ok((reloader, listening))
    }

    /// Reads the configuration again, and lets it count if it can.
    pub(crate) async fn reload(&self) -> ReloadTold {
        let told = self.try_reload().await.unwrap_or_else(|refused| refused);
        match &told {
            ReloadTold::Done { changed } => {
                let changed = changed.join(" ");
                tracing::info!(changed, "read the configuration again");
            }
            ReloadTold::Mistakes(mistakes) => {
                tracing::error!("the configuration is not taken, for these mistakes:\n{mistakes}");
            }
            ReloadTold::Restart(keys) => {
                let keys = keys.join(" ");
                tracing::error!(keys, "the configuration is not taken: these need a restart");
            }
            ReloadTold::Refused(why) => tracing::error!(why, "the configuration is not taken"),
        }
        told
    }

    async fn try_reload(&self) -> Result<ReloadTold, ReloadTold> {
        let mut current = self.current.lock().await;
        let (before, gate) = (current.clone(), self.gate.borrow().clone());
        let (served, core) = (self.served.clone(), self.core.clone());
        let preparing = spawn_blocking(move || prepare(before, gate, served, core));
        let lost = |_| ReloadTold::Refused("the thread that reads it has panicked".to_owned());
        let prepared = *preparing.await.map_err(lost)??;
        let Prepared { next, changed, reloading, gate, installer } = prepared;
        let asked = self.core.reload(reloading).await;
        asked.map_err(|error| ReloadTold::Refused(error.to_string()))?;
        self.volume.set(next.settings.log.level);
        self.gate.send_replace(gate);
        self.installer.send_replace(installer);
        self.security.send_replace(next.settings.security.clone());
        *current = next;
        Ok(ReloadTold::Done { changed })
    }
}

/// Reads the file, compares it with what counts, and makes what it needs.
fn prepare(
    before: Current,
    gate: Arc<Gate>,
    served: watch::Receiver<Served>,
    core: CoreHandle,
) -> Result<Box<Prepared>, ReloadTold> {
    let refused = |error: anyhow::Error| ReloadTold::Refused(format!("{error:#}"));
    let read = config::load_text(&before.settings.file, true);
    let (after, text) = read.map_err(|mistakes| ReloadTold::Mistakes(mistakes.to_string()))?;
    let keys = config::differing_keys(&before.text, &text);
    let restart = config::needs_restart(&keys, &before.settings, &after);
    if !restart.is_empty() {
        return Err(ReloadTold::Restart(restart.into_iter().collect()));
    }
    let modules = looks(&after);
    let mut changed: Vec<String> = keys.iter().cloned().collect();
    let mut functions = BTreeMap::new();
    for function in &after.functions {
        let name = &function.name;
        let same_file = before.modules.get(name) == modules.get(name);
        if same_file && is_the_same(function, &before.settings, &after) {
            continue;
        }
        if !same_file && before.modules.contains_key(name) {
            changed.push(format!("function.{name} (its module)"));
        }
        functions.insert(name.clone(), crate::core::load_module(function).map_err(refused)?);
    }
    let is_changed = |name: &String| {
        let prefix = format!("uplink.{name}.");
        keys.iter().any(|key| key.starts_with(&prefix))
    };
    let uplinks = after.uplinks.iter().map(|uplink| uplink.name.clone());
    let uplinks = uplinks.filter(is_changed).collect();
    let gate = match touches_requests(&keys) {
        true => Gate::new(&after, served, core).map_err(refused)?,
        false => gate,
    };
    let installer = Arc::new(Installer::new(&after).map_err(refused)?);
    let store = after.store().map_err(refused)?;
    let reloading =
        Reloading { before: before.settings, after: after.clone(), functions, uplinks, store };
    let next = Current { settings: after, text, modules };
    Ok(Box::new(Prepared { next, changed, reloading, gate, installer }))
}

/// Whether a function is what it was, with streams that have the keys that they had.
fn is_the_same(function: &FunctionSettings, before: &Settings, after: &Settings) -> bool {
    let key = |settings: &Settings, name: &str| {
        let stream = settings.streams.iter().find(|stream| stream.name == name);
        stream.and_then(|stream| stream.key.clone())
    };
    before.functions.contains(function)
        && function.inputs.iter().all(|i| key(before, &i.stream) == key(after, &i.stream))
}

/// Whether requests over HTTP are let in by other rules.
fn touches_requests(keys: &Keys) -> bool {
    keys.iter().any(|key| key.starts_with("http.") || key.starts_with("mqtt."))
}

fn looks(settings: &Settings) -> BTreeMap<String, Look> {
    let named = |function: &FunctionSettings| (function.name.clone(), look(&function.module));
    settings.functions.iter().map(named).collect()
}

fn look(file: &Path) -> Look {
    let about = fs::metadata(file).ok()?;
    Some((about.ino(), about.size(), about.mtime(), about.mtime_nsec()))
}
