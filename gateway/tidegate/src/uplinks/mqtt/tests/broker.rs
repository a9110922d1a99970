//! Against mosquitto, a broker that someone else wrote.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::Packet;
use rumqttc::v5::{AsyncClient, Event, MqttOptions};
use tidegate_uplink::{Envelope, Identity};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::uplinks::TlsFiles;

/// A broker process of our own; it dies with the test.
pub(super) struct Mosquitto {
    child: Child,
    pub(super) port: u16,
    dir: PathBuf,
}

impl Mosquitto {
    /// `None`, and a word about it, where mosquitto is not installed.
    pub(super) async fn start(
        name: &str,
        more: impl Fn(&Path) -> Option<String>,
    ) -> Option<Mosquitto> {
        let program = ["/usr/sbin/mosquitto", "/usr/local/sbin/mosquitto", "/usr/bin/mosquitto"];
        let Some(program) = program.into_iter().find(|path| Path::new(path).exists()) else {
            eprintln!("skipped: mosquitto is not installed (apt-get install mosquitto)");
            return None;
        };
        let dir = std::env::temp_dir().join(format!("tidegate-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let port = free_port().await;
        let config = dir.join("mosquitto.conf");
        // Queues without limit: the subscriber of the test must not lose anything. The user counts
        // only when root runs the tests: the certificates are readable for the owner only.
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n\
             max_inflight_messages 100\n{}\n",
            more(&dir)?
        );
        std::fs::write(&config, text).unwrap();
        let child = Command::new(program)
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mosquitto = Mosquitto { child, port, dir };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < deadline, "mosquitto does not listen");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(mosquitto)
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// What becomes of the links that exist when the fault comes; later ones are well.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    Cut,
    Freeze,
}

/// Forwards to `to`; returns its port and the switch that makes the fault happen.
pub(super) async fn proxy(to: u16, fault: Fault) -> (u16, Rc<watch::Sender<u32>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let switch = Rc::new(watch::Sender::new(0));
    let faults = Rc::clone(&switch);
    tokio::task::spawn_local(async move {
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let mut happens = faults.subscribe();
            tokio::task::spawn_local(async move {
                let mut far = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    _ = happens.changed() => if fault == Fault::Freeze {
                        // Both sockets stay open, and nothing moves.
                        std::future::pending::<()>().await;
                    }
                }
            });
        }
    });
    (port, switch)
}

/// Receives until every record of both streams was there, each first arrival in its turn; returns
/// how many were duplicates by identity.
async fn consume(port: u16, records: u64, ready: tokio::sync::oneshot::Sender<()>) -> u64 {
    let mut options = MqttOptions::new("data-team", "127.0.0.1", port);
    options.set_max_packet_size(Some(1 << 20)).set_receive_maximum(Some(100));
    let (client, mut event_loop) = AsyncClient::new(options, 10);
    client.subscribe("tidegate/#", QoS::AtLeastOnce).await.unwrap();
    let mut ready = Some(ready);
    let mut seen: BTreeSet<Identity> = BTreeSet::new();
    let mut next = [1; 2];
    let mut duplicates = 0;
    while next != [records + 1; 2] {
        match event_loop.poll().await.unwrap() {
            Event::Incoming(Packet::SubAck(_)) => ready.take().unwrap().send(()).unwrap(),
            Event::Incoming(Packet::Publish(publish)) => {
                let headers = publish.properties.unwrap().user_properties;
                let headers = headers.iter().map(|(name, value)| (&name[..], &value[..]));
                let envelope = Envelope::parse(headers).unwrap();
                assert_eq!(publish.topic, format!("tidegate/gw/{}", envelope.stream));
                assert_eq!(envelope.user, [("unit", "°C")]);
                if !seen.insert(envelope.identity()) {
                    duplicates += 1;
                    continue;
                }
                let lane = STREAMS.iter().position(|name| *name == envelope.stream).unwrap();
                assert_eq!(envelope.seq.0, next[lane], "first arrivals are in order");
                assert_eq!(publish.payload, format!("{lane}-{}", envelope.seq.0));
                next[lane] += 1;
            }
            _ => {}
        }
    }
    duplicates
}

async fn survives(fault: Fault) {
    const RECORDS: u64 = 1_000;
    let name = format!("{fault:?}");
    let Some(mosquitto) = Mosquitto::start(&name, |_| Some(String::new())).await else { return };
    let (port, switch) = proxy(mosquitto.port, fault).await;
    let (ready, subscribed) = tokio::sync::oneshot::channel();
    let consumer = tokio::task::spawn_local(consume(mosquitto.port, RECORDS, ready));
    subscribed.await.unwrap();

    let options = UplinkOptions { ack_timeout: Duration::from_secs(1), ..Default::default() };
    let mut gate = Gate::new(target(port), options, RECORDS);
    for faults in 1..=2 {
        gate.run(|gate| gate.cursors[0] > faults * 300).await;
        assert!(!gate.is_done());
        switch.send_modify(|count| *count += 1);
    }
    gate.run(Gate::is_done).await;
    let duplicates = tokio::time::timeout(PATIENCE, consumer).await.unwrap().unwrap();
    let status = gate.uplink.status();
    // At least: on a machine busy elsewhere a link may also seem dead that is not.
    assert!(status.connections >= 3 && gate.disconnects.len() >= 2, "{status:?}");
    assert!(duplicates <= status.sent - 2 * RECORDS, "{duplicates} {status:?}");
    let expected = match fault {
        Fault::Cut => "127.0.0.1",
        Fault::Freeze => "nothing acknowledged for 1s",
    };
    assert!(gate.disconnects.iter().all(|why| why.contains(expected)), "{:?}", gate.disconnects);
}

#[test]
fn every_record_arrives_in_order_although_the_link_is_cut_twice() {
    on_side_thread(survives(Fault::Cut));
}

#[test]
fn every_record_arrives_in_order_although_the_link_dies_silently_twice() {
    on_side_thread(survives(Fault::Freeze));
}

#[test]
fn tls_stands_with_the_right_authority_and_fails_with_another() {
    on_side_thread(async {
        let certificates = |dir: &Path| {
            for name in ["server", "stranger"] {
                let (key, cert) = (format!("{name}.key"), format!("{name}.pem"));
                let made = Command::new("openssl")
                    .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"])
                    .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
                    .args(["-addext", "basicConstraints=critical,CA:FALSE"])
                    .arg("-keyout")
                    .arg(dir.join(key))
                    .arg("-out")
                    .arg(dir.join(cert))
                    .output();
                if !made.is_ok_and(|made| made.status.success()) {
                    eprintln!("skipped: openssl is not installed (apt-get install openssl)");
                    return None;
                }
            }
            let (cert, key) = (dir.join("server.pem"), dir.join("server.key"));
            Some(format!("certfile {}\nkeyfile {}\n", cert.display(), key.display()))
        };
        let Some(mosquitto) = Mosquitto::start("tls", certificates).await else { return };
        let target = |authority: &str| {
            let url = format!("mqtts://localhost:{}", mosquitto.port);
            let ca_file = Some(mosquitto.dir.join(authority));
            let tls = TlsFiles { ca_file, ..TlsFiles::default() };
            let options = TargetOptions { tls, ..TargetOptions::default() };
            MqttTarget::parse("gw", "up", &url, options).unwrap()
        };
        let why = Driver::start(target("stranger.pem")).failure(1).await;
        assert!(why.starts_with("TLS with localhost") && why.contains("certificate"), "{why}");
        let mut gate = Gate::new(target("server.pem"), UplinkOptions::default(), 50);
        gate.run(Gate::is_done).await;
        assert_eq!(gate.disconnects, [""; 0]);
    });
}
