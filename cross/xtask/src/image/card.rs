//! The card of a board: an MBR with two partitions, FAT for what the board starts from and ext4 for
//! the root file system, in one plain file.

use super::space::copy_into;
use crate::progress::quietly;
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};

pub(super) const SECTOR: u64 = 512;
/// Both partitions begin at a multiple of this: what cards erase at a time.
const ALIGNMENT: u64 = 4 * 1024 * 1024;
/// FAT with 32 bits, as the MBR says it.
pub(super) const FAT: u8 = 0x0c;
pub(super) const LINUX: u8 = 0x83;
/// A constant, so that the same parts give the same card. Nothing finds a partition by it.
const DISK_ID: &str = "0x74696465";

/// A partition, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partition {
    pub(super) kind: u8,
    pub(super) start: u64,
    pub(super) length: u64,
}

/// Writes a card with these file systems.
pub(super) fn write(card: &Path, boot: &Path, root: &Path) -> Result<()> {
    let length = |path: &Path| -> Result<u64> {
        Ok(fs::metadata(path).with_context(|| path.display().to_string())?.len())
    };
    let boot_length = length(boot)?.next_multiple_of(SECTOR);
    let root_length = length(root)?.next_multiple_of(SECTOR);
    let root_start = (ALIGNMENT + boot_length).next_multiple_of(ALIGNMENT);
    let mut file = File::create(card).with_context(|| format!("cannot make {}", card.display()))?;
    file.set_len((root_start + root_length).next_multiple_of(ALIGNMENT))?;
    let table = format!(
        "label: dos\nlabel-id: {DISK_ID}\nunit: sectors\n\
         start={}, size={}, type=c, bootable\nstart={}, size={}, type=83\n",
        ALIGNMENT / SECTOR,
        boot_length / SECTOR,
        root_start / SECTOR,
        root_length / SECTOR
    );
    partition(card, &table)?;
    copy_into(boot, &mut file, ALIGNMENT)?;
    copy_into(root, &mut file, root_start)?;
    file.sync_all().context("cannot write the card's image: is the disk full?")
}

fn partition(card: &Path, table: &str) -> Result<()> {
    let mut sfdisk = Command::new("sh");
    sfdisk.args([
        "-c",
        "printf %s \"$1\" | PATH=$PATH:/usr/sbin:/sbin sfdisk --quiet \"$2\"",
        "sfdisk",
    ]);
    sfdisk.arg(table).arg(card).stdin(Stdio::null());
    quietly("partitioning", &mut sfdisk)?;
    Ok(())
}

/// The partitions of a card.
///
/// # Errors
/// When it has no MBR, or a partition that is not within the card.
pub(super) fn partitions(card: &Path) -> Result<Vec<Partition>> {
    let mut file = File::open(card).with_context(|| format!("cannot open {}", card.display()))?;
    let length = file.metadata()?.len();
    let mut sector = [0; SECTOR as usize];
    file.read_exact(&mut sector).context("shorter than a sector")?;
    let found = parse(&sector)?;
    for part in &found {
        ensure!(
            part.start >= SECTOR && part.start.saturating_add(part.length) <= length,
            "a partition from byte {} with {} bytes is not within the {length} bytes of the card",
            part.start,
            part.length
        );
    }
    Ok(found)
}

/// Bytes of a card.
pub(super) fn bytes_at(card: &Path, at: u64, length: usize) -> Result<Vec<u8>> {
    let mut file = File::open(card)?;
    file.seek(SeekFrom::Start(at))?;
    let mut bytes = vec![0; length];
    file.read_exact(&mut bytes).context("the card is shorter than its partitions")?;
    Ok(bytes)
}

/// The entries of a master boot record that are used: at byte 446, 16 bytes each.
fn parse(sector: &[u8; SECTOR as usize]) -> Result<Vec<Partition>> {
    ensure!(sector[510..] == [0x55, 0xaa], "no partition table: byte 510 is not 55 aa");
    let entries = sector[446..510].chunks_exact(16).filter(|entry| entry[4] != 0);
    let sectors = |bytes: &[u8]| -> u64 {
        bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    Ok(entries
        .map(|entry| Partition {
            kind: entry[4],
            start: sectors(&entry[8..12]) * SECTOR,
            length: sectors(&entry[12..16]) * SECTOR,
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::{FAT, Partition, parse};

    #[test]
    fn a_partition_is_read_in_little_endian_sectors() {
        let mut sector = [0; 512];
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector[446 + 4] = FAT;
        sector[446 + 8..446 + 16].copy_from_slice(&[0, 0x20, 0, 0, 0, 0, 8, 0]);
        let expected = Partition { kind: FAT, start: 4 << 20, length: 256 << 20 };
        assert_eq!(parse(&sector).unwrap(), [expected]);
    }

    #[test]
    fn a_sector_without_the_mark_is_no_partition_table() {
        assert!(parse(&[0; 512]).is_err());
    }
}
