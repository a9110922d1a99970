//! Archives in the form `ustar`, with the time 0 and no names of users.

#[cfg(test)]
use anyhow::Context;
use anyhow::{Result, ensure};

const BLOCK: usize = 512;
const NAME: usize = 100;

/// An archive that grows.
#[derive(Debug, Default)]
pub(super) struct Tar(Vec<u8>);

impl Tar {
    /// A folder; its name ends with a slash.
    pub(super) fn folder(&mut self, name: &str, mode: u32, owner: u32) -> Result<()> {
        self.entry(name, b'5', mode, owner, &[])
    }

    /// A file.
    pub(super) fn file(
        &mut self,
        name: &str,
        mode: u32,
        owner: u32,
        contents: &[u8],
    ) -> Result<()> {
        self.entry(name, b'0', mode, owner, contents)
    }

    /// The archive's bytes.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }

    fn entry(
        &mut self,
        name: &str,
        kind: u8,
        mode: u32,
        owner: u32,
        contents: &[u8],
    ) -> Result<()> {
        ensure!(name.len() <= NAME, "\"{name}\" is longer than {NAME} bytes");
        let mut header = [0; BLOCK];
        header[..name.len()].copy_from_slice(name.as_bytes());
        octal(&mut header[100..108], mode.into())?;
        octal(&mut header[108..116], owner.into())?;
        octal(&mut header[116..124], owner.into())?;
        octal(&mut header[124..136], contents.len() as u64)?;
        octal(&mut header[136..148], 0)?;
        header[156] = kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        // The sum is made with spaces where it will stand.
        header[148..156].fill(b' ');
        let sum: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        octal(&mut header[148..155], sum)?;
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(contents);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
        Ok(())
    }
}

/// A number in octal digits, with a zero behind it.
fn octal(field: &mut [u8], number: u64) -> Result<()> {
    let digits = field.len() - 1;
    let text = format!("{number:0digits$o}");
    ensure!(text.len() == digits, "{number} does not fit into {digits} octal digits");
    field[..digits].copy_from_slice(text.as_bytes());
    field[digits] = 0;
    Ok(())
}

/// Names and contents of an archive.
///
/// # Errors
/// When it is cut off, or a checksum is wrong.
#[cfg(test)]
pub(super) fn files(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    let mut at = 0;
    loop {
        let header = bytes.get(at..at + BLOCK).context("the archive is cut off")?;
        if header.iter().all(|byte| *byte == 0) {
            return Ok(files);
        }
        let text = |range: std::ops::Range<usize>| -> Result<&str> {
            Ok(std::str::from_utf8(&header[range])?.trim_end_matches(['\0', ' ']))
        };
        let sum = u64::from_str_radix(text(148..156)?, 8)?;
        let found: u64 = header.iter().map(|byte| u64::from(*byte)).sum();
        let stands: u64 = header[148..156].iter().map(|byte| u64::from(*byte)).sum();
        ensure!(sum == found - stands + 8 * 32, "a wrong checksum at byte {at}");
        let length = usize::from_str_radix(text(124..136)?, 8)?;
        let start = at + BLOCK;
        let contents = bytes.get(start..start + length).context("a file is cut off")?;
        files.push((text(0..NAME)?.to_owned(), contents.to_vec()));
        at = (start + length).next_multiple_of(BLOCK);
    }
}

#[cfg(test)]
mod tests {
    use super::{Tar, files};

    #[test]
    fn tar_reads_what_is_written_here() {
        let mut tar = Tar::default();
        tar.folder("a/", 0o700, 7).unwrap();
        tar.file("a/b", 0o644, 0, &[5; 700]).unwrap();
        let bytes = tar.finish();
        let expected = [("a/".to_owned(), Vec::new()), ("a/b".to_owned(), vec![5; 700])];
        assert_eq!(files(&bytes).unwrap(), expected);
        let path = std::env::temp_dir().join(format!("xtask-tar-{}", std::process::id()));
        std::fs::write(&path, bytes).unwrap();
        let mut list = std::process::Command::new("tar");
        let output = list.args(["--numeric-owner", "-tvf"]).arg(&path).output().unwrap();
        std::fs::remove_file(&path).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<Vec<&str>> =
            text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..3], ["drwx------", "7/7", "0"]);
        assert_eq!(lines[1][..3], ["-rw-r--r--", "0/0", "700"]);
    }
}
