//! `cargo xtask image --oci`: the gateway as an OCI image in one plain file, for `podman load`,
//! `docker load` and `skopeo copy oci-archive:FILE`.
//!
//! One layer, not compressed: the static binary, a configuration, and a user. No shell and no library is
//! in it. All times are 0 and nothing of this machine is in it, so the same binary gives the same file.
//! Format: <https://github.com/opencontainers/image-spec>, version 1.0.

use super::STATIC;
use super::tar::Tar;
use crate::cli::Usage;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The user that the gateway runs as; nobody has this number elsewhere.
const USER: u32 = 64_064;
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What the image starts with, until a file is mounted over it.
const CONFIG: &str = include_str!("../../../image/oci/tidegate.toml");

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The gateway, linked statically; what `cargo xtask dist` has built if there is none.
    pub(crate) binary: Option<PathBuf>,
}

/// Writes the image to `target/dist/tidegate-ARCHITECTURE.oci.tar`.
pub(crate) fn build(workspace: &Workspace, wanted: &Wanted) -> Result<PathBuf> {
    let dist = workspace.target().join("dist");
    let path = wanted.binary.clone().unwrap_or_else(|| dist.join(STATIC).join("tidegate"));
    if !path.is_file() {
        let text = format!(
            "there is no {}: run cargo xtask dist {STATIC}, or name a binary by --binary",
            path.display()
        );
        return Err(Usage(text).into());
    }
    let binary = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let platform = Platform::of(&binary).with_context(|| path.display().to_string())?;
    let image = image(&binary, platform)?;
    let file = dist.join(format!("tidegate-{}.oci.tar", platform.file_name()));
    fs::create_dir_all(&dist).with_context(|| format!("cannot make {}", dist.display()))?;
    fs::write(&file, image).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// The archive: layout, index, manifest, configuration and layer, each blob named by its hash.
fn image(binary: &[u8], platform: Platform) -> Result<Vec<u8>> {
    let layer = layer(binary)?;
    let layer_hash = sha256(&layer)?;
    let config = config(platform, &layer_hash);
    let config_hash = sha256(config.as_bytes())?;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{}]}}"#,
        descriptor("application/vnd.oci.image.config.v1+json", &config_hash, config.len(), ""),
        descriptor("application/vnd.oci.image.layer.v1.tar", &layer_hash, layer.len(), "")
    );
    let manifest_hash = sha256(manifest.as_bytes())?;
    let more = format!(
        r#","platform":{},"annotations":{{"org.opencontainers.image.ref.name":"tidegate:{VERSION}"}}"#,
        platform.json()
    );
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{}]}}"#,
        descriptor(
            "application/vnd.oci.image.manifest.v1+json",
            &manifest_hash,
            manifest.len(),
            &more
        )
    );
    let mut tar = Tar::default();
    tar.file("oci-layout", 0o644, 0, br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    tar.file("index.json", 0o644, 0, index.as_bytes())?;
    for folder in ["blobs/", "blobs/sha256/"] {
        tar.folder(folder, 0o755, 0)?;
    }
    let blobs = [(manifest_hash, manifest.as_bytes()), (config_hash, config.as_bytes())];
    for (hash, bytes) in
        blobs.iter().map(|(hash, bytes)| (hash, *bytes)).chain([(&layer_hash, &layer[..])])
    {
        tar.file(&format!("blobs/sha256/{hash}"), 0o644, 0, bytes)?;
    }
    Ok(tar.finish())
}

/// The one layer.
fn layer(binary: &[u8]) -> Result<Vec<u8>> {
    let mut tar = Tar::default();
    tar.folder("etc/", 0o755, 0)?;
    tar.file("etc/group", 0o644, 0, format!("tidegate:x:{USER}:\n").as_bytes())?;
    let user = format!("tidegate:x:{USER}:{USER}::/var/lib/tidegate:/sbin/nologin\n");
    tar.file("etc/passwd", 0o644, 0, user.as_bytes())?;
    tar.folder("etc/tidegate/", 0o755, 0)?;
    tar.file("etc/tidegate/tidegate.toml", 0o644, 0, CONFIG.as_bytes())?;
    tar.folder("usr/", 0o755, 0)?;
    tar.folder("usr/bin/", 0o755, 0)?;
    tar.file("usr/bin/tidegate", 0o755, 0, binary)?;
    tar.folder("var/", 0o755, 0)?;
    tar.folder("var/lib/", 0o755, 0)?;
    tar.folder("var/lib/tidegate/", 0o700, USER)?;
    Ok(tar.finish())
}

/// How the image is run.
fn config(platform: Platform, layer: &str) -> String {
    let Platform { architecture, variant } = platform;
    let variant = match variant {
        "" => String::new(),
        variant => format!(r#","variant":"{variant}""#),
    };
    format!(
        concat!(
            r#"{{"architecture":"{}"{},"os":"linux","config":{{"User":"{}:{}","#,
            r#""ExposedPorts":{{"1883/tcp":{{}}}},"#,
            r#""Entrypoint":["/usr/bin/tidegate"],"Cmd":["run","--config","/etc/tidegate/tidegate.toml"],"#,
            r#""Volumes":{{"/var/lib/tidegate":{{}}}},"WorkingDir":"/var/lib/tidegate","#,
            r#""Labels":{{"org.opencontainers.image.title":"tidegate","org.opencontainers.image.version":"{}","#,
            r#""org.opencontainers.image.licenses":"MIT OR Apache-2.0"}},"StopSignal":"SIGTERM"}},"#,
            r#""rootfs":{{"type":"layers","diff_ids":["sha256:{}"]}},"#,
            r#""history":[{{"created":"1970-01-01T00:00:00Z","created_by":"cargo xtask image --oci"}}]}}"#
        ),
        architecture, variant, USER, USER, VERSION, layer
    )
}

fn descriptor(kind: &str, hash: &str, length: usize, more: &str) -> String {
    format!(r#"{{"mediaType":"{kind}","digest":"sha256:{hash}","size":{length}{more}}}"#)
}

/// What a binary runs on, by the names of Go, as the format has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Platform {
    architecture: &'static str,
    variant: &'static str,
}

impl Platform {
    /// Reads it from the header of an ELF file, and sees that nothing has to be loaded beside it.
    fn of(binary: &[u8]) -> Result<Self> {
        ensure!(binary.starts_with(b"\x7fELF") && binary.len() >= 64, "no ELF file");
        let machine = u16::from_le_bytes([binary[18], binary[19]]);
        let (architecture, variant) = match machine {
            40 => ("arm", "v7"),
            62 => ("amd64", ""),
            183 => ("arm64", ""),
            other => bail!("an ELF file for machine {other}, not ARM, AMD64 or ARM64"),
        };
        ensure!(!has_interpreter(binary)?, "it needs shared libraries, which are not in the image");
        Ok(Self { architecture, variant })
    }

    fn file_name(self) -> String {
        format!("{}{}", self.architecture, self.variant)
    }

    fn json(self) -> String {
        let Self { architecture, variant } = self;
        match variant {
            "" => format!(r#"{{"architecture":"{architecture}","os":"linux"}}"#),
            _ => {
                format!(r#"{{"architecture":"{architecture}","os":"linux","variant":"{variant}"}}"#)
            }
        }
    }
}

/// Whether an ELF file, little-endian, has a program header of the kind PT_INTERP (3).
fn has_interpreter(binary: &[u8]) -> Result<bool> {
    let wide = binary[4] == 2;
    let number = |at: usize, length: usize| -> Result<usize> {
        let bytes = binary.get(at..at + length).context("the ELF file is cut off")?;
        Ok(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
    };
    let (table, size, count) = if wide {
        (number(32, 8)?, number(54, 2)?, number(56, 2)?)
    } else {
        (number(28, 4)?, number(42, 2)?, number(44, 2)?)
    };
    for entry in 0..count {
        if number(table + entry * size, 4)? == 3 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The hash, by coreutils.
fn sha256(bytes: &[u8]) -> Result<String> {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start sha256sum")?;
    // It answers only after it has read everything, so nobody waits for anybody.
    child.stdin.take().context("no pipe to sha256sum")?.write_all(bytes)?;
    let output = child.wait_with_output()?;
    let text = String::from_utf8(output.stdout)?;
    let hash = text.split_whitespace().next().unwrap_or_default();
    ensure!(output.status.success() && hash.len() == 64, "sha256sum answered \"{text}\"");
    Ok(hash.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Platform, image, sha256};

    /// An ELF header for a machine, and program headers of these kinds.
    fn elf(machine: u8, kinds: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; 64];
        bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
        bytes[18] = machine;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = u8::try_from(kinds.len()).unwrap();
        for kind in kinds {
            bytes.push(*kind);
            bytes.resize(bytes.len() + 55, 0);
        }
        bytes
    }

    #[test]
    fn a_binary_that_needs_libraries_is_refused() {
        assert_eq!(Platform::of(&elf(183, &[1, 2])).unwrap().architecture, "arm64");
        assert!(Platform::of(&elf(62, &[1, 3])).is_err());
        assert!(Platform::of(&elf(8, &[1])).is_err());
        assert!(Platform::of(b"#!/bin/sh").is_err());
    }

    #[test]
    fn each_blob_is_named_by_its_hash_and_described_with_its_length() {
        let binary = elf(183, &[1]);
        let platform = Platform::of(&binary).unwrap();
        let bytes = image(&binary, platform).unwrap();
        assert_eq!(bytes, image(&binary, platform).unwrap(), "the same binary, the same file");
        let files = super::super::tar::files(&bytes).unwrap();
        let index = files.iter().find(|(name, _)| name == "index.json").unwrap();
        let mut text = String::from_utf8(index.1.clone()).unwrap();
        let mut blobs = 0;
        for (name, contents) in &files {
            let Some(hash) = name.strip_prefix("blobs/sha256/") else { continue };
            if hash.is_empty() {
                continue;
            }
            blobs += 1;
            assert_eq!(hash, sha256(contents).unwrap());
            let described = format!("\"digest\":\"sha256:{hash}\",\"size\":{}", contents.len());
            assert!(text.contains(&described), "{name} is not described");
            if contents.starts_with(b"{") {
                text.push_str(std::str::from_utf8(contents).unwrap());
            }
        }
        assert_eq!(blobs, 3);
    }
}
