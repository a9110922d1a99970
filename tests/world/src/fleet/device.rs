//! A device of the SDK: flash, bootloader, agent, MQTT client, and the gateway's time.

use std::collections::BTreeSet;
use std::time::Duration;

use tidegate_agent::{Agent, Budget, Config as AgentConfig, Millis, Next, Obedience};
use tidegate_boot::{Identity, Kind, Layout, Part, Region, Trust, start};
use tidegate_device_sim::crypto::{Host, Key};
use tidegate_device_sim::nor::Nor;
use tidegate_device_sim::release::{self, CLASS, VENDOR};
use tidegate_mqtt::{Client, Config, Event, Micros, Publish};
use tidegate_telemetry::TimeSync;
use tidegate_wire::message::{Reason, capability};

/// Where the image is that runs, and how long the images are.
const A: Region = Region { from: 0x6000, to: 0xc000 };
const B: Region = Region { from: 0xc000, to: 0x1_3000 };
const UNITS: usize = 0x13;
static PARTS: [Part; 1] = [Part { id: 0, kind: Kind::Swapped, a: A, b: B }];
pub(super) const IMAGE: usize = 9_000;
/// Seed of the release key.
pub(super) const RELEASE: u8 = 3;
/// Between two readings.
const MEASURES: Micros = Micros::from_millis(700);
/// What rounding to microseconds adds to the error of a time.
const ROUNDING: u64 = 8;

/// See the module.
pub(super) struct Device {
    pub(super) name: &'static str,
    nor: Nor<8, 4_096>,
    on: Option<Running>,
    /// By so much, in millionths, its clock goes too fast.
    off: i64,
    trust: Trust<'static>,
    pub(super) starts: u32,
    /// Readings that the gateway has acknowledged.
    pub(super) acknowledged: u64,
    /// How often the time was known, and looked at.
    pub(super) times: u64,
}

/// What it has in its memory.
struct Running {
    since: Duration,
    agent: Agent<'static, Host>,
    client: Client<'static>,
    sync: TimeSync,
    asks: String,
    /// What the agent says, until the client has taken it.
    says: Vec<u8>,
    readings: BTreeSet<u16>,
    measure_at: Micros,
}

/// What has come of a piece of work.
pub(super) struct Worked {
    /// To be sent.
    pub(super) bytes: Vec<u8>,
    /// When it wants to work again.
    pub(super) next: Duration,
    /// It gives its connection up.
    pub(super) hangs_up: bool,
    /// Its memory is gone: the power, or a restart.
    pub(super) is_off: bool,
}

fn layout() -> Layout<'static> {
    let region = |from, to| Region { from, to };
    Layout {
        state: region(0, 0x2000),
        keys: region(0x2000, 0x4000),
        ledgers: [region(0x4000, 0x5000), region(0x5000, 0x6000)],
        parts: &PARTS,
    }
}

/// Whom devices trust.
pub(super) fn trust() -> Trust<'static> {
    let factory = release::key_set(1, 1, &[&Key::new(RELEASE)], 1_000, &Key::new(1));
    Trust { roots: [Key::new(1).public(), Key::new(2).public()], factory: Vec::leak(factory) }
}

fn leaked<const N: usize>() -> &'static mut [u8] {
    Box::leak(Box::new([0; N]))
}

impl Device {
    /// One that has never run, with this image.
    pub(super) fn new(number: u64, off: i64, trust: Trust<'static>, image: &[u8]) -> Device {
        let mut nor = Nor::new(UNITS, number);
        nor.put(A.from as usize, image);
        let name = String::leak(format!("pump-{number:03}"));
        Device { name, nor, on: None, off, trust, starts: 0, acknowledged: 0, times: 0 }
    }

    /// The image that it would start.
    pub(super) fn image(&self) -> &[u8] {
        self.nor.look(A.from as usize, IMAGE)
    }

    /// Where it stands, in words.
    pub(super) fn describe(&self) -> String {
        let state = self.on.as_ref().map(|on| (on.client.is_up(), on.agent.sequence(), &on.says));
        format!("{} started {} times: {state:?}", self.name, self.starts)
    }

    pub(super) fn is_on(&self) -> bool {
        self.on.is_some()
    }

    /// The power goes in the middle of a write or an erase that comes soon.
    pub(super) fn cut_soon(&mut self, operations: u64) {
        self.nor.cut_at(self.nor.operations + operations);
    }

    /// The power comes, and stays for now. The bootloader does its work, and the application starts.
    pub(super) fn switch_on(&mut self, clock: Duration, images: &[Vec<u8>]) -> Result<(), String> {
        self.nor.power_on();
        self.starts += 1;
        let started = start(&mut self.nor, &layout(), &self.trust, &Host, &mut || ());
        let started =
            started.map_err(|error| format!("{} does not start: {error:?}", self.name))?;
        let image = self.nor.look(started.entry as usize, IMAGE);
        if !images.iter().any(|whole| whole == image) {
            return Err(format!("{} starts a broken image", self.name));
        }
        let mut device = [0; 16];
        device.copy_from_slice(&release::digest(self.name.as_bytes()).0[..16]);
        let capabilities = capability::HEATSHRINK | capability::DELTA | capability::KEY_SETS;
        let config = Box::leak(Box::new(AgentConfig {
            layout: layout(),
            trust: self.trust,
            identity: Identity { vendor: VENDOR, class: CLASS, device, capabilities },
            factory_version: "1.0.0",
            block: 224,
            window: 8,
            message: 1_280,
            budget: Budget { erases: 400, tries: 50 },
            obedience: Obedience::Gateway,
        }));
        let agent = Agent::start(Millis(0), &mut self.nor, config, Host, Reason::Power);
        let mut agent = agent.map_err(|_| format!("the flash of {} has failed", self.name))?;
        agent.self_test(true);
        let filters = [format!("tg/{}/ota/+", self.name), format!("tg/{}/time/now", self.name)];
        let filters: Vec<&str> = filters.into_iter().map(|filter| &*String::leak(filter)).collect();
        let config =
            Config { keep_alive: 2, subscriptions: Vec::leak(filters), ..Config::new(self.name) };
        self.on = Some(Running {
            since: clock,
            agent,
            client: Client::new(config, leaked::<2_048>(), leaked::<1_536>()),
            sync: TimeSync::new(Micros::from_millis(5_000)),
            asks: format!("tg/{}/time/req", self.name),
            says: Vec::new(),
            readings: BTreeSet::new(),
            measure_at: Micros(0),
        });
        Ok(())
    }

    /// Its own clock.
    fn local(off: i64, since: Duration, clock: Duration) -> Micros {
        let micros = (clock - since).as_micros() as i64;
        Micros((micros + micros * off / 1_000_000) as u64)
    }

    /// Its transport has a connection.
    pub(super) fn connected(&mut self, clock: Duration) {
        if let Some(on) = &mut self.on {
            on.client.connected(Device::local(self.off, on.since, clock));
        }
    }

    /// It has none any more.
    pub(super) fn lost(&mut self) {
        if let Some(on) = &mut self.on {
            on.client.disconnected();
        }
    }

    /// It looks at what has come in, and at its clock.
    pub(super) fn work(&mut self, clock: Duration, bytes: &[u8]) -> Worked {
        let mut worked = Worked {
            bytes: Vec::new(),
            next: clock + Duration::from_millis(500),
            hangs_up: false,
            is_off: false,
        };
        let Some(on) = &mut self.on else { return worked };
        let now = Device::local(self.off, on.since, clock);
        match on.go_on(now, bytes, self.name, &mut self.nor, &mut worked) {
            Some(acknowledged) => self.acknowledged += acknowledged,
            None => {
                self.on = None;
                worked = Worked { bytes: Vec::new(), is_off: true, ..worked };
            }
        }
        worked
    }

    /// Holds its idea of the time against the gateway's clock, in microseconds; what is wrong with it.
    pub(super) fn check_time(&mut self, clock: Duration, right: i64) -> Option<String> {
        let on = self.on.as_ref()?;
        let (time, quality) = on.sync.clock().now(Device::local(self.off, on.since, clock))?;
        self.times += 1;
        let wrong = (time as i64).abs_diff(right);
        let is_right = quality.trusted && wrong <= quality.error.0 + ROUNDING;
        let name = self.name;
        (!is_right).then(|| format!("the time of {name} is {wrong} us off, and said: {quality:?}"))
    }
}

impl Running {
    /// Readings that were acknowledged; `None` when the power is gone, or a restart is wanted.
    fn go_on(
        &mut self,
        now: Micros,
        mut bytes: &[u8],
        name: &str,
        nor: &mut Nor<8, 4_096>,
        worked: &mut Worked,
    ) -> Option<u64> {
        let millis = Millis(now.0 / 1_000);
        let mut acknowledged = 0;
        while let Some(event) = self.client.handle_input(now, &mut bytes) {
            match event {
                Event::Up { .. } => self.agent.connected(),
                Event::Message(message) if self.sync.take(now, &message) => {}
                Event::Message(message) => {
                    self.agent.handle_message(millis, nor, message.payload).ok()?;
                }
                Event::Acknowledged { id, .. } => {
                    acknowledged += u64::from(self.readings.remove(&id));
                }
                Event::Subscribed { .. } => {}
                Event::Refused(_) | Event::Down(_) => worked.hangs_up = true,
            }
        }
        if now >= self.measure_at {
            self.measure_at = now.after(MEASURES);
            let topic = format!("sensors/{name}/telemetry");
            // What does not fit is not measured.
            if let Ok(id) = self.client.publish(&Publish::new(&topic, &now.0.to_be_bytes())) {
                self.readings.insert(id);
            }
        }
        // What is not taken now stays due.
        let _ = self.sync.ask(now, &mut self.client, &self.asks);
        let mut due = self.measure_at;
        loop {
            self.say(millis, nor, name)?;
            match self.agent.poll(millis, nor).ok()? {
                Next::Work => {}
                // What it says of it goes out first.
                Next::Restart if self.says.is_empty() || !self.client.is_up() => return None,
                Next::Restart => {
                    due = now.after(Micros::from_millis(20));
                    break;
                }
                Next::Wait(until) => {
                    let until = until.map(|until| Micros::from_millis(until.0));
                    due = until.map_or(due, |until| due.min(until));
                    break;
                }
            }
        }
        self.say(millis, nor, name)?;
        while let piece @ [_, ..] = self.client.output(now) {
            worked.bytes.extend_from_slice(piece);
            let count = piece.len();
            self.client.sent(now, count);
        }
        let deadlines = [self.client.next_deadline(), Some(self.sync.next_deadline())];
        let deadlines = deadlines.into_iter().flatten().filter(|at| *at > now);
        let due = deadlines.fold(due, Micros::min);
        let wait = due.since(now).0.clamp(1_000, 500_000);
        worked.next -= Duration::from_micros(500_000 - wait);
        Some(acknowledged)
    }

    /// Hands over to the client what the agent says, as much as it takes; `None` when the power is gone.
    fn say(&mut self, millis: Millis, nor: &mut Nor<8, 4_096>, name: &str) -> Option<()> {
        while self.client.is_up() {
            if self.says.is_empty() {
                let mut out = [0; 512];
                let length = self.agent.poll_output(millis, nor, &mut out).ok()?;
                self.says = out[..length.unwrap_or(0)].to_vec();
            }
            // Of each message, the kind comes first: docs/formats/device-messages.md.
            let topic = match self.says.get(2) {
                None => break,
                Some(4) => "req",
                Some(7) => "report",
                Some(_) => "state",
            };
            let topic = format!("tg/{name}/ota/{topic}");
            if self.client.publish(&Publish::new(&topic, &self.says)).is_err() {
                break;
            }
            self.says.clear();
        }
        Some(())
    }
}
