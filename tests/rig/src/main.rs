//! `tidegate-rig`: the demo and its cloud.

use std::net::SocketAddr;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "tidegate-rig", about = "Test rig of Tidegate")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// An MQTT 5 broker (rumqttd) that stands for the cloud
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
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Cloud { listen, json_lines, tied } => {
            if tied {
                end_with_standard_input();
            }
            tidegate_rig::cloud::serve(listen, json_lines)
        }
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
