//! A device: the bootloader and the agent of the SDK on simulated flash, in real time.

use std::time::Instant;

use tidegate_agent::{Agent, Budget, Config, Millis, Next, Obedience};
use tidegate_boot::{Identity, Kind, Layout, Part, Region, Trust, start};
use tidegate_device_sim::crypto::Host;
use tidegate_device_sim::nor::Nor;
use tidegate_device_sim::release;
use tidegate_wire::ed25519::PublicKey;
use tidegate_wire::message::{Message, Reason, capability};

/// Vendor and class of the simulator, as they are typed.
pub(super) const VENDOR: &str = "11111111-1111-1111-1111-111111111111";
pub(super) const CLASS: &str = "22222222-2222-2222-2222-222222222222";
/// Bytes of an image, and of a block.
pub(super) const IMAGE: usize = 31_000;
pub(super) const BLOCK: usize = 224;

const A: Region = Region { from: 0x6000, to: 0xe000 };
const B: Region = Region { from: 0xe000, to: 0x1_7000 };
static PARTS: [Part; 1] = [Part { id: 0, kind: Kind::Swapped, a: A, b: B }];
const LAYOUT: Layout<'static> = Layout {
    state: Region { from: 0, to: 0x2000 },
    keys: Region { from: 0x2000, to: 0x4000 },
    ledgers: [Region { from: 0x4000, to: 0x5000 }, Region { from: 0x5000, to: 0x6000 }],
    parts: &PARTS,
};

/// What the factory has put in: roots and the first key set.
#[derive(Clone)]
pub(super) struct Trusted(Trust<'static>);

impl Trusted {
    /// `root` as `keygen` shows it, and what `keyset` has written.
    pub(super) fn new(root: &str, key_set: &[u8]) -> Trusted {
        let digits = root.strip_prefix("ed25519:").unwrap();
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        }
        let root = PublicKey::new(bytes).unwrap();
        Trusted(Trust { roots: [root, root], factory: Vec::leak(key_set.to_vec()) })
    }
}

/// An image that does what its first bytes say.
pub(super) fn image(seed: u64, behaves: &[u8; 4]) -> Vec<u8> {
    let mut image = release::image(seed, IMAGE);
    image[..4].copy_from_slice(behaves);
    image
}

/// See the module.
pub(super) struct Board {
    name: String,
    trust: Trust<'static>,
    nor: Nor<8, 4_096>,
    agent: Option<Agent<'static, Host>>,
    began: Instant,
    pub(super) starts: u32,
    /// Blocks that came in.
    pub(super) blocks: usize,
}

impl Board {
    pub(super) fn new(name: &str, trusted: Trusted) -> Board {
        let mut nor = Nor::new(0x17, 1);
        nor.put(A.from as usize, &image(1, b"GOOD"));
        Board {
            name: name.to_owned(),
            trust: trusted.0,
            nor,
            agent: None,
            began: Instant::now(),
            starts: 0,
            blocks: 0,
        }
    }

    /// It is about to be switched on.
    pub(super) fn is_fresh(&self) -> bool {
        self.agent.is_none()
    }

    /// The image that is started.
    pub(super) fn running(&self) -> &[u8] {
        self.nor.look(A.from as usize, IMAGE)
    }

    pub(super) fn connected(&mut self) {
        if let Some(agent) = &mut self.agent {
            agent.connected();
        }
    }

    pub(super) fn hear(&mut self, message: &[u8]) {
        let now = Millis(self.began.elapsed().as_millis() as u64);
        self.blocks += usize::from(matches!(Message::read(message), Ok(Message::Block(_))));
        if let Some(agent) = &mut self.agent {
            agent.handle_message(now, &mut self.nor, message).unwrap();
        }
    }

    /// Runs until there is nothing to do; answers what it says.
    pub(super) fn run(&mut self) -> Vec<Vec<u8>> {
        let now = Millis(self.began.elapsed().as_millis() as u64);
        if self.agent.is_none() {
            self.switch_on(now);
        }
        let mut says = Vec::new();
        let Some(agent) = &mut self.agent else { return says };
        loop {
            let mut out = [0; 512];
            while let Some(length) = agent.poll_output(now, &mut self.nor, &mut out).unwrap() {
                says.push(out[..length].to_vec());
            }
            match agent.poll(now, &mut self.nor).unwrap() {
                Next::Work => {}
                Next::Wait(_) => return says,
                Next::Restart => {
                    self.agent = None;
                    return says;
                }
            }
        }
    }

    fn switch_on(&mut self, now: Millis) {
        self.starts += 1;
        let started = start(&mut self.nor, &LAYOUT, &self.trust, &Host, &mut || ()).unwrap();
        let passes = self.nor.look(started.entry as usize, 4) == b"GOOD";
        let mut device = [0; 16];
        device.copy_from_slice(&release::digest(self.name.as_bytes()).0[..16]);
        let capabilities = capability::HEATSHRINK | capability::DELTA | capability::KEY_SETS;
        let (vendor, class) = (release::VENDOR, release::CLASS);
        let config = Box::leak(Box::new(Config {
            layout: LAYOUT,
            trust: self.trust,
            identity: Identity { vendor, class, device, capabilities },
            factory_version: "1.0.0",
            block: BLOCK as u16,
            window: 8,
            message: 1_280,
            budget: Budget { erases: 200, tries: 8 },
            obedience: Obedience::Gateway,
        }));
        let agent = Agent::start(now, &mut self.nor, config, Host, Reason::Power);
        let mut agent = agent.unwrap();
        agent.self_test(passes);
        self.agent = Some(agent);
    }
}
