//! Load generators and side-by-side benchmarks: `tidegate-bench list` names them.
//!
//! Each benchmark starts the programs it measures, takes turns between ours and a peer, and
//! prints medians with the bar that they must meet.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, Parser, Subcommand};

use contender::{Contender, Gateway, Keeping, Mosquitto};
use medium::Medium;
use report::{Judgement, Machine};

mod broker;
mod connection;
mod contender;
mod device;
mod directory;
mod elf;
mod footprint;
mod functions;
mod leftovers;
mod load;
mod medium;
mod packet;
mod pipeline;
mod procfs;
mod quantile;
mod random;
mod report;
mod serial;
mod streams;
mod template;
mod uplink;

/// What an SD card adds to a sync, roughly.
const SD_CARD_SYNC: Duration = Duration::from_millis(20);

/// Side-by-side benchmarks of the gateway
#[derive(Debug, Parser)]
#[command(name = "tidegate-bench", after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

const EXAMPLES: &str = "\
Examples:
  tidegate-bench list
  tidegate-bench broker --gateway target/release/tidegate --quick
  tidegate-bench broker --gateway target/dist/tidegate --json --strict
  tidegate-bench footprint --gateway target/dist/tidegate --function threshold.wasm
  tidegate-bench streams --gateway target/release/tidegate --function threshold.wasm --parts wear

Exit codes: 0 measured, 1 failed (or, with --strict, a bar was missed), 2 wrong usage, 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Bench {
    /// Messages through the broker beside mosquitto: rate, CPU, acknowledgement latency, memory
    Broker(BrokerArgs),
    /// Idle memory, time to start with a backlog, size of the binary
    Footprint(FootprintArgs),
    /// The durable log: beside sled, redb and SQLite, what it writes to flash, a large backlog
    Streams(StreamsArgs),
    /// One task on one store, for `streams`
    #[command(hide = true)]
    StoreWorker(streams::worker::WorkerArgs),
    /// A backlog into each kind of sink, and publish to sink, beside mosquitto's bridge
    Uplink(UplinkArgs),
    /// Calls of functions beside native code, starts of modules, memory of instances
    Functions(FunctionsArgs),
    /// Publish, function, upstream: beside Node-RED and a Python script behind mosquitto
    Pipeline(PipelineArgs),
    /// Flash and memory that programs for devices take, and what a verification takes of time
    Device(DeviceArgs),
    /// How much of a serial line is payload
    Serial(SerialArgs),
    /// One measurement of a module, for `functions`
    #[command(hide = true)]
    FunctionWorker(functions::worker::WorkerArgs),
    /// Names the benchmarks
    List {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// What every benchmark takes.
#[derive(Debug, Args)]
struct Common {
    /// The peer's program [default: /usr/sbin/mosquitto]
    #[arg(long, value_name = "PATH")]
    mosquitto: Option<PathBuf>,
    /// Where the store is put and removed again: a directory on a disk [default: the build
    /// directory that this program is in]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Runs to take medians of
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=99))]
    runs: Option<u16>,
    /// A tenth of everything in one run: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// The machine, then one JSON object a line
    #[arg(long)]
    json: bool,
    /// Exit with 1 when a bar is missed
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Args)]
struct BrokerArgs {
    /// The gateway's program
    #[arg(long, value_name = "PATH", required_unless_present = "self_check")]
    gateway: Option<PathBuf>,
    /// A function's module for the gateway to load, on a stream that the load does not feed
    #[arg(long, value_name = "MODULE.wasm")]
    function: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
    /// Messages a case and run, at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// Seconds a case and run, at most
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    /// Numbers of publishers
    #[arg(long, value_name = "N,..", value_delimiter = ',', value_parser = publishers)]
    publishers: Option<Vec<usize>>,
    /// Parts to measure [default: all]
    #[arg(long, value_name = "PART,..", value_delimiter = ',')]
    parts: Option<Vec<broker::Part>>,
    /// Mosquitto on both sides instead of a gateway: how far the figures scatter
    #[arg(long, conflicts_with_all = ["gateway", "function"])]
    self_check: bool,
}

#[derive(Debug, Args)]
struct FootprintArgs {
    /// The gateway's program
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// A function's module for the gateway to load
    #[arg(long, value_name = "MODULE.wasm")]
    function: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Payload bytes in the store before the gateway is started again [default: 1000000000]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1_000_000..=3_000_000_000))]
    backlog: Option<u64>,
    /// Payload bytes of a record of the backlog
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(12..=65_536))]
    record_bytes: u32,
}

#[derive(Debug, Args)]
struct StreamsArgs {
    /// The gateway's program
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// A function's module for the gateway to load
    #[arg(long, value_name = "MODULE.wasm")]
    function: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Parts to measure [default: all]
    #[arg(long, value_name = "PART,..", value_delimiter = ',')]
    parts: Option<Vec<streams::Part>>,
    /// Payload bytes of the backlog [default: 1000000000]
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1_000_000..=3_000_000_000))]
    backlog: Option<u64>,
    /// Seconds of each measurement of what is written [default: 30]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
}

#[derive(Debug, Args)]
struct UplinkArgs {
    /// The gateway's program
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// The reference server of the HTTPS sink, `tidegate-sink`
    #[arg(long, value_name = "PATH")]
    sink: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Records of a backlog [default: 200000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000..))]
    records: Option<u64>,
    /// Seconds at each rate [default: 10]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
}

#[derive(Debug, Args)]
struct FunctionsArgs {
    /// The threshold's module; the gauge's, `gauge.wasm`, lies beside it
    #[arg(long, value_name = "MODULE.wasm")]
    function: PathBuf,
    #[command(flatten)]
    common: Common,
    /// Records of a case and run [default: 400000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000..))]
    records: Option<u64>,
}

#[derive(Debug, Args)]
struct PipelineArgs {
    /// The gateway's program
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// The threshold's module
    #[arg(long, value_name = "MODULE.wasm")]
    function: PathBuf,
    /// The directory that npm installed Node-RED into
    #[arg(long, value_name = "DIR", required_unless_present = "alone")]
    node_red: Option<PathBuf>,
    /// A Python that has paho-mqtt
    #[arg(long, value_name = "PATH", required_unless_present = "alone")]
    python: Option<PathBuf>,
    /// Measure the gateway only, with no peer and no bars
    #[arg(long)]
    alone: bool,
    #[command(flatten)]
    common: Common,
    /// Messages of a run, at most [default: 400000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000..))]
    messages: Option<u64>,
    /// Seconds of a run, at most [default: 10]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
}

#[derive(Debug, Args)]
struct DeviceArgs {
    /// The folder of the programs of `tests/sizes`
    #[arg(long, value_name = "DIR")]
    programs: PathBuf,
    /// QEMU, to count what a verification takes [default: that is left out]
    #[arg(long, value_name = "PATH")]
    qemu: Option<PathBuf>,
    /// Say nothing, and fail when a program takes more than its limits
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct SerialArgs {
    /// The gateway's program
    #[arg(long, value_name = "PATH")]
    gateway: PathBuf,
    /// Seconds of a case [default: 20]
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: Option<u64>,
    #[command(flatten)]
    common: Common,
}

fn publishers(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=1_000) => Ok(number),
        _ => Err("a number from 1 to 1000".to_owned()),
    }
}

/// What failed: a mistake in the call or a measurement.
enum Failure {
    Usage(anyhow::Error),
    Bench(anyhow::Error),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.bench {
        Bench::Broker(args) => broker(args),
        Bench::Footprint(args) => footprint(args),
        Bench::Streams(args) => streams(args),
        Bench::Uplink(args) => uplink(args),
        Bench::Functions(args) => functions(args),
        Bench::Pipeline(args) => pipeline(args),
        Bench::Device(args) => device(&args),
        Bench::Serial(args) => serial(args),
        Bench::FunctionWorker(args) => {
            functions::worker::run(&args).map(|()| ExitCode::SUCCESS).map_err(Failure::Bench)
        }
        Bench::StoreWorker(args) => {
            streams::worker::run(&args).map(|()| ExitCode::SUCCESS).map_err(Failure::Bench)
        }
        Bench::List { json } => list(json).map_err(Failure::Bench),
    };
    match result {
        Ok(code) => code,
        Err(Failure::Usage(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
        Err(Failure::Bench(error)) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn broker(args: BrokerArgs) -> Result<ExitCode, Failure> {
    let BrokerArgs {
        gateway,
        function,
        common,
        messages,
        seconds,
        publishers,
        parts,
        self_check: _,
    } = args;
    let default = broker::Settings::default();
    let fraction = if common.quick { 10 } else { 1 };
    let settings = broker::Settings {
        messages: messages.unwrap_or(default.messages / fraction),
        seconds: seconds.unwrap_or(default.seconds),
        runs: common.runs(default.runs),
        publishers: publishers.unwrap_or(default.publishers),
        in_flight: default.in_flight,
        overload_seconds: default.overload_seconds / fraction,
        idle_connections: default.idle_connections / fraction as usize,
        parts: parts.unwrap_or(default.parts),
    };
    let (peer, medium) = common.prepare().map_err(Failure::Usage)?;
    let peer = Contender::Mosquitto(peer);
    let (ours, ours_delayed) = match gateway {
        None => (peer.clone(), None),
        Some(program) => {
            let gateway = gateway_at(program, function).map_err(Failure::Usage)?;
            let delayed = Gateway { sync_delay: SD_CARD_SYNC, ..gateway.clone() };
            (Contender::Tidegate(gateway), Some((Contender::Tidegate(delayed), SD_CARD_SYNC)))
        }
    };
    let field = broker::Field { ours, ours_delayed, peer };
    let measure = || {
        leftovers::clear_on_signals()?;
        let machine = Machine::examine(&medium, broker::notes(&settings, &field))?;
        let rows = broker::run(&settings, &field, &medium)?;
        report::print(&machine, rows, common.json)
    };
    measure().map(|judgement| common.exit_code(judgement)).map_err(Failure::Bench)
}

fn footprint(args: FootprintArgs) -> Result<ExitCode, Failure> {
    let FootprintArgs { gateway, function, common, backlog, record_bytes } = args;
    let default = footprint::Settings::default();
    let fraction = if common.quick { 10 } else { 1 };
    let settings = footprint::Settings {
        runs: common.runs(default.runs),
        backlog_bytes: backlog.unwrap_or(default.backlog_bytes / fraction),
        record_bytes: record_bytes as usize,
    };
    let (peer, medium) = common.prepare().map_err(Failure::Usage)?;
    let gateway = gateway_at(gateway, Some(function)).map_err(Failure::Usage)?;
    let measure = || {
        leftovers::clear_on_signals()?;
        let machine = Machine::examine(&medium, footprint::notes(&settings))?;
        let rows = footprint::run(&settings, gateway, peer, &medium)?;
        report::print(&machine, rows, common.json)
    };
    measure().map(|judgement| common.exit_code(judgement)).map_err(Failure::Bench)
}

fn streams(args: StreamsArgs) -> Result<ExitCode, Failure> {
    let StreamsArgs { gateway, function, common, parts, backlog, seconds } = args;
    let default = streams::Settings::default();
    let fraction = if common.quick { 10 } else { 1 };
    let settings = streams::Settings {
        runs: common.runs(default.runs),
        store_milliseconds: default.store_milliseconds / fraction,
        store_records: default.store_records / fraction,
        wear_seconds: seconds.unwrap_or(default.wear_seconds / fraction),
        backlog_bytes: backlog.unwrap_or(default.backlog_bytes / fraction),
        parts: parts.unwrap_or(default.parts),
    };
    let (upstream, medium) = common.prepare().map_err(Failure::Usage)?;
    let gateway = gateway_at(gateway, Some(function)).map_err(Failure::Usage)?;
    streams::need_peers(&settings).map_err(Failure::Usage)?;
    let field = streams::wear::Field { gateway, upstream };
    let measure = || {
        leftovers::clear_on_signals()?;
        let machine = Machine::examine(&medium, streams::notes(&settings, &medium)?)?;
        let rows = streams::run(&settings, &field, &medium)?;
        report::print(&machine, rows, common.json)
    };
    measure().map(|judgement| common.exit_code(judgement)).map_err(Failure::Bench)
}

fn uplink(args: UplinkArgs) -> Result<ExitCode, Failure> {
    let UplinkArgs { gateway, sink, common, records, seconds } = args;
    let default = uplink::Settings::default();
    let fraction = if common.quick { 10 } else { 1 };
    let settings = uplink::Settings {
        runs: common.runs(default.runs),
        records: records.unwrap_or(default.records / fraction),
        seconds: seconds.unwrap_or((default.seconds / fraction).max(1)),
    };
    let (mosquitto, medium) = common.prepare().map_err(Failure::Usage)?;
    let gateway = gateway_at(gateway, None).map_err(Failure::Usage)?;
    let field = uplink::Field { gateway, mosquitto, sink };
    let measure = || {
        leftovers::clear_on_signals()?;
        let machine = Machine::examine(&medium, uplink::notes(&settings))?;
        let rows = uplink::run(&settings, &field, &medium)?;
        report::print(&machine, rows, common.json)
    };
    measure().map(|judgement| common.exit_code(judgement)).map_err(Failure::Bench)
}

fn functions(args: FunctionsArgs) -> Result<ExitCode, Failure> {
    let FunctionsArgs { function, common, records } = args;
    let default = functions::Settings::default();
    let fraction = if common.quick { 10 } else { 1 };
    let settings = functions::Settings {
        runs: common.runs(default.runs),
        records: records.unwrap_or(default.records / fraction),
        starts: default.starts,
        instances: default.instances,
        many: default.many / fraction as usize,
    };
    let gauge = function.with_file_name("gauge.wasm");
    for module in [&function, &gauge] {
        let missing = || anyhow::anyhow!("{}: no such file; build it first", module.display());
        if !module.is_file() {
            return Err(Failure::Usage(missing()));
        }
    }
    let medium = Medium::examine(common.dir.as_deref()).map_err(Failure::Usage)?;
    let field = functions::Field { gauge, threshold: function };
    let measure = || {
        let machine = Machine::examine(&medium, functions::notes(&settings))?;
        let rows = functions::run(&settings, &field)?;
        report::print(&machine, rows, common.json)
    };
    measure().map(|judgement| common.exit_code(judgement)).map_err(Failure::Bench)
}

fn pipeline(args: PipelineArgs) -> Result<ExitCode, Failure> {
    let PipelineArgs { gateway, function, node_red, python, alone, common, messages, seconds } =
        args;
    let default = pipeline::Settings::default();
    let fraction = if common.quick { 10 } else { 1 };
    let settings = pipeline::Settings {
        runs: common.runs(default.runs),
        messages: messages.unwrap_or(default.messages / fraction),
        seconds: seconds.unwrap_or((default.seconds / fraction).max(2)),
        alone,
    };
    let (mosquitto, medium) = common.prepare().map_err(Failure::Usage)?;
    let gateway = gateway_at(gateway, Some(function)).map_err(Failure::Usage)?;
    // Without them nobody is measured who would need them.
    let (node_red, python) = (node_red.unwrap_or_default(), python.unwrap_or_default());
    let field = pipeline::Field { gateway, mosquitto, node_red, python };
    let measure = || {
        leftovers::clear_on_signals()?;
        let machine = Machine::examine(&medium, pipeline::notes(&settings))?;
        let rows = pipeline::run(&settings, &field, &medium)?;
        report::print(&machine, rows, common.json)
    };
    measure().map(|judgement| common.exit_code(judgement)).map_err(Failure::Bench)
}

fn device(args: &DeviceArgs) -> Result<ExitCode, Failure> {
    if args.check {
        return device::within_limits(&args.programs)
            .map(|()| ExitCode::SUCCESS)
            .map_err(Failure::Bench);
    }
    let mut rows = device::rows(&args.programs).map_err(Failure::Usage)?;
    if let Some(qemu) = &args.qemu {
        rows.extend(device::verification(&args.programs, qemu).map_err(Failure::Bench)?);
    }
    let medium = Medium::examine(args.common.dir.as_deref()).map_err(Failure::Usage)?;
    let print = || {
        let machine = Machine::examine(&medium, device::notes())?;
        report::print(&machine, rows, args.common.json)
    };
    print().map(|judgement| args.common.exit_code(judgement)).map_err(Failure::Bench)
}

fn serial(args: SerialArgs) -> Result<ExitCode, Failure> {
    let SerialArgs { gateway, seconds, common } = args;
    let fraction = if common.quick { 10 } else { 1 };
    let seconds = seconds.unwrap_or(serial::SECONDS / fraction);
    let gateway = gateway_at(gateway, None).map_err(Failure::Usage)?.program;
    let medium = Medium::examine(common.dir.as_deref()).map_err(Failure::Usage)?;
    let measure = || {
        leftovers::clear_on_signals()?;
        let machine = Machine::examine(&medium, serial::notes(seconds))?;
        let rows = serial::run(&gateway, seconds)?;
        report::print(&machine, rows, common.json)
    };
    measure().map(|judgement| common.exit_code(judgement)).map_err(Failure::Bench)
}

fn list(json: bool) -> Result<ExitCode> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    for (name, what) in [
        ("broker", "messages through the broker beside mosquitto: rate, CPU, latency, memory"),
        ("footprint", "idle memory, time to start with a backlog, size of the binary"),
        (
            "streams",
            "the durable log beside sled, redb and SQLite, bytes written to flash, a backlog",
        ),
        ("functions", "calls beside native code, starts of modules, memory of instances"),
        ("pipeline", "publish, function, upstream: beside Node-RED and a Python script"),
        ("uplink", "a backlog into each kind of sink, publish to sink, beside mosquitto's bridge"),
        ("device", "flash and memory that programs for devices take, time of a verification"),
        ("serial", "how much of a serial line is payload"),
    ] {
        if json {
            writeln!(out, "{}", serde_json::json!({ "bench": name, "what": what }))?;
        } else {
            writeln!(out, "{name:<12}{what}")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn gateway_at(program: PathBuf, function: Option<PathBuf>) -> Result<Gateway> {
    ensure!(program.is_file(), "--gateway {}: no such file; build it first", program.display());
    if let Some(module) = &function {
        ensure!(module.is_file(), "--function {}: no such file; build it first", module.display());
    }
    // Started from another directory, a path without a slash would be looked up in PATH.
    let program = std::path::absolute(program).context("--gateway")?;
    Ok(Gateway {
        program,
        function,
        uplink: None,
        uplink_streams: None,
        uplink_keys: "",
        sync_delay: Duration::ZERO,
        keeping: Keeping::default(),
        tls: None,
    })
}

impl Common {
    fn runs(&self, default: usize) -> usize {
        self.runs.map_or(if self.quick { 1 } else { default }, usize::from)
    }

    fn prepare(&self) -> Result<(Mosquitto, Medium)> {
        let peer = Mosquitto::find(self.mosquitto.as_deref())?;
        Ok((peer, Medium::examine(self.dir.as_deref())?))
    }

    fn exit_code(&self, judgement: Judgement) -> ExitCode {
        match judgement {
            Judgement::Missed if self.strict => ExitCode::FAILURE,
            Judgement::Missed | Judgement::Met => ExitCode::SUCCESS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent_and_refuses_unknown_names_with_2() {
        Cli::command().debug_assert();
        let parse = |args: &[&str]| Cli::try_parse_from(args).map_err(|error| error.exit_code());
        assert_eq!(parse(&["tidegate-bench", "brokr"]).unwrap_err(), 2);
        assert_eq!(parse(&["tidegate-bench", "broker"]).unwrap_err(), 2);
        assert_eq!(parse(&["tidegate-bench", "footprint", "--gateway", "x"]).unwrap_err(), 2);
        assert!(parse(&["tidegate-bench", "broker", "--self-check"]).is_ok());
        assert!(parse(&["tidegate-bench", "list", "--json"]).is_ok());
    }

    #[test]
    fn a_missing_gateway_is_a_mistake_in_the_call() {
        let error = gateway_at("/no/such/tidegate".into(), None).unwrap_err().to_string();
        assert!(error.contains("/no/such/tidegate") && error.contains("build it"), "{error}");
    }
}
