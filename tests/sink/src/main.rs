//! `tidegate-sink`: the reference server as a process.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use tidegate_sink::database::Database;
use tidegate_sink::routes::{SinkOptions, router};
use tokio::net::TcpListener;

#[derive(Parser)]
#[command(
    name = "tidegate-sink",
    about = "Reference server of Tidegate's HTTPS sink, on PostgreSQL",
    after_help = "Example: tidegate-sink --listen 127.0.0.1:8090 --database \
                  \"host=127.0.0.1 user=postgres dbname=postgres\" --tied"
)]
struct Arguments {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// The database, in the form of libpq; its tables are made when they are not there
    #[arg(long)]
    database: String,
    /// The bearer token that requests must carry
    #[arg(long)]
    token: Option<String>,
    /// Refuse records whose payload holds this text, for tests
    #[arg(long)]
    refuse: Option<String>,
    /// End when standard input ends
    #[arg(long)]
    tied: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-sink: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    if arguments.tied {
        end_with_standard_input();
    }
    let database = Database::new(&arguments.database)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(arguments.listen).await;
        let listener =
            listener.with_context(|| format!("cannot listen on {}", arguments.listen))?;
        let options = SinkOptions { token: arguments.token, refuse: arguments.refuse };
        axum::serve(listener, router(database, options)).await.context("serving failed")
    })
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
