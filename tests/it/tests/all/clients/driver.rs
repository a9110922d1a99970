//! How a client library is driven, whatever language it is written in.
//!
//! Commands are JSON objects with `do` and `client`, the name of the connection that they are for:
//! `connect` (`version` 4 or 5, `transport`, `port`, `id`, `clean`, `expiry`, `will`), `subscribe`
//! (`filter`, `qos`, `identifier`), `publish` (`topic`, `payload`, `qos`, `retain`, `user`,
//! `expiry`, `alias`), `disconnect`, and `drop`, which ends the connection without a DISCONNECT.
//! Events have `event` and `client`: `connected` (`reason`, `session`), `subscribed` (`reason`),
//! `published` (`reason`, with QoS 0 when it is sent), `message` (what arrived), `closed`, `error`.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::Value;

use crate::binaries;

/// Connections of one library.
pub(super) trait Driver {
    /// Called once, with the directory of `ca.pem`, `client.pem` and `client.key`.
    fn begin(&mut self, directory: &Path) -> Receiver<Value>;

    fn send(&mut self, command: &Value);

    /// The reason it tells for a denied publish of MQTT 5 with this QoS.
    fn denial(&self, _qos: u8) -> u64 {
        NOT_AUTHORIZED
    }
}

/// MQTT 5: not authorized.
const NOT_AUTHORIZED: u64 = 0x87;
/// MQTT 5: packet identifier not found.
const NOT_FOUND: u64 = 0x92;

/// A library in a process of its own, driven by lines.
pub(super) struct Process {
    command: Command,
    running: Option<(Child, ChildStdin)>,
    looks_at_pubrec: bool,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

impl Process {
    /// Paho, where `cargo xtask test` could install it.
    pub(super) fn python() -> Option<Process> {
        let python = binaries::clients().join("python/bin/python3");
        let mut process = Self::when(python.is_file(), "Paho", || {
            let mut command = Command::new(&python);
            command.arg(script("paho_driver.py"));
            command
        })?;
        // It sends PUBREL whatever PUBREC says, and tells the reason of the PUBCOMP.
        process.looks_at_pubrec = false;
        Some(process)
    }

    /// MQTT.js, likewise.
    pub(super) fn javascript() -> Option<Process> {
        let modules = binaries::clients().join("javascript/node_modules");
        let node = Command::new("node").arg("--version").output().is_ok();
        Self::when(node && modules.join("mqtt/package.json").is_file(), "MQTT.js", || {
            let mut command = Command::new("node");
            command.arg(script("mqttjs_driver.js")).env("NODE_PATH", &modules);
            command
        })
    }

    fn when(installed: bool, what: &str, command: impl FnOnce() -> Command) -> Option<Process> {
        if !installed {
            eprintln!("skipped: {what} is not installed: `cargo xtask test` as root does it");
            return None;
        }
        Some(Process { command: command(), running: None, looks_at_pubrec: true })
    }
}

impl Driver for Process {
    fn begin(&mut self, directory: &Path) -> Receiver<Value> {
        let mut child = self
            .command
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let stdin = child.stdin.take().unwrap();
        self.running = Some((child, stdin));
        let (send, receive) = channel();
        thread::spawn(move || {
            let events = lines.map_while(Result::ok).map(|line| serde_json::from_str(&line));
            events.map_while(Result::ok).try_for_each(|event: Value| send.send(event))
        });
        receive
    }

    fn send(&mut self, command: &Value) {
        let (_, stdin) = self.running.as_mut().unwrap();
        writeln!(stdin, "{command}").unwrap();
    }

    fn denial(&self, qos: u8) -> u64 {
        if qos == 2 && !self.looks_at_pubrec { NOT_FOUND } else { NOT_AUTHORIZED }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some((mut child, _)) = self.running.take() {
            // It may have ended already; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
