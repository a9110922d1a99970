//! The flash and memory of firmware beside what its `memory.x` allows. That says, in a comment,
//! `Budget: 56 KiB of flash, 16 KiB of RAM`; the stack is not counted.

use anyhow::{Context, Result, ensure};
use std::fs;
use std::ops::Range;
use std::path::Path;

/// Bytes of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Code and constants, and what the memory is filled with at the start.
    pub(crate) flash: u64,
    /// Variables with a place of their own.
    pub(crate) ram: u64,
}

/// A memory map.
#[derive(Debug, PartialEq, Eq)]
struct Map {
    ram: Range<u64>,
    budget: Sizes,
}

/// Fails when a program is over its budget; answers what it takes, and what it may.
pub(crate) fn check(map: &Path, program: &Path) -> Result<(Sizes, Sizes)> {
    let text = fs::read_to_string(map).with_context(|| format!("cannot read {}", map.display()))?;
    let Map { ram, budget } =
        Map::read(&text).with_context(|| format!("{} has no budget, or no RAM", map.display()))?;
    let elf = fs::read(program).with_context(|| format!("cannot read {}", program.display()))?;
    let sizes = sizes(&elf, &ram)
        .with_context(|| format!("{} is no ELF file of 32 bits", program.display()))?;
    ensure!(
        sizes.flash <= budget.flash && sizes.ram <= budget.ram,
        "{} takes {} bytes of flash and {} of RAM; {} allows {} and {}: make it smaller, or say there why it may grow",
        program.display(),
        sizes.flash,
        sizes.ram,
        map.display(),
        budget.flash,
        budget.ram
    );
    Ok((sizes, budget))
}

impl Map {
    fn read(text: &str) -> Option<Map> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let budget = words.iter().position(|word| *word == "Budget:")?;
        let kib = |of: &str| -> Option<u64> {
            let said = words.get(budget..)?.windows(4);
            let mut said = said.filter(|four| four[1..3] == ["KiB", "of"]);
            let four = said.find(|four| four[3].trim_end_matches(['.', ',']) == of)?;
            Some(four[0].parse::<u64>().ok()? * 1_024)
        };
        let is_ram = |line: &&str| line.trim_start().starts_with("RAM") && line.contains("ORIGIN");
        let line = text.lines().find(is_ram)?;
        let value = |name: &str| -> Option<&str> {
            let rest = line.split_once(name)?.1.trim_start().strip_prefix('=')?.trim_start();
            Some(rest.split([',', ' ']).next().unwrap_or(rest))
        };
        let from = u64::from_str_radix(value("ORIGIN")?.strip_prefix("0x")?, 16).ok()?;
        let length = value("LENGTH")?.strip_suffix('K')?.parse::<u64>().ok()? * 1_024;
        let budget = Sizes { flash: kib("flash")?, ram: kib("RAM")? };
        Some(Map { ram: from..from + length, budget })
    }
}

/// The sections of a program that it has when it runs; what lies behind them for stack and heap is none of it.
fn sizes(elf: &[u8], ram: &Range<u64>) -> Option<Sizes> {
    const ALLOCATED: u32 = 2;
    const EMPTY: u32 = 8;
    let word = |at: usize| Some(u32::from_le_bytes(*elf.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u16::from_le_bytes(*elf.get(at..)?.first_chunk()?));
    if !elf.starts_with(b"\x7fELF\x01\x01") {
        return None;
    }
    let (table, bytes, count) = (word(32)? as usize, usize::from(half(46)?), half(48)?);
    let names = word(table + usize::from(half(50)?) * bytes + 16)? as usize;
    let mut sizes = Sizes { flash: 0, ram: 0 };
    for section in (0..usize::from(count)).map(|n| table + n * bytes) {
        let name = elf.get(names + word(section)? as usize..)?;
        let room = [&b".stack\0"[..], b".heap\0"].iter().any(|of| name.starts_with(of));
        if word(section + 8)? & ALLOCATED == 0 || room {
            continue;
        }
        let size = u64::from(word(section + 20)?);
        if word(section + 4)? != EMPTY {
            sizes.flash += size;
        }
        if ram.contains(&u64::from(word(section + 12)?)) {
            sizes.ram += size;
        }
    }
    Some(sizes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAP: &str = "/* A chip. Budget: 56 KiB of flash, 16 KiB of\n   RAM without the stack. */\nMEMORY\n{\n  \
        FLASH : ORIGIN = 0x00000000, LENGTH = 1024K\n  RAM   : ORIGIN = 0x20000000, LENGTH = 64K\n}\n";

    #[test]
    fn a_map_says_where_the_ram_is_and_what_may_be_taken() {
        let budget = Sizes { flash: 56 * 1_024, ram: 16 * 1_024 };
        let ram = 0x2000_0000..0x2001_0000;
        assert_eq!(Map::read(MAP), Some(Map { ram, budget }));
        assert_eq!(Map::read(&MAP.replace("Budget", "Wish")), None);
        assert_eq!(Map::read(&MAP.replace("16 KiB of", "little")), None);
    }

    /// Sections as (name's place, type, flags, address, size).
    fn program(sections: &[[u32; 5]]) -> Vec<u8> {
        let mut elf = b"\x7fELF\x01\x01".to_vec();
        elf.resize(52, 0);
        let names = b"\0.stack\0.text\0";
        elf[32..36].copy_from_slice(&(52 + names.len() as u32).to_le_bytes());
        elf[46..48].copy_from_slice(&40_u16.to_le_bytes());
        elf[48..50].copy_from_slice(&(sections.len() as u16 + 1).to_le_bytes());
        elf.extend(names);
        let mut section = |[name, kind, flags, address, size]: [u32; 5], offset: u32| {
            for value in [name, kind, flags, address, offset, size, 0, 0, 0, 0] {
                elf.extend(value.to_le_bytes());
            }
        };
        section([0, 3, 0, 0, names.len() as u32], 52);
        sections.iter().for_each(|one| section(*one, 0));
        elf
    }

    #[test]
    fn constants_count_as_flash_zeros_as_ram_and_filled_memory_as_both() {
        let elf = program(&[
            [8, 1, 6, 0, 1_000],
            [8, 1, 3, 0x2000_0000, 100],
            [8, 8, 3, 0x2000_0064, 10],
            [1, 8, 3, 0x2000_0100, 5_000],
            [8, 1, 0, 0, 7],
        ]);
        let ram = 0x2000_0000..0x2001_0000;
        assert_eq!(sizes(&elf, &ram), Some(Sizes { flash: 1_100, ram: 110 }));
        assert_eq!(sizes(&elf[1..], &ram), None);
    }

    #[test]
    fn a_program_that_is_over_its_budget_is_named_with_both_numbers() {
        let folder = std::env::temp_dir().join(format!("tidegate-budget-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (map, elf) = (folder.join("memory.x"), folder.join("program"));
        fs::write(&map, MAP).unwrap();
        fs::write(&elf, program(&[[8, 1, 6, 0, 57_344]])).unwrap();
        assert!(check(&map, &elf).is_ok());
        fs::write(&elf, program(&[[8, 1, 6, 0, 57_345]])).unwrap();
        let error = check(&map, &elf).unwrap_err().to_string();
        assert!(error.contains("57345 bytes") && error.contains("57344"), "{error}");
        fs::remove_dir_all(&folder).unwrap();
    }
}
