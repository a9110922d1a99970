//! The whole core on real sockets and files.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use super::run;
use crate::config;
use crate::core_handle::CoreHandle;
use crate::guest_log::GuestLog;
use crate::scratch::Scratch;
use crate::shutdown::Shutdown;

const PATIENCE: Duration = Duration::from_secs(20);

struct Running {
    shutdown: Shutdown,
    thread: JoinHandle<anyhow::Result<()>>,
    mqtt: SocketAddr,
    _core: CoreHandle,
    _scratch: Scratch,
}

/// Starts a core that listens on a free port.
async fn start(sections: &str) -> Running {
    let scratch = Scratch::new();
    let file = scratch.path().join("tidegate.toml");
    let text = format!(
        "[gateway]\nid = \"gw\"\ndata_dir = \"data\"\n[mqtt]\nlisten = \"127.0.0.1:0\"\n\
         [http]\nlisten = \"off\"\n[stream.telemetry]\ntopics = [\"s/#\"]\n{sections}"
    );
    std::fs::write(&file, text).unwrap();
    let settings = config::load(&file).unwrap();
    let (core, requests) = CoreHandle::new();
    let shutdown = Shutdown::default();
    let receiver = shutdown.receiver();
    let (ready, is_ready) = oneshot::channel();
    let thread = thread::spawn(move || {
        let (routes, _) = watch::channel(Arc::default());
        let (_unchanged, security) = watch::channel(settings.security.clone());
        run(&settings, GuestLog::default(), requests, routes, security, receiver, |addresses| {
            drop(ready.send(addresses.to_vec()));
        })
    });
    let mqtt = timeout(PATIENCE, is_ready).await.unwrap().unwrap()[0];
    Running { shutdown, thread, mqtt, _core: core, _scratch: scratch }
}

/// A 3.1.1 client that has its CONNACK.
async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c").await?;
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).await?;
    assert_eq!(connack, *b"\x20\x02\0\0");
    Ok(stream)
}

#[tokio::test]
async fn an_uplink_connects_though_no_client_ever_comes() {
    let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = upstream.local_addr().unwrap();
    let url = format!("[uplink.up]\nurl = \"mqtt://{address}\"\nstreams = [\"telemetry\"]\n");
    let running = start(&url).await;
    timeout(PATIENCE, upstream.accept()).await.unwrap().unwrap();
    running.shutdown.request();
    running.thread.join().unwrap().unwrap();
}

#[tokio::test]
async fn a_shutdown_ends_connections_and_takes_no_new_ones() {
    let running = start("").await;
    let mut client = connect(running.mqtt).await.unwrap();
    running.shutdown.request();
    let mut rest = Vec::new();
    timeout(PATIENCE, client.read_to_end(&mut rest)).await.unwrap().unwrap();
    running.thread.join().unwrap().unwrap();
    assert!(connect(running.mqtt).await.is_err());
}
