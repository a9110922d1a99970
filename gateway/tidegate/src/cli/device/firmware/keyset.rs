//! `tidegate device firmware keyset`

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use tidegate_wire::ed25519::PublicKey;
use tidegate_wire::key_set::{KeySet, Keys, MAX_KEY_SET, MAX_KEYS};
use tidegate_wire::sign1::{Purpose, seal};

use super::{Failure, read};
use crate::packages::show_public;
use crate::ring_crypto::Ring;

#[derive(Debug, Args)]
pub(in crate::cli) struct KeysetArguments {
    /// The root's key
    #[arg(long, value_name = "FILE")]
    root: PathBuf,
    /// The key set that this one takes the place of; what is not said anew is taken from it
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
    /// A release key, as `keygen` showed it; may be given several times
    #[arg(long, value_name = "KEY")]
    add: Vec<String>,
    /// A release key that is not trusted any more; may be given several times
    #[arg(long, value_name = "KEY", requires = "from")]
    revoke: Vec<String>,
    /// How many of the keys have to sign a release: 1 or 2 [default: 1, or as before]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=2))]
    threshold: Option<u8>,
    /// Greatest sequence that a release may have [default: 1000, or as before]
    #[arg(long, value_name = "N")]
    sequence_cap: Option<u64>,
    /// Version of the set [default: 1, or one above the one before]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    set_version: Option<u32>,
    /// The key set; never overwritten
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
}

/// Signs a key set.
pub(super) fn keyset(arguments: &KeysetArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let root = read::key(&arguments.root)?;
    let before = arguments.from.as_deref().map(|file| before(file, *root.public())).transpose()?;
    let mut keys: Vec<PublicKey> = before.iter().flat_map(|set| set.keys.iter().copied()).collect();
    for text in &arguments.revoke {
        let key = read::public("--revoke", text)?;
        let at = keys.iter().position(|one| *one == key);
        let at = at.ok_or_else(|| Failure::Wrong(format!("--revoke {text}: not in the set")))?;
        keys.remove(at);
    }
    for text in &arguments.add {
        keys.push(read::public("--add", text)?);
    }
    let count = keys.len();
    let keys = Keys::new(&keys).ok_or_else(|| {
        let problem = format!("a key set has 1 to {MAX_KEYS} keys, each once; these are {count}");
        Failure::Wrong(problem)
    })?;
    let version = match (arguments.set_version, &before) {
        (Some(version), Some(before)) if version <= before.version => {
            let before = before.version;
            let problem = format!("--set-version {version}: the set before has version {before}");
            return Err(Failure::Wrong(problem));
        }
        (Some(version), _) => version,
        (None, Some(before)) => before
            .version
            .checked_add(1)
            .ok_or_else(|| Failure::Wrong("there is no version above the one before".to_owned()))?,
        (None, None) => 1,
    };
    let threshold = arguments.threshold.or(before.map(|set| set.threshold)).unwrap_or(1);
    if usize::from(threshold) > count {
        let problem = format!("--threshold {threshold}: there are only {count} keys");
        return Err(Failure::Wrong(problem));
    }
    let cap = arguments.sequence_cap.or(before.map(|set| set.sequence_cap)).unwrap_or(1_000);
    let set = KeySet { version, threshold, keys, sequence_cap: cap };
    let mut payload = [0; MAX_KEY_SET];
    let length = set.write(&mut payload).map_err(|_| anyhow!("the key set is too long"))?;
    let mut envelope = [0; MAX_KEY_SET];
    let payload = payload.get(..length).unwrap_or_default();
    let length = seal(payload, Purpose::DeviceKeySet, &root, &mut envelope)
        .map_err(|_| anyhow!("the key set is too long"))?;
    write_new(&arguments.output, envelope.get(..length).unwrap_or_default())?;
    let shown = arguments.output.display();
    writeln!(
        out,
        "{shown}: key set {version}, {count} keys, {threshold} to sign, sequences up to {cap}"
    )?;
    Ok(())
}

/// The set before; it has to be of the same root, or somebody else's would be signed unseen.
fn before(file: &Path, root: PublicKey) -> anyhow::Result<KeySet> {
    let (envelope, _, _) = read::key_set(file)?;
    let root = [root];
    let set = KeySet::open(&envelope, &root, &Ring).map_err(|error| {
        let root = show_public(&root[0]);
        anyhow!("{} is not signed by the root {root}: {error}", file.display())
    })?;
    set.map_err(|error| anyhow!("{} is no key set: {error}", file.display()))
}

/// Writes a file that was not there.
pub(super) fn write_new(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let shown = file.display();
    let open = OpenOptions::new().write(true).create_new(true).open(file);
    let mut open = open.with_context(|| format!("cannot make {shown}; choose another file"))?;
    open.write_all(bytes)
        .and_then(|()| open.sync_all())
        .with_context(|| format!("cannot write {shown}; what is there is not whole, remove it"))
}
