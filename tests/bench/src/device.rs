//! What programs for devices take of flash and of memory: their sections say it. One is run, in QEMU, for the time
//! of a verification.
//!
//! The programs are those of `tests/sizes`, whole: with start-up code, drivers and the library's
//! parts of Rust.

mod stack;
mod verify;

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::report::{Bar, Row};
use verify::Measured;

const BENCH: &str = "device";

/// Budgets, bytes.
const KIB: f64 = 1_024.0;
const TELEMETRY_FLASH: Bar = Bar::UpTo(10.0 * KIB);
const UPDATE_FLASH: Bar = Bar::UpTo(40.0 * KIB);
const UPDATE_MEMORY: Bar = Bar::UpTo(4.0 * KIB);
const UPDATE_STACK: Bar = Bar::UpTo(3.0 * KIB);

/// A program of `tests/sizes`.
struct Program {
    name: &'static str,
    /// What it is.
    case: &'static str,
    /// What it may take of flash, static memory and stack before somebody has to say why: the measured figures, with 1 %
    /// of flash, or the budget where that is less, and 5 % of stack. Budgets are aims; this is what
    /// [`within_limits`] holds it to.
    limits: [u32; 3],
    flash: Option<Bar>,
    memory: Option<Bar>,
    stack: Option<Bar>,
}

impl Program {
    const fn new(name: &'static str, case: &'static str, limits: [u32; 3]) -> Program {
        Program { name, case, limits, flash: None, memory: None, stack: None }
    }
}

const PROGRAMS: [Program; 12] = [
    Program::new("empty", "the board alone", [128, 0, 64]),
    Program::new("link", "serial link", [8_810, 2_280, 1_010]),
    Program {
        flash: Some(TELEMETRY_FLASH),
        memory: Some(UPDATE_MEMORY),
        ..Program::new("mqtt", "MQTT and telemetry over a stream", [8_250, 960, 870])
    },
    Program::new(
        "mqtt-time",
        "MQTT, telemetry and the gateway's time over a stream",
        [10_420, 1_144, 1_090],
    ),
    Program::new("telemetry", "MQTT and telemetry over a serial link", [18_990, 3_864, 1_390]),
    Program::new("agent", "upgrades, no hash and curve", [27_060, 1_704, 6_290]),
    Program::new(
        "update",
        "upgrades over a serial link, no hash and curve",
        [35_010, 3_984, 6_000],
    ),
    Program::new("crypto-salty", "Ed25519 and SHA-256", [7_080, 0, 2_070]),
    Program {
        flash: Some(UPDATE_FLASH),
        memory: Some(UPDATE_MEMORY),
        stack: Some(UPDATE_STACK),
        ..Program::new("update-salty", "signed upgrades over a serial link", [40_960, 4_040, 6_000])
    },
    Program {
        flash: Some(UPDATE_FLASH),
        memory: Some(UPDATE_MEMORY),
        stack: Some(UPDATE_STACK),
        ..Program::new(
            "update-mqtt",
            "signed upgrades, MQTT and telemetry over a stream",
            [40_050, 3_872, 6_340],
        )
    },
    Program::new("boot", "bootloader, no hash and curve", [14_110, 0, 5_930]),
    Program::new("boot-salty", "bootloader", [20_040, 0, 7_360]),
];

/// One program, on the client of the SDK and on those of others.
const CLIENT: &str = "client-tidegate";
const CLIENT_CASE: &str = "connect, MQTT 5, one subscription, telemetry with QoS 1";
const PEERS: [(&str, &str); 2] =
    [("minimq 0.13.5", "client-minimq"), ("rust-mqtt 0.6.0", "client-rust-mqtt")];

/// The program that is run, and the image that it hashes.
const VERIFY: &str = "verify";
const IMAGE: u32 = 65_536;

/// What a reader must know to read the figures.
pub(crate) fn notes() -> Vec<String> {
    vec![
        "programs for thumbv7em-none-eabihf, opt-level z, fat LTO, one codegen unit, panic = abort".to_owned(),
        "instructions and stack: counted in QEMU (mps2-an386, a Cortex-M4, -icount shift=0), to 40 instructions; a Cortex-M4 takes 1 to 2 cycles for one".to_owned(),
        "flash: every section that is loaded, with vectors, constants and initial values; memory: what is static, without the stack".to_owned(),
        "stack: the deepest path of calls from `main`, by the machine code; without interrupts and what the processor itself puts there".to_owned(),
    ]
}

/// Looks at the programs.
pub(crate) fn rows(folder: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for program in PROGRAMS {
        let Program { case, flash, memory, stack, .. } = program;
        let sizes = sizes(folder, program.name)?;
        let row = |metric, bytes: u32| Row::new(BENCH, case, metric, "B", Some(bytes.into()));
        rows.push(row("flash", sizes.flash).with_bar(flash));
        rows.push(row("static_memory", sizes.memory).with_bar(memory));
        rows.push(row("stack", sizes.stack).with_bar(stack));
    }
    let ours = sizes(folder, CLIENT)?;
    for (peer, name) in PEERS {
        let theirs = sizes(folder, name)?;
        let row = |metric, ours: u32, theirs: u32| {
            let row = Row::new(BENCH, CLIENT_CASE, metric, "B", Some(ours.into()));
            row.beside(peer, Some(theirs.into()))
        };
        rows.push(row("flash", ours.flash, theirs.flash).with_bar(Some(Bar::ShareOfPeer(1.0))));
        rows.push(row("static_memory", ours.memory, theirs.memory));
    }
    Ok(rows)
}

/// Runs a verification in QEMU: of a signature, of an image's hash, of both.
pub(crate) fn verification(folder: &Path, qemu: &Path) -> Result<Vec<Row>> {
    let measured = verify::run(qemu, &folder.join(VERIFY))?;
    let mut rows = Vec::new();
    let mut add = |case: &str, instructions: u32, stack: u32| {
        let row =
            |metric, unit, value: u32| Row::new(BENCH, case, metric, unit, Some(value.into()));
        rows.push(row("instructions", "instructions", instructions));
        rows.push(row("stack", "B", stack));
    };
    for Measured { what, instructions, stack } in &measured {
        let case = match what.as_str() {
            "ed25519" => "Ed25519 verification of 512 B".to_owned(),
            "sha256" => format!("SHA-256 of an image of {IMAGE} B"),
            other => anyhow::bail!("the program {VERIFY} has measured {other}"),
        };
        add(&case, *instructions, *stack);
    }
    let sum = measured.iter().map(|one| one.instructions).sum();
    let most = measured.iter().map(|one| one.stack).max().unwrap_or(0);
    add(&format!("both: a signed release with an image of {IMAGE} B"), sum, most);
    Ok(rows)
}

/// Whether no program takes more than it may.
pub(crate) fn within_limits(folder: &Path) -> Result<()> {
    for Program { name, limits, .. } in PROGRAMS {
        let Sizes { flash, memory, stack } = sizes(folder, name)?;
        let taken = [(flash, "flash"), (memory, "static memory"), (stack, "stack")];
        for ((taken, what), limit) in taken.into_iter().zip(limits) {
            ensure!(
                taken <= limit,
                "{name} takes {taken} bytes of {what}, at most {limit} are allowed: make it smaller, or \
                 raise the limit in tests/bench/src/device.rs and say why"
            );
        }
    }
    Ok(())
}

fn sizes(folder: &Path, name: &str) -> Result<Sizes> {
    let path = folder.join(name);
    let file = std::fs::read(&path)
        .with_context(|| format!("cannot read {}; build tests/sizes first", path.display()))?;
    let sizes =
        Sizes::of(&file).and_then(|sizes| Some(Sizes { stack: stack::deepest(&file)?, ..sizes }));
    sizes.with_context(|| format!("{} is no 32-bit ELF file with symbols", path.display()))
}

/// Bytes that a program takes.
#[derive(Debug, PartialEq, Eq)]
struct Sizes {
    flash: u32,
    memory: u32,
    /// Of the deepest path.
    stack: u32,
}

impl Sizes {
    const WRITE: u32 = 1 << 0;
    const ALLOC: u32 = 1 << 1;
    const PROGBITS: u32 = 1;

    /// Sums up the sections of a little-endian 32-bit ELF file; `None` when it is none. The stack is not in them.
    fn of(file: &[u8]) -> Option<Sizes> {
        if !file.starts_with(b"\x7fELF\x01\x01") {
            return None;
        }
        let long = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?));
        let short = |at: usize| Some(u16::from_le_bytes(*file.get(at..)?.first_chunk()?));
        let table = usize::try_from(long(0x20)?).ok()?;
        let (size, count) = (usize::from(short(0x2e)?), usize::from(short(0x30)?));
        let mut sizes = Sizes { flash: 0, memory: 0, stack: 0 };
        for section in (0..count).map(|n| table + n * size) {
            let (kind, flags, bytes) =
                (long(section + 4)?, long(section + 8)?, long(section + 20)?);
            if flags & Sizes::ALLOC == 0 {
                continue;
            }
            if kind == Sizes::PROGBITS {
                sizes.flash += bytes;
            }
            if flags & Sizes::WRITE != 0 {
                sizes.memory += bytes;
            }
        }
        Some(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBITS: u32 = 8;

    /// A file of section headers alone.
    fn elf(sections: &[(u32, u32, u32)]) -> Vec<u8> {
        let mut file = b"\x7fELF\x01\x01".to_vec();
        file.resize(0x34, 0);
        file[0x20] = 0x34;
        file[0x2e] = 0x28;
        file[0x30] = sections.len() as u8;
        for (kind, flags, size) in sections {
            let mut header = [0; 0x28];
            header[4..8].copy_from_slice(&kind.to_le_bytes());
            header[8..12].copy_from_slice(&flags.to_le_bytes());
            header[20..24].copy_from_slice(&size.to_le_bytes());
            file.extend(header);
        }
        file
    }

    #[test]
    fn initial_values_count_in_flash_and_in_memory_and_debug_sections_nowhere() {
        let (alloc, write) = (Sizes::ALLOC, Sizes::WRITE);
        let file = elf(&[
            (Sizes::PROGBITS, alloc | 4, 1_000),
            (Sizes::PROGBITS, alloc, 200),
            (Sizes::PROGBITS, alloc | write, 30),
            (NOBITS, alloc | write, 4),
            (Sizes::PROGBITS, 0, 9_999),
        ]);
        assert_eq!(Sizes::of(&file), Some(Sizes { flash: 1_230, memory: 34, stack: 0 }));
    }

    #[test]
    fn other_or_cut_files_are_not_judged() {
        assert_eq!(Sizes::of(b"\x7fELF\x02\x01"), None);
        let whole = elf(&[(Sizes::PROGBITS, Sizes::ALLOC, 1)]);
        for cut in 0..whole.len() - 0x28 + 21 {
            assert_eq!(Sizes::of(&whole[..cut]), None, "cut at {cut}");
        }
    }
}
