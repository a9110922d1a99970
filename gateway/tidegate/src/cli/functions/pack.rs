//! `tidegate fn pack`

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};

use super::Failure;
use crate::config::{FUNCTION_FILE, load_function};
use crate::packages::{MAX_MODULE, Manifest, compile, read_key, sha256};

/// Makes a package. The module is compiled as a gateway would, so that nothing is signed that no
/// gateway takes.
pub(super) fn pack(
    manifest: &Path,
    key: &Path,
    output: Option<PathBuf>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let file = if manifest.is_dir() { manifest.join(FUNCTION_FILE) } else { manifest.to_owned() };
    let function = load_function(&file)?;
    if !function.function.watches.is_empty() {
        let text = format!(
            "{}: watch: a pushed function cannot be told of another's state; leave it out, or put \
             the function into the gateway's configuration",
            file.display()
        );
        return Err(Failure::Wrong(text));
    }
    let module = function.function.module.clone();
    let manifest = Manifest::of(function);
    let signing =
        read_key(key).map_err(|problem| anyhow!("the key {} {problem}", key.display()))?;
    let wasm = read_module(&module)?;
    compile(&manifest, &wasm)
        .map_err(|problem| anyhow!("the module {} cannot be used: {problem}", module.display()))?;
    let package =
        crate::packages::pack(&manifest, &wasm, &signing).map_err(|text| anyhow!(text))?;
    let name = format!("{}-{}.tgpkg", manifest.name, manifest.version);
    let output = output.unwrap_or_else(|| PathBuf::from(name));
    write(&output, &package).with_context(|| format!("cannot write {}", output.display()))?;
    let (bytes, hash) = (package.len(), sha256(&package));
    writeln!(out, "{}: {} {}, {bytes} bytes", output.display(), manifest.name, manifest.version)?;
    writeln!(out, "hash {hash}")?;
    Ok(())
}

fn read_module(file: &Path) -> anyhow::Result<Vec<u8>> {
    let shown = file.display();
    let size = fs::metadata(file).with_context(|| format!("cannot read the module {shown}"))?.len();
    if size > MAX_MODULE {
        bail!("the module {shown} has {size} bytes; allowed: {MAX_MODULE}");
    }
    fs::read(file).with_context(|| format!("cannot read the module {shown}"))
}

/// Writes a file that is either complete or not there.
fn write(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".partial");
    let partial = file.with_file_name(name);
    let mut open = OpenOptions::new().write(true).create(true).truncate(true).open(&partial)?;
    open.write_all(bytes)?;
    open.sync_all()?;
    fs::rename(&partial, file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use crate::cli::{Failure, typed};
    use crate::packages::{Package, TrustedKeys, parse_public};
    use crate::scratch::Scratch;

    const MANIFEST: &str = r#"
        name = "noop"
        version = "1.0.0"
        module = "noop.wasm"
        input = { stream = "telemetry" }
        publish = ["alerts/#"]
        state_bytes = "0B"
        config = { limit = 30.0 }
    "#;

    /// A module that answers every call with nothing.
    const MODULE: &[u8] = include_bytes!("../../../../../tests/golden/package/noop.wasm");

    fn type_in(words: &[&str]) -> Result<String, String> {
        let mut out = Vec::new();
        match typed(words, &mut out) {
            Ok(()) => Ok(String::from_utf8(out).unwrap()),
            Err(Failure::Wrong(text)) => Err(text),
            Err(Failure::Failed(error)) => Err(format!("{error:#}")),
            Err(Failure::Said) => Err(String::new()),
        }
    }

    #[test]
    fn a_key_is_made_a_package_is_signed_with_it_and_can_be_inspected() {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("function.toml"), MANIFEST).unwrap();
        std::fs::write(at("noop.wasm"), MODULE).unwrap();
        let (key, package) = (at("team.key"), at("noop.tgpkg"));
        let shown = type_in(&["fn", "keygen", &key]).unwrap();
        let public = shown.split('"').nth(1).unwrap();
        let dir = scratch.path().to_str().unwrap();
        let packed = type_in(&["fn", "pack", dir, "--key", &key, "-o", &package]).unwrap();
        assert!(packed.contains("noop 1.0.0, "), "{packed}");
        let mut trusted = TrustedKeys::default();
        assert!(trusted.add(parse_public(public).unwrap()));
        let bytes = std::fs::read(&package).unwrap();
        let opened = Package::open(&bytes, &trusted).unwrap().into_contents();
        assert_eq!(opened.module, MODULE);
        assert_eq!(opened.manifest.config, br#"{"limit":30.0}"#);
        assert!(packed.contains(&opened.hash.to_string()), "{packed}");
        let looked = type_in(&["fn", "inspect", &package, "--trust", public]).unwrap();
        assert!(looked.contains("signature") && looked.contains("right"), "{looked}");
        let json = type_in(&["fn", "inspect", &package, "--json"]).unwrap();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["hash"], opened.hash.to_string());
        assert_eq!(json["verified"], false);
        let other = at("other.key");
        let shown = type_in(&["fn", "keygen", &other]).unwrap();
        let stranger = shown.split('"').nth(1).unwrap();
        let refused = type_in(&["fn", "inspect", &package, "--trust", stranger]).unwrap_err();
        assert!(refused.contains("is not trusted"), "{refused}");
    }

    #[test]
    fn a_function_that_watches_another_is_not_packed() {
        let scratch = Scratch::new();
        let file = scratch.path().join("function.toml");
        std::fs::write(&file, format!("{MANIFEST}\nwatch = {{ function = \"limits\" }}\n"))
            .unwrap();
        let refused =
            type_in(&["fn", "pack", file.to_str().unwrap(), "--key", "none"]).unwrap_err();
        assert!(
            refused.contains("a pushed function cannot be told of another's state"),
            "{refused}"
        );
    }

    #[test]
    fn all_mistakes_of_a_manifest_are_told_at_once() {
        let scratch = Scratch::new();
        let file = scratch.path().join("function.toml");
        let text = "version = \"1 0\"\nmodule = \"a.wasm\"\ninput = { stream = 7 }\nmemroy = 1\n";
        std::fs::write(&file, text).unwrap();
        let refused =
            type_in(&["fn", "pack", file.to_str().unwrap(), "--key", "none"]).unwrap_err();
        for part in [
            "name: missing; write, for example, name = \"threshold\"",
            ":1: version = \"1 0\": not a version",
            ":3: input.stream = 7: must be the name of a stream",
            ":4: memroy = 1: unknown key; did you mean memory?",
            "4 mistakes",
        ] {
            assert!(refused.contains(part), "{part}\n{refused}");
        }
    }

    #[test]
    fn an_open_key_and_a_module_that_is_none_are_refused() {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("function.toml"), MANIFEST).unwrap();
        std::fs::write(at("noop.wasm"), b"(module)").unwrap();
        let (key, manifest, package) = (at("team.key"), at("function.toml"), at("x.tgpkg"));
        type_in(&["fn", "keygen", &key]).unwrap();
        let pack = || type_in(&["fn", "pack", &manifest, "--key", &key, "-o", &package]);
        let refused = pack().unwrap_err();
        assert!(refused.contains("cannot be used: this is no WebAssembly module"), "{refused}");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
        let refused = pack().unwrap_err();
        assert!(refused.contains("has mode 0640: others may use the key"), "{refused}");
        assert!(!scratch.path().join("x.tgpkg").exists());
    }
}
