//! Archives that a kernel unpacks before it starts: cpio in the form `newc`, each entry a header of
//! 110 hexadecimal digits, a name and the bytes, both padded to four.
//!
//! Everything belongs to root and has the time 0, so that the same files give the same bytes.

use anyhow::{Context, Result, bail, ensure};

const MAGIC: &str = "070701";
const HEADER: usize = 110;
const END: &str = "TRAILER!!!";

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

/// An archive that grows.
#[derive(Debug, Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    folders: Vec<String>,
}

impl Archive {
    /// A folder, and those that it is in; those that are there already stay.
    pub(super) fn folder(&mut self, path: &str) -> Result<()> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            let folder = &path[..end];
            if !self.folders.iter().any(|known| known == folder) {
                self.folders.push(folder.to_owned());
                self.entry(folder, FOLDER, &[])?;
            }
        }
        Ok(())
    }

    /// A file that everybody may read and run, with the folders that it is in.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        self.parents(path)?;
        self.entry(path, PROGRAM, contents)
    }

    /// The archive's bytes.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry(END, 0, &[])?;
        Ok(self.bytes)
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        path.rsplit_once('/').map_or(Ok(()), |(folder, _)| self.folder(folder))
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) -> Result<()> {
        let size = u32::try_from(contents.len())
            .with_context(|| format!("{name} is too large for an archive: 4 GiB at most"))?;
        self.entries += 1;
        let name_size = u32::try_from(name.len() + 1).context("a name of 4 GiB")?;
        // inode, mode, user, group, links, time, size, device and its kind twice, name, checksum
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(MAGIC.as_bytes());
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// The names in an archive.
///
/// # Errors
/// When it is no archive of this form, or is cut off.
pub(super) fn names(bytes: &[u8]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut at = 0;
    loop {
        let header = bytes.get(at..at + HEADER).context("the archive is cut off")?;
        ensure!(header.starts_with(MAGIC.as_bytes()), "no entry of a cpio archive at byte {at}");
        let field = |number: usize| -> Result<usize> {
            let digits = std::str::from_utf8(&header[6 + number * 8..14 + number * 8])?;
            Ok(usize::from_str_radix(digits, 16)?)
        };
        let (size, name_size) = (field(6)?, field(11)?);
        let name = bytes.get(at + HEADER..at + HEADER + name_size).context("a name is cut off")?;
        let name = std::str::from_utf8(name)?.trim_end_matches('\0');
        if name == END {
            return Ok(names);
        }
        if name.is_empty() {
            bail!("an entry without a name at byte {at}");
        }
        names.push(name.to_owned());
        at = (at + HEADER + name_size).next_multiple_of(4);
        at = (at + size).next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::{Archive, names};

    #[test]
    fn what_is_put_in_is_listed_with_each_folder_once() {
        let mut archive = Archive::default();
        archive.file("init", b"#!/bin/sh\n").unwrap();
        archive.file("lib/modules/6.1/a.ko", &[7; 5]).unwrap();
        archive.file("lib/modules/6.1/b.ko", &[]).unwrap();
        let bytes = archive.finish().unwrap();
        assert_eq!(bytes.len() % 4, 0);
        let expected = ["init", "lib", "lib/modules", "lib/modules/6.1", "lib/modules/6.1/a.ko"];
        let rest = ["lib/modules/6.1/b.ko"];
        assert_eq!(names(&bytes).unwrap(), [&expected[..], &rest[..]].concat());
    }

    #[test]
    fn a_header_has_its_fields_where_the_kernel_reads_them() {
        let mut archive = Archive::default();
        archive.file("ab", b"xyz").unwrap();
        let bytes = archive.finish().unwrap();
        let header = [
            "070701", "00000001", "000081ed", "00000000", "00000000", "00000001", "00000000",
            "00000003", "00000000", "00000000", "00000000", "00000000", "00000003", "00000000",
        ];
        let expected = [header.concat().as_bytes(), b"ab\0\0\0\0xyz\0"].concat();
        assert_eq!(&bytes[..expected.len()], &expected[..]);
    }

    #[test]
    fn an_archive_that_is_cut_off_is_not_taken_for_a_whole_one() {
        let mut archive = Archive::default();
        archive.file("ab", b"xyz").unwrap();
        let bytes = archive.finish().unwrap();
        assert!(names(&bytes[..bytes.len() - 60]).is_err());
        assert!(names(b"not an archive").is_err());
    }
}
