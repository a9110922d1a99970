//! Devices of the SDK and the gateway as one value, in simulated time: each device has its flash, its bootloader, its agent
//! and its clock, which goes a little wrong. They publish readings and ask for the time while a release comes to
//! them, connections break, and the power goes in the middle of what the gateway writes, and of what a device does.
//!
//! A world of this kind ends when the release is confirmed on all devices, by what the gateway has on its disk.
//!
//! Not here: storms of other clients, streams that are full, uplinks ([`crate::World`]).

mod device;

use std::collections::BTreeMap;
use std::time::Duration;

use tidegate_broker::{BrokerLimits, ConnId, TopicFilter};
use tidegate_device_sim::crypto::{HostHash, Key};
use tidegate_device_sim::release;
use tidegate_firmware::{HaltAt, Limits, Read, Release, Terms, write_head};
use tidegate_flow::{Gateway, Output, Plan, StreamPlan};
use tidegate_stream::crash::CrashDisk;
use tidegate_stream::{Compression, DiskRequest, LogOptions, Overflow};
use tidegate_wire::manifest::{Manifest, Policy};

use self::device::{Device, IMAGE, RELEASE};
use crate::random::Random;
use crate::timeline::Timeline;

/// A world that has not ended by then does not end: whom the power leaves again and again is offered a release
/// less and less often.
const MAX_TIME: Duration = Duration::from_secs(7_200);
/// Between two looks at whether it has.
const LOOK: Duration = Duration::from_millis(200);
/// Faults after which a world is given up.
const MAX_FAULTS: usize = 10;
/// Where readings go.
const STREAM: &str = "telemetry";
/// The release, by its sequence.
const SEQUENCE: u64 = 5;

/// What can happen.
enum Event {
    Dial(usize),
    Accept(ConnId),
    ToGateway(ConnId, Vec<u8>),
    ToDevice(ConnId, Vec<u8>),
    /// The device hears that its connection is gone.
    Lost(ConnId),
    /// The gateway hears it.
    Closed(ConnId),
    /// A device looks at its clock, if that is the newest look that it wanted.
    Work(usize, u64),
    SwitchOn(usize),
    /// The operator starts the campaign, until the gateway has it.
    Push,
    /// A device's power goes with one of its next writes.
    CutDevice,
    /// A connection breaks.
    Break,
    PowerOn,
    // Of one life of the gateway.
    Disk(u64, DiskRequest),
    Block(u64, Read),
    Wake(u64),
}

struct Link {
    device: usize,
    up_at: Duration,
    down_at: Duration,
    accepted: bool,
    paused: bool,
    unread: Vec<u8>,
}

/// What happened in a world.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Power cuts of the gateway, and of devices.
    pub cuts: [u64; 2],
    /// Connections that broke.
    pub breaks: u64,
    /// Readings that were acknowledged.
    pub acknowledged: u64,
    /// How often a device's idea of the time was held against the right one.
    pub times: u64,
}

/// See the module.
struct Fleet {
    devices: Vec<Device>,
    /// The connection of each, and the newest look that it wants.
    conns: Vec<Option<ConnId>>,
    looks: Vec<u64>,
    gateway: Option<Gateway>,
    disk: CrashDisk,
    /// Disk operations in the lives of the gateway that end by a power cut.
    lives: Vec<u64>,
    life: u64,
    wake_at: Option<Duration>,
    /// When the last block that was asked for is read.
    read_at: Duration,
    links: BTreeMap<ConnId, Link>,
    next_conn: u64,
    time: Timeline<Event>,
    random: Random,
    images: [Vec<u8>; 2],
    bundle: Vec<u8>,
    faults: Vec<String>,
    tally: Tally,
}

/// Runs a world of so many devices to its end; what was wrong in it, and what happened.
pub fn run(seed: u64, devices: u64) -> (Vec<String>, Tally) {
    let mut fleet = Fleet::new(seed, devices);
    fleet.begin();
    fleet.run();
    fleet.judge();
    fleet.tally.acknowledged = fleet.devices.iter().map(|device| device.acknowledged).sum();
    fleet.tally.times = fleet.devices.iter().map(|device| device.times).sum();
    (fleet.faults, fleet.tally)
}

fn plan(seed: u64) -> Plan {
    let topic = TopicFilter::parse("sensors/+/telemetry").expect("a filter");
    Plan {
        gateway: "gw-fleet".to_owned(),
        broker: BrokerLimits::default(),
        requires_login: false,
        log: LogOptions { segment_bytes: 256 * 1_024, ..LogOptions::default() },
        streams: vec![StreamPlan {
            name: STREAM.to_owned(),
            topics: vec![topic],
            max_bytes: 64 * 1_024 * 1_024,
            max_records: None,
            overflow: Overflow::Reject,
            retain: Duration::from_secs(86_400),
            max_age: None,
            compression: Compression::None,
            priority: 0,
            key: None,
        }],
        functions: Vec::new(),
        uplinks: Vec::new(),
        seed,
    }
}

impl Fleet {
    fn new(seed: u64, count: u64) -> Fleet {
        let mut random = Random::new(seed ^ 0xf1_ee_75);
        let images = [1, SEQUENCE].map(|number| release::image(number, IMAGE));
        let part = release::component(0, &images[1], None);
        let parts = [part];
        // Each may lose its power several times while the release is on trial.
        let policy = Policy { attempts: 10, ..Policy::default() };
        let manifest = Manifest { policy, ..release::manifest(SEQUENCE, &parts) };
        let head = write_head(&release::signed(&manifest, &Key::new(RELEASE)), None, None);
        let bundle = [head.expect("a head that fits"), images[1].clone()].concat();
        let trust = device::trust();
        let devices = (0..count).map(|number| {
            let off = random.range(0, 101) as i64 - 50;
            Device::new(seed * 1_000 + number, off, trust, &images[0])
        });
        let devices: Vec<Device> = devices.collect();
        let lives = (0..3).map(|_| random.range(40, 900)).collect();
        Fleet {
            conns: vec![None; devices.len()],
            looks: vec![0; devices.len()],
            devices,
            gateway: None,
            disk: CrashDisk::new(),
            lives,
            life: 0,
            wake_at: None,
            read_at: Duration::ZERO,
            links: BTreeMap::new(),
            next_conn: 1,
            time: Timeline::new(Duration::ZERO),
            random,
            images,
            bundle,
            faults: Vec::new(),
            tally: Tally::default(),
        }
    }

    fn begin(&mut self) {
        self.arm();
        self.power_on();
        for at in 0..self.devices.len() {
            let wait = self.random.millis(1, 400);
            self.time.after(wait, Event::SwitchOn(at));
        }
        self.time.after(Duration::from_millis(600), Event::Push);
        self.time.after(Duration::from_millis(900), Event::CutDevice);
        self.time.after(Duration::from_millis(700), Event::Break);
    }

    fn run(&mut self) {
        // To look at all campaigns after each event would take longer than all of it.
        let mut looked = Duration::ZERO;
        loop {
            if self.time.clock >= looked {
                looked = self.time.clock + LOOK;
                if self.is_done() {
                    return;
                }
            }
            let Some(event) = self.time.next() else {
                return self.fault("nothing is left to happen");
            };
            if self.time.clock > MAX_TIME {
                let devices = self.devices.iter().filter(|one| one.image() != self.images[1]);
                let devices: Vec<String> = devices.map(Device::describe).collect();
                let (life, tally) = (self.life, &self.tally);
                let what = format!("life {life}, {tally:?}, {}", devices.join(", "));
                return self.fault(&format!("it does not end: {what}"));
            }
            self.happen(event);
            self.carry_out();
            if self.faults.len() >= MAX_FAULTS {
                return;
            }
        }
    }

    fn fault(&mut self, what: &str) {
        self.faults.push(format!("{what}, after {:?}", self.time.clock));
    }

    /// The gateway has on its disk that all have confirmed the release.
    fn is_done(&self) -> bool {
        let Some(gateway) = self.gateway.as_ref().filter(|gateway| gateway.is_settled()) else {
            return false;
        };
        let confirmed = |campaign: &tidegate_firmware::CampaignStatus| {
            let stages = campaign.devices.iter().filter(|device| device.stage == "confirmed");
            stages.count() == self.devices.len()
        };
        self.life >= self.lives.len() as u64 && gateway.campaigns().iter().any(confirmed)
    }

    /// After one more power cut: what was acknowledged is there, and devices run what they should.
    fn judge(&mut self) {
        for device in &self.devices {
            if device.image() != self.images[1] {
                self.faults.push(format!("{} does not run the release", device.name));
            }
        }
        self.disk = self.disk.crash(self.random.bits());
        let opened = Gateway::open(plan(0), &self.disk, self.time.now(), 0);
        let Ok((gateway, _)) = opened else { return self.fault("the gateway does not start") };
        let stored =
            gateway.stream(STREAM).map_or(0, |stream| gateway.log().next_seq(stream).0 - 1);
        let acknowledged: u64 = self.devices.iter().map(|device| device.acknowledged).sum();
        if stored < acknowledged {
            self.fault(&format!("{stored} readings of {acknowledged} acknowledged ones are there"));
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Dial(at) => self.dial(at),
            Event::Accept(conn) => self.accept(conn),
            Event::ToGateway(conn, bytes) => self.arrive(conn, &bytes),
            Event::ToDevice(conn, bytes) => {
                let at = self.links.get(&conn).map(|link| link.device);
                if let Some(at) = at.filter(|at| self.conns[*at] == Some(conn)) {
                    self.work(at, &bytes);
                }
            }
            Event::Lost(conn) => self.lose(conn),
            Event::Closed(conn) => {
                let Some(link) = self.links.remove(&conn) else { return };
                let now = self.time.now();
                if let Some(gateway) = self.gateway.as_mut().filter(|_| link.accepted) {
                    gateway.handle_closed(now, conn, "the connection was reset");
                }
            }
            Event::Work(at, look) if look == self.looks[at] => self.work(at, &[]),
            Event::SwitchOn(at) => self.switch_on(at),
            Event::Push => self.push(),
            Event::CutDevice => self.cut_device(),
            Event::Break => self.break_one(),
            Event::PowerOn => self.power_on(),
            Event::Disk(life, request) if life == self.life => self.disk_works(request),
            Event::Block(life, read) if life == self.life => {
                let from = read.at as usize;
                let data = &self.bundle[from..from + usize::from(read.length)];
                let now = self.time.now();
                if let Some(gateway) = &mut self.gateway {
                    gateway.handle_firmware_read(now, &read, Ok(data));
                }
            }
            // Else it was set before something more urgent was.
            Event::Wake(life) if life == self.life && self.wake_at == Some(self.time.clock) => {
                self.wake_at = None;
                let now = self.time.now();
                if let Some(gateway) = &mut self.gateway {
                    gateway.handle_timeout(now);
                }
            }
            Event::Work(..) | Event::Disk(..) | Event::Block(..) | Event::Wake(_) => {}
        }
    }
}

/// Devices and their connections.
impl Fleet {
    fn switch_on(&mut self, at: usize) {
        let clock = self.time.clock;
        if let Err(fault) = self.devices[at].switch_on(clock, &self.images) {
            return self.fault(&fault);
        }
        self.dial(at);
    }

    fn dial(&mut self, at: usize) {
        if self.conns[at].is_some() || !self.devices[at].is_on() {
            return;
        }
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        let clock = self.time.clock;
        let link = Link {
            device: at,
            up_at: clock,
            down_at: clock,
            accepted: false,
            paused: false,
            unread: Vec::new(),
        };
        self.links.insert(conn, link);
        self.conns[at] = Some(conn);
        let wait = self.random.micros(80, 2_000);
        self.time.after(wait, Event::Accept(conn));
    }

    fn accept(&mut self, conn: ConnId) {
        let now = self.time.now();
        let Some(link) = self.links.get_mut(&conn) else { return };
        let at = link.device;
        let Some(gateway) = &mut self.gateway else {
            return self.time.after(Duration::from_millis(2), Event::Lost(conn));
        };
        link.accepted = true;
        gateway.handle_open(now, conn, format!("device-{at}"));
        if self.conns[at] == Some(conn) {
            self.devices[at].connected(self.time.clock);
            self.work(at, &[]);
        }
    }

    /// A device works, its bytes go out, and its idea of the time is looked at.
    fn work(&mut self, at: usize, bytes: &[u8]) {
        let clock = self.time.clock;
        let worked = self.devices[at].work(clock, bytes);
        let right = self.time.now().unix_us();
        if let Some(fault) = self.devices[at].check_time(clock, right) {
            self.fault(&fault);
        }
        if worked.is_off {
            self.drop_conn(at);
            let wait = self.random.millis(50, 400);
            return self.time.after(wait, Event::SwitchOn(at));
        }
        if let Some(conn) = self.conns[at].filter(|_| !worked.bytes.is_empty()) {
            let latency = self.latency();
            if let Some(link) = self.links.get_mut(&conn) {
                link.up_at = link.up_at.max(clock + latency);
                self.time.after(link.up_at - clock, Event::ToGateway(conn, worked.bytes));
            }
        }
        if worked.hangs_up {
            self.devices[at].lost();
            self.drop_conn(at);
            self.redial(at);
        }
        self.looks[at] += 1;
        self.time.after(worked.next.saturating_sub(clock), Event::Work(at, self.looks[at]));
    }

    /// One way in so many is slow: what comes and what goes does not take the same time.
    fn latency(&mut self) -> Duration {
        let longest = self.random.pick(&[900, 900, 900, 6_000, 90_000]);
        self.random.micros(80, longest)
    }

    fn redial(&mut self, at: usize) {
        let wait = self.random.millis(20, 400);
        self.time.after(wait, Event::Dial(at));
    }

    /// The device has no connection any more; the gateway hears of it later.
    fn drop_conn(&mut self, at: usize) {
        if let Some(conn) = self.conns[at].take() {
            let wait = self.random.millis(1, 300);
            self.time.after(wait, Event::Closed(conn));
        }
    }

    fn lose(&mut self, conn: ConnId) {
        let Some(at) = self.links.get(&conn).map(|link| link.device) else { return };
        if self.conns[at] == Some(conn) {
            self.devices[at].lost();
            self.conns[at] = None;
            self.redial(at);
        }
        self.time.after(Duration::from_micros(10), Event::Closed(conn));
    }

    fn arrive(&mut self, conn: ConnId, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&conn) else { return };
        if self.gateway.is_none() {
            return; // The machine is off; who sends finds out by its pings.
        }
        if !link.accepted {
            return self.time.after(Duration::from_micros(200), Event::Lost(conn));
        }
        link.unread.extend_from_slice(bytes);
        self.feed(conn);
    }

    fn feed(&mut self, conn: ConnId) {
        let now = self.time.now();
        let Some(link) = self.links.get_mut(&conn) else { return };
        let Some(gateway) = &mut self.gateway else { return };
        if link.paused || link.unread.is_empty() || !gateway.wants_input() {
            return;
        }
        gateway.handle_bytes(now, conn, &std::mem::take(&mut link.unread));
    }

    fn cut_device(&mut self) {
        let at = self.random.range(0, self.devices.len() as u64) as usize;
        if self.devices[at].is_on() {
            self.tally.cuts[1] += 1;
            let operations = self.random.range(0, 12);
            self.devices[at].cut_soon(operations);
        }
        // Rarer and rarer, so that every world comes to its end.
        let wait = Duration::from_millis(500 + 100 * self.tally.cuts[1]);
        self.time.after(wait, Event::CutDevice);
    }

    fn break_one(&mut self) {
        let at = self.random.range(0, self.devices.len() as u64) as usize;
        if let Some(conn) = self.conns[at] {
            self.tally.breaks += 1;
            self.time.after(Duration::ZERO, Event::Lost(conn));
        }
        let wait = Duration::from_millis(200 + 40 * self.tally.breaks);
        self.time.after(wait, Event::Break);
    }
}

/// The gateway, its disk and its operator.
impl Fleet {
    /// The power is to go in this life, if that is still to happen.
    fn arm(&mut self) {
        if let Some(operations) = self.lives.get(self.life as usize) {
            self.disk.crash_at(*operations);
        }
    }

    fn power_on(&mut self) {
        let now = self.time.now();
        let opened = Gateway::open(plan(self.life), &self.disk, now, self.random.bits());
        if self.disk.has_crashed() {
            return self.power_fails();
        }
        match opened {
            Ok((mut gateway, _)) => {
                let limits = Limits { concurrent: 8, bytes_per_second: None };
                gateway.serve_firmware(now, limits);
                self.gateway = Some(gateway);
            }
            Err(error) => self.fault(&format!("the gateway does not start: {error}")),
        }
    }

    fn power_fails(&mut self) {
        self.tally.cuts[0] += 1;
        self.disk = self.disk.crash(self.random.bits());
        self.gateway = None;
        self.life += 1;
        self.wake_at = None;
        for link in self.links.values_mut() {
            link.accepted = false;
            link.unread.clear();
        }
        self.arm();
        self.time.after(Duration::from_millis(300), Event::PowerOn);
    }

    fn disk_works(&mut self, request: DiskRequest) {
        let reply = request.perform(&self.disk);
        if self.disk.has_crashed() {
            return self.power_fails();
        }
        let now = self.time.now();
        if let Some(gateway) = &mut self.gateway {
            gateway.handle_disk(now, reply);
        }
    }

    /// As an operator does: again, until the gateway shows the campaign.
    fn push(&mut self) {
        let now = self.time.now();
        if let Some(gateway) = &mut self.gateway
            && gateway.campaigns().is_empty()
        {
            let release = Release::of_bundle::<HostHash>(&self.bundle).expect("a bundle");
            let terms = Terms { devices: None, first: None, halt_at: HaltAt::Devices(1) };
            let started =
                gateway.start_campaign(now, release::digest(&self.bundle), release, terms);
            if let Err(error) = started {
                self.fault(&format!("the campaign does not start: {error}"));
            }
        }
        self.time.after(Duration::from_millis(500), Event::Push);
    }

    fn carry_out(&mut self) {
        let now = self.time.now();
        while let Some(output) = self.gateway.as_mut().and_then(|g| g.poll_output(now)) {
            match output {
                Output::Writable(conn) => self.flush(conn),
                Output::Close(conn, _) => {
                    self.flush(conn);
                    if let Some(link) = self.links.get_mut(&conn) {
                        link.accepted = false;
                        let wait = link.down_at.saturating_sub(self.time.clock);
                        self.time.after(wait + Duration::from_micros(50), Event::Lost(conn));
                    }
                    if let Some(gateway) = &mut self.gateway {
                        gateway.handle_closed(now, conn, "closed");
                    }
                }
                Output::Disk(request) => {
                    let wait = self.random.micros(30, 3_000);
                    self.time.after(wait, Event::Disk(self.life, request));
                }
                Output::ReadFirmware(read) => {
                    // One after the other, as the daemon's thread reads them.
                    let wait = self.random.micros(30, 500);
                    self.read_at = self.read_at.max(self.time.clock) + wait;
                    let wait = self.read_at - self.time.clock;
                    self.time.after(wait, Event::Block(self.life, read));
                }
                Output::Pause(conn) => {
                    self.links.get_mut(&conn).into_iter().for_each(|link| link.paused = true);
                }
                Output::Resume(conn) => {
                    self.links.get_mut(&conn).into_iter().for_each(|link| link.paused = false);
                    self.feed(conn);
                }
                Output::Notice(_)
                | Output::Authenticate(..)
                | Output::Answer(..)
                | Output::Call(_)
                | Output::Uplink(..)
                | Output::Function(_)
                | Output::Letter(_) => {}
            }
        }
        let Some(gateway) = &self.gateway else { return };
        let at = self.time.until(gateway.poll_timeout());
        if self.wake_at.is_none_or(|wake| at < wake) {
            self.wake_at = Some(at);
            self.time.after(at.saturating_sub(self.time.clock), Event::Wake(self.life));
        }
    }

    fn flush(&mut self, conn: ConnId) {
        let Some(outbox) = self.gateway.as_mut().and_then(|g| g.unsent(conn)) else { return };
        let bytes = outbox.as_slice().to_vec();
        outbox.consume(bytes.len());
        let (clock, latency) = (self.time.clock, self.latency());
        if let Some(link) = self.links.get_mut(&conn) {
            link.down_at = link.down_at.max(clock + latency);
            self.time.after(link.down_at - clock, Event::ToDevice(conn, bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_reach_all_devices_and_their_time_is_right_whatever_power_and_connections_do() {
        let mut sum = Tally::default();
        for seed in 0..12 {
            let (wrong, tally) = run(seed, 12);
            assert!(wrong.is_empty(), "seed {seed}: {}", wrong.join("\n"));
            assert_eq!(tally.cuts[0], 3, "seed {seed}");
            sum.cuts[1] += tally.cuts[1];
            sum.breaks += tally.breaks;
            sum.acknowledged += tally.acknowledged;
            sum.times += tally.times;
        }
        println!("{sum:?}");
        assert!(sum.cuts[1] > 100 && sum.breaks > 100, "too calm: {sum:?}");
        assert!(sum.acknowledged > 1_000 && sum.times > 10_000, "too little: {sum:?}");
    }

    #[test]
    fn one_seed_is_one_fleet_for_ever() {
        assert_eq!(run(77, 5), run(77, 5));
    }
}
