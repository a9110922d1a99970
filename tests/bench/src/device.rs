//! What programs for devices take of flash and of memory. Nothing is run: their sections say it.
//!
//! The programs are those of `tests/sizes`, whole: with start-up code, drivers and the library's
//! parts of Rust.

use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::report::{Bar, Row};

const BENCH: &str = "device";

/// Budgets, bytes.
const KIB: f64 = 1_024.0;
const TELEMETRY_FLASH: Bar = Bar::UpTo(10.0 * KIB);
const UPDATE_FLASH: Bar = Bar::UpTo(40.0 * KIB);
const UPDATE_MEMORY: Bar = Bar::UpTo(4.0 * KIB);

/// A program of `tests/sizes`.
struct Program {
    name: &'static str,
    /// What it is.
    case: &'static str,
    /// What it may take of flash before somebody has to say why: the measured figure and 2 %. Budgets
    /// are aims; this is what [`within_limits`] holds it to.
    limit: u32,
    flash: Option<Bar>,
    memory: Option<Bar>,
}

impl Program {
    const fn new(name: &'static str, case: &'static str, limit: u32) -> Program {
        Program { name, case, limit, flash: None, memory: None }
    }
}

const PROGRAMS: [Program; 11] = [
    Program::new("empty", "the board alone", 128),
    Program::new("link", "serial link", 9_100),
    Program {
        flash: Some(TELEMETRY_FLASH),
        memory: Some(UPDATE_MEMORY),
        ..Program::new("mqtt", "MQTT and telemetry over a stream", 9_500)
    },
    Program::new("telemetry", "MQTT and telemetry over a serial link", 19_900),
    Program::new("agent", "upgrades, no hash and curve", 28_200),
    Program::new("update", "upgrades over a serial link, no hash and curve", 36_300),
    Program::new("crypto-salty", "Ed25519 (salty), SHA-256 (sha2)", 7_800),
    Program {
        flash: Some(UPDATE_FLASH),
        memory: Some(UPDATE_MEMORY),
        ..Program::new("update-salty", "signed upgrades over a serial link", 43_000)
    },
    Program {
        flash: Some(UPDATE_FLASH),
        memory: Some(UPDATE_MEMORY),
        ..Program::new("update-mqtt", "signed upgrades, MQTT and telemetry over a stream", 43_200)
    },
    Program::new("boot", "bootloader, no hash and curve", 15_200),
    Program::new("boot-salty", "bootloader", 21_800),
];

/// What a reader must know to read the figures.
pub(crate) fn notes() -> Vec<String> {
    vec![
        "programs for thumbv7em-none-eabihf, opt-level z, fat LTO, one codegen unit, panic = abort; nothing is run".to_owned(),
        "flash: every section that is loaded, with vectors, constants and initial values; memory: what is static, without the stack".to_owned(),
    ]
}

/// Looks at the programs.
pub(crate) fn rows(folder: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for program in PROGRAMS {
        let Program { case, flash, memory, .. } = program;
        let sizes = sizes(folder, program.name)?;
        let row = |metric, bytes: u32| Row::new(BENCH, case, metric, "B", Some(bytes.into()));
        rows.push(row("flash", sizes.flash).with_bar(flash));
        rows.push(row("static_memory", sizes.memory).with_bar(memory));
    }
    Ok(rows)
}

/// Whether no program takes more flash than it may.
pub(crate) fn within_limits(folder: &Path) -> Result<()> {
    for Program { name, limit, .. } in PROGRAMS {
        let flash = sizes(folder, name)?.flash;
        ensure!(
            flash <= limit,
            "{name} takes {flash} bytes of flash, at most {limit} are allowed: make it smaller, or \
             raise the limit in tests/bench/src/device.rs and say why"
        );
    }
    Ok(())
}

fn sizes(folder: &Path, name: &str) -> Result<Sizes> {
    let path = folder.join(name);
    let file = std::fs::read(&path)
        .with_context(|| format!("cannot read {}; build tests/sizes first", path.display()))?;
    Sizes::of(&file).with_context(|| format!("{} is no 32-bit ELF file", path.display()))
}

/// Bytes that a program takes.
#[derive(Debug, PartialEq, Eq)]
struct Sizes {
    flash: u32,
    memory: u32,
}

impl Sizes {
    const WRITE: u32 = 1 << 0;
    const ALLOC: u32 = 1 << 1;
    const PROGBITS: u32 = 1;

    /// Sums up the sections of a little-endian 32-bit ELF file; `None` when it is none.
    fn of(file: &[u8]) -> Option<Sizes> {
        if !file.starts_with(b"\x7fELF\x01\x01") {
            return None;
        }
        let long = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?));
        let short = |at: usize| Some(u16::from_le_bytes(*file.get(at..)?.first_chunk()?));
        let table = usize::try_from(long(0x20)?).ok()?;
        let (size, count) = (usize::from(short(0x2e)?), usize::from(short(0x30)?));
        let mut sizes = Sizes { flash: 0, memory: 0 };
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
        assert_eq!(Sizes::of(&file), Some(Sizes { flash: 1_230, memory: 34 }));
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
