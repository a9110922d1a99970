//! Adds a section to a binary, as readers of ELF look for it: data, a name and an entry in the table of
//! sections, all at the end of the file. What is loaded into memory stays as it was.
//!
//! Little-endian only, as all machines are that releases are built for.

use anyhow::{Context, Result, bail, ensure};

/// Where the fields of a header are: in ELF for 32 bits and for 64.
struct Layout {
    /// Bytes of an offset.
    word: usize,
    /// `e_shoff`: where the table of sections is.
    table: usize,
    /// `e_shentsize`, then `e_shnum`, then `e_shstrndx`, two bytes each.
    counts: usize,
    /// Bytes of an entry of the table.
    entry: usize,
    /// `sh_offset` in an entry; `sh_size` follows it.
    offset: usize,
    /// `sh_addralign` in an entry.
    align: usize,
}

const ELF32: Layout = Layout { word: 4, table: 32, counts: 46, entry: 40, offset: 16, align: 32 };
const ELF64: Layout = Layout { word: 8, table: 40, counts: 58, entry: 64, offset: 24, align: 48 };

/// `sh_type` of a section with contents of the program's own.
const PROGBITS: u32 = 1;

/// The binary with one section more.
///
/// # Errors
/// It is no little-endian ELF file, has no table of sections, or has a section of that name.
pub(crate) fn with_section(binary: &[u8], name: &str, data: &[u8]) -> Result<Vec<u8>> {
    let layout = layout(binary)?;
    let (table, count) = sections(binary, layout)?;
    let names_index = usize::from(u16_at(binary, layout.counts + 4)?);
    ensure!(names_index < count, "the section of names is number {names_index} of {count}");
    ensure!(section(binary, name)?.is_none(), "there is a section {name} already");
    let mut table = table.to_vec();
    let (start, len) = extent(&table[names_index * layout.entry..], layout)?;
    let mut names = binary.get(start..start + len).context("the names are cut off")?.to_vec();
    let name_at = u32::try_from(names.len())?;
    names.extend_from_slice(name.as_bytes());
    names.push(0);

    let mut out = binary.to_vec();
    let data_at = append(&mut out, data, layout.word);
    let names_at = append(&mut out, &names, 1);
    let moved = names_index * layout.entry + layout.offset;
    put(&mut table[moved..], names_at as u64, layout.word);
    put(&mut table[moved + layout.word..], names.len() as u64, layout.word);
    let mut entry = vec![0; layout.entry];
    put(&mut entry, u64::from(name_at), 4);
    put(&mut entry[4..], u64::from(PROGBITS), 4);
    put(&mut entry[layout.offset..], data_at as u64, layout.word);
    put(&mut entry[layout.offset + layout.word..], data.len() as u64, layout.word);
    put(&mut entry[layout.align..], 1, layout.word);
    table.extend_from_slice(&entry);
    let table_at = append(&mut out, &table, layout.word);
    put(&mut out[layout.table..], table_at as u64, layout.word);
    put(&mut out[layout.counts + 2..], count as u64 + 1, 2);
    Ok(out)
}

/// The contents of a section.
///
/// # Errors
/// It is no little-endian ELF file, or its table of sections is damaged.
pub(crate) fn section<'a>(binary: &'a [u8], name: &str) -> Result<Option<&'a [u8]>> {
    let layout = layout(binary)?;
    let (table, _) = sections(binary, layout)?;
    let names_index = usize::from(u16_at(binary, layout.counts + 4)?);
    let entries: Vec<&[u8]> = table.chunks_exact(layout.entry).collect();
    let (names, len) = extent(entries.get(names_index).context("no section of names")?, layout)?;
    let names = binary.get(names..names + len).context("the names are cut off")?;
    for entry in entries {
        let at = usize::try_from(number(entry, 4)?)?;
        let found = names.get(at..).and_then(|rest| rest.split(|byte| *byte == 0).next());
        if found == Some(name.as_bytes()) {
            let (start, len) = extent(entry, layout)?;
            return Ok(Some(binary.get(start..start + len).context("the section is cut off")?));
        }
    }
    Ok(None)
}

fn layout(binary: &[u8]) -> Result<&'static Layout> {
    match binary.get(..6) {
        Some([0x7f, b'E', b'L', b'F', 1, 1]) => Ok(&ELF32),
        Some([0x7f, b'E', b'L', b'F', 2, 1]) => Ok(&ELF64),
        _ => bail!("this is no little-endian ELF file"),
    }
}

/// The table of sections, and how many it has.
fn sections<'a>(binary: &'a [u8], layout: &Layout) -> Result<(&'a [u8], usize)> {
    let field = binary.get(layout.table..).context("the header is cut off")?;
    let start = usize::try_from(number(field, layout.word)?)?;
    let size = usize::from(u16_at(binary, layout.counts)?);
    let count = usize::from(u16_at(binary, layout.counts + 2)?);
    ensure!(count > 0 && size == layout.entry, "{count} sections of {size} bytes each");
    let table = binary.get(start..start + count * size);
    Ok((table.context("the table of sections is cut off")?, count))
}

/// Where the contents of an entry are, and how long.
fn extent(entry: &[u8], layout: &Layout) -> Result<(usize, usize)> {
    let start = number(&entry[layout.offset..], layout.word)?;
    let len = number(&entry[layout.offset + layout.word..], layout.word)?;
    Ok((usize::try_from(start)?, usize::try_from(len)?))
}

/// Appends at the next multiple of `align`; where that is.
fn append(out: &mut Vec<u8>, data: &[u8], align: usize) -> usize {
    out.resize(out.len().next_multiple_of(align), 0);
    let at = out.len();
    out.extend_from_slice(data);
    at
}

fn number(bytes: &[u8], width: usize) -> Result<u64> {
    let bytes = bytes.get(..width).context("a number is cut off")?;
    Ok(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

fn u16_at(binary: &[u8], at: usize) -> Result<u16> {
    let bytes = binary.get(at..).context("the header is cut off")?;
    Ok(u16::try_from(number(bytes, 2)?)?)
}

fn put(bytes: &mut [u8], value: u64, width: usize) {
    bytes[..width].copy_from_slice(&value.to_le_bytes()[..width]);
}

#[cfg(test)]
pub(super) mod tests {
    use super::{ELF32, ELF64, Layout, put, section, with_section};

    /// A file of 64 bits that has no section of its own.
    pub(in super::super) fn empty() -> Vec<u8> {
        smallest(2, &ELF64)
    }

    /// A file with nothing but a header and two sections: the empty one, and the names.
    fn smallest(class: u8, layout: &Layout) -> Vec<u8> {
        let mut file = vec![0x7f, b'E', b'L', b'F', class, 1];
        file.resize(layout.counts + 6, 0);
        let names_at = file.len();
        file.extend_from_slice(b"\0.names\0");
        let table_at = file.len();
        file.resize(table_at + 2 * layout.entry, 0);
        let entry = table_at + layout.entry;
        put(&mut file[entry..], 1, 4);
        put(&mut file[entry + layout.offset..], names_at as u64, layout.word);
        put(&mut file[entry + layout.offset + layout.word..], 8, layout.word);
        put(&mut file[layout.table..], table_at as u64, layout.word);
        put(&mut file[layout.counts..], layout.entry as u64, 2);
        put(&mut file[layout.counts + 2..], 2, 2);
        put(&mut file[layout.counts + 4..], 1, 2);
        file
    }

    #[test]
    fn a_section_that_was_added_is_found_in_both_classes() {
        for (class, layout) in [(1, &ELF32), (2, &ELF64)] {
            let before = smallest(class, layout);
            assert_eq!(section(&before, ".dep-v0").unwrap(), None);
            let after = with_section(&before, ".dep-v0", b"contents").unwrap();
            assert_eq!(section(&after, ".dep-v0").unwrap(), Some(&b"contents"[..]));
            assert_eq!(section(&after, ".names").unwrap(), Some(&b"\0.names\0.dep-v0\0"[..]));
            let error = with_section(&after, ".dep-v0", b"").unwrap_err().to_string();
            assert_eq!(error, "there is a section .dep-v0 already");
        }
    }

    #[test]
    fn what_is_no_elf_file_is_refused_and_one_that_is_cut_off_too() {
        assert!(with_section(b"MZ", ".dep-v0", b"").is_err());
        let whole = smallest(2, &ELF64);
        for len in 0..whole.len() {
            assert!(with_section(&whole[..len], ".dep-v0", b"").is_err(), "{len} bytes");
        }
    }

    #[test]
    fn this_very_binary_takes_a_section() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let after = with_section(&own, ".dep-v0", b"contents").unwrap();
        assert_eq!(section(&after, ".dep-v0").unwrap(), Some(&b"contents"[..]));
        assert_eq!(section(&after, ".text").unwrap(), section(&own, ".text").unwrap());
    }
}
