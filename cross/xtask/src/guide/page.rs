//! The blocks of pages, and scripts that are made of them.

use anyhow::{Context, Result, bail, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What stands between two lines of ```.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) language: String,
    pub(super) text: String,
}

impl Block {
    /// What a shell is given: a console's lines without their prompts.
    pub(super) fn commands(&self) -> Result<String> {
        if self.language != "console" {
            return Ok(self.text.clone());
        }
        let (mut commands, mut goes_on) = (String::new(), false);
        for line in self.text.lines() {
            let command = match line.strip_prefix("$ ").or_else(|| line.strip_prefix("# ")) {
                Some(command) if !goes_on => command,
                None if goes_on => line,
                _ => bail!("`{line}` is no command behind a prompt"),
            };
            goes_on = command.ends_with('\\');
            writeln!(commands, "{command}")?;
        }
        Ok(commands)
    }
}

/// The blocks of a page, in order.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(Block { language: language.to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.text.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    blocks
}

/// All pages of the repository, by their paths.
pub(super) struct Book(BTreeMap<String, Vec<Block>>);

impl Book {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut pages = BTreeMap::new();
        let mut open = vec![root.to_owned()];
        while let Some(folder) = open.pop() {
            for entry in
                fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?
            {
                let path = entry?.path();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if path.is_dir() && name != "target" && !name.starts_with('.') {
                    open.push(path);
                } else if path.extension().is_some_and(|ending| ending == "md") {
                    let text = fs::read_to_string(&path)
                        .with_context(|| format!("cannot read {}", path.display()))?;
                    let name = path.strip_prefix(root)?.to_string_lossy().into_owned();
                    pages.insert(name, blocks(&text));
                }
            }
        }
        Ok(Self(pages))
    }

    #[cfg(test)]
    pub(super) fn pages(&self) -> impl Iterator<Item = (&str, &[Block])> {
        self.0.iter().map(|(name, blocks)| (name.as_str(), blocks.as_slice()))
    }

    /// The one block of a page whose first words behind a prompt are these, and its number.
    pub(super) fn block(&self, page: &str, begins: &str) -> Result<(usize, &Block)> {
        let blocks = self.0.get(page).with_context(|| format!("there is no {page}"))?;
        let mut found = blocks.iter().enumerate().filter(|(_, block)| begins_with(block, begins));
        let first = found.next().with_context(|| format!("{page}: no block begins {begins}"))?;
        ensure!(found.next().is_none(), "{page}: two blocks begin {begins}");
        Ok(first)
    }
}

pub(super) fn begins_with(block: &Block, begins: &str) -> bool {
    block.text.trim_start_matches(['$', '#', ' ']).starts_with(begins)
}

/// Commands for bash: those of pages, and what is needed around them. Knows which blocks it has.
pub(super) struct Script<'a> {
    book: &'a Book,
    pub(super) text: String,
    pub(super) has: BTreeSet<(String, usize)>,
}

impl<'a> Script<'a> {
    pub(super) fn new(book: &'a Book) -> Self {
        Self { book, text: "set -ex -o pipefail\n".to_owned(), has: BTreeSet::new() }
    }

    /// What no page has.
    pub(super) fn add(&mut self, ours: &str) {
        self.text.extend([ours, "\n"]);
    }

    /// The commands of a block, as they are there.
    pub(super) fn follow(&mut self, page: &str, begins: &str) -> Result<()> {
        let (number, block) = self.book.block(page, begins)?;
        self.text.push_str(&block.commands().with_context(|| page.to_owned())?);
        self.has.insert((page.to_owned(), number));
        Ok(())
    }

    /// The commands of all blocks of a language.
    pub(super) fn follow_all(&mut self, page: &str, language: &str) -> Result<()> {
        let blocks = self.book.0.get(page).with_context(|| format!("there is no {page}"))?;
        for (number, block) in blocks.iter().enumerate() {
            if block.language == language {
                self.text.push_str(&block.commands().with_context(|| page.to_owned())?);
                self.has.insert((page.to_owned(), number));
            }
        }
        Ok(())
    }

    /// The text of a block at the end of a file.
    pub(super) fn append(&mut self, page: &str, begins: &str, file: &str) -> Result<()> {
        let (number, block) = self.book.block(page, begins)?;
        write!(self.text, "cat >> {file} <<'END'\n{}END\n", block.text)?;
        self.has.insert((page.to_owned(), number));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, blocks};

    fn console(text: &str) -> Block {
        Block { language: "console".to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_console_is_followed_without_its_prompts() {
        let commands = console("$ a \\\n    # b\n# c | d\n").commands().unwrap();
        assert_eq!(commands, "a \\\n    # b\nc | d\n");
        for wrong in ["shown\n", "$ a \\\n$ b\n", "$a\n"] {
            assert!(console(wrong).commands().is_err(), "{wrong}");
        }
    }

    #[test]
    fn blocks_are_found_with_their_languages() {
        let found = blocks("a\n```console\n$ b\n```\nc\n```\nd\n\n```\n");
        let bare = Block { language: String::new(), text: "d\n\n".to_owned() };
        assert_eq!(found, [console("$ b\n"), bare]);
    }
}
