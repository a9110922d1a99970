//! The commands. Exit codes: 0 success, 1 failure, 2 wrong usage or configuration. Results go to
//! standard output, errors to standard error.

mod backup;
mod check;
mod device;
mod export;
mod functions;
mod import;
mod init;
mod locate;
mod losses;
mod passwd;
#[cfg(test)]
mod reference;
mod reload;
mod run;
mod secret;
mod status;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod token;
mod verify;
mod watch;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::config::Mistakes;
use crate::export::Format;
use crate::logging;
use locate::Place;

#[derive(Debug, Parser)]
#[command(
    name = "tidegate",
    version,
    about = "An edge and IoT gateway: MQTT in, WebAssembly functions, durable streams, sync upstream",
    after_help = "Example:\n  tidegate init gateway && tidegate run --config gateway/tidegate.toml",
    subcommand_required = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or Ctrl-C
    #[command(after_help = "Example:\n  tidegate run --config /etc/tidegate/tidegate.toml")]
    Run(ConfigFile),
    /// Check a configuration: all mistakes at once, or a summary of what would run
    #[command(after_help = "Example:\n  tidegate check --config tidegate.toml")]
    Check(ConfigFile),
    /// Write a commented starter configuration
    #[command(after_help = "Example:\n  tidegate init /etc/tidegate")]
    Init {
        /// Where to write tidegate.toml; made when it is not there
        #[arg(default_value = ".")]
        dir: PathBuf,
    },
    /// Show what a running gateway does: disk, MQTT, streams, functions, uplinks
    #[command(after_help = "Examples:\n  tidegate status --data-dir /var/lib/tidegate\n  \
                      tidegate status --watch\n  tidegate status --watch 10 --json >> status.ndjson")]
    Status {
        /// One JSON object; with --watch one a line
        #[arg(long)]
        json: bool,
        /// Show it again every so many seconds, until Ctrl-C
        #[arg(long, short, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2",
              value_parser = clap::value_parser!(u64).range(1..=3600))]
        watch: Option<u64>,
        #[command(flatten)]
        place: Place,
    },
    /// Copy the data directory of a gateway, running or not, with its configuration
    #[command(after_help = "Example:\n  tidegate backup /mnt/usb/gw-01-monday\n\n\
                      The directory must be new or empty. Secrets, and their key where it is a \
                      file of the data directory, are in the backup.")]
    Backup {
        /// Where the backup goes
        dest: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Make a data directory from a backup; new records there get a new epoch
    #[command(
        after_help = "Example:\n  tidegate restore /mnt/usb/gw-01-monday --to /var/lib/tidegate"
    )]
    Restore {
        /// What `tidegate backup` made
        source: PathBuf,
        /// The data directory; it must be new or empty
        #[arg(long, value_name = "DIR")]
        to: PathBuf,
    },
    /// Let a running gateway read its configuration again; connections stay
    #[command(after_help = "Examples:\n  tidegate reload --config /etc/tidegate/tidegate.toml\n  \
                      tidegate check && tidegate reload --json\n\n\
                      The file counts as a whole or not at all. Exit code 2: mistakes in it; 1: \
                      a key needs a restart, which is named.")]
    Reload {
        /// One JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Read the store of a gateway that does not run, and report every damage
    #[command(after_help = "Example:\n  tidegate verify /var/lib/tidegate --json\n\n\
                      Exit code 0: no damage; 1: damage, or the store cannot be read.")]
    Verify {
        /// Data directory of the gateway; nothing in it is changed
        data_dir: PathBuf,
        /// One JSON object
        #[arg(long)]
        json: bool,
    },
    /// Look after devices, and the firmware that they run
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Write, test and look after functions
    #[command(subcommand)]
    Fn(functions::FnCommand),
    /// Look after those who may use the HTTP routes of functions
    #[command(subcommand)]
    Http(HttpCommand),
    /// Look after the secrets that functions read
    #[command(subcommand)]
    Secret(secret::SecretCommand),
    /// Look after the users of the MQTT listeners
    #[command(subcommand)]
    Mqtt(MqttCommand),
    /// Look into the streams of a running gateway
    #[command(subcommand)]
    Stream(StreamCommand),
}

#[derive(Debug, Subcommand)]
enum HttpCommand {
    /// Make a bearer token, show it once, and put its hash into a file
    #[command(
        after_help = "Examples:\n  tidegate http token panel --file /etc/tidegate/tokens\n  \
                      tidegate http token panel --file tokens --remove"
    )]
    Token {
        /// Whose it is
        name: String,
        /// The file, as `tokens_file` of a `[[http.route]]` names it
        #[arg(long, short, value_name = "FILE")]
        file: PathBuf,
        /// Remove the name from the file
        #[arg(long)]
        remove: bool,
    },
}

#[derive(Debug, Subcommand)]
enum MqttCommand {
    /// Hash the password of a user, read from the terminal or from standard input
    #[command(after_help = "Examples:\n  tidegate mqtt passwd ann --file /etc/tidegate/users\n  \
                      openssl rand -base64 18 | tidegate mqtt passwd sensor-1 >> users\n  \
                      tidegate mqtt passwd ann --file users --remove")]
    Passwd {
        /// The user's name
        user: String,
        /// Add the user to this file, or change its password there [default: print the line]
        #[arg(long, short, value_name = "FILE")]
        file: Option<PathBuf>,
        /// Remove the user from the file
        #[arg(long, requires = "file")]
        remove: bool,
    },
}

#[derive(Debug, Subcommand)]
enum StreamCommand {
    /// List the streams with their readers
    #[command(after_help = "Example:\n  tidegate stream ls --json")]
    Ls {
        /// One JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show the records of a stream
    #[command(after_help = "Examples:\n  tidegate stream tail telemetry -n 20\n  \
                      tidegate stream tail dead-letters --from 1\n  \
                      tidegate stream tail telemetry --follow --json")]
    Tail(TailArguments),
    /// Write the records of a stream to a file
    #[command(after_help = "Examples:\n  tidegate stream export telemetry -o telemetry.ndjson\n  \
                      tidegate stream export telemetry --from 1000 --to 1999 --format cbor \
                      -o part.cbor\n  \
                      tidegate stream export telemetry --offline --gateway gw-01 \
                      --data-dir /mnt/card/tidegate -o saved.ndjson")]
    Export(ExportArguments),
    /// Take the records of an export into a stream of a running gateway
    #[command(after_help = "Example:\n  tidegate stream import telemetry telemetry.ndjson\n\n\
                      After a failure, the same command goes on where the import ended.")]
    Import {
        /// Name of the stream that takes them
        name: String,
        /// What `tidegate stream export` wrote
        file: PathBuf,
        #[command(flatten)]
        place: Place,
    },
    /// Show which records of a stream are gone, when and why
    #[command(after_help = "Example:\n  tidegate stream losses telemetry --json")]
    Losses {
        /// Name of the stream
        name: String,
        /// One JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        place: Place,
    },
}

#[derive(Debug, Args)]
struct TailArguments {
    /// Name of the stream
    name: String,
    /// Wait for further records, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// One JSON object a record and line
    #[arg(long)]
    json: bool,
    /// How many records: the newest, or with --from the next [default: 10, with --from all]
    #[arg(short = 'n', long = "records", value_name = "N")]
    count: Option<u64>,
    /// First sequence to show
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct ExportArguments {
    /// Name of the stream
    name: String,
    /// First sequence [default: the oldest record kept]
    #[arg(long, value_name = "SEQ")]
    from: Option<u64>,
    /// Last sequence [default: the newest record on flash]
    #[arg(long, value_name = "SEQ")]
    to: Option<u64>,
    /// How it is written
    #[arg(long, value_enum, default_value = "ndjson")]
    format: Format,
    /// The file; it gets its name when it is complete [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Read the data directory of a gateway that does not run, and change nothing in it
    #[arg(long)]
    offline: bool,
    /// With --offline and --data-dir: the id that the gateway has
    #[arg(long, value_name = "ID", requires = "offline")]
    gateway: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration [default: ./tidegate.toml, else /etc/tidegate/tidegate.toml]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Why a command did not succeed.
#[derive(Debug)]
enum Failure {
    /// Wrong usage or configuration: exit code 2.
    Wrong(String),
    /// Anything else: exit code 1.
    Failed(anyhow::Error),
    /// The same, and the log or the report has said it.
    Said,
}

impl From<Mistakes> for Failure {
    fn from(mistakes: Mistakes) -> Self {
        Self::Wrong(mistakes.to_string())
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure
where
    E: NotMistakes,
{
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Errors that are failures, not mistakes of the user.
trait NotMistakes {}
impl NotMistakes for anyhow::Error {}
impl NotMistakes for io::Error {}
impl NotMistakes for serde_json::Error {}
impl NotMistakes for crate::admin::AdminError {}
impl NotMistakes for crate::data_dir::DataDirError {}

/// The commands, for manual pages and completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no error.
            let code = if error.use_stderr() { 2 } else { 0 };
            // Nobody is left to be told that the terminal is gone.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let mut out = io::stdout().lock();
    let result = execute(cli.command, &mut out).and_then(|()| Ok(out.flush()?));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Wrong(text)) => {
            complain(&text);
            ExitCode::from(2)
        }
        Err(Failure::Said) => ExitCode::FAILURE,
        // `tidegate stream tail x | head` ends when head has enough.
        Err(Failure::Failed(error)) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(Failure::Failed(error)) => {
            complain(&format!("tidegate: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn complain(text: &str) {
    // Nobody is left to be told that standard error is gone.
    let _ = writeln!(io::stderr(), "{}", logging::last_words(text));
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn execute(command: Command, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Command::Run(file) => run::run(&file.found()?),
        Command::Check(file) => check::check(&file.found()?, out),
        Command::Init { dir } => init::init(&dir, out),
        Command::Status { json, watch: Some(every), place } => {
            watch::watch(&place, json, Duration::from_secs(every), out)
        }
        Command::Status { json, watch: None, place } => status::show(&place, json, out),
        Command::Backup { dest, place } => backup::back_up(&place, &dest, out),
        Command::Restore { source, to } => backup::restore(&source, &to, out),
        Command::Reload { json, place } => reload::reload(&place, json, out),
        Command::Verify { data_dir, json } => verify::verify(&data_dir, json, out),
        Command::Device(command) => device::execute(command, out),
        Command::Fn(command) => functions::execute(command, out),
        Command::Http(HttpCommand::Token { name, file, remove }) => {
            token::token(&name, &file, remove, out)
        }
        Command::Secret(command) => secret::execute(command, out),
        Command::Mqtt(MqttCommand::Passwd { user, file: Some(file), remove: true }) => {
            passwd::remove(&user, &file, out)
        }
        Command::Mqtt(MqttCommand::Passwd { user, file, remove: _ }) => {
            passwd::passwd(&user, file.as_deref(), out)
        }
        Command::Stream(StreamCommand::Ls { json, place }) => stream::list(&place, json, out),
        Command::Stream(StreamCommand::Tail(arguments)) => stream::tail(&arguments, out),
        Command::Stream(StreamCommand::Export(arguments)) => export::export(&arguments, out),
        Command::Stream(StreamCommand::Import { name, file, place }) => {
            import::import(&place, &name, &file, out)
        }
        Command::Stream(StreamCommand::Losses { name, json, place }) => {
            losses::show(&place, &name, json, out)
        }
    }
}

impl ConfigFile {
    fn found(&self) -> Result<PathBuf, Failure> {
        match &self.config {
            Some(file) => Ok(file.clone()),
            None => locate::default_config(),
        }
    }
}

/// Runs a command as if it had been typed; for tests.
#[cfg(test)]
fn typed(words: &[&str], out: &mut dyn Write) -> Result<(), Failure> {
    let words = std::iter::once(&"tidegate").chain(words);
    let cli = Cli::try_parse_from(words).map_err(|error| Failure::Wrong(error.to_string()))?;
    execute(cli.command, out)
}
