//! Puts the daemon together: store, gateway, threads, listeners.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rustix::net::sockopt;
use tidegate_flow::Gateway;
use tidegate_runtime::Module;
use tidegate_stream::{Disk, Recovery};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc::{Receiver, Sender, UnboundedSender, channel, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};

use super::closing_notes::ClosingNotes;
use super::disks::Disks;
use super::functions::{FunctionThreads, Loaded};
use super::logins::Doorkeeper;
use super::pump::Pump;
use super::requests::Requests;
use super::sync_times::SyncTimes;
use super::timer::Timer;
use super::uplinks::{Drivers, Sink};
use super::versions::Versions;
use super::{Core, Event, clock, descriptors, links, serial};
use crate::config::{
    FunctionSettings, ListenerSettings, PLAIN, SecuritySettings, Settings, UplinkSettings,
};
use crate::core_handle::CoreRequest;
use crate::disk::FileDisk;
use crate::firmware::BlockReader;
use crate::guest_log::GuestLog;
use crate::links::{Addresses, Arrival, Door, Identity, Keys, Passwords, Rates, needs_handshake};
use crate::routes::Served;
use crate::secrets::Granted;
use crate::supervisor::{Pulse, Supervisor};
use crate::wear::Wear;

/// Clients that are through their handshakes and wait for the core.
const ARRIVALS: usize = 64;
/// TCP keep-alive: a client that has been silent so long is asked, so often, and so many times.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(120);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEP_ALIVE_PROBES: u32 = 4;
/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 1024;

/// Runs the gateway on the calling thread until `shutdown` says so and everything that was taken
/// in is on flash. `routes` shows which HTTP routes functions answer; `security` changes when the
/// configuration was read again; `ready` is called when clients are accepted, with the addresses.
///
/// # Errors
/// The store cannot be opened or was written by a newer version, an address cannot be listened
/// on, or a thread that the gateway cannot do without has died.
pub fn run(
    settings: &Settings,
    log: GuestLog,
    requests: Receiver<CoreRequest>,
    routes: watch::Sender<Served>,
    security: watch::Receiver<SecuritySettings>,
    shutdown: watch::Receiver<bool>,
    ready: impl FnOnce(&[SocketAddr]),
) -> anyhow::Result<()> {
    let disk = open_disk(settings)?;
    let mut plan = settings.plan();
    let max_connections = descriptors::make_room(plan.broker.max_connections);
    plan.broker.max_connections = max_connections;
    let (gateway, recovery) = Gateway::open(plan, &*disk, clock::now(), entropy()?)
        .with_context(|| format!("cannot open the store in {}", settings.store_dir().display()))?;
    report(&recovery);
    let endurance = settings.storage.endurance;
    let wear = Wear::start(&settings.store_dir(), endurance, clock::now().instant);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the core's runtime")?;
    LocalSet::new().block_on(&runtime, async {
        let (events, receiver) = unbounded_channel();
        let mut gateway = gateway;
        gateway.serve_firmware(clock::now(), settings.firmware.limits);
        let keys = Keys::load(&settings.security);
        let core = Core::new(gateway, doorkeeper(settings, &events, keys.clone())?);
        let functions = start_functions(settings, &log, &core, &events)?;
        let versions = Versions::new(settings.store()?, log.clone(), &events);
        versions.resume(&mut core.gateway.borrow_mut(), &settings.packages);
        let (mut drivers, news) = Drivers::new();
        for (index, sink) in sinks(settings, &core).into_iter().enumerate() {
            drivers.start(index, sink).context("cannot start the uplinks' thread")?;
        }
        let tell = events.clone();
        // The core's thread is gone only when everything ends.
        let told = events.clone();
        let blocks = BlockReader::new(settings.bundles()?, move |read, data| {
            drop(told.send(Event::Block(read, data)));
        });
        let times = SyncTimes::default();
        let mut pump = Pump {
            core: core.clone(),
            events: receiver,
            requests,
            disks: Disks::start(disk, &times, events.clone())
                .context("cannot start the disk threads")?,
            functions,
            versions,
            blocks,
            log,
            uplinks: drivers,
            news,
            pending: Requests::new(wear, times),
            routes,
            timer: Timer::new().context("cannot make a timer")?,
            listeners: JoinSet::new(),
            notes: ClosingNotes::default(),
            pulse: Pulse::new(Supervisor::of_environment(), clock::now().instant),
            shutdown,
        };
        let mut addresses = Vec::new();
        let mut sockets = Vec::new();
        for (index, listener) in settings.mqtt.listeners.iter().enumerate() {
            for address in &listener.listen {
                let socket = listen(*address)
                    .with_context(|| format!("{}: cannot listen on {address}", place(listener)))?;
                addresses.push(socket.local_addr()?);
                if needs_handshake(listener) {
                    sockets.push((index, socket.into_std()?));
                } else {
                    let accept = links::accept(core.clone(), socket, index, max_connections);
                    pump.listeners.spawn_local(accept);
                }
            }
        }
        if Door::is_needed(settings) {
            let (arrivals, receiver) = channel(ARRIVALS);
            start_door(settings, security, &core, sockets, (keys, arrivals), tell)
                .context("cannot start the thread that lets clients in")?;
            let receive = links::receive(core.clone(), receiver, max_connections);
            pump.listeners.spawn_local(receive);
        }
        for (index, line) in settings.serial.iter().enumerate() {
            let listener = settings.mqtt.listeners.len() + index;
            let serve = serial::serve(core.clone(), line.clone(), listener, entropy()?);
            pump.listeners.spawn_local(serve);
        }
        ready(&addresses);
        pump.run().await
    })
}

/// The key that a listener's addresses come from.
fn place(listener: &ListenerSettings) -> String {
    match listener.name.as_str() {
        PLAIN => "mqtt.listen".to_owned(),
        name => format!("mqtt.listener.{name}.listen"),
    }
}

fn doorkeeper(
    settings: &Settings,
    events: &UnboundedSender<Event>,
    keys: Keys,
) -> anyhow::Result<Doorkeeper> {
    let security = &settings.security;
    let passwords = match &security.users_file {
        Some(_) => {
            let events = events.clone();
            // The core's thread is gone only when everything ends.
            let tell = move |checked| drop(events.send(Event::Checked(checked)));
            Some(Passwords::start(tell).context("cannot start the thread that checks passwords")?)
        }
        None => None,
    };
    Ok(Doorkeeper {
        requires_login: settings.requires_login(),
        listeners: settings.mqtt.listeners.clone(),
        lines: settings.serial.iter().map(|line| format!("serial.{}", line.name)).collect(),
        devices: settings
            .serial
            .iter()
            .flat_map(|line| line.devices.iter().map(|(_, name)| name.clone()))
            .collect(),
        identity: security.tls.as_ref().map_or(Identity::CommonName, |tls| tls.identity),
        addresses: Addresses::new(security.limits.clone()),
        client_connects: Rates::new(security.limits.connects_per_minute_per_client),
        user_failures: Rates::new(security.limits.failed_logins_per_minute_per_user),
        turned_away: Arc::default(),
        policy: RefCell::new(security.policy.clone()),
        keys: RefCell::new(keys),
        passwords,
        pending: RefCell::default(),
    })
}

fn start_door(
    settings: &Settings,
    security: watch::Receiver<SecuritySettings>,
    core: &Core,
    sockets: Vec<(usize, std::net::TcpListener)>,
    (keys, arrivals): (Keys, Sender<Arrival>),
    events: UnboundedSender<Event>,
) -> std::io::Result<()> {
    let door = Door {
        security,
        listeners: settings.mqtt.listeners.clone(),
        sockets,
        keys,
        patience: settings.mqtt.connect_timeout,
        addresses: core.door.addresses.clone(),
        turned_away: core.door.turned_away.clone(),
        arrivals,
    };
    door.start(move |news| drop(events.send(Event::News(Box::new(news)))))
}

/// Where each uplink goes, in the order of the plan.
fn sinks(settings: &Settings, core: &Core) -> Vec<Sink> {
    let gateway = core.gateway.borrow();
    let sink = |(index, uplink): (usize, &UplinkSettings)| Sink {
        target: uplink.target.clone(),
        window: uplink.window,
        lanes: gateway.uplink_lanes(index),
    };
    settings.uplinks.iter().enumerate().map(sink).collect()
}

fn open_disk(settings: &Settings) -> anyhow::Result<Arc<dyn Disk>> {
    let path = settings.store_dir();
    let disk = FileDisk::open(&path)
        .with_context(|| format!("cannot open the store's directory {}", path.display()))?;
    Ok(Arc::new(disk.with_sync_delay(FileDisk::sync_delay_from_environment()?)))
}

/// Randomness for the identity of a new store.
fn entropy() -> anyhow::Result<u64> {
    use std::io::Read;
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(u64::from_le_bytes(bytes))
}

fn report(recovery: &Recovery) {
    if recovery.created {
        tracing::info!("made a new store");
    } else {
        tracing::info!(
            clean = recovery.clean,
            new_epoch = recovery.new_epoch,
            segments = recovery.segments,
            frames_replayed = recovery.frames_replayed,
            torn_bytes = recovery.torn_bytes,
            "opened the store"
        );
    }
    for note in &recovery.notes {
        tracing::warn!("{note}");
    }
    for loss in &recovery.losses {
        tracing::error!(
            stream = loss.stream.0,
            first = loss.first.0,
            last = loss.last.0,
            reason = ?loss.reason,
            "records are lost; they are in the loss ledger"
        );
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it: a client without a keep-alive of its own that lost its power
    // is found out by the kernel's, instead of taking a connection for ever.
    socket.set_keepalive(true)?;
    let listener = {
        socket.bind(address)?;
        socket.listen(BACKLOG)?
    };
    sockopt::set_tcp_keepidle(&listener, KEEP_ALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&listener, KEEP_ALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&listener, KEEP_ALIVE_PROBES)?;
    Ok(listener)
}

/// A function that cannot be loaded is parked, not fatal: its records wait.
fn start_functions(
    settings: &Settings,
    log: &GuestLog,
    core: &Core,
    events: &UnboundedSender<Event>,
) -> anyhow::Result<BTreeMap<usize, FunctionThreads>> {
    let mut threads = BTreeMap::new();
    for (index, function) in settings.functions.iter().enumerate() {
        match load(function) {
            Ok(module) => {
                let granted = Granted::new(&function.name, &function.secrets, settings.vault());
                let (name, config) = (function.name.clone(), function.config.clone());
                let loaded = Loaded { name, module, config, log: log.clone(), granted };
                let started = FunctionThreads::start(loaded, function.workers, events)
                    .with_context(|| format!("cannot start a thread for {}", function.name))?;
                threads.insert(index, started);
            }
            Err(error) => {
                let why = format!("{error:#}");
                tracing::error!(function = function.name, why, "not loaded; its records wait");
                core.gateway.borrow_mut().park_function(index, why);
            }
        }
    }
    Ok(threads)
}

/// The module of a function, compiled.
///
/// # Errors
/// It cannot be read, or used.
pub(crate) fn load(function: &FunctionSettings) -> anyhow::Result<Module> {
    let limits = function.limits();
    let wasm = read_module(&function.module, limits.module_bytes)?;
    Module::compile(&wasm, &limits)
        .with_context(|| format!("module {} cannot be used", function.module.display()))
}

fn read_module(path: &Path, max: usize) -> anyhow::Result<Vec<u8>> {
    let size = std::fs::metadata(path)
        .with_context(|| format!("cannot read module {}", path.display()))?
        .len();
    anyhow::ensure!(
        size <= max as u64,
        "module {} has {size} bytes, more than {max}",
        path.display()
    );
    std::fs::read(path).with_context(|| format!("cannot read module {}", path.display()))
}
