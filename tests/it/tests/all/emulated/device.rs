//! A device in QEMU: its flash is a file, its line a pseudo-terminal, its power `kill -9`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tidegate_boot::{Kind, Layout, Part, Region, State, StateLog};
use tidegate_device_sim::nor::Nor;
use tidegate_rig::scratch::Scratch;

use crate::setup::PATIENCE;

/// Where the flash is mapped to.
const FLASH: u32 = 0x2100_0000;
/// What QEMU maps.
const BYTES: u64 = 16 << 20;

const fn region(from: u32, to: u32) -> Region {
    Region { from, to }
}

pub(super) const A: Region = region(0x1_0000, 0x3_0000);

const PARTS: [Part; 1] = [Part { id: 0, kind: Kind::Swapped, a: A, b: region(0x3_0000, 0x5_1000) }];

/// As in `firmware-examples/mps2-an386/board/src/layout.rs`.
const LAYOUT: Layout<'static> = Layout {
    state: region(0, 0x2000),
    keys: region(0x2000, 0x4000),
    ledgers: [region(0x4000, 0x6000), region(0x6000, 0x8000)],
    parts: &PARTS,
};

/// What `cargo xtask test` has built.
pub(super) struct Firmware {
    folder: PathBuf,
    qemu: PathBuf,
}

impl Firmware {
    /// `None`, and a word, where it is not there.
    pub(super) fn find() -> Option<Firmware> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        match (variable("TIDEGATE_FIRMWARE"), variable("TIDEGATE_QEMU")) {
            (Some(folder), Some(qemu)) => Some(Firmware { folder, qemu }),
            _ => {
                eprintln!(
                    "skipped: a device in QEMU: TIDEGATE_FIRMWARE and TIDEGATE_QEMU are not set \
                     (cargo xtask test sets them, as root on Debian, or where QEMU is installed)"
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
                let at = to - (FLASH + A.from) as usize;
                image.resize(image.len().max(at + size), 0xff);
                image[at..at + size].copy_from_slice(&elf[from..from + size]);
            }
        }
        image
    }
}

/// One device.
pub(super) struct Device {
    qemu: PathBuf,
    boot: PathBuf,
    folder: PathBuf,
    process: Option<Child>,
}

impl Device {
    /// A device as the factory ships it, without power.
    pub(super) fn new(firmware: &Firmware, scratch: &Scratch, image: &str) -> Device {
        let device = Device {
            qemu: firmware.qemu.clone(),
            boot: firmware.folder.join("mps2-an386-boot"),
            folder: scratch.path().to_owned(),
            process: None,
        };
        device.fill(&firmware.image(image));
        device
    }

    /// Blank flash but for the image at A.
    pub(super) fn fill(&self, image: &[u8]) {
        assert!(self.process.is_none(), "it has no power");
        let mut bytes = vec![0xff; A.to as usize * 2];
        bytes[A.from as usize..][..image.len()].copy_from_slice(image);
        fs::write(self.flash(), bytes).unwrap();
        File::options().write(true).open(self.flash()).unwrap().set_len(BYTES).unwrap();
    }

    fn flash(&self) -> PathBuf {
        self.folder.join("flash.bin")
    }

    /// Where its line can be opened while it has power: a link to what QEMU made.
    pub(super) fn port(&self) -> PathBuf {
        self.folder.join("ttyDEVICE")
    }

    /// What it has said to humans.
    pub(super) fn console(&self) -> String {
        fs::read_to_string(self.folder.join("console")).unwrap_or_default()
    }

    /// Gives it power.
    pub(super) fn start(&mut self) {
        let said = self.folder.join("qemu.log");
        let log = File::create(&said).unwrap();
        let memory = format!(
            "memory-backend-file,id=nvm,size=16M,share=on,mem-path={}",
            self.flash().display()
        );
        let console = format!("file:{}", self.folder.join("console").display());
        let child = Command::new(&self.qemu)
            .args(["-M", "mps2-an386,memory-backend=nvm", "-object", &memory, "-kernel"])
            .arg(&self.boot)
            .args(["-display", "none", "-monitor", "none", "-serial", "pty", "-serial", &console])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", self.qemu.display()));
        self.process = Some(child);
        let give_up = Instant::now() + PATIENCE;
        let terminal = loop {
            let text = fs::read_to_string(&said).unwrap();
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
        let file = File::open(self.flash()).unwrap();
        let mut bytes = vec![0; LAYOUT.state.to as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let mut nor: Nor<4, 4_096> = Nor::new(2, 0);
        nor.put(0, &bytes);
        let mut flash = tidegate_boot::Flash::new(&mut nor);
        *StateLog::load(&mut flash, &LAYOUT).unwrap().state()
    }

    /// Whether this image is what runs.
    pub(super) fn runs(&self, image: &[u8]) -> bool {
        let mut bytes = vec![0; image.len()];
        let file = File::open(self.flash()).unwrap();
        file.read_exact_at(&mut bytes, A.from.into()).unwrap();
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
