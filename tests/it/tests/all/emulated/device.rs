//! A device in QEMU: its flash is a file, its line a pseudo-terminal or a network, its power `kill -9`.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidegate_boot::{Ledger, State, StateLog};
use tidegate_device_sim::nor::Nor;
use tidegate_rig::scratch::Scratch;
use tidegate_wire::manifest::Manifest;

use super::cuts::Step;
use super::model::Model;
use crate::setup::PATIENCE;

/// What `cargo xtask test` has built.
pub(super) struct Firmware {
    pub(super) model: Model,
    folder: PathBuf,
    qemu: PathBuf,
}

impl Firmware {
    /// `None`, and a word, where it is not there.
    pub(super) fn find(model: Model) -> Option<Firmware> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        match (variable("TIDEGATE_FIRMWARE"), variable(model.variable())) {
            (Some(folder), Some(qemu)) => Some(Firmware { model, folder, qemu }),
            _ => {
                eprintln!(
                    "skipped: a device in QEMU: TIDEGATE_FIRMWARE and {} are not set \
                     (cargo xtask test sets them, as root on Debian, or where QEMU is installed)",
                    model.variable()
                );
                None
            }
        }
    }

    /// The image of a program for place A: what its program headers load.
    pub(super) fn image(&self, name: &str) -> Vec<u8> {
        let path = self.folder.join(name);
        let elf = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().unwrap()) as usize;
        let half = |at: usize| usize::from(u16::from_le_bytes([elf[at], elf[at + 1]]));
        let mut image = Vec::new();
        for header in (0..half(44)).map(|n| word(28) + n * half(42)) {
            let (kind, from, to, size) =
                (word(header), word(header + 4), word(header + 12), word(header + 16));
            if kind == 1 && size > 0 {
                let at = to - self.model.program();
                image.resize(image.len().max(at + size), 0xff);
                image[at..at + size].copy_from_slice(&elf[from..from + size]);
            }
        }
        image
    }
}

/// How it is connected with the gateway.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wiring {
    /// By a serial line, [`Device::port`].
    Line,
    /// By a network in which nothing is but the gateway, here.
    Network(SocketAddr),
}

/// One device.
pub(super) struct Device {
    model: Model,
    wiring: Wiring,
    qemu: PathBuf,
    boot: PathBuf,
    folder: PathBuf,
    process: Option<Child>,
}

impl Device {
    /// A device as the factory ships it, without power.
    pub(super) fn new(
        firmware: &Firmware,
        scratch: &Scratch,
        image: &str,
        wiring: Wiring,
    ) -> Device {
        let device = Device {
            model: firmware.model,
            wiring,
            qemu: firmware.qemu.clone(),
            boot: firmware.folder.join(firmware.model.bootloader()),
            folder: scratch.path().to_owned(),
            process: None,
        };
        device.fill(&firmware.image(image));
        device
    }

    /// Blank flash but for the image at A.
    pub(super) fn fill(&self, image: &[u8]) {
        assert!(self.process.is_none(), "it has no power");
        let place = self.model.running();
        let mut bytes = vec![0xff; place.to as usize * 2];
        bytes[place.from as usize..][..image.len()].copy_from_slice(image);
        fs::write(self.flash(), bytes).unwrap();
        let file = File::options().write(true).open(self.flash()).unwrap();
        file.set_len(self.model.flash_bytes()).unwrap();
    }

    fn flash(&self) -> PathBuf {
        self.folder.join("flash.bin")
    }

    /// Where its line can be opened while it has power: a link to what QEMU made.
    pub(super) fn port(&self) -> PathBuf {
        self.folder.join("ttyDEVICE")
    }

    /// What it has said to humans; a board with one port says nothing.
    pub(super) fn console(&self) -> String {
        fs::read_to_string(self.folder.join("console")).unwrap_or_default()
    }

    /// Gives it power.
    pub(super) fn start(&mut self) {
        let said = self.folder.join("qemu.log");
        let log = File::create(&said).unwrap();
        let mut command = Command::new(&self.qemu);
        command.args(["-display", "none", "-monitor", "none"]);
        self.describe(&mut command);
        match self.wiring {
            Wiring::Line => command.args(["-nic", "none", "-serial", "pty"]),
            Wiring::Network(gateway) => {
                let to = format!("socat - TCP:{gateway}");
                let forward = format!("guestfwd=tcp:10.0.2.100:1883-cmd:{to}");
                let network = format!("user,restrict=on,{forward}");
                command.args(["-nic", &network, "-serial", "null"])
            }
        };
        // What was said before the power was cut is not to be taken for what is said now.
        fs::write(self.folder.join("console"), []).unwrap();
        let console = format!("file:{}", self.folder.join("console").display());
        let child = command
            .args(["-serial", &console])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.qemu.display()));
        self.process = Some(child);
        match self.wiring {
            Wiring::Line => self.find_line(&said),
            Wiring::Network(_) => {}
        }
    }

    /// The machine, its flash and its bootloader.
    fn describe(&self, command: &mut Command) {
        let flash = self.flash();
        match self.model {
            Model::Arm => {
                let memory = "memory-backend-file,id=nvm,size=16M,share=on,mem-path=";
                command.args(["-M", "mps2-an386,memory-backend=nvm"]);
                command.args(["-object", &format!("{memory}{}", flash.display()), "-kernel"]);
            }
            Model::Riscv => {
                let drive = "if=pflash,unit=1,format=raw,file=";
                command.args(["-M", "virt", "-m", "32M"]);
                command.args(["-drive", &format!("{drive}{}", flash.display()), "-bios"]);
            }
        }
        command.arg(&self.boot);
    }

    fn find_line(&mut self, said: &Path) {
        let give_up = Instant::now() + PATIENCE;
        let terminal = loop {
            let text = fs::read_to_string(said).unwrap();
            let named = text.split_whitespace().find(|word| word.starts_with("/dev/pts/"));
            if let Some(named) = named.filter(|_| text.ends_with('\n')) {
                break PathBuf::from(named);
            }
            let ended = self.process.as_mut().is_some_and(|one| one.try_wait().unwrap().is_some());
            assert!(!ended && Instant::now() < give_up, "QEMU does not start: {text}");
            std::thread::sleep(Duration::from_millis(2));
        };
        place_link(&terminal, &self.port());
    }

    /// Takes its power away.
    pub(super) fn cut(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// What its bootloader and agent have written of its state.
    pub(super) fn state(&self) -> State {
        self.look().0
    }

    /// What it is in the middle of.
    pub(super) fn step(&self) -> Step {
        let (state, offered) = self.look();
        Step::of(&state, offered)
    }

    /// The state, and the sequence of the release that comes, or of an older one.
    fn look(&self) -> (State, Option<u64>) {
        match self.model {
            Model::Arm => self.look_by::<4_096>(),
            Model::Riscv => self.look_by::<0x4_0000>(),
        }
    }

    fn look_by<const UNIT: usize>(&self) -> (State, Option<u64>) {
        let file = File::open(self.flash()).unwrap();
        let layout = self.model.layout();
        let mut bytes = vec![0; layout.ledgers[1].to as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let mut nor: Nor<4, UNIT> = Nor::new(bytes.len() / UNIT, 0);
        nor.put(0, &bytes);
        let mut flash = tidegate_boot::Flash::new(&mut nor);
        let state = *StateLog::load(&mut flash, &layout).unwrap().state();
        let region = layout.ledgers[usize::from(state.next_ledger())];
        let mut buffer = [0; Ledger::RELEASE];
        let found = Ledger::look_into(&mut flash, region, &mut buffer).unwrap();
        let manifest = found.and_then(|(_, manifest)| Manifest::read(manifest).ok());
        (state, manifest.map(|manifest| manifest.sequence))
    }

    /// Whether this image is what runs.
    pub(super) fn runs(&self, image: &[u8]) -> bool {
        let mut bytes = vec![0; image.len()];
        let file = File::open(self.flash()).unwrap();
        file.read_exact_at(&mut bytes, self.model.running().from.into()).unwrap();
        bytes == image
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        self.cut();
    }
}

fn place_link(terminal: &Path, port: &Path) {
    let fresh = port.with_extension("new");
    std::os::unix::fs::symlink(terminal, &fresh).unwrap();
    fs::rename(&fresh, port).unwrap();
}
