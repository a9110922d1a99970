//! Where the demo's gateway is: a process of the demo, or a machine of its own that is only seen from
//! outside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Running;
use crate::gateway::Gateway;
use crate::scratch::Scratch;

/// Longest wait for an answer: an emulated machine is slow.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer that is read.
const MAX_ANSWER: u64 = 1024 * 1024;

/// The gateway.
pub(super) enum Site {
    Own(Gateway),
    /// One elsewhere, and the folder of the demo's own files.
    Running(Running, Scratch),
}

impl Site {
    pub(super) fn mqtt(&self) -> SocketAddr {
        match self {
            Site::Own(gateway) => gateway.mqtt(),
            Site::Running(running, _) => running.mqtt,
        }
    }

    pub(super) fn status(&self) -> Result<Value> {
        match self {
            Site::Own(gateway) => gateway.status(),
            Site::Running(running, _) => status(running.http),
        }
    }

    /// How it ended, where that can be seen.
    pub(super) fn exited(&mut self) -> Result<Option<ExitStatus>> {
        match self {
            Site::Own(gateway) => gateway.exited(),
            Site::Running(..) => Ok(None),
        }
    }

    pub(super) fn log_tail(&self) -> String {
        match self {
            Site::Own(gateway) => gateway.log_tail(),
            Site::Running(running, _) => format!("(the log is where {} is)", running.mqtt),
        }
    }

    pub(super) fn directory(&self) -> &Path {
        match self {
            Site::Own(gateway) => gateway.directory(),
            Site::Running(_, scratch) => scratch.path(),
        }
    }

    pub(super) fn keep_files(&mut self) {
        match self {
            Site::Own(gateway) => gateway.keep_files(),
            Site::Running(_, scratch) => scratch.keep(),
        }
    }
}

/// `/v1/status`.
fn status(address: SocketAddr) -> Result<Value> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)
        .with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request =
        format!("GET /v1/status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer in HTTP")?;
    ensure!(head.starts_with("HTTP/1.1 200 "), "{address} answers: {head}");
    serde_json::from_str(body).with_context(|| format!("the status is not JSON: {body}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answering(answer: &'static str) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let length = stream.read(&mut request).unwrap();
            assert!(request[..length].starts_with(b"GET /v1/status HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn the_status_of_a_running_gateway_is_asked_for_by_http() {
        let address = answering("HTTP/1.1 200 OK\r\ncontent-length: 14\r\n\r\n{\"uplinks\":[]}");
        assert_eq!(status(address).unwrap(), serde_json::json!({ "uplinks": [] }));
    }

    #[test]
    fn an_answer_that_is_no_status_is_an_error() {
        let address = answering("HTTP/1.1 503 Service Unavailable\r\n\r\nthe disk fails\n");
        assert!(status(address).unwrap_err().to_string().contains("503"));
    }
}
