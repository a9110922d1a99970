//! Repository commands; `cli` lists them.
//!
//! Prepares what a command needs (the wasm toolchain, Debian packages, release builds), says
//! what it does and how long it took, then gets out of the way. Progress goes to standard error;
//! standard output belongs to the command.

mod book;
mod budget;
mod checks;
mod cli;
mod clients;
mod debian;
mod dependencies;
mod device;
mod dist;
mod emulator;
#[cfg(test)]
mod graph;
mod guide;
mod image;
mod launch;
mod order;
mod progress;
mod templates;
mod toolchain;
mod vm;
mod wasm;
mod workspace;

use anyhow::Result;
use cli::Command;
use std::process::ExitCode;
use workspace::Workspace;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            // Wrong usage, or something that only the user can install, is 2; the rest is 1.
            let usage = error.downcast_ref::<cli::Usage>().is_some();
            ExitCode::from(if usage { 2 } else { 1 })
        }
    }
}

fn run(arguments: &[String]) -> Result<ExitCode> {
    let (command, rest) = match cli::parse(arguments)? {
        cli::Parsed::Run(command, rest) => (command, rest),
        cli::Parsed::Help(text) => {
            print!("{text}");
            return Ok(ExitCode::SUCCESS);
        }
    };
    let workspace = Workspace::find()?;
    match command {
        Command::Wasm => wasm::build(&workspace).map(|_| ExitCode::SUCCESS),
        Command::Firmware => {
            println!("{}", device::firmware(&workspace)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Dependencies => dependencies::check(&workspace),
        Command::Guide => guide::run(&workspace, rest),
        Command::DistCheck => dist::check::run(&workspace, rest),
        Command::Proof => dist::proof::run(&workspace, rest),
        Command::Dist => dist::run(&workspace, rest),
        Command::Image => image::run(&workspace, rest),
        Command::Vm => vm::run(&workspace, rest),
        Command::Test => checks::run(&workspace, rest),
        Command::Demo => launch::demo(&workspace, rest),
        Command::Bench => launch::bench(&workspace, rest),
        Command::Order => order::run(&workspace),
        Command::Book => book::build(&workspace),
        Command::Soak => launch::soak(&workspace, rest),
        Command::World => launch::world(&workspace, rest),
    }
}
