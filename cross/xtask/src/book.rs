//! The documentation as a book, and what holds it together: each page is in its list, and each link leads somewhere.
//! What becomes of the commands on pages is in `guide`.

use crate::progress::quietly;
use crate::workspace::{Workspace, program};
use anyhow::Result;
use std::process::{Command, ExitCode};

const MDBOOK: &str = "mdbook@0.4.52";

/// Makes the book and says where it is.
pub(crate) fn build(workspace: &Workspace) -> Result<ExitCode> {
    let mdbook = match program("mdbook") {
        Some(mdbook) => mdbook,
        None => {
            let place = workspace.target().join("toolchain/mdbook");
            let mdbook = place.join("bin/mdbook");
            if !mdbook.exists() {
                let mut install = workspace.cargo();
                install.args(["install", MDBOOK, "--locked", "--no-default-features", "--root"]);
                quietly("building mdbook", install.arg(&place))?;
            }
            mdbook
        }
    };
    let docs = workspace.root().join("docs");
    quietly("the book", Command::new(mdbook).arg("build").arg(docs))?;
    println!("{}", workspace.target().join("book/index.html").display());
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    /// Pages beside the book whose links are held to the same.
    const BESIDE: [&str; 6] = [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "functions/examples/README.md",
        "firmware-examples/README.md",
    ];

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
    }

    fn docs() -> PathBuf {
        root().join("docs")
    }

    /// The pages below a folder, as paths from it.
    fn pages(folder: &Path) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut open = vec![folder.to_owned()];
        while let Some(next) = open.pop() {
            for entry in fs::read_dir(next).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    open.push(path);
                } else if path.extension().is_some_and(|ending| ending == "md") {
                    found.insert(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        found
    }

    /// What a page links to, without what lies elsewhere on the web. Blocks of code have no links.
    fn links(text: &str) -> Vec<String> {
        let mut links = Vec::new();
        let mut code = false;
        for line in text.lines() {
            if line.trim_start().starts_with("```") {
                code = !code;
            }
            if code {
                continue;
            }
            for rest in line.split("](").skip(1) {
                let Some((target, _)) = rest.split_once(')') else { continue };
                if !target.contains("://") && !target.contains(' ') {
                    links.push(target.to_owned());
                }
            }
        }
        links
    }

    /// The anchors of a page's headings, as GitHub and mdBook make them.
    fn anchors(text: &str) -> Vec<String> {
        let mut anchors = Vec::new();
        let mut code = false;
        for line in text.lines() {
            code ^= line.starts_with("```");
            if code || !line.starts_with('#') {
                continue;
            }
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            anchors.push(kept.map(|c| if c == ' ' { '-' } else { c }).collect());
        }
        anchors
    }

    /// What is wrong with the links of a page.
    fn broken(page: &Path, inside: &Path) -> Vec<String> {
        let text = fs::read_to_string(page).unwrap();
        let mut broken = Vec::new();
        for link in links(&text) {
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let target =
                if file.is_empty() { page.to_owned() } else { page.parent().unwrap().join(file) };
            let Ok(target) = target.canonicalize() else {
                broken.push(format!("{}: {link} leads nowhere", page.display()));
                continue;
            };
            if !target.starts_with(inside) {
                broken.push(format!("{}: {link} leads out of the book", page.display()));
            } else if !anchor.is_empty() {
                let there = anchors(&fs::read_to_string(&target).unwrap());
                if !there.iter().any(|known| known == anchor) {
                    broken.push(format!("{}: {link} has no such heading", page.display()));
                }
            }
        }
        broken
    }

    #[test]
    fn every_page_is_in_the_list_of_the_book_once() {
        let listed = links(&fs::read_to_string(docs().join("SUMMARY.md")).unwrap());
        let set: BTreeSet<String> = listed.iter().cloned().collect();
        assert_eq!(set.len(), listed.len(), "a page is listed twice");
        let mut there = pages(&docs());
        there.remove("SUMMARY.md");
        let differ: Vec<&String> = set.symmetric_difference(&there).collect();
        assert!(differ.is_empty(), "only in docs/SUMMARY.md, or only in docs: {differ:?}");
    }

    #[test]
    fn every_link_leads_to_a_page_and_a_heading_that_are_there() {
        let root = root().canonicalize().unwrap();
        let docs = docs().canonicalize().unwrap();
        let mut wrong = Vec::new();
        for page in pages(&docs) {
            wrong.extend(broken(&docs.join(page), &docs));
        }
        for page in BESIDE {
            wrong.extend(broken(&root.join(page), &root));
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// The words behind `cargo xtask` on lines of their own, wherever a document has them.
    fn commands_of_xtask(text: &str) -> Vec<&str> {
        let words = text.split("cargo xtask ").skip(1);
        let end = |c: char| !(c.is_ascii_alphanumeric() || c == '-');
        words.filter_map(|rest| rest.split(end).next()).filter(|word| !word.is_empty()).collect()
    }

    #[test]
    fn every_repository_command_that_a_page_names_is_one() {
        let mut named = BTreeSet::new();
        let mut wrong = Vec::new();
        let files = pages(&docs()).into_iter().map(|page| docs().join(page));
        for file in files.chain(BESIDE.map(|page| root().join(page))) {
            let text = fs::read_to_string(&file).unwrap();
            for name in commands_of_xtask(&text) {
                let known = crate::cli::find(name).is_some() || name == "COMMAND";
                wrong.extend((!known).then(|| format!("{}: {name}", file.display())));
                named.insert(name.to_owned());
            }
        }
        assert!(wrong.is_empty(), "no such command of xtask: {}", wrong.join(", "));
        assert!(named.len() > 10, "{named:?}");
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        assert_eq!(links("[a](b.md#c) `x`\n```\n[d](e.md)\n```\n[f](https://g)"), ["b.md#c"]);
        assert_eq!(anchors("# `[mqtt]`, twice\n```\n# no\n```\n"), ["mqtt-twice"]);
    }
}
