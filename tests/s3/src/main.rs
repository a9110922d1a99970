//! `tidegate-s3`: s3s with its file system behind it, a real S3 server that somebody else wrote.
//! It checks signatures; objects are files below the directory. In a process of its own, so that
//! it can be killed, and so that nothing of ours links it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow};
use clap::Parser;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;

#[derive(Parser)]
#[command(
    name = "tidegate-s3",
    about = "An S3 server (s3s) for the tests of Tidegate",
    after_help = "Example: tidegate-s3 --listen 127.0.0.1:9000 --root /tmp/s3 --key-id A \
                  --secret B --tied"
)]
struct Arguments {
    /// Where to listen
    #[arg(long)]
    listen: SocketAddr,
    /// Where the objects lie; each directory in it is a bucket
    #[arg(long)]
    root: PathBuf,
    /// The account's key id
    #[arg(long)]
    key_id: String,
    /// The account's secret key
    #[arg(long)]
    secret: String,
    /// End when standard input ends
    #[arg(long)]
    tied: bool,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-s3: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    if arguments.tied {
        end_with_standard_input();
    }
    let files = FileSystem::new(&arguments.root);
    let files = files.map_err(|error| anyhow!("{}: {error:?}", arguments.root.display()))?;
    let mut service = S3ServiceBuilder::new(files);
    service.set_auth(SimpleAuth::from_single(arguments.key_id, arguments.secret));
    let service = service.build();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(arguments.listen).await;
        let listener =
            listener.with_context(|| format!("cannot listen on {}", arguments.listen))?;
        loop {
            let (socket, _) = listener.accept().await.context("cannot accept")?;
            let served =
                http1::Builder::new().serve_connection(TokioIo::new(socket), service.clone());
            tokio::spawn(async move {
                // What breaks a connection is the client's matter.
                let _ = served.await;
            });
        }
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
