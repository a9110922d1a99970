//! Whether a program still carries its symbol table.

const SYMBOL_TABLE: u32 = 2;

/// Looks for a section of type SHT_SYMTAB; `None` when `file` is not a whole little-endian
/// 64-bit ELF file.
pub(crate) fn has_symbols(file: &[u8]) -> Option<bool> {
    if !file.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(*file.get(0x28..)?.first_chunk()?)).ok()?;
    let size = usize::from(u16::from_le_bytes(*file.get(0x3a..)?.first_chunk()?));
    let count = usize::from(u16::from_le_bytes(*file.get(0x3c..)?.first_chunk()?));
    for index in 0..count {
        let at = table.checked_add(index * size)?.checked_add(4)?;
        if u32::from_le_bytes(*file.get(at..)?.first_chunk()?) == SYMBOL_TABLE {
            return Some(true);
        }
    }
    Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(section_types: &[u32]) -> Vec<u8> {
        let mut file = vec![0; 0x40 + section_types.len() * 0x40];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x28] = 0x40;
        file[0x3a] = 0x40;
        file[0x3c] = section_types.len() as u8;
        for (index, kind) in section_types.iter().enumerate() {
            let at = 0x40 + index * 0x40 + 4;
            file[at..at + 4].copy_from_slice(&kind.to_le_bytes());
        }
        file
    }

    #[test]
    fn a_symbol_table_is_found() {
        assert_eq!(has_symbols(&elf(&[0, 1, 2, 3])), Some(true));
        assert_eq!(has_symbols(&elf(&[0, 1, 11, 3])), Some(false));
    }

    #[test]
    fn other_or_cut_files_are_not_judged() {
        assert_eq!(has_symbols(b"#!/bin/sh\n"), None);
        let whole = elf(&[0, 1, 3]);
        for cut in 0..whole.len() - 0x40 {
            assert_eq!(has_symbols(&whole[..cut]), None, "cut at {cut}");
        }
    }
}
