//! What becomes of each block of commands in the documentation.

use Fate::{Asked, Each, Test};
use std::fmt::Write as _;

/// What follows the commands of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Guide {
    QuickStart,
    Readme,
    Examples,
    Configurations,
    Functions,
    Firmware,
    Operator,
    Release,
    Package,
    OpenRc,
    Container,
    Machine,
    Demo,
    Again,
    Card,
    Vm,
}

impl Guide {
    pub(crate) const ALL: [Self; 16] = [
        Self::QuickStart,
        Self::Readme,
        Self::Examples,
        Self::Configurations,
        Self::Functions,
        Self::Firmware,
        Self::Operator,
        Self::Release,
        Self::Package,
        Self::OpenRc,
        Self::Container,
        Self::Machine,
        Self::Demo,
        Self::Again,
        Self::Card,
        Self::Vm,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::QuickStart => "quick-start",
            Self::Readme => "readme",
            Self::Examples => "examples",
            Self::Configurations => "configurations",
            Self::Functions => "functions",
            Self::Firmware => "firmware",
            Self::Operator => "operator",
            Self::Release => "release",
            Self::Package => "package",
            Self::OpenRc => "openrc",
            Self::Container => "container",
            Self::Machine => "machine",
            Self::Demo => "demo",
            Self::Again => "again",
            Self::Card => "card",
            Self::Vm => "vm",
        }
    }

    pub(super) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|guide| guide.name() == name)
    }

    /// Whether it installs what [`Guide::Release`] makes.
    pub(super) fn needs_release(self) -> bool {
        matches!(self, Self::Package | Self::OpenRc | Self::Container)
    }
}

/// What becomes of blocks.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// `cargo xtask test` follows them, by this guide.
    Each(Guide),
    /// `cargo xtask guide NAME` follows them; why not each submission does.
    Asked(Guide, &'static str),
    /// Tests in this file read them, and what they do with them.
    Test(&'static str, &'static str),
}

/// Blocks of a page: in this language, all of them or the one that begins so behind its prompt.
struct Entry {
    page: &'static str,
    language: &'static str,
    begins: &'static str,
    fate: Fate,
}

const fn all(page: &'static str, language: &'static str, fate: Fate) -> Entry {
    Entry { page, language, begins: "", fate }
}

const fn one(
    page: &'static str,
    language: &'static str,
    begins: &'static str,
    fate: Fate,
) -> Entry {
    Entry { page, language, begins, fate }
}

const TABLE: &[Entry] = &{
    use super::{FLASH, INSTALL, QUICK_START, README, SECURE};
    const SECURITY: &str = "tests/it/tests/all/security.rs";
    const CHECKS: &str = "cross/xtask/src/checks.rs";
    const CLI: &str = "gateway/tidegate/src/cli/tests.rs";
    [
        one(README, "sh", "cargo xtask demo", Each(Guide::Demo)),
        one(README, "sh", "cargo xtask test", Test(CHECKS, "it is what follows the others")),
        one(README, "sh", "cargo build --release", Each(Guide::Readme)),
        one(README, "toml", "tidegate.toml", Each(Guide::Readme)),
        one(QUICK_START, "console", "sudo apt-get install", Each(Guide::Machine)),
        one(QUICK_START, "console", "cp ", Each(Guide::QuickStart)),
        all(QUICK_START, "sh", Each(Guide::QuickStart)),
        one(SECURE, "console", "sudo apt-get install", Each(Guide::Machine)),
        all(SECURE, "sh", Test(SECURITY, "the commands are run as they stand there")),
        all("docs/guides/function-author.md", "sh", Each(Guide::Functions)),
        all("docs/guides/firmware-engineer.md", "sh", Each(Guide::Firmware)),
        all("docs/guides/operate.md", "sh", Each(Guide::Operator)),
        one(INSTALL, "console", "cargo xtask dist aarch64", Each(Guide::Release)),
        one(INSTALL, "console", "git clone ", Each(Guide::Again)),
        one(INSTALL, "console", "sudo apt-get install ./tidegate_0", Each(Guide::Package)),
        one(INSTALL, "console", "sudo tidegate check && ", Each(Guide::Package)),
        one(INSTALL, "toml", "[uplink.cloud]", Each(Guide::Package)),
        one(INSTALL, "console", "sudo install -m 600 ca.pem ", Each(Guide::Package)),
        one(INSTALL, "console", "sudo install -D -m 644 ", Each(Guide::Package)),
        one(INSTALL, "console", "sudo apt-get install ./tidegate_NEW", Each(Guide::Package)),
        one(INSTALL, "console", "sudo apt-get remove ", Each(Guide::Package)),
        one(INSTALL, "console", "install -m 755 tidegate ", Each(Guide::OpenRc)),
        one(
            FLASH,
            "console",
            "cargo xtask dist aarch64-unknown-linux-musl --deb",
            Each(Guide::Card),
        ),
        one(FLASH, "console", "sudo apt-get install fdisk", Each(Guide::Machine)),
        one(FLASH, "console", "cargo xtask image --check", Each(Guide::Card)),
        one(
            FLASH,
            "console",
            "cargo xtask vm",
            Asked(
                Guide::Vm,
                "a whole system starts in an emulator, and the demo runs against it: minutes",
            ),
        ),
        one(FLASH, "console", "lsblk ", Each(Guide::Machine)),
        one(
            FLASH,
            "toml",
            "[gateway]",
            Test("cross/xtask/src/image/firstboot.rs", "what applies it on a card applies it"),
        ),
        one(
            FLASH,
            "console",
            "cargo xtask dist aarch64-unknown-linux-musl\n",
            Each(Guide::Release),
        ),
        one(FLASH, "console", "podman load ", Each(Guide::Container)),
        all("docs/configuration.md", "toml", Each(Guide::Configurations)),
        all("docs/commands.md", "toml", Each(Guide::Configurations)),
        all("docs/formats/events.md", "toml", Each(Guide::Configurations)),
        all("docs/formats/function-tests.md", "toml", Each(Guide::Configurations)),
        all("docs/guides/function-author.md", "toml", Each(Guide::Configurations)),
        all("functions/examples/anomaly/README.md", "toml", Each(Guide::Configurations)),
        all("functions/examples/deadband/README.md", "toml", Each(Guide::Configurations)),
        all("functions/examples/downsample/README.md", "toml", Each(Guide::Configurations)),
        all("functions/examples/enrich/README.md", "toml", Each(Guide::Configurations)),
        all("functions/examples/modbus/README.md", "toml", Each(Guide::Configurations)),
        all("functions/examples/normalise/README.md", "toml", Each(Guide::Configurations)),
        all("functions/examples/threshold/README.md", "toml", Each(Guide::Configurations)),
        all("functions/examples/vibration/README.md", "toml", Each(Guide::Configurations)),
        all("functions/templates/common/README.md", "toml", Each(Guide::Configurations)),
        all(super::EXAMPLES[0], "", Each(Guide::Examples)),
        all(super::EXAMPLES[1], "", Each(Guide::Examples)),
        all(
            "functions/templates/common/README.md",
            "",
            Test(
                "cross/xtask/src/templates.rs",
                "each template is made, held against the contract and tested so",
            ),
        ),
        all(
            "docs/commands.md",
            "",
            Test(CLI, "examples of single commands: the program takes their words"),
        ),
    ]
};

/// The table, as it is printed.
pub(super) fn shown() -> String {
    let mut text = String::new();
    for entry in TABLE {
        let what = match entry.begins {
            "" if entry.language.is_empty() => "all commands".to_owned(),
            "" => format!("all blocks of {}", entry.language),
            begins => begins.trim().to_owned(),
        };
        let fate = match entry.fate {
            Each(guide) => format!("cargo xtask test, as {}", guide.name()),
            Asked(guide, why) => {
                format!("cargo xtask guide {}, when asked for: {why}", guide.name())
            }
            Test(file, how) => format!("{file}: {how}"),
        };
        // Writing into a text cannot fail.
        let _ = writeln!(text, "{}: {what}\n    {fate}", entry.page);
    }
    text
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::page::{Block, Book, begins_with};
    use super::super::{Workspace, script_of};
    use super::{Asked, Each, Entry, Fate, Guide, TABLE, Test};
    use std::path::{Path, PathBuf};

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
    }

    pub(in super::super) fn book() -> Book {
        Book::read(&root()).unwrap()
    }

    /// Programs that a block without a language calls.
    const PROGRAMS: [&str; 4] = ["tidegate", "cargo", "sudo", "apt-get"];

    /// Whether it needs an entry: for commands, configurations and manifests.
    fn has_commands(block: &Block) -> bool {
        let called = |line: &str| PROGRAMS.contains(&line.split(' ').next().unwrap_or_default());
        match block.language.as_str() {
            "sh" | "console" | "bash" | "shell" | "toml" => true,
            "" => block.text.lines().any(called),
            _ => false,
        }
    }

    fn fits(entry: &Entry, page: &str, block: &Block) -> bool {
        let commands = !entry.language.is_empty() || has_commands(block);
        let language = entry.language == block.language && commands;
        entry.page == page && language && begins_with(block, entry.begins)
    }

    #[test]
    fn every_block_of_commands_has_its_entry() {
        let (book, mut wrong) = (book(), Vec::new());
        for (page, blocks) in book.pages() {
            for block in blocks {
                let entries = TABLE.iter().filter(|entry| fits(entry, page, block)).count();
                let wanted = has_commands(block);
                if entries > 1 || (wanted && entries == 0) {
                    let first = block.text.lines().next().unwrap_or_default();
                    wrong.push(format!("{page}: {entries} entries for the block `{first}`"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_entry_stands_for_a_block_that_is_there() {
        let book = book();
        for entry in TABLE {
            let count: usize = book
                .pages()
                .map(|(page, blocks)| {
                    blocks.iter().filter(|block| fits(entry, page, block)).count()
                })
                .sum();
            let right = if entry.begins.is_empty() { count > 0 } else { count == 1 };
            assert!(
                right,
                "{}: {count} blocks of {} begin {}",
                entry.page, entry.language, entry.begins
            );
            if let Test(file, _) = entry.fate {
                assert!(root().join(file).is_file(), "{file}");
            }
        }
    }

    fn guide_of(fate: Fate) -> Option<Guide> {
        match fate {
            Each(guide) | Asked(guide, _) => Some(guide),
            Test(..) => None,
        }
    }

    /// A guide that no longer takes a block of its own from the page would not notice when the block changes.
    #[test]
    fn every_guide_takes_its_blocks_from_the_pages() {
        let (book, workspace) = (book(), Workspace::find().unwrap());
        for guide in Guide::ALL {
            // They take all blocks of their pages, which tests beside them see.
            if matches!(guide, Guide::Functions | Guide::Firmware | Guide::Operator) {
                continue;
            }
            let script = script_of(guide, &book, &workspace).unwrap();
            let mut count = 0;
            for entry in TABLE.iter().filter(|entry| guide_of(entry.fate) == Some(guide)) {
                for (page, blocks) in book.pages() {
                    for (number, block) in blocks.iter().enumerate() {
                        if fits(entry, page, block) {
                            let has = script.has.contains(&(page.to_owned(), number));
                            assert!(has, "{}: {page}: {}", guide.name(), block.text);
                            count += 1;
                        }
                    }
                }
            }
            assert!(count > 0, "{} has no block", guide.name());
        }
    }

    #[test]
    fn a_block_of_commands_is_known_with_and_without_its_language() {
        let block = |language: &str, text: &str| Block {
            language: language.to_owned(),
            text: text.to_owned(),
        };
        assert!(has_commands(&block("console", "$ rm x\n")));
        assert!(has_commands(&block("", "tidegate status\n")));
        assert!(!has_commands(&block("", "tidegate.toml:12: a mistake\n")));
        assert!(!has_commands(&block("json", "{}\n")));
    }
}
