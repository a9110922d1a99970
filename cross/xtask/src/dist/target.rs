//! Machines that releases are built for: `cross/targets.toml`.

use crate::cli::Usage;
use crate::toolchain::Target;
use anyhow::{Context, Result};
use toml::{Table, Value};

const TARGETS: &str = include_str!("../../../targets.toml");

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    /// As the compiler calls it.
    pub(crate) name: String,
    /// What it is, in words.
    pub(crate) about: String,
    /// Debian's name of the architecture.
    pub(crate) debian: String,
    /// Prefix of the C compiler.
    pub(crate) compiler: String,
    /// The Debian package of that compiler.
    pub(crate) package: String,
    /// What Debian's Rust has of the standard library.
    pub(crate) std: DebianStd,
    /// For C code.
    pub(crate) cflags: Vec<String>,
    /// Runs its binaries elsewhere.
    pub(crate) emulator: String,
    /// Most bytes of a release.
    pub(crate) max_bytes: u64,
}

/// What Debian's Rust packages have of a standard library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DebianStd {
    /// It is built.
    Built,
    /// Its sources, and a C library that fits the machine.
    Source,
    /// No C library that fits the machine.
    None,
}

impl Machine {
    /// Looks one up by its name.
    pub(crate) fn find(name: &str) -> Result<Self> {
        let all = Self::all()?;
        let known: Vec<String> =
            all.iter().map(|machine| format!("  {:<32}{}", machine.name, machine.about)).collect();
        all.into_iter().find(|machine| machine.name == name).ok_or_else(|| {
            let known = known.join("\n");
            Usage(format!("there is no target `{name}` in cross/targets.toml; known are\n{known}"))
                .into()
        })
    }

    /// All there are.
    pub(crate) fn all() -> Result<Vec<Self>> {
        let table: Table = TARGETS.parse().context("cross/targets.toml is not TOML")?;
        table
            .iter()
            .map(|(name, value)| {
                Self::read(name, value).with_context(|| format!("cross/targets.toml: [{name}]"))
            })
            .collect()
    }

    fn read(name: &str, value: &Value) -> Result<Self> {
        let text = |key: &str| -> Result<String> {
            let text = value.get(key).and_then(Value::as_str);
            Ok(text.with_context(|| format!("{key} is no text"))?.to_owned())
        };
        let std = match text("std")?.as_str() {
            "built" => DebianStd::Built,
            "source" => DebianStd::Source,
            "none" => DebianStd::None,
            other => anyhow::bail!("std = \"{other}\" is not built, source or none"),
        };
        let cflags = value.get("cflags").and_then(Value::as_array).context("cflags is no list")?;
        let cflags = cflags.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let max_bytes = value.get("max_bytes").and_then(Value::as_integer);
        Ok(Self {
            name: name.to_owned(),
            about: text("about")?,
            debian: text("debian")?,
            compiler: text("compiler")?,
            package: text("package")?,
            std,
            cflags,
            emulator: text("emulator")?,
            max_bytes: max_bytes.and_then(|n| n.try_into().ok()).context("max_bytes is no size")?,
        })
    }

    /// For the choice of a compiler.
    pub(crate) fn target(&self) -> Target<'_> {
        let (build_std, prepared): (&[&str], _) = match self.std {
            DebianStd::Built => (&[], Some(format!("usr/lib/rustlib/{}/lib", self.name))),
            DebianStd::Source => {
                (&["-Zbuild-std=std,panic_abort"], Some(format!("musl/{}/cc", self.name)))
            }
            DebianStd::None => (&[], None),
        };
        Target { name: &self.name, build_std, prepared }
    }

    /// Whether its C library is musl, linked into the binary.
    pub(crate) fn is_static(&self) -> bool {
        self.name.contains("-musl")
    }

    /// The name as it is part of variables: `CC_aarch64_unknown_linux_musl`.
    pub(crate) fn underscored(&self) -> String {
        self.name.replace('-', "_")
    }
}

#[cfg(test)]
mod tests {
    use super::{DebianStd, Machine};

    #[test]
    fn every_target_of_the_file_is_read_whole() {
        let all = Machine::all().unwrap();
        assert!(all.len() >= 6);
        for machine in &all {
            assert!(machine.max_bytes <= 8_000_000, "{} may grow too large", machine.name);
            assert!(machine.emulator.starts_with("qemu-"), "{}", machine.name);
            let sources_of_a_static_one = machine.std == DebianStd::Source && !machine.is_static();
            assert!(!sources_of_a_static_one, "{}: only musl is set up so", machine.name);
        }
    }

    #[test]
    fn users_of_cross_find_every_target() {
        let cross: toml::Table = include_str!("../../../../Cross.toml").parse().unwrap();
        for machine in Machine::all().unwrap() {
            assert!(cross["target"].get(&machine.name).is_some(), "{}", machine.name);
        }
    }

    #[test]
    fn an_unknown_target_is_answered_with_those_there_are() {
        let error = Machine::find("riscv64gc-unknown-linux-gnu").unwrap_err().to_string();
        assert!(error.contains("aarch64-unknown-linux-musl"), "{error}");
    }
}
