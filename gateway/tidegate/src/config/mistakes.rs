//! What is wrong with a configuration, all of it at once.

use std::fmt;
use std::path::{Path, PathBuf};

/// More mistakes than this are counted, not kept.
const MAX_KEPT: usize = 200;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mistake {
    /// Line in the file, from 1; `None` when the mistake is something that is not there.
    pub line: Option<usize>,
    /// Key, value, what is wrong, what is allowed.
    pub text: String,
}

/// All mistakes of a file, in order of their lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistakes {
    file: PathBuf,
    list: Vec<Mistake>,
    more: usize,
}

impl Mistakes {
    pub(crate) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), list: Vec::new(), more: 0 }
    }

    pub(crate) fn add(&mut self, line: Option<usize>, text: String) {
        let mistake = Mistake { line, text };
        if self.list.len() >= MAX_KEPT {
            self.more += 1;
        } else if !self.list.contains(&mistake) {
            self.list.push(mistake);
        }
    }

    /// `Ok` when nothing is wrong.
    pub(crate) fn into_result(self) -> Result<(), Self> {
        if self.list.is_empty() { Ok(()) } else { Err(self.sorted()) }
    }

    /// In order of the lines; what is on one line stays in the order of its discovery.
    pub(crate) fn sorted(mut self) -> Self {
        self.list.sort_by_key(|mistake| mistake.line);
        self
    }

    /// The mistakes, in order of their lines; those without a line come first.
    pub fn iter(&self) -> impl Iterator<Item = &Mistake> {
        self.list.iter()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.list.len() + self.more
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for mistake in &self.list {
            match mistake.line {
                Some(line) => writeln!(f, "{file}:{line}: {}", mistake.text)?,
                None => writeln!(f, "{file}: {}", mistake.text)?,
            }
        }
        let count = self.count();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        if self.more > 0 {
            write!(f, "{count} {noun}, the first {} shown", self.list.len())
        } else {
            write!(f, "{count} {noun}")
        }
    }
}

impl std::error::Error for Mistakes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mistakes_come_in_order_of_their_lines_and_once() {
        let mut mistakes = Mistakes::new(Path::new("f.toml"));
        mistakes.add(Some(9), "b".into());
        mistakes.add(None, "a".into());
        mistakes.add(Some(2), "c".into());
        mistakes.add(Some(2), "c".into());
        let text = mistakes.into_result().unwrap_err().to_string();
        assert_eq!(text, "f.toml: a\nf.toml:2: c\nf.toml:9: b\n3 mistakes");
    }

    #[test]
    fn a_file_of_nothing_but_mistakes_is_cut_short() {
        let mut mistakes = Mistakes::new(Path::new("f.toml"));
        for line in 0..1000 {
            mistakes.add(Some(line), "x".into());
        }
        let text = mistakes.into_result().unwrap_err().to_string();
        assert!(text.ends_with("1000 mistakes, the first 200 shown"));
    }
}
