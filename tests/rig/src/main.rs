//! `tidegate-rig`: the demo and its cloud.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Parser, Subcommand};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use tidegate_rig::demo::{self, DemoOptions, Running, Which};
use tidegate_rig::soak::{self, SoakOptions};

#[derive(Parser)]
#[command(name = "tidegate-rig", about = "Test rig of Tidegate: the demo and its cloud")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show the main job: sensors, a gateway, an outage, the catch-up, the counts
    #[command(after_help = "Example: tidegate-rig demo --gateway target/debug/tidegate \
                      --function threshold.wasm --seconds 60")]
    Demo(DemoArguments),
    /// Load a gateway while it is reloaded and its links are cut, and judge it
    #[command(after_help = "Example: tidegate-rig soak --gateway target/debug/tidegate \
                      --function threshold.wasm --minutes 3")]
    Soak(SoakArguments),
    /// An MQTT 5 broker (rumqttd) that stands for the cloud
    #[command(after_help = "Example: tidegate-rig cloud --listen 127.0.0.1:18830 --json-lines")]
    Cloud {
        /// Where to listen
        #[arg(long)]
        listen: SocketAddr,
        /// Print each message delivered to `tidegate/#` as a JSON line
        #[arg(long)]
        json_lines: bool,
        /// End when standard input ends
        #[arg(long)]
        tied: bool,
    },
    /// Run a program that ends with its parent, however that one ends
    Tied {
        /// Process id of the parent
        parent: i32,
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        program: Vec<OsString>,
    },
}

#[derive(Args)]
struct DemoArguments {
    /// The tidegate binary
    #[arg(long, requires = "function", required_unless_present = "running")]
    gateway: Option<PathBuf>,
    /// The function `threshold`, compiled for wasm32
    #[arg(long)]
    function: Option<PathBuf>,
    /// A gateway that runs already, with the streams, the function and the uplink of the demo: where it
    /// takes MQTT, where it answers HTTP, and where it looks for the cloud
    #[arg(long, conflicts_with = "gateway", num_args = 3, value_names = ["MQTT", "HTTP", "UPLINK"])]
    running: Option<Vec<SocketAddr>>,
    /// Let data flow for this long, then end; without it, until Ctrl-C
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    seconds: Option<u64>,
    /// Cut the uplink for this long
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    outage_seconds: Option<u64>,
    /// Let the link die silently instead of closing it
    #[arg(long)]
    silent: bool,
    /// Print the counts as JSON on the last line of standard output, progress on standard error
    #[arg(long)]
    json: bool,
    /// Leave data, configuration and logs in this directory
    #[arg(long)]
    keep: Option<PathBuf>,
}

#[derive(Args)]
struct SoakArguments {
    /// The tidegate binary
    #[arg(long)]
    gateway: PathBuf,
    /// The function `threshold`, compiled for wasm32
    #[arg(long)]
    function: PathBuf,
    /// How long
    #[arg(long, default_value = "3", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    minutes: u64,
    /// Print the verdict as JSON on the last line of standard output
    #[arg(long)]
    json: bool,
    /// Leave data, configuration and logs in this directory
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("tidegate-rig: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<bool> {
    match Arguments::parse().command {
        Command::Demo(arguments) => demo::run(&DemoOptions {
            gateway: which(&arguments)?,
            rig: std::env::current_exe().context("cannot find this program's own path")?,
            run_time: arguments.seconds.map(Duration::from_secs),
            outage: arguments.outage_seconds.map(Duration::from_secs),
            silent: arguments.silent,
            json: arguments.json,
            keep: arguments.keep,
        }),
        Command::Soak(arguments) => soak::run(&SoakOptions {
            gateway: arguments.gateway,
            function: arguments.function,
            rig: std::env::current_exe().context("cannot find this program's own path")?,
            run_time: Duration::from_secs(arguments.minutes * 60),
            json: arguments.json,
            keep: arguments.keep,
        }),
        Command::Cloud { listen, json_lines, tied } => {
            if tied {
                end_with_standard_input();
            }
            tidegate_rig::cloud::serve(listen, json_lines)?;
            Ok(true)
        }
        Command::Tied { parent, program } => run_tied(parent, &program),
    }
}

/// The gateway that the demo is about.
fn which(arguments: &DemoArguments) -> Result<Which> {
    match (&arguments.gateway, &arguments.function, arguments.running.as_deref()) {
        (Some(binary), Some(function), _) => {
            Ok(Which::Own { binary: binary.clone(), function: function.clone() })
        }
        (_, _, Some(&[mqtt, http, uplink])) => Ok(Which::Running(Running { mqtt, http, uplink })),
        _ => bail!("either --gateway and --function, or --running with three addresses"),
    }
}

/// So that the process never outlives whoever started it, however that one ended.
fn end_with_standard_input() {
    std::thread::spawn(|| {
        let mut sink = std::io::sink();
        // An error ends it as the end of input does.
        let _ = std::io::copy(&mut std::io::stdin(), &mut sink);
        std::process::exit(0);
    });
}

/// Becomes `program`, which the kernel kills when the parent ends.
fn run_tied(parent: i32, program: &[OsString]) -> Result<bool> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot be tied to the parent")?;
    let now = getppid().map(|pid| pid.as_raw_nonzero().get());
    ensure!(now == Some(parent), "the parent {parent} has ended already");
    let error = std::process::Command::new(&program[0]).args(&program[1..]).exec();
    Err(error).with_context(|| format!("cannot run {}", program[0].display()))
}
