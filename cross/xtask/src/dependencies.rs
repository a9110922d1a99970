//! Holds the dependencies against `deny.toml`: licences, banned crates, sources. The same file serves
//! cargo-deny, which takes five minutes to build and knows advisories besides.

use crate::dist::crates::{list, metadata, text};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::ExitCode;
use toml::{Table, Value};

/// The manifests whose lock files are looked at: of the repository, of the firmware, and of what compares its size.
const MANIFESTS: [&str; 3] =
    ["Cargo.toml", "firmware-examples/Cargo.toml", "tests/sizes/Cargo.toml"];

/// Looks at every crate of the lock files that some machine builds, and prints what may not be there.
pub(crate) fn check(workspace: &Workspace) -> Result<ExitCode> {
    let file = workspace.root().join("deny.toml");
    let rules = fs::read_to_string(&file).with_context(|| format!("no {}", file.display()))?;
    let rules = Rules::read(&rules).with_context(|| format!("{} is wrong", file.display()))?;
    let mut mistakes = BTreeSet::new();
    let mut unused: BTreeSet<&String> = rules.exceptions.keys().collect();
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for manifest in MANIFESTS {
        let metadata = metadata(workspace, &["--all-features", "--manifest-path", manifest])?;
        for package in list(&metadata, "packages")? {
            let optional = |field| package.get(field).and_then(serde_json::Value::as_str);
            let name = text(package, "name")?;
            unused.remove(&name);
            mistakes.extend(rules.mistakes(&name, optional("license"), optional("source")));
            mistakes.extend(any_version(&name, package)?);
            versions.entry(name).or_default().insert(text(package, "version")?);
        }
    }
    let crates: usize = versions.values().map(BTreeSet::len).sum();
    mistakes.extend(unused.iter().map(|name| format!("{name}: its exception is not needed")));
    let several: Vec<String> = versions
        .iter()
        .filter(|(_, versions)| versions.len() > 1)
        .map(|(name, versions)| {
            let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
            format!("{name} {}", versions.join(" and "))
        })
        .collect();
    println!("in several versions: {}", several.join(", "));
    for mistake in &mistakes {
        println!("{mistake}");
    }
    println!("{crates} crates, {} of them not as deny.toml wants it", mistakes.len());
    Ok(if mistakes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `deny.toml` says.
struct Rules {
    allowed: BTreeSet<String>,
    /// Crates, with the licences that are fine for them alone.
    exceptions: BTreeMap<String, BTreeSet<String>>,
    /// Crates, with the reason why they may not be there.
    banned: BTreeMap<String, String>,
    registries: BTreeSet<String>,
}

impl Rules {
    fn read(text: &str) -> Result<Self> {
        let table: Table = text.parse()?;
        let of = |section: &str, key: &str| -> Result<&Vec<Value>> {
            let list = table.get(section).and_then(|section| section.get(key)?.as_array());
            list.with_context(|| format!("there is no list {section}.{key}"))
        };
        let name = |entry: &Value, key: &str| -> Result<String> {
            let name = entry.get(key).and_then(Value::as_str);
            Ok(name.with_context(|| format!("an entry has no {key}: {entry}"))?.to_owned())
        };
        let exception = |entry: &Value| {
            let allowed = entry.get("allow").and_then(Value::as_array);
            Ok((name(entry, "crate")?, texts(allowed.context("an exception allows nothing")?)))
        };
        let ban = |entry: &Value| Ok((name(entry, "crate")?, name(entry, "reason")?));
        Ok(Self {
            allowed: texts(of("licenses", "allow")?),
            exceptions: of("licenses", "exceptions")?
                .iter()
                .map(exception)
                .collect::<Result<_>>()?,
            banned: of("bans", "deny")?.iter().map(ban).collect::<Result<_>>()?,
            registries: texts(of("sources", "allow-registry")?),
        })
    }

    /// What is wrong with a crate. One without a source is of this repository.
    fn mistakes(&self, name: &str, license: Option<&str>, source: Option<&str>) -> Vec<String> {
        let mut mistakes = Vec::new();
        if let Some(reason) = self.banned.get(name) {
            mistakes.push(format!("{name} is banned: {reason}"));
        }
        if let Some(source) = source {
            let registry = source.strip_prefix("registry+");
            if !registry.is_some_and(|registry| self.registries.contains(registry)) {
                mistakes.push(format!("{name} comes from {source}, which is not allowed"));
            }
        }
        let none = BTreeSet::new();
        let exception = self.exceptions.get(name).unwrap_or(&none);
        let fine = |id: &str| self.allowed.contains(id) || exception.contains(id);
        match license.map(|license| (license, allows(license, &fine))) {
            Some((_, Ok(true))) => {}
            Some((license, Ok(false))) => {
                mistakes.push(format!("{name} has the licence {license}, which is not allowed"));
            }
            Some((license, Err(error))) => {
                mistakes.push(format!("{name} has the licence {license}: {error}"));
            }
            None => mistakes.push(format!("{name} tells no licence")),
        }
        mistakes
    }
}

/// Crates of a registry that one of ours takes in any version.
fn any_version(name: &str, package: &serde_json::Value) -> Result<Vec<String>> {
    let mut mistakes = Vec::new();
    if package.get("source").is_some_and(|source| !source.is_null()) {
        return Ok(mistakes);
    }
    for used in list(package, "dependencies")? {
        let here = used.get("path").is_some_and(|path| !path.is_null());
        if text(used, "req")? == "*" && !here {
            mistakes.push(format!("{name} takes any version of {}", text(used, "name")?));
        }
    }
    Ok(mistakes)
}

fn texts(list: &[Value]) -> BTreeSet<String> {
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Whether what is fine satisfies an SPDX expression. Old manifests write `/` for OR.
fn allows(expression: &str, fine: &dyn Fn(&str) -> bool) -> Result<bool> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = &words[..];
    let allowed = any(&mut rest, fine)?;
    if !rest.is_empty() {
        bail!("it goes on after its end: {}", rest.join(" "));
    }
    Ok(allowed)
}

fn any(words: &mut &[&str], fine: &dyn Fn(&str) -> bool) -> Result<bool> {
    let mut allowed = all(words, fine)?;
    while let ["OR", rest @ ..] = *words {
        *words = rest;
        allowed |= all(words, fine)?;
    }
    Ok(allowed)
}

fn all(words: &mut &[&str], fine: &dyn Fn(&str) -> bool) -> Result<bool> {
    let mut allowed = one(words, fine)?;
    while let ["AND", rest @ ..] = *words {
        *words = rest;
        allowed &= one(words, fine)?;
    }
    Ok(allowed)
}

fn one(words: &mut &[&str], fine: &dyn Fn(&str) -> bool) -> Result<bool> {
    match *words {
        ["(", rest @ ..] => {
            *words = rest;
            let allowed = any(words, fine)?;
            let [")", rest @ ..] = *words else { bail!("a bracket is not closed") };
            *words = rest;
            Ok(allowed)
        }
        [id, "WITH", exception, rest @ ..] => {
            *words = rest;
            Ok(fine(&format!("{id} WITH {exception}")))
        }
        [id, rest @ ..] if !["OR", "AND", "WITH", ")"].contains(id) => {
            *words = rest;
            Ok(fine(id))
        }
        [other, ..] => bail!("{other} is where a licence should be"),
        [] => bail!("it ends where a licence should be"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Rules, allows, any_version};

    const RULES: &str = r#"
        [licenses]
        allow = ["MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"]
        exceptions = [{ crate = "serialport", allow = ["MPL-2.0"] }]
        [bans]
        deny = [{ crate = "openssl", reason = "rustls it is" }]
        [sources]
        allow-registry = ["https://registry"]
    "#;

    #[test]
    fn expressions_of_licences_are_understood() {
        let fine = |id: &str| ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].contains(&id);
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("MIT OR GPL-3.0-only", true),
            ("MIT/Apache-2.0", true),
            ("Apache-2.0 / MIT", true),
            ("ISC AND GPL-3.0-only", false),
            ("(MIT OR Apache-2.0) AND ISC", true),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", false),
            ("Apache-2.0 WITH LLVM-exception OR GPL-3.0-only", true),
            ("GPL-3.0-only OR MIT AND ISC", true),
        ] {
            assert_eq!(allows(expression, &fine).unwrap(), expected, "{expression}");
        }
        for wrong in ["", "MIT OR", "(MIT", "MIT ISC", "AND MIT", "MIT)"] {
            assert!(allows(wrong, &fine).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_crate_is_held_against_licences_bans_and_sources() {
        let rules = Rules::read(RULES).unwrap();
        let here = Some("registry+https://registry");
        let mistakes =
            |name: &str, license, source| rules.mistakes(name, license, source).join("; ");
        assert_eq!(mistakes("serde", Some("MIT OR Apache-2.0"), here), "");
        assert_eq!(mistakes("serialport", Some("MPL-2.0"), here), "");
        assert_eq!(mistakes("ours", Some("MIT"), None), "");
        let of_another = mistakes("other", Some("MPL-2.0"), here);
        assert_eq!(of_another, "other has the licence MPL-2.0, which is not allowed");
        assert_eq!(mistakes("openssl", Some("MIT"), here), "openssl is banned: rustls it is");
        let by_git = mistakes("serde", Some("MIT"), Some("git+https://example.org/serde"));
        assert!(by_git.contains("comes from git+https://example.org/serde"), "{by_git}");
        assert_eq!(mistakes("serde", None, here), "serde tells no licence");
    }

    #[test]
    fn a_crate_of_ours_says_which_versions_it_takes() {
        let package = |source: Option<&str>, path: Option<&str>| {
            let used = serde_json::json!({"name": "serde", "req": "*", "path": path});
            let package = serde_json::json!({"source": source, "dependencies": [used]});
            any_version("ours", &package).unwrap()
        };
        assert_eq!(package(None, None), ["ours takes any version of serde"]);
        assert!(package(None, Some("/here/serde")).is_empty());
        assert!(package(Some("registry+https://registry"), None).is_empty());
    }

    #[test]
    fn the_rules_of_the_repository_are_read() {
        let rules = Rules::read(include_str!("../../../deny.toml")).unwrap();
        assert!(rules.banned.contains_key("aws-lc-rs"));
        assert!(rules.allowed.contains("MIT"));
    }
}
