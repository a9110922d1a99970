//! Says what a release is made of: a list inside the binary, which `cargo audit bin`, Syft and Trivy read
//! (the format of cargo-auditable), and a CycloneDX document beside it.

use super::crates::Crate;
use anyhow::{Context, Result};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};
use std::io::Write;

/// The section of the binary that the list is in.
pub(crate) const SECTION: &str = ".dep-v0";

/// The contents of the section: JSON, compressed by zlib.
pub(crate) fn section(crates: &[Crate], root: &str) -> Result<Vec<u8>> {
    let packages: Vec<Value> = crates.iter().map(|package| listed(package, root)).collect();
    let text = serde_json::to_vec(&json!({ "packages": packages }))?;
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    zlib.write_all(&text).context("cannot compress the list of crates")?;
    zlib.finish().context("cannot compress the list of crates")
}

fn listed(package: &Crate, root: &str) -> Value {
    let source = match package.source.as_deref() {
        None => "local",
        Some(CRATES_IO) => "crates.io",
        Some(other) if other.starts_with("git+") => "git",
        Some(_) => "registry",
    };
    let mut entry = json!({
        "name": package.name,
        "version": package.version,
        "source": source,
    });
    if package.only_builds {
        entry["kind"] = "build".into();
    }
    if !package.uses.is_empty() {
        entry["dependencies"] = package.uses.clone().into();
    }
    if package.name == root {
        entry["root"] = true.into();
    }
    entry
}

/// How cargo writes the registry that everything comes from.
pub(crate) const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A release, for its document.
pub(crate) struct Release<'a> {
    pub(crate) root: &'a str,
    pub(crate) target: &'a str,
    /// As of ISO 8601.
    pub(crate) time: &'a str,
    /// Of the binary.
    pub(crate) sha256: &'a str,
}

/// The CycloneDX document.
pub(crate) fn bill_of_materials(crates: &[Crate], release: &Release<'_>) -> Result<String> {
    let root = crates.iter().find(|package| package.name == release.root);
    let mut about = component(root.context("the program is not among its crates")?);
    about["type"] = "application".into();
    about["hashes"] = json!([{ "alg": "SHA-256", "content": release.sha256 }]);
    let others = crates.iter().filter(|package| package.name != release.root);
    let uses = |package: &Crate| {
        let names: Vec<String> =
            package.uses.iter().map(|place| reference(&crates[*place])).collect();
        json!({ "ref": reference(package), "dependsOn": names })
    };
    let document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": release.time,
            "component": about,
            "properties": [{ "name": "tidegate:target", "value": release.target }],
        },
        "components": others.map(component).collect::<Vec<_>>(),
        "dependencies": crates.iter().map(uses).collect::<Vec<_>>(),
    });
    Ok(serde_json::to_string_pretty(&document)? + "\n")
}

fn component(package: &Crate) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": reference(package),
        "name": package.name,
        "version": package.version,
        // What only builds is not delivered.
        "scope": if package.only_builds { "excluded" } else { "required" },
    });
    if package.source.is_some() {
        component["purl"] = reference(package).into();
    }
    if let Some(license) = &package.license {
        component["licenses"] = json!([{ "expression": license }]);
    }
    if let Some(checksum) = &package.checksum {
        component["hashes"] = json!([{ "alg": "SHA-256", "content": checksum }]);
    }
    component
}

/// The name of a crate within the document.
fn reference(package: &Crate) -> String {
    let name = format!("{}@{}", package.name, package.version);
    if package.source.is_some() { format!("pkg:cargo/{name}") } else { name }
}

#[cfg(test)]
mod tests {
    use super::{CRATES_IO, Release, bill_of_materials, section};
    use crate::dist::crates::Crate;
    use flate2::read::ZlibDecoder;
    use serde_json::{Value, json};
    use std::io::Read;

    fn crates() -> Vec<Crate> {
        let package = |name: &str, source: Option<&str>, only_builds, uses: &[usize]| Crate {
            name: name.to_owned(),
            version: "1.2.3".to_owned(),
            source: source.map(str::to_owned),
            license: Some("MIT OR Apache-2.0".to_owned()),
            checksum: source.map(|_| "00ff".to_owned()),
            folder: "".into(),
            only_builds,
            uses: uses.to_vec(),
        };
        vec![
            package("bytes", Some(CRATES_IO), false, &[]),
            package("cc", Some(CRATES_IO), true, &[]),
            package("gateway", None, false, &[0, 1]),
        ]
    }

    #[test]
    fn the_list_in_the_binary_is_as_its_readers_expect_it() {
        let section = section(&crates(), "gateway").unwrap();
        let mut text = String::new();
        ZlibDecoder::new(&section[..]).read_to_string(&mut text).unwrap();
        let expected = json!({ "packages": [
            { "name": "bytes", "version": "1.2.3", "source": "crates.io" },
            { "name": "cc", "version": "1.2.3", "source": "crates.io", "kind": "build" },
            { "name": "gateway", "version": "1.2.3", "source": "local",
              "dependencies": [0, 1], "root": true },
        ]});
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }

    #[test]
    fn the_document_names_every_crate_once_and_what_it_uses() {
        let release =
            Release { root: "gateway", target: "t", time: "2026-01-01T00:00:00Z", sha256: "abcd" };
        let document = bill_of_materials(&crates(), &release).unwrap();
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["metadata"]["component"]["hashes"][0]["content"], "abcd");
        assert_eq!(document["components"].as_array().unwrap().len(), 2);
        assert_eq!(document["components"][0]["purl"], "pkg:cargo/bytes@1.2.3");
        assert_eq!(document["components"][1]["scope"], "excluded");
        let uses = &document["dependencies"][2];
        assert_eq!(uses["ref"], "gateway@1.2.3");
        assert_eq!(uses["dependsOn"], json!(["pkg:cargo/bytes@1.2.3", "pkg:cargo/cc@1.2.3"]));
    }
}
