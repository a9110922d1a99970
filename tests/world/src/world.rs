//! One world: a gateway, its disk, its sensors and its upstreams, driven by one queue of events
//! in simulated time. Everything that happens follows from the options.

mod calls;
mod gateway;
mod ledger;
mod links;
mod power;
mod retained;
pub(crate) mod upstream;
mod weather;

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_broker::ConnId;
use tidegate_flow::{Call, Gateway, UplinkEvent};
use tidegate_stream::DiskRequest;
use tidegate_stream::crash::CrashDisk;
use tidegate_stream::trace::{Trace, Traced};

use crate::caller::Callers;
use crate::folder::Folder;
use crate::mqtt::Qos;
use crate::options::Options;
use crate::publisher::Publisher;
use crate::random::Random;
use crate::subscriber::Subscriber;
use crate::tally::Tally;
use crate::timeline::Timeline;
use ledger::LedgerWatch;
use links::Link;
use upstream::{Connection, Transmission, Upstream};
use weather::Weather;

/// A world that is not done after so many events, or so much time, has stopped making progress.
const MAX_EVENTS: u64 = 2_000_000;
const MAX_TIME: Duration = Duration::from_secs(240);
/// How long a world goes on when all is done.
const AFTERGLOW: Duration = Duration::from_millis(600);
/// Faults after which a world is given up.
const MAX_FAULTS: usize = 10;

/// What can happen.
#[derive(Debug)]
enum Event {
    // Around the gateway.
    Measure(usize),
    Tick(usize),
    Dial(usize),
    Accept(ConnId),
    ToGateway(ConnId, Vec<u8>),
    ToDevice(ConnId, Vec<u8>),
    /// The device hears that its connection is gone.
    Lost(ConnId),
    /// The gateway hears it.
    Closed(ConnId),
    LinkTrouble,
    Partition(usize),
    FullDisk(usize),
    Busy(Duration),
    Watch,
    BackUp,
    SetBack,
    SyncFails,
    WriteFails,
    ClockJumps(i64),
    /// The clock is set, in this life of the gateway.
    ClockSet(u64),
    /// The gateway is told to stop, in this life.
    Stop(u64),
    /// It has taken too long to stop.
    StopTimeout(u64),
    PowerOn,
    /// Somebody puts a file into the folder.
    PutFile,
    /// A client asks over HTTP.
    Ask(usize),
    // Of one life of the gateway.
    Disk(u64, DiskRequest),
    Called(u64, Call),
    Wake(u64),
    Look(u64),
    Answers(usize, Connection),
    Takes(u64, usize, Transmission),
    Hears(u64, usize, UplinkEvent),
}

/// The world.
pub struct World {
    pub(crate) options: Options,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) subscribers: Vec<Subscriber>,
    pub(crate) upstreams: Vec<Upstream>,
    pub(crate) callers: Callers,
    folder: Folder,
    /// What went wrong, when something did.
    pub(crate) faults: Vec<String>,
    /// Everything that was ever appended, in order.
    pub(crate) appended: Vec<Traced>,
    pub(crate) gateway: Option<Gateway>,
    pub(crate) ledger: LedgerWatch,
    tally: Tally,
    random: Random,
    time: Timeline<Event>,
    disk: CrashDisk,
    trace: Trace,
    links: BTreeMap<ConnId, Link>,
    next_conn: u64,
    weather: Weather,
    /// Counts the gateway's lives: events of earlier ones are void.
    life: u64,
    wake_at: Option<Duration>,
    last_wake: Duration,
    /// Alarms in a row that followed each other at once.
    spins: u64,
    /// The power is to fail when an upstream has answered.
    cuts_session: bool,
    /// The power is to fail when a session has been taken over.
    cuts_takeover: bool,
    /// The function that wants to be told of it has handled that it starts.
    has_started: bool,
    /// It was told to stop.
    stopping: bool,
    /// It reads from no client, because the log's memory is full.
    congested: bool,
    /// Disk operations of all lives before this one.
    operations_before: u64,
}

impl World {
    /// A world at its beginning: the gateway starts, the devices connect.
    pub fn new(options: Options) -> World {
        let mut random = Random::new(options.seed ^ 0x57_4f_52_4c_44);
        let sensors = options.sensors.iter().enumerate();
        let publishers = sensors.map(|(index, sensor)| {
            let keep_alive =
                if options.link_trouble.is_some() { random.range(0, 3) as u16 } else { 0 };
            // A session that is kept holds the spool until its client is back.
            let least = u16::from(sensor.qos == Qos::ExactlyOnce);
            let keep_alive = keep_alive.max(least);
            Publisher::new(format!("s{index}"), *sensor, keep_alive, &options)
        });
        let subscribers = options
            .subscribers
            .iter()
            .enumerate()
            .map(|(index, kind)| Subscriber::new(format!("r{index}"), kind.clone(), &options));
        let mut world = World {
            publishers: publishers.collect(),
            subscribers: subscribers.collect(),
            upstreams: options.uplinks.iter().map(Upstream::new).collect(),
            callers: Callers::new(options.calls.requests),
            folder: Folder::new(options.calls.files),
            faults: Vec::new(),
            appended: Vec::new(),
            gateway: None,
            ledger: LedgerWatch::default(),
            tally: Tally::default(),
            random,
            time: Timeline::new(options.calls.before_minute),
            disk: CrashDisk::new(),
            trace: Trace::default(),
            links: BTreeMap::new(),
            next_conn: 1,
            weather: Weather::new(&options),
            life: 0,
            wake_at: None,
            last_wake: Duration::ZERO,
            spins: 0,
            cuts_session: false,
            cuts_takeover: false,
            has_started: false,
            stopping: false,
            congested: false,
            operations_before: 0,
            options,
        };
        world.schedule_weather();
        world.arm_end();
        world.power_on();
        world.begin_calls();
        for index in 0..world.publishers.len() + world.subscribers.len() {
            let gap = world.gap();
            if index < world.publishers.len() {
                world.time.after(gap, Event::Measure(index));
            }
            world.time.after(gap, Event::Tick(index));
            world.time.after(gap / 4, Event::Dial(index));
        }
        world
    }

    /// Runs until every reading is acknowledged and upstream, or nothing moves any more.
    pub fn run(&mut self) {
        let mut done_at = None;
        let mut records = 0;
        loop {
            if self.is_done() {
                // What schedules publish goes up too.
                if std::mem::replace(&mut records, self.appended.len()) != self.appended.len() {
                    done_at = None;
                }
                // Cursors reach the disk a little later.
                let done_at = *done_at.get_or_insert(self.time.clock);
                if self.time.clock > done_at + AFTERGLOW && self.rests() {
                    break;
                }
            }
            let Some(event) = self.time.next() else {
                return self.fault("nothing is left to happen, but the work is not done");
            };
            self.happen(event);
            self.tally.events += 1;
            if self.tally.events > MAX_EVENTS || self.time.clock > MAX_TIME {
                let (events, why) = (self.tally.events, self.unfinished());
                return self.fault(&format!("no end after {events} events: {why}"));
            }
            if self.faults.len() >= MAX_FAULTS {
                return;
            }
        }
        self.audit();
    }

    /// Disk operations so far.
    pub fn operations(&self) -> u64 {
        self.operations_before + self.disk.operations()
    }

    /// What happened in it; complete after [`World::verdict`].
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(crate) fn tally_mut(&mut self) -> &mut Tally {
        &mut self.tally
    }

    fn fault(&mut self, what: &str) {
        self.faults.push(format!("{what}, after {:?}", self.time.clock));
    }

    fn is_done(&self) -> bool {
        if self.upstreams.iter().any(|upstream| upstream.is_set_back) {
            return false;
        }
        if !self.folder.is_done() || !self.callers.is_done() {
            return false;
        }
        if self.stopping || self.wants_more() || !self.publishers.iter().all(Publisher::is_done) {
            return false;
        }
        let waits = |subscriber: &Subscriber| {
            subscriber.subscribed_at.is_none() || subscriber.unreleased().next().is_some()
        };
        if self.subscribers.iter().any(waits) {
            return false;
        }
        let Some(gateway) = self.gateway.as_ref().filter(|gateway| gateway.is_settled()) else {
            return false;
        };
        let log = gateway.log();
        let mut readers = log.readers();
        readers.all(|(reader, stream, _)| log.cursor(reader) >= log.next_seq(stream))
            && gateway.status(self.time.now()).functions.iter().all(|function| function.lag == 0)
    }

    /// What keeps the world from its end, in words.
    fn unfinished(&self) -> String {
        let mut why = Vec::new();
        if self.wants_more() {
            why.push(format!("trouble that has not bitten: {:?}", self.weather));
        }
        let waiting = self.publishers.iter().filter(|publisher| !publisher.is_done());
        why.extend(waiting.map(|publisher| format!("{} is not done", publisher.describe())));
        why.extend(self.subscribers.iter().map(Subscriber::describe));
        why.extend((!self.folder.is_done()).then(|| self.folder.describe()));
        why.extend((!self.callers.is_done()).then(|| self.callers.describe()));
        let Some(gateway) = &self.gateway else { return "the gateway is off".to_owned() };
        let log = gateway.log();
        let behind = log.readers().filter(|r| log.cursor(r.0) < log.next_seq(r.1));
        why.extend(behind.map(|(_, stream, name)| format!("{name} is behind in {stream}")));
        let status = log.status();
        let (full, retrying, error) = (status.disk_full, status.retrying, status.last_error);
        why.push(format!("disk full {full}, retrying {retrying}, last error {error:?}"));
        why.join("; ")
    }

    /// Whether the log has written everything down.
    fn rests(&self) -> bool {
        self.gateway.as_ref().is_some_and(|gateway| gateway.log().is_idle())
    }

    fn gap(&mut self) -> Duration {
        let mean = self.options.gap.as_micros() as u64;
        self.random.micros(mean / 4, mean * 7 / 4)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Measure(index) => self.measure(index),
            Event::Tick(index) => self.tick(index),
            Event::Dial(index) => self.dial(index),
            Event::Accept(conn) => self.accept(conn),
            Event::ToGateway(conn, bytes) => self.arrive(conn, bytes),
            Event::ToDevice(conn, bytes) => self.deliver(conn, &bytes),
            Event::Lost(conn) => self.lose(conn),
            Event::Closed(conn) => self.closed(conn),
            Event::LinkTrouble => self.link_trouble(),
            Event::Partition(index) => self.partition(index),
            Event::FullDisk(index) => self.full_disk(index),
            Event::Busy(length) => self.upstreams_are_busy(length),
            Event::BackUp => self.upstreams_back_up(),
            Event::SetBack => self.upstreams_are_set_back(),
            Event::Watch => self.watch(),
            Event::SyncFails => self.sync_fails(),
            Event::WriteFails => self.write_fails(),
            Event::ClockJumps(by_ms) => self.clock_jumps(by_ms),
            Event::ClockSet(life) if life == self.life => self.time.set_wall_clock(),
            Event::Stop(life) if life == self.life => self.stop(),
            Event::StopTimeout(life) if life == self.life => self.stop_timeout(),
            Event::PowerOn => self.power_on(),
            Event::PutFile => self.put_file(),
            Event::Ask(wish) => self.ask(wish),
            Event::Disk(life, request) if life == self.life => self.disk_works(request),
            Event::Called(life, call) if life == self.life => self.called(call),
            Event::Wake(life) if life == self.life => self.wake(),
            Event::Look(life) if life == self.life => self.look(),
            Event::Answers(uplink, connection) => self.upstream_answers(uplink, connection),
            Event::Takes(life, uplink, sent) => self.upstream_takes(life, uplink, sent),
            Event::Hears(life, uplink, event) if life == self.life => {
                self.uplink_hears(uplink, event);
            }
            Event::ClockSet(_)
            | Event::Stop(_)
            | Event::StopTimeout(_)
            | Event::Disk(..)
            | Event::Called(..)
            | Event::Wake(_)
            | Event::Look(_)
            | Event::Hears(..) => {}
        }
        self.carry_out();
    }
}
