//! Clients that must not get in, and those that must, by openssl's certificates and mosquitto's
//! clients; what the operator sees of it; and the guide, as it is written.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tidegate_rig::gateway::Gateway;
use tidegate_rig::ports;
use tidegate_rig::scratch::Scratch;

use crate::binaries;
use crate::setup::{beside_others, explain, wait};

const PASSWORD: &str = "kelp-anchor-17";
const WRONG: &str = "driftwood-99";

/// A gateway with logins, beside its certificates.
struct Plant {
    gateway: Gateway,
    tls: SocketAddr,
    websocket: SocketAddr,
}

/// Runs a script of openssl's commands, with helpers, in a directory.
pub(crate) fn openssl(directory: &Path, script: &str) {
    let helpers = r#"
        set -e
        exec 2>&1
        key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
        authority() { openssl req -x509 $key -days 30 -subj "/CN=$1" -keyout $1.key -out $1.pem; }
        alone() { # its own authority, for localhost
          openssl req -x509 $key -days 2 -subj "/CN=localhost" -addext "subjectAltName=DNS:localhost" \
            -addext "basicConstraints=critical,CA:FALSE" -keyout $1.key -out $1.pem
        }
        issue() { # authority, name, options of x509
          openssl req $key -subj "/CN=$2" -keyout $2.key -out $2.csr
          printf "subjectAltName=DNS:localhost,IP:127.0.0.1" > $2.ext
          openssl x509 -req -in $2.csr -CA $1.pem -CAkey $1.key -extfile $2.ext -out $2.pem $3
        }
        revoked() { openssl ca -config ca.cnf -keyfile ca.key -cert ca.pem "$@"; }
    "#;
    let output = Command::new("sh")
        .args(["-c", &format!("{helpers}\n{script}")])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn passwd(file: &Path, user: &str, password: &str) {
    let mut child = Command::new(binaries::tidegate())
        .args(["mqtt", "passwd", user, "--file"])
        .arg(file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

impl Plant {
    fn start() -> Plant {
        Plant::start_with("")
    }

    /// With more in `[mqtt.limits]`.
    fn start_with(limits: &str) -> Plant {
        let scratch = Scratch::new("security").unwrap();
        let directory = scratch.path().to_owned();
        openssl(
            &directory,
            r#"
            authority ca; authority stranger
            issue ca server "-days 30"
            issue ca sensor-1 "-days 30"; issue ca sensor-2 "-days 30"
            issue stranger forged "-days 30"
            issue ca old "-days 0"
            printf '[ca]\ndefault_ca=c\n[c]\ndatabase=index.txt\ncrlnumber=number\ndefault_md=sha256\ndefault_crl_days=30\n' > ca.cnf
            touch index.txt; echo 01 > number
            revoked -gencrl -out crl.pem
            "#,
        );
        passwd(&directory.join("users"), "ann", PASSWORD);
        let (tls, websocket) = (ports::free().unwrap(), ports::free().unwrap());
        let config = format!(
            r#"[gateway]
id = "gw-it"
data_dir = "{{data}}"

[log]
level = "trace"

[http]
listen = "{{http}}"

[mqtt]
listen = "{{mqtt}}"
allow_anonymous = true
users_file = "users"

[mqtt.listener.plant]
listen = "{tls}"
tls = true
allow_anonymous = false

[mqtt.listener.browser]
listen = "{websocket}"
websocket = "/mqtt"
proxy_from = ["127.0.0.1"]

[mqtt.tls]
cert_file = "server.pem"
key_file = "server.key"
client_ca_file = "ca.pem"
crl_file = "crl.pem"
client_certificate = "optional"

[[mqtt.acl]]
topics = ["sensors/${{username}}/#"]

[[mqtt.acl]]
topics = ["everything/#"]
users = ["ann"]

[mqtt.limits]
failed_logins_per_minute = 100
{limits}

[stream.telemetry]
topics = ["sensors/+/telemetry"]
"#
        );
        let mut gateway = Gateway::new(&binaries::tidegate(), scratch, &config).unwrap();
        gateway.start().unwrap();
        Plant { gateway, tls, websocket }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.gateway.directory().join(name)
    }

    /// `mosquitto_pub` over TLS, with what `login` adds.
    fn publish(&self, client: &str, topic: &str, login: &[&str]) -> Output {
        let port = self.tls.port().to_string();
        Command::new("mosquitto_pub")
            .current_dir(self.gateway.directory())
            .args(["-h", "localhost", "-p", &port, "-V", "5", "-q", "1", "-i", client])
            .args(["--cafile", "ca.pem", "-t", topic, "-m", "1"])
            .args(login)
            .output()
            .expect("apt-get install mosquitto-clients")
    }

    /// The same with a certificate.
    fn publish_as(&self, name: &str, topic: &str) -> Output {
        let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
        self.publish(name, topic, &["--cert", &cert, "--key", &key])
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.gateway.log_file()).unwrap()
    }

    /// How many were turned away for a reason, by the status.
    fn turned_away(&self, reason: &str) -> u64 {
        let status = self.gateway.status().unwrap();
        let reasons = status["broker"]["turned_away"].as_array().cloned().unwrap_or_default();
        let found = reasons.iter().find(|one| one["reason"] == reason);
        found.and_then(|one| one["count"].as_u64()).unwrap_or(0)
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.gateway.http()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }
}

fn ok(output: &Output) -> bool {
    output.status.success()
}

#[test]
fn who_must_not_get_in_is_refused_once_with_a_reason_and_no_secret() {
    let _machine = beside_others();
    let plant = Plant::start();
    assert!(ok(&plant.publish_as("sensor-1", "sensors/sensor-1/telemetry")), "{}", plant.log());
    let login = |user, password| ["-u", user, "-P", password];
    assert!(ok(&plant.publish("c1", "everything/x", &login("ann", PASSWORD))), "{}", plant.log());

    openssl(
        plant.gateway.directory(),
        "revoked -revoke sensor-2.pem; revoked -gencrl -out crl.new; mv crl.new crl.pem",
    );
    wait(&plant.gateway, "the revocation list is read again", || {
        !ok(&plant.publish_as("sensor-2", "sensors/sensor-2/telemetry"))
    });
    assert!(plant.turned_away("revoked-certificate") >= 1, "{}", plant.log());
    assert!(ok(&plant.publish_as("sensor-1", "sensors/sensor-1/telemetry")));

    assert!(!ok(&plant.publish_as("forged", "sensors/forged/telemetry")));
    assert!(!ok(&plant.publish_as("old", "sensors/old/telemetry")));
    assert!(!ok(&plant.publish("c2", "everything/x", &[])));
    assert!(!ok(&plant.publish("c3", "everything/x", &login("ann", WRONG))));
    assert!(!ok(&plant.publish("c4", "everything/x", &login("eve", WRONG))));
    // Where nobody has to log in, nobody is ann without her password.
    let port = plant.gateway.mqtt().port().to_string();
    let as_ann = ["-h", "127.0.0.1", "-p", &port, "-V", "5", "-i", "ann", "-t", "x", "-m", "1"];
    assert!(!ok(&Command::new("mosquitto_pub").args(as_ann).output().unwrap()), "{}", plant.log());
    let denied = plant.publish_as("sensor-1", "sensors/sensor-2/telemetry");
    assert!(String::from_utf8_lossy(&denied.stderr).contains("ot authorized"), "{denied:?}");

    let log = plant.log();
    for (reason, who, count) in [
        ("bad-certificate", "user=\"forged\"", 1),
        ("expired-certificate", "user=\"old\"", 1),
        ("no-credentials", "client=\"c2\"", 1),
        ("client-id", "client=\"ann\"", 1),
        ("bad-credentials", "client=\"c3\" user=\"ann\"", 2),
        ("bad-credentials", "client=\"c4\" user=\"eve\"", 2),
        ("revoked-certificate", "user=\"sensor-2\"", plant.turned_away("revoked-certificate")),
    ] {
        assert_eq!(plant.turned_away(reason), count, "{reason}\n{log}");
        let lines = log.lines().filter(|line| line.contains(who) && line.contains(reason)).count();
        let expected = if reason == "revoked-certificate" { count as usize } else { 1 };
        assert_eq!(lines, expected, "{reason} {who}\n{log}");
        let metric = format!("tidegate_mqtt_turned_away_total{{reason=\"{reason}\"}} {count}");
        assert!(plant.metrics().contains(&metric), "{metric}\n{}", plant.metrics());
    }
    let denials: Vec<_> = log.lines().filter(|line| line.contains("[[mqtt.acl]]")).collect();
    let [denial] = denials[..] else { panic!("{denials:?}\n{log}") };
    for said in [
        "client=\"sensor-1\" user=\"sensor-1\" action=publish",
        "topic=\"sensors/sensor-2/telemetry\"",
    ] {
        assert!(denial.contains(said), "{denial}");
    }
    let status = plant.gateway.status().unwrap();
    assert_eq!(status["broker"]["denied_publishes"], 1);
    let (shown, metrics) = (plant.gateway.command(&["status"]).unwrap(), plant.metrics());
    assert!(metrics.contains("tidegate_mqtt_denied_publishes_total 1"), "{metrics}");
    for said in [
        "denied: 1 publishes",
        "1 bad-certificate",
        "1 expired-certificate",
        "1 no-credentials",
        "2 bad-credentials",
        "revoked-certificate",
    ] {
        assert!(shown.contains(said), "{said} in {shown}");
    }
    // Of the key file and of the hashed password what nobody could guess.
    let key = std::fs::read_to_string(plant.file("server.key")).unwrap();
    let users = std::fs::read_to_string(plant.file("users")).unwrap();
    let hash = users.trim_end().rsplit('$').next().unwrap();
    for secret in [PASSWORD, WRONG, "argon2id", "PRIVATE KEY", key.lines().nth(1).unwrap(), hash] {
        for (place, text) in [
            ("log", &log),
            ("status", &shown),
            ("json", &status.to_string()),
            ("metrics", &metrics),
        ] {
            assert!(!text.contains(secret), "{secret} in {place}\n{text}");
        }
    }
}

#[test]
fn a_client_that_logs_in_too_often_and_a_user_that_is_guessed_at_are_stopped() {
    let _machine = beside_others();
    let limits = "connects_per_minute_per_client = 20\nfailed_logins_per_minute_per_user = 5";
    let plant = Plant::start_with(limits);
    let login = |user, password| ["-u", user, "-P", password];
    let ann = login("ann", PASSWORD);
    let stopped_after = |reason: &str, client: &str, login: &[&str]| {
        let tries = (1..200).find(|_| {
            plant.publish(client, "everything/x", login);
            plant.turned_away(reason) > 0
        });
        tries.unwrap_or_else(|| panic!("never {reason}\n{}", plant.log()))
    };
    assert!(ok(&plant.publish("c1", "everything/x", &ann)));
    assert!(stopped_after("connects-per-minute-per-client", "twin", &ann) > 20);
    assert!(plant.log().contains("client=\"twin\" user=\"ann\""), "{}", plant.log());
    assert!(ok(&plant.publish("c2", "everything/x", &ann)), "{}", plant.log());

    // Who was in before gets in with the same password.
    let guess = login("ann", WRONG);
    assert!(stopped_after("failed-logins-per-minute-per-user", "c3", &guess) > 5);
    assert!(ok(&plant.publish("c2", "everything/x", &ann)), "{}", plant.log());
}

#[test]
fn users_and_certificates_change_without_a_restart() {
    let _machine = beside_others();
    let plant = Plant::start();
    let bob = ["-u", "bob", "-P", PASSWORD];
    assert!(!ok(&plant.publish("b", "sensors/bob/telemetry", &bob)));
    passwd(&plant.file("users"), "bob", PASSWORD);
    wait(&plant.gateway, "the new user gets in", || {
        ok(&plant.publish("b", "sensors/bob/telemetry", &bob))
    });

    // A subscriber whose certificate is revoked loses its connection.
    let port = plant.tls.port().to_string();
    let mut subscriber = Command::new("mosquitto_sub")
        .current_dir(plant.gateway.directory())
        .args(["-h", "localhost", "-p", &port, "-V", "311", "-i", "sensor-2", "-W", "100"])
        .args(["--cafile", "ca.pem", "--cert", "sensor-2.pem", "--key", "sensor-2.key"])
        .args(["-t", "sensors/sensor-2/#"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait(&plant.gateway, "it subscribes", || {
        plant.gateway.status().unwrap()["broker"]["subscriptions"] == 1
    });
    openssl(
        plant.gateway.directory(),
        "revoked -revoke sensor-2.pem; revoked -gencrl -out crl.new; mv crl.new crl.pem",
    );
    wait(&plant.gateway, "its connection ends", || plant.turned_away("revoked-certificate") >= 1);
    let _ = subscriber.kill();
    let _ = subscriber.wait();

    // A new certificate of the gateway, by an authority that clients did not trust before.
    openssl(plant.gateway.directory(), "issue stranger server '-days 30'");
    let trusts = |authority: &str| {
        let login = ["--cafile", authority, "-u", "bob", "-P", PASSWORD];
        ok(&plant.publish("b", "sensors/bob/telemetry", &login))
    };
    wait(&plant.gateway, "the new certificate is shown", || trusts("stranger.pem"));
    assert!(!trusts("ca.pem"));

    // One that is broken changes nothing.
    std::fs::write(plant.file("server.pem"), "nonsense").unwrap();
    wait(&plant.gateway, "the mistake is told", || plant.log().contains("mqtt.tls.cert_file"));
    assert!(trusts("stranger.pem"), "{}", explain(&plant.gateway));
}

// 5: MQTT-4.2-1, MQTT-6.0.0-1, MQTT-6.0.0-2, MQTT-6.0.0-4
// 3.1.1: MQTT-7.1.1-1, MQTT-6.0.0-1, MQTT-6.0.0-2, MQTT-6.0.0-4
#[test]
fn websocket_behind_a_proxy_carries_mqtt() {
    let _machine = beside_others();
    let plant = Plant::start();
    let mut stream = TcpStream::connect(plant.websocket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = "PROXY TCP4 192.0.2.77 127.0.0.1 4242 80\r\n\
        GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = Vec::new();
    while !response.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        response.push(byte[0]);
    }
    let response = String::from_utf8_lossy(&response);
    assert!(response.starts_with("HTTP/1.1 101"), "{response}");
    assert!(response.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n"), "{response}");

    // CONNECT with a login in frames of seven bytes.
    let mut connect = b"\x10\x20\0\x04MQTT\x04\xC2\0\0\0\x01w\0\x03ann\0\x0e".to_vec();
    connect.extend(PASSWORD.as_bytes());
    connect[1] = u8::try_from(connect.len() - 2).unwrap();
    for piece in connect.chunks(7) {
        stream.write_all(&[0x82, 0x80 | piece.len() as u8, 0, 0, 0, 0]).unwrap();
        stream.write_all(piece).unwrap();
    }
    let mut connack = [0; 6];
    stream.read_exact(&mut connack).unwrap();
    assert_eq!(connack, [0x82, 4, 0x20, 2, 0, 0]);

    // A text frame is no MQTT [MQTT-6.0.0-1].
    stream.write_all(&[0x81, 0x82, 0, 0, 0, 0, 0xC0, 0]).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.starts_with(&[0x88, 2, 0x03, 0xEB]), "{rest:x?}");

    // Without the header nobody gets through, and a wrong login is told with the real address.
    let mut stream = TcpStream::connect(plant.websocket).unwrap();
    stream.write_all(b"GET /mqtt HTTP/1.1\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert_eq!(rest, b"");
    wait(&plant.gateway, "it is counted", || plant.turned_away("proxy-header") == 1);
}

#[test]
fn a_page_from_elsewhere_opens_no_websocket() {
    let _machine = beside_others();
    let plant = Plant::start();
    let mut stream = TcpStream::connect(plant.websocket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request = "PROXY TCP4 192.0.2.77 127.0.0.1 4242 80\r\n\
        GET /mqtt HTTP/1.1\r\nHost: gw:9001\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://evil.example\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{response}");
    assert!(response.ends_with("pages of this origin may not connect here\n"), "{response}");
    wait(&plant.gateway, "it is counted", || plant.turned_away("origin") == 1);
    let log = plant.log();
    assert_eq!(log.matches("https://evil.example").count(), 1, "{log}");
    assert!(log.contains("192.0.2.77:4242"), "{log}");
}

/// The commands of the guide, one after another, as they are there.
#[test]
fn the_guide_works_as_it_is_written() {
    let _machine = beside_others();
    let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guides/secure-the-broker.md");
    let text = std::fs::read_to_string(guide).unwrap();
    let mut script = String::from("set -ex\ntrap 'kill $(jobs -p) 2>/dev/null' EXIT\n");
    let mut inside = false;
    for line in text.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            // A shell does not end at a command behind `!`, whatever becomes of it.
            _ if inside && line.starts_with("! ") => {
                script.push_str(&format!("{line} || exit 1\n"));
            }
            _ if inside => script.push_str(&format!("{line}\n")),
            _ => {}
        }
    }
    assert!(script.contains("tidegate run"));
    // The ports of the guide may be in use here.
    let (mqtt, http) = (ports::free().unwrap(), ports::free().unwrap());
    let script =
        script.replace("8883", &mqtt.port().to_string()).replace("8080", &http.port().to_string());
    let scratch = Scratch::new("guide").unwrap();
    let bin = scratch.path().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(binaries::tidegate(), bin.join("tidegate")).unwrap();
    std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", &script])
        .current_dir(scratch.path())
        .env("PATH", path)
        .output()
        .unwrap();
    let log = std::fs::read_to_string(scratch.path().join("gateway.log")).unwrap_or_default();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}\nstdout:\n{said}\nstderr:\n{}\nlog:\n{log}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    for expected in [
        "sensors/sensor-1/telemetry {\"celsius\": 21.5}",
        "sensors/sensor-2/telemetry {\"celsius\": 19.0}",
        "action=publish topic=\"sensors/sensor-1/telemetry\"",
        "action=subscribe topic=\"sensors/#\"",
        "reason=\"no-certificate\"",
        "denied: 1 publishes, 1 subscriptions",
        "reason=\"revoked-certificate\"",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}\nlog:\n{log}");
    }
}
