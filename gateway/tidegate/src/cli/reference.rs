//! `docs/command-help.md`: the help of every command, as the binary prints it. A test compares, so that the page
//! cannot say anything else than `--help`.

use clap::{Command, CommandFactory};

use super::Cli;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/command-help.md");

const REWRITE: &str = "cargo test -p tidegate --lib -- --ignored rewrite_the_help";

/// Width of the page; the terminal's where the help is printed for people.
const COLUMNS: usize = 110;

#[test]
fn the_page_has_the_help_of_every_command() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    assert!(page == written(), "docs/command-help.md is not what --help says; {REWRITE}");
}

#[test]
#[ignore = "writes docs/command-help.md"]
fn rewrite_the_help() {
    std::fs::write(PAGE, written()).unwrap();
}

fn written() -> String {
    let mut page = format!(
        "# Help of every command\n\n<!-- Generated. Rewrite with: {REWRITE} -->\n\n\
         What `--help` prints. [Commands](commands.md) says what the commands do, and when.\n"
    );
    let mut root = Cli::command().term_width(COLUMNS);
    root.build();
    describe(&root, &mut page);
    page
}

/// A command, then those below it, in the order of the help.
fn describe(command: &Command, page: &mut String) {
    let help = command.clone().render_long_help().to_string();
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    page.push_str(&format!("\n## {name}\n\n```text\n{}\n```\n", trimmed(&help)));
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        describe(below, page);
    }
}

fn trimmed(help: &str) -> String {
    help.lines().map(str::trim_end).collect::<Vec<_>>().join("\n").trim_end().to_owned()
}
