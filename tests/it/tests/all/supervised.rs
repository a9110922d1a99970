//! A supervisor that speaks systemd's protocol: what it hears of the gateway.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use tidegate_rig::gateway::Gateway;
use tidegate_rig::scratch::Scratch;

use crate::binaries;
use crate::setup::{PATIENCE, beside_others};

const CONFIG: &str = r#"[gateway]
id = "gw-it"
data_dir = "{data}"

[mqtt]
listen = "{mqtt}"

[http]
listen = "{http}"
"#;

/// As systemd tells it, in microseconds.
const WATCHDOG: &str = "600000";

#[test]
fn a_supervisor_hears_that_the_gateway_is_ready_and_lives_and_stops() {
    let _machine = beside_others();
    let scratch = Scratch::new("supervised").unwrap();
    let notify = scratch.path().join("notify");
    let socket = UnixDatagram::bind(&notify).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let gateway = started_by(&scratch, &notify.display().to_string());
    let mut gateway = Gateway::new(&gateway, scratch, CONFIG).unwrap();
    gateway.start().unwrap();
    let ready = heard(&socket);
    assert!(ready.starts_with("READY=1\nSTATUS=MQTT on 127.0.0.1:"), "{ready}");
    // Nobody sends anything: the core's thread wakes up for it.
    for _ in 0..4 {
        assert_eq!(heard(&socket), "WATCHDOG=1");
    }
    let status = gateway.terminate(Duration::from_secs(30)).unwrap();
    assert_eq!(status.code(), Some(0), "a clean end\n{}", gateway.log_tail());
    let stopping = std::iter::repeat_with(|| heard(&socket)).find(|text| text != "WATCHDOG=1");
    assert!(stopping.unwrap().starts_with("STOPPING=1\n"));
}

/// A program that becomes the gateway, with the variables that a supervisor sets.
fn started_by(scratch: &Scratch, notify: &str) -> std::path::PathBuf {
    let script = scratch.path().join("started");
    let gateway = binaries::tidegate();
    let text = format!(
        "#!/bin/sh\nNOTIFY_SOCKET={notify} WATCHDOG_USEC={WATCHDOG} WATCHDOG_PID=$$ exec {} \"$@\"\n",
        gateway.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

fn heard(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 512];
    let len = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..len].to_vec()).unwrap()
}
