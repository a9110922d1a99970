//! One world: a gateway, its disk, its publishers and its upstream, driven by one queue of
//! events in simulated time. Everything that happens follows from the options.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

use tidegate_broker::ConnId;
use tidegate_flow::{
    Call, CallResult, CallVerdict, ClockQuality, Gateway, Now, Output, UplinkEvent,
};
use tidegate_stream::DiskRequest;
use tidegate_stream::crash::CrashDisk;
use tidegate_uplink::{Action, Batch};

use crate::options::Options;
use crate::publisher::Publisher;
use crate::random::Random;
use crate::upstream::Upstream;

/// A world that is not done after so many events has stopped making progress.
const MAX_EVENTS: u64 = 3_000_000;
/// How long the gateway is off after a power cut.
const POWER_OFF: Duration = Duration::from_millis(20);
/// 2026-06-01, where every world begins.
const FIRST_UNIX_MS: i64 = 1_780_272_000_000;

/// What can happen.
#[derive(Debug)]
enum Event {
    Measure(usize),
    Connect(usize),
    ToGateway(ConnId, Vec<u8>),
    ToPublisher(usize, ConnId, Vec<u8>),
    Disk(DiskRequest),
    Called(Call),
    UpstreamAnswers { session: u64 },
    UpstreamTakes { session: u64, token: u64, batch: Batch },
    UpstreamAcknowledges { session: u64, token: u64 },
    DriverGivesUp { session: u64, why: String },
    Partition(bool),
    DiskFull(bool),
    SyncFails,
    Wake,
    PowerOn,
}

/// The world.
pub struct World {
    options: Options,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) upstream: Upstream,
    pub(crate) disk: CrashDisk,
    cuts: u64,
    /// What went wrong, when something did.
    pub(crate) faults: Vec<String>,
    gateway: Option<Gateway>,
    random: Random,
    base: Instant,
    clock: Duration,
    queue: BinaryHeap<Reverse<(Duration, u64, u64)>>,
    pending: BTreeMap<u64, Event>,
    sequence: u64,
    /// Events of the gateway's earlier lives are void.
    life: u64,
    conns: BTreeMap<ConnId, usize>,
    next_conn: u64,
    partitioned: bool,
    session: Option<u64>,
    wake_at: Option<Duration>,
    cut_points: Vec<u64>,
    /// Disk operations of all lives before this one.
    operations_before: u64,
}

impl World {
    /// A world at its beginning: the gateway starts, the publishers connect.
    pub fn new(options: Options) -> World {
        let random = Random::new(options.seed);
        let publishers = options.publishers();
        let mut world = World {
            publishers,
            upstream: Upstream::default(),
            disk: CrashDisk::new(),
            cuts: 0,
            faults: Vec::new(),
            gateway: None,
            random,
            base: Instant::now(),
            clock: Duration::ZERO,
            queue: BinaryHeap::new(),
            pending: BTreeMap::new(),
            sequence: 0,
            life: 0,
            conns: BTreeMap::new(),
            next_conn: 1,
            partitioned: false,
            session: None,
            wake_at: None,
            cut_points: options.cuts.clone(),
            operations_before: 0,
            options,
        };
        world.schedule_weather();
        world.arm_power_cut();
        world.power_on();
        for index in 0..world.publishers.len() {
            let gap = world.gap();
            world.after(gap, Event::Measure(index));
        }
        world
    }

    /// Runs until every reading is acknowledged and upstream, or nothing moves any more.
    pub fn run(&mut self) {
        let mut events = 0;
        while !self.is_done() {
            let Some(Reverse((at, id, life))) = self.queue.pop() else {
                self.faults.push("nothing is left to happen, but the work is not done".to_owned());
                return;
            };
            let Some(event) = self.pending.remove(&id) else { continue };
            self.clock = at;
            if life != u64::MAX && life != self.life {
                continue;
            }
            self.happen(event);
            events += 1;
            if events > MAX_EVENTS || self.faults.len() > 10 {
                self.faults.push(format!("no end after {events} events, {:?}", self.clock));
                return;
            }
        }
    }

    /// Disk operations so far.
    pub fn operations(&self) -> u64 {
        self.operations_before + self.disk.operations()
    }

    /// Power cuts so far.
    pub fn cuts(&self) -> u64 {
        self.cuts
    }

    /// This moment.
    pub fn now(&self) -> Now {
        Now {
            instant: self.base + self.clock,
            unix_ms: FIRST_UNIX_MS + self.clock.as_millis() as i64,
            clock: ClockQuality::Synced,
        }
    }

    fn is_done(&mut self) -> bool {
        if !self.publishers.iter().all(Publisher::is_done) {
            return false;
        }
        let now = self.now();
        let Some(gateway) = &self.gateway else { return false };
        if !gateway.is_settled() {
            return false;
        }
        let status = gateway.status(now);
        let read = status.streams.iter().flat_map(|stream| &stream.readers).all(|r| r.lag == 0);
        read && status.functions.iter().all(|function| function.state == "idle")
    }

    // ---- time --------------------------------------------------------------------------------

    fn after(&mut self, wait: Duration, event: Event) {
        let life = match event {
            Event::Measure(_)
            | Event::Connect(_)
            | Event::Partition(_)
            | Event::DiskFull(_)
            | Event::SyncFails
            | Event::PowerOn => u64::MAX,
            Event::ToGateway(..)
            | Event::ToPublisher(..)
            | Event::Disk(_)
            | Event::Called(_)
            | Event::UpstreamAnswers { .. }
            | Event::UpstreamTakes { .. }
            | Event::UpstreamAcknowledges { .. }
            | Event::DriverGivesUp { .. }
            | Event::Wake => self.life,
        };
        self.sequence += 1;
        self.queue.push(Reverse((self.clock + wait, self.sequence, life)));
        self.pending.insert(self.sequence, event);
    }

    fn micros(&mut self, low: u64, high: u64) -> Duration {
        Duration::from_micros(self.random.range(low, high))
    }

    fn gap(&mut self) -> Duration {
        let mean = self.options.gap.as_micros() as u64;
        self.micros(mean / 4, mean * 7 / 4)
    }

    fn schedule_weather(&mut self) {
        for (at, length) in self.options.partitions.clone() {
            self.after(at, Event::Partition(true));
            self.after(at + length, Event::Partition(false));
        }
        for (at, length) in self.options.full_disks.clone() {
            self.after(at, Event::DiskFull(true));
            self.after(at + length, Event::DiskFull(false));
        }
        for at in self.options.failed_syncs.clone() {
            self.after(at, Event::SyncFails);
        }
    }

    // ---- events ------------------------------------------------------------------------------

    fn happen(&mut self, event: Event) {
        match event {
            Event::Measure(index) => self.measure(index),
            Event::Connect(index) => self.connect(index),
            Event::ToGateway(conn, bytes) => {
                let now = self.now();
                if let Some(gateway) = &mut self.gateway {
                    gateway.handle_bytes(now, conn, &bytes);
                }
            }
            Event::ToPublisher(index, conn, bytes) => self.publisher_receives(index, conn, &bytes),
            Event::Disk(request) => self.disk(request),
            Event::Called(call) => self.called(call),
            Event::UpstreamAnswers { session } => self.upstream_answers(session),
            Event::UpstreamTakes { session, token, batch } => {
                self.upstream_takes(session, token, batch);
            }
            Event::UpstreamAcknowledges { session, token } => {
                if !self.partitioned && self.session == Some(session) {
                    self.uplink_hears(UplinkEvent::Acknowledged { session, token });
                }
            }
            Event::DriverGivesUp { session, why } => {
                self.uplink_hears(UplinkEvent::Disconnected { session, why });
            }
            Event::Partition(on) => self.partitioned = on,
            Event::DiskFull(on) => {
                let capacity = if on { self.disk.used() } else { u64::MAX };
                self.disk.set_capacity(capacity);
            }
            Event::SyncFails => self.disk.fail_next_sync(),
            Event::Wake => {
                self.wake_at = None;
                let now = self.now();
                if let Some(gateway) = &mut self.gateway {
                    gateway.handle_timeout(now);
                }
            }
            Event::PowerOn => self.power_on(),
        }
        self.carry_out();
    }

    fn measure(&mut self, index: usize) {
        let bytes = self.publishers[index].measure();
        self.send_to_gateway(index, bytes);
        if self.publishers[index].has_more() {
            let gap = self.gap();
            self.after(gap, Event::Measure(index));
        }
    }

    fn connect(&mut self, index: usize) {
        let now = self.now();
        let Some(gateway) = &mut self.gateway else { return };
        let conn = ConnId(self.next_conn);
        self.next_conn += 1;
        self.conns.insert(conn, index);
        gateway.handle_open(now, conn, format!("sensor-{index}"));
        let bytes = self.publishers[index].connect(conn);
        self.send_to_gateway(index, bytes);
    }

    fn send_to_gateway(&mut self, index: usize, bytes: Vec<u8>) {
        let Some(conn) = self.publishers[index].conn else { return };
        if !bytes.is_empty() {
            // A stream keeps its order: every packet takes equally long.
            self.after(Duration::from_micros(120), Event::ToGateway(conn, bytes));
        }
    }

    fn publisher_receives(&mut self, index: usize, conn: ConnId, bytes: &[u8]) {
        if self.publishers[index].conn == Some(conn) {
            let answer = self.publishers[index].receive(bytes);
            self.send_to_gateway(index, answer);
        }
    }

    fn disk(&mut self, request: DiskRequest) {
        let reply = request.perform(&self.disk);
        if self.disk.has_crashed() {
            return self.power_cut();
        }
        let now = self.now();
        if let Some(gateway) = &mut self.gateway {
            gateway.handle_disk(now, reply);
        }
    }

    fn called(&mut self, call: Call) {
        let function = call.function;
        let verdict = match self.options.function.call(&call.frame, &call.state) {
            Ok(frame) => CallVerdict::Done(frame),
            Err(failure) => CallVerdict::Failed(failure),
        };
        drop(call);
        let result =
            CallResult { verdict, fuel: 0, elapsed: Duration::from_micros(50), memory_bytes: 0 };
        let now = self.now();
        if let Some(gateway) = &mut self.gateway {
            gateway.handle_call(now, function, result);
        }
    }

    // ---- upstream ----------------------------------------------------------------------------

    fn upstream_answers(&mut self, session: u64) {
        if self.partitioned {
            let why = "no route to host".to_owned();
            return self.uplink_hears(UplinkEvent::Disconnected { session, why });
        }
        self.session = Some(session);
        self.uplink_hears(UplinkEvent::Connected { session, held: Vec::new() });
    }

    fn upstream_takes(&mut self, session: u64, token: u64, batch: Batch) {
        // A partition is silent: nothing arrives and nobody is told.
        if self.partitioned || self.session != Some(session) {
            return;
        }
        for record in batch.records {
            let message = record.into_message("gw-sim", &batch.stream, batch.epoch);
            self.upstream.take(&message.headers, &message.payload);
        }
        let wait = Duration::from_millis(2);
        self.after(wait, Event::UpstreamAcknowledges { session, token });
    }

    fn uplink_hears(&mut self, event: UplinkEvent) {
        let now = self.now();
        if let Some(gateway) = &mut self.gateway {
            gateway.handle_uplink(now, 0, event);
        }
    }

    fn drive_uplink(&mut self, action: Action) {
        match action {
            Action::Connect { session, .. } => {
                self.after(Duration::from_millis(5), Event::UpstreamAnswers { session });
            }
            Action::Send { session, token, batch } => {
                let event = Event::UpstreamTakes { session, token, batch };
                self.after(Duration::from_millis(2), event);
            }
            Action::Disconnect { session, why } => {
                if self.session == Some(session) {
                    self.session = None;
                }
                self.after(Duration::from_micros(10), Event::DriverGivesUp { session, why });
            }
            Action::Advance { .. } | Action::Reject { .. } | Action::Seal { .. } => {
                self.faults.push("the gateway gave its own business to the driver".to_owned());
            }
        }
    }

    // ---- the gateway -------------------------------------------------------------------------

    fn carry_out(&mut self) {
        let now = self.now();
        while let Some(output) = self.gateway.as_mut().and_then(|g| g.poll_output(now)) {
            match output {
                Output::Writable(conn) => self.flush(conn),
                Output::Close(conn, _) => {
                    self.flush(conn);
                    self.hang_up(conn);
                }
                Output::Disk(request) => {
                    let wait = self.micros(100, 3_000);
                    self.after(wait, Event::Disk(request));
                }
                Output::Call(call) => {
                    let wait = self.micros(20, 400);
                    self.after(wait, Event::Called(call));
                }
                Output::Uplink(_, action) => self.drive_uplink(action),
                Output::Pause(_) | Output::Resume(_) | Output::Notice(_) => {}
            }
        }
        self.set_alarm();
    }

    fn set_alarm(&mut self) {
        let Some(gateway) = &self.gateway else { return };
        let at = gateway.poll_timeout().saturating_duration_since(self.base);
        let at = at.max(self.clock + Duration::from_micros(1));
        if self.wake_at.is_none_or(|set| at < set) {
            self.wake_at = Some(at);
            self.after(at - self.clock, Event::Wake);
        }
    }

    fn flush(&mut self, conn: ConnId) {
        let Some(outbox) = self.gateway.as_mut().and_then(|g| g.unsent(conn)) else { return };
        let bytes = outbox.as_slice().to_vec();
        outbox.consume(bytes.len());
        if let Some(index) = self.conns.get(&conn).copied() {
            let wait = Duration::from_micros(120);
            self.after(wait, Event::ToPublisher(index, conn, bytes));
        }
    }

    fn hang_up(&mut self, conn: ConnId) {
        if let Some(index) = self.conns.remove(&conn)
            && self.publishers[index].conn == Some(conn)
        {
            self.publishers[index].disconnected();
            self.after(Duration::from_millis(3), Event::Connect(index));
        }
    }

    // ---- power -------------------------------------------------------------------------------

    fn arm_power_cut(&mut self) {
        if self.cut_points.is_empty() {
            return;
        }
        let at = self.cut_points.remove(0);
        self.disk.crash_at(at.saturating_sub(self.operations_before));
    }

    fn power_cut(&mut self) {
        self.cuts += 1;
        self.life += 1;
        self.gateway = None;
        self.session = None;
        self.wake_at = None;
        self.conns.clear();
        for publisher in &mut self.publishers {
            publisher.disconnected();
        }
        self.operations_before += self.disk.operations();
        let survived = self.disk.crash(self.random.bits());
        self.disk = survived;
        self.arm_power_cut();
        self.after(POWER_OFF, Event::PowerOn);
    }

    fn power_on(&mut self) {
        let now = self.now();
        let opened = Gateway::open(self.options.plan(), &self.disk, now, self.random.bits());
        if self.disk.has_crashed() {
            return self.power_cut();
        }
        match opened {
            Ok((gateway, _)) => self.gateway = Some(self.options.plant(gateway)),
            Err(error) => {
                self.faults.push(format!("the gateway refused to start: {error}"));
                return;
            }
        }
        for index in 0..self.publishers.len() {
            let wait = self.micros(100, 5_000);
            self.after(wait, Event::Connect(index));
        }
        self.carry_out();
    }
}
