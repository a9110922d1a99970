//! Which version of a pushed function its name stands for: one entry of the table `packages` of
//! the log (docs/formats/package.md).
//!
//! Invariant: an entry is replaced as a whole, so that a power cut finds the old or the new one.
//! Where the packages themselves are is the shell's business.

use tidegate_wire::Digest;

/// Version of the encoding.
const VERSION: u8 = 1;
/// The same with a canary at its end.
const WITH_CANARY: u8 = 2;
/// Longest reason that is kept, in bytes.
const MAX_REASON: usize = 1024;

/// A version of a function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its package.
    pub package: Digest,
    /// What its author calls it, at most 255 bytes.
    pub label: String,
}

/// A version that did not last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedVersion {
    /// The version.
    pub version: Version,
    /// When it was given up, in milliseconds since 1970.
    pub unix_ms: i64,
    /// Why, in words.
    pub reason: String,
}

/// A version that gets a share of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanaryVersion {
    /// The version.
    pub version: Version,
    /// Its share, in hundredths of a percent.
    pub share: u16,
    /// Records that it must have been given before it is promoted.
    pub records: u32,
}

/// What a name stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alias {
    /// The version that runs; `None` when the first one ever failed.
    pub current: Option<Version>,
    /// It runs on trial: a failure takes `previous` back.
    pub on_trial: bool,
    /// When `current` became it, in milliseconds since 1970.
    pub since_unix_ms: i64,
    /// The version before, to go back to.
    pub previous: Option<Version>,
    /// The last version that failed its trial.
    pub failed: Option<FailedVersion>,
    /// What runs beside `current`.
    pub canary: Option<CanaryVersion>,
}

impl Alias {
    /// The packages that must be kept.
    pub fn packages(&self) -> impl Iterator<Item = Digest> {
        let canary = self.canary.iter().map(|canary| &canary.version);
        self.current.iter().chain(&self.previous).chain(canary).map(|version| version.package)
    }

    /// As it is in the table.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let version = if self.canary.is_some() { WITH_CANARY } else { VERSION };
        let mut out = vec![version, u8::from(self.on_trial)];
        out.extend_from_slice(&self.since_unix_ms.to_be_bytes());
        put_version(&mut out, self.current.as_ref());
        put_version(&mut out, self.previous.as_ref());
        put_version(&mut out, self.failed.as_ref().map(|failed| &failed.version));
        if let Some(failed) = &self.failed {
            out.extend_from_slice(&failed.unix_ms.to_be_bytes());
            let cut = failed.reason.floor_char_boundary(MAX_REASON);
            out.extend_from_slice(&(cut as u16).to_be_bytes());
            out.extend_from_slice(&failed.reason.as_bytes()[..cut]);
        }
        if let Some(canary) = &self.canary {
            put_version(&mut out, Some(&canary.version));
            out.extend_from_slice(&canary.share.to_be_bytes());
            out.extend_from_slice(&canary.records.to_be_bytes());
        }
        out
    }

    /// Reads it back; `None` when it is of another form.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Alias> {
        let (&[form @ (VERSION | WITH_CANARY), trial @ (0 | 1)], rest) =
            bytes.split_first_chunk::<2>()?
        else {
            return None;
        };
        let mut rest = rest;
        let since_unix_ms = take_time(&mut rest)?;
        let current = take_version(&mut rest)?;
        let previous = take_version(&mut rest)?;
        let failed = match take_version(&mut rest)? {
            None => None,
            Some(version) => {
                let unix_ms = take_time(&mut rest)?;
                let (length, text) = rest.split_first_chunk::<2>()?;
                let (reason, after) = text.split_at_checked(u16::from_be_bytes(*length).into())?;
                rest = after;
                let reason = String::from_utf8(reason.to_vec()).ok()?;
                Some(FailedVersion { version, unix_ms, reason })
            }
        };
        let canary = match form {
            WITH_CANARY => Some(take_canary(&mut rest)?),
            _ => None,
        };
        let on_trial = trial == 1;
        let alias = Alias { current, on_trial, since_unix_ms, previous, failed, canary };
        rest.is_empty().then_some(alias)
    }
}

fn put_version(out: &mut Vec<u8>, version: Option<&Version>) {
    let Some(version) = version else { return out.push(0) };
    out.push(1);
    out.extend_from_slice(&version.package.0);
    let cut = version.label.floor_char_boundary(u8::MAX.into());
    out.push(cut as u8);
    out.extend_from_slice(&version.label.as_bytes()[..cut]);
}

fn take_version(rest: &mut &[u8]) -> Option<Option<Version>> {
    let (&there, after) = rest.split_first()?;
    match there {
        0 => {
            *rest = after;
            Some(None)
        }
        1 => {
            let (package, after) = after.split_first_chunk::<32>()?;
            let (&length, after) = after.split_first()?;
            let (label, after) = after.split_at_checked(length.into())?;
            *rest = after;
            let label = String::from_utf8(label.to_vec()).ok()?;
            Some(Some(Version { package: Digest(*package), label }))
        }
        _ => None,
    }
}

fn take_canary(rest: &mut &[u8]) -> Option<CanaryVersion> {
    let version = take_version(rest)??;
    let (share, after) = rest.split_first_chunk::<2>()?;
    let (records, after) = after.split_first_chunk::<4>()?;
    *rest = after;
    let (share, records) = (u16::from_be_bytes(*share), u32::from_be_bytes(*records));
    Some(CanaryVersion { version, share, records })
}

fn take_time(rest: &mut &[u8]) -> Option<i64> {
    let (time, after) = rest.split_first_chunk::<8>()?;
    *rest = after;
    Some(i64::from_be_bytes(*time))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLDEN: &[u8] = include_bytes!("../../../tests/golden/package/v1/alias.bin");
    const CANARY: &[u8] = include_bytes!("../../../tests/golden/package/v1/alias-canary.bin");

    fn version(byte: u8, label: &str) -> Version {
        Version { package: Digest([byte; 32]), label: label.to_owned() }
    }

    fn full() -> Alias {
        Alias {
            current: Some(version(1, "1.2.0")),
            on_trial: true,
            since_unix_ms: 1_780_000_000_123,
            previous: Some(version(2, "1.1.0")),
            failed: Some(FailedVersion {
                version: version(3, "1.1.1"),
                unix_ms: 1_770_000_000_000,
                reason: "the function trapped: unreachable".to_owned(),
            }),
            canary: None,
        }
    }

    fn with_canary() -> Alias {
        let canary = CanaryVersion { version: version(4, "1.3.0"), share: 1_000, records: 200 };
        Alias { canary: Some(canary), ..full() }
    }

    #[test]
    fn the_entry_is_frozen() {
        assert_eq!(full().encode(), GOLDEN);
        assert_eq!(Alias::decode(GOLDEN), Some(full()));
        assert_eq!(with_canary().encode(), CANARY);
        assert_eq!(Alias::decode(CANARY), Some(with_canary()));
    }

    #[test]
    fn what_is_written_is_read_again_whatever_is_missing() {
        for missing in 0..16 {
            let mut alias = if missing & 8 == 0 { full() } else { with_canary() };
            if missing & 1 != 0 {
                alias.current = None;
            }
            if missing & 2 != 0 {
                alias.previous = None;
            }
            if missing & 4 != 0 {
                alias.failed = None;
            }
            assert_eq!(Alias::decode(&alias.encode()), Some(alias));
        }
    }

    #[test]
    fn an_entry_that_is_cut_or_longer_or_of_another_version_is_none() {
        for golden in [GOLDEN, CANARY] {
            for cut in 0..golden.len() {
                assert_eq!(Alias::decode(&golden[..cut]), None, "{cut}");
            }
            assert_eq!(Alias::decode(&[golden, &[0]].concat()), None);
            assert_eq!(Alias::decode(&[&[3], &golden[1..]].concat()), None);
        }
        assert_eq!(Alias::decode(&[&[2], &GOLDEN[1..]].concat()), None);
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let mut alias = full();
        if let Some(failed) = &mut alias.failed {
            failed.reason = "°".repeat(MAX_REASON);
        }
        let read = Alias::decode(&alias.encode()).unwrap().failed.unwrap();
        assert_eq!(read.reason.len(), MAX_REASON);
    }
}
