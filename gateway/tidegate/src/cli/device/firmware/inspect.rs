//! `tidegate device firmware inspect`

use std::io::Write;
use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};
use tidegate_firmware::{MAX_BUNDLE, Release, show_uuid};
use tidegate_wire::Digest;
use tidegate_wire::key_set::{KeySet, Keys};
use tidegate_wire::manifest::{Apply, Component, Devices, Encoding, Manifest};
use tidegate_wire::sign1::look_into;

use super::sign::{side, way};
use super::{Failure, read};
use crate::cli::table::Table;
use crate::packages::{TrustedKeys, sha256, show_public};
use crate::ring_crypto::{Ring, RingSha256};

#[derive(Debug, Args)]
pub(in crate::cli) struct InspectArguments {
    /// The bundle or the key set
    file: PathBuf,
    /// Check the signature by this key: a release key for a bundle, a root for a key set
    #[arg(long, value_name = "KEY")]
    trust: Vec<String>,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// Shows what a file says, and whether one of the keys has signed it.
pub(super) fn inspect(arguments: &InspectArguments, out: &mut dyn Write) -> Result<(), Failure> {
    let mut trusted = Vec::new();
    for text in &arguments.trust {
        trusted.push(read::public("--trust", text)?);
    }
    let bytes = read::file(&arguments.file, "a bundle", MAX_BUNDLE)?;
    let shown = if bytes.starts_with(b"TGF1") {
        let named = |problem: String| anyhow!("{}: {problem}", arguments.file.display());
        let release = Release::of_bundle::<RingSha256>(&bytes);
        let release = release.map_err(|error| named(error.to_string()))?;
        if !trusted.is_empty() {
            is_trusted(&release, &trusted).map_err(named)?;
        }
        bundle(&release, sha256(&bytes), !trusted.is_empty())
    } else {
        let (envelope, _, set) = read::key_set(&arguments.file)?;
        if !trusted.is_empty() {
            let opened = KeySet::open(&envelope, &trusted, &Ring);
            opened
                .map_err(|error| anyhow!("{}: {error}", arguments.file.display()))?
                .map_err(|error| anyhow!("{} is no key set: {error}", arguments.file.display()))?;
        }
        key_set(&envelope, &set, !trusted.is_empty())
    };
    if arguments.json {
        writeln!(out, "{shown}")?;
        return Ok(());
    }
    let mut table = Table::new();
    rows(&mut table, "", &shown);
    table.write(out)?;
    Ok(())
}

/// Whether the keys have signed it: both signatures, where there are two.
fn is_trusted(
    release: &Release,
    trusted: &[tidegate_wire::ed25519::PublicKey],
) -> Result<(), String> {
    let mut keys = TrustedKeys::default();
    trusted.iter().for_each(|key| {
        keys.add(*key);
    });
    let purpose = tidegate_wire::sign1::Purpose::FirmwareManifest;
    let opened = tidegate_wire::sign1::open(release.envelope(), purpose, &keys);
    let verified = opened.map_err(|error| error.to_string())?;
    if let Some(second) = release.second() {
        let payload = verified.payload();
        let second = tidegate_wire::sign1::open_detached(second, payload, purpose, &keys);
        second.map_err(|error| format!("the second signature: {error}"))?;
    }
    Ok(())
}

fn bundle(release: &Release, hash: Digest, verified: bool) -> Value {
    let signer = look_into(release.envelope()).map(|(key, _)| key.to_string());
    let Some(manifest) = release.manifest() else { return Value::Null };
    let components: Vec<Value> = manifest.components.iter().map(|one| component(&one)).collect();
    json!({
        "bundle": hash.to_string(),
        "bytes": release.bundle_bytes(),
        "manifest": release.name().to_string(),
        "signed_by": signer.unwrap_or_default(),
        "second_signature": release.second().is_some(),
        "verified": verified,
        "sequence": manifest.sequence,
        "floor": manifest.floor,
        "vendor": show_uuid(&manifest.vendor),
        "class": show_uuid(&manifest.class),
        "devices": if manifest.devices == Devices::ALL { "all" } else { "listed" },
        "from": [manifest.current.0, manifest.current.1],
        "not_after": manifest.not_after,
        "label": manifest.label,
        "policy": policy(&manifest),
        "components": components,
        "key_set": release.key_set().and_then(|envelope| {
            let (_, payload) = look_into(envelope).ok()?;
            Some(key_set(envelope, &KeySet::read(payload).ok()?, false))
        }),
    })
}

fn policy(manifest: &Manifest<'_>) -> Value {
    let policy = &manifest.policy;
    let apply = match policy.apply {
        Apply::Auto => "auto".to_owned(),
        Apply::Ask => "ask".to_owned(),
        Apply::Window { from, minutes } => format!("{:02}:{:02}+{minutes}", from / 60, from % 60),
    };
    json!({
        "apply": apply,
        "self_test_s": policy.self_test,
        "contact_s": policy.contact,
        "attempts": policy.attempts,
    })
}

fn component(component: &Component<'_>) -> Value {
    let base = match component.encoding {
        Encoding::Delta { base, .. } => Some(base.to_string()),
        Encoding::None | Encoding::Heatshrink { .. } => None,
    };
    json!({
        "id": component.id,
        "side": side(component.side),
        "version": component.version,
        "bytes": component.size,
        "sha256": component.digest.to_string(),
        "travels_as": way(&component.encoding),
        "travelling_bytes": component.travelling(),
        "base": base,
    })
}

fn key_set(envelope: &[u8], set: &KeySet, verified: bool) -> Value {
    let signer = look_into(envelope).map(|(key, _)| key.to_string());
    let keys = |keys: &Keys| keys.iter().map(show_public).collect::<Vec<_>>();
    json!({
        "version": set.version,
        "signed_by": signer.unwrap_or_default(),
        "verified": verified,
        "threshold": set.threshold,
        "sequence_cap": set.sequence_cap,
        "keys": keys(&set.keys),
    })
}

/// The same for people: a line for each member.
fn rows(table: &mut Table, within: &str, value: &Value) {
    let Value::Object(members) = value else { return };
    for (key, value) in members {
        let name = format!("{within}{}", key.replace('_', " "));
        match value {
            Value::Null => {}
            Value::Object(_) => rows(table, &format!("{name}: "), value),
            Value::Array(list) if list.iter().any(Value::is_object) => {
                for (at, one) in list.iter().enumerate() {
                    rows(table, &format!("{name} {at}: "), one);
                }
            }
            Value::Array(list) => {
                let texts: Vec<String> = list.iter().map(plain).collect();
                table.row([name.as_str(), &texts.join(" ")]);
            }
            Value::String(_) | Value::Bool(_) | Value::Number(_) => {
                table.row([name.as_str(), &plain(value)]);
            }
        }
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
