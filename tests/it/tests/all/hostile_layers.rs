//! Hostile peers where clients come in through TLS, WebSocket or both: what they send is refused
//! as over plain TCP, and they come to read why; what breaks a layer is refused in its own words;
//! handshakes that are none or take too long end, and memory stays bounded.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tidegate_rig::gateway::Gateway;
use tidegate_rig::ports;
use tidegate_rig::scratch::Scratch;

use crate::binaries;
use crate::hostile::{
    ANSWER, CONNECT_TIMEOUT, GoodClient, MAX_RSS, connect_as, malformed, peak_rss, publish,
    round_of_a_new_client,
};
use crate::security::openssl;
use crate::setup::{beside_others, explain};

const UPGRADE: &str = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
/// Between two bytes of a peer that sends one at a time. The timeout is for the whole, so a second
/// would show the same and take longer.
const DRIP: Duration = Duration::from_millis(150);

/// How a client comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Tcp,
    Tls,
    WebSocket,
    SecureWebSocket,
}

const WAYS: [Way; 4] = [Way::Tcp, Way::Tls, Way::WebSocket, Way::SecureWebSocket];

impl Way {
    fn tls(self) -> bool {
        matches!(self, Way::Tls | Way::SecureWebSocket)
    }

    fn websocket(self) -> bool {
        matches!(self, Way::WebSocket | Way::SecureWebSocket)
    }
}

/// A gateway with a listener for each way.
struct House {
    gateway: Gateway,
    addresses: Vec<SocketAddr>,
    clients: Arc<ClientConfig>,
}

impl House {
    fn start() -> House {
        let scratch = Scratch::new("layers").unwrap();
        openssl(scratch.path(), "authority ca; issue ca server '-days 30'");
        let clients = client_config(scratch.path());
        let ports: Vec<SocketAddr> = (0..3).map(|_| ports::free().unwrap()).collect();
        let (tls, websocket, secure) = (ports[0], ports[1], ports[2]);
        let timeout = CONNECT_TIMEOUT.as_secs();
        let config = format!(
            r#"[gateway]
id = "gw-it"
data_dir = "{{data}}"

[mqtt]
listen = "{{mqtt}}"
allow_anonymous = true
connect_timeout = "{timeout}s"

[mqtt.listener.tls]
listen = "{tls}"
tls = true

[mqtt.listener.browser]
listen = "{websocket}"
websocket = "/mqtt"

[mqtt.listener.secure-browser]
listen = "{secure}"
tls = true
websocket = "/mqtt"

[mqtt.tls]
cert_file = "server.pem"
key_file = "server.key"

[http]
listen = "{{http}}"
"#
        );
        let mut gateway = Gateway::new(&binaries::tidegate(), scratch, &config).unwrap();
        gateway.start().unwrap();
        let addresses = vec![gateway.mqtt(), tls, websocket, secure];
        House { gateway, addresses, clients }
    }

    fn address(&self, way: Way) -> SocketAddr {
        self.addresses[WAYS.iter().position(|one| *one == way).unwrap()]
    }

    /// A connection up to where MQTT begins.
    fn enter(&self, way: Way) -> Peer {
        let mut peer = Peer { stream: self.layer(way), way, raw: Vec::new() };
        if way.websocket() {
            peer.stream.write_all(UPGRADE.as_bytes()).unwrap();
            let mut response = Vec::new();
            while !response.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                peer.stream.read_exact(&mut byte).unwrap();
                response.push(byte[0]);
            }
            assert!(response.starts_with(b"HTTP/1.1 101"));
        }
        peer
    }

    /// A connection as far as TLS, where there is any.
    fn layer(&self, way: Way) -> Box<dyn Stream> {
        let socket = connect(self.address(way));
        if !way.tls() {
            return Box::new(socket);
        }
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(self.clients.clone(), name).unwrap();
        Box::new(StreamOwned::new(tls, socket))
    }
}

fn client_config(directory: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(directory.join("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    Arc::new(config.with_root_certificates(roots).with_no_client_auth())
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(ANSWER)).unwrap();
    socket.set_write_timeout(Some(ANSWER)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

/// The other end of a connection.
struct Peer {
    stream: Box<dyn Stream>,
    way: Way,
    /// Bytes of frames that are not taken apart yet.
    raw: Vec<u8>,
}

impl Peer {
    /// Bytes of MQTT.
    fn say(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.way.websocket() {
            true => self.stream.write_all(&frame(0x82, bytes)),
            false => self.stream.write_all(bytes),
        }
    }

    /// All bytes of MQTT until the gateway closes, which it must, and without a reset.
    fn rest(mut self) -> Vec<u8> {
        self.raw = until_the_end(&mut *self.stream);
        if !self.way.websocket() {
            return self.raw;
        }
        let (mut bytes, mut raw) = (Vec::new(), self.raw.as_slice());
        while let [first, length, rest @ ..] = raw {
            let (length, rest) = match length {
                126 => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
                length => (usize::from(*length), rest),
            };
            if *first == 0x82 {
                bytes.extend_from_slice(&rest[..length]);
            }
            raw = &rest[length..];
        }
        bytes
    }
}

/// What comes until the gateway closes.
fn until_the_end(stream: &mut dyn Stream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => bytes,
        // Of TLS without its own goodbye.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => bytes,
        Err(error) => panic!("after {bytes:02x?}: {error}"),
    }
}

/// A masked frame; the mask is 0.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = match payload.len() {
        length @ 0..126 => vec![0x80 | length as u8],
        length => [&[0xFE][..], &u16::try_from(length).unwrap().to_be_bytes()].concat(),
    };
    [&[first][..], &length, &[0; 4], payload].concat()
}

#[test]
fn hostile_peers_behind_tls_and_websocket_are_refused_as_over_tcp() {
    let _machine = beside_others();
    let mut house = House::start();
    let good = GoodClient::start(house.address(Way::Tcp));

    for way in WAYS {
        malformed_packets(&house, way);
        half_a_packet(&house, way);
    }
    broken_frames(&house);
    floods_of_pings(&house);
    handshakes_that_are_none(&house);
    slow_and_silent_peers(&house);

    let (rounds, slowest) = good.end();
    assert!(house.gateway.exited().unwrap().is_none(), "{}", explain(&house.gateway));
    round_of_a_new_client(house.address(Way::Tcp));
    let log = fs::read_to_string(house.gateway.log_file()).unwrap();
    assert!(!log.contains("panicked"), "{log}");
    let peak = peak_rss(&house.gateway);
    println!(
        "a good client was served {rounds} times, at the slowest in {slowest:?}; \
         most memory of the gateway: {:.1} MB",
        peak as f64 / 1e6
    );
    assert!(peak < MAX_RSS, "{peak} bytes; {}", explain(&house.gateway));
}

/// Each gets its reason, even a client that goes on sending as if nothing were.
fn malformed_packets(house: &House, way: Way) {
    for (what, bytes, reason) in malformed() {
        let mut peer = house.enter(way);
        peer.say(&connect_as(5, 2, &[b"malformed"])).unwrap();
        peer.say(&bytes).unwrap();
        for _ in 0..10 {
            // It may be closed by now.
            let _ = peer.say(&[0; 4000]);
        }
        let answer = peer.rest();
        let (connack, goodbye) = answer.split_at(2 + usize::from(answer[1]));
        assert_eq!((connack[0], connack[3]), (0x20, 0), "{way:?}: {what}: {answer:02x?}");
        assert_eq!((goodbye[0], goodbye[2]), (0xE0, reason), "{way:?}: {what}: {answer:02x?}");
    }
}

fn half_a_packet(house: &House, way: Way) {
    for _ in 0..5 {
        let mut peer = house.enter(way);
        peer.say(&connect_as(5, 2, &[b"half"])).unwrap();
        peer.say(&publish(b"good/half", &[])[..9]).unwrap();
    }
    // Half a frame, or half a TLS record.
    let mut peer = house.enter(way);
    peer.stream.write_all(&frame(0x82, &connect_as(5, 2, &[b"half"]))[..7]).unwrap();
}

/// Frames that RFC 6455 does not allow, with the status of the close frame that answers.
fn broken_frames(house: &House) {
    let long = frame(0x89, &[0; 126]);
    let endless = [&[0x82, 0xFF][..], &[0xFF; 8], &[0; 4]].concat();
    let cases: [(&str, Vec<u8>, u16); 10] = [
        ("without mask", vec![0x82, 2, 0xC0, 0], 1002),
        ("a reserved bit", frame(0xC2, b""), 1002),
        ("a ping in pieces", frame(0x09, b""), 1002),
        ("a long ping", long, 1002),
        ("a continuation of nothing", frame(0x80, b""), 1002),
        ("a message within a message", [frame(0x02, b""), frame(0x82, b"")].concat(), 1002),
        ("an unknown frame", frame(0x83, b""), 1002),
        ("a frame without end", endless, 1002),
        ("text", frame(0x81, &[0xC0, 0]), 1003),
        ("the end", frame(0x88, &[0x03, 0xE8]), 1000),
    ];
    for way in [Way::WebSocket, Way::SecureWebSocket] {
        for (what, bytes, status) in &cases {
            let mut peer = house.enter(way);
            peer.stream.write_all(bytes).unwrap();
            let answer = until_the_end(&mut *peer.stream);
            let [high, low] = status.to_be_bytes();
            assert!(answer.starts_with(&[0x88, 2, high, low]), "{way:?}: {what}: {answer:02x?}");
        }
        // A length that is allowed, of a packet that is not.
        let mut peer = house.enter(way);
        let header = [&[0x82, 0xFF][..], &(1_u64 << 40).to_be_bytes(), &[0; 4]].concat();
        peer.stream.write_all(&header).unwrap();
        let _ = peer.stream.write_all(&[0; 100_000]);
        let answer = until_the_end(&mut *peer.stream);
        assert!(answer.starts_with(&[0x88, 2]), "{way:?}: {answer:02x?}");
    }
}

/// Pings of a client that reads nothing: no more pongs wait than fit into a few kilobytes.
fn floods_of_pings(house: &House) {
    let pings = frame(0x89, &[0; 125]).repeat(100);
    for way in [Way::WebSocket, Way::SecureWebSocket] {
        let mut peer = house.enter(way);
        let mut sent = 0;
        while sent < 64 * 1024 * 1024 && peer.stream.write_all(&pings).is_ok() {
            sent += pings.len();
        }
        println!("{way:?}: closed after {:.1} MB of pings", sent as f64 / 1e6);
        assert!(sent < 64 * 1024 * 1024, "{way:?}: nobody minds {sent} bytes of pings");
    }
}

/// Whatever it is, the connection ends, and nothing of it is taken for MQTT.
fn handshakes_that_are_none(house: &House) {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let header = format!("{}X: {}\r\n", &UPGRADE[..UPGRADE.len() - 2], "x".repeat(1_000_000));
    let mqtt = connect_as(5, 2, &[b"plain"]);
    for way in [Way::Tls, Way::WebSocket, Way::SecureWebSocket] {
        let cases: [(&str, &[u8]); 6] = [
            ("MQTT as it is", &mqtt),
            ("zeros", &[0; 20_000]),
            ("a cut TLS hello and more", &[&hello[..], &[0xAA; 9000]].concat()),
            ("a TLS record of 64 KiB", &[&b"\x16\x03\x03\xff\xff"[..], &[1; 65_535]].concat()),
            ("another path", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
            ("a header of 1 MB", header.as_bytes()),
        ];
        for (what, bytes) in cases {
            let mut socket = connect(house.address(way));
            // It may close before it has read all, and then it resets.
            let _ = socket.write_all(bytes);
            let mut answer = Vec::new();
            if let Err(error) = socket.read_to_end(&mut answer) {
                let reset = error.kind() == ErrorKind::ConnectionReset;
                assert!(reset, "{way:?}: {what}: {error} after {answer:02x?}");
            }
            assert_ne!(answer.first(), Some(&0x20), "{way:?}: {what}");
            assert!(!answer.starts_with(b"HTTP/1.1 101"), "{way:?}: {what}");
        }
    }
}

/// At each stage of coming in there is a timeout, for those that say nothing and for those that
/// say a byte now and then.
fn slow_and_silent_peers(house: &House) {
    let stages = |way: Way| -> Vec<(Box<dyn Stream>, Vec<u8>)> {
        let mut stages: Vec<(Box<dyn Stream>, Vec<u8>)> =
            vec![(Box::new(connect(house.address(way))), b"\x16\x03\x01\x02\x00\x01".repeat(9))];
        if way.websocket() {
            stages.push((house.layer(way), UPGRADE.as_bytes().to_vec()));
        }
        stages.push((house.enter(way).stream, frame(0x82, &connect_as(4, 2, &[&[b's'; 100]]))));
        stages
    };
    let mut peers = Vec::new();
    for way in [Way::Tls, Way::WebSocket, Way::SecureWebSocket] {
        for (stream, _) in stages(way) {
            peers.push(thread::spawn(move || until_closed(stream, &[])));
        }
        for (stream, bytes) in stages(way) {
            peers.push(thread::spawn(move || until_closed(stream, &bytes)));
        }
    }
    for peer in peers {
        let took = peer.join().unwrap();
        // Two stages at most, each with a timeout of its own, and the time to read why.
        assert!(took < ANSWER, "still there after {took:?}");
    }
}

/// Says `bytes` one at a time until the connection ends; how long that took.
fn until_closed(mut stream: Box<dyn Stream>, bytes: &[u8]) -> Duration {
    let start = Instant::now();
    for byte in bytes {
        if stream.write_all(&[*byte]).and_then(|()| stream.flush()).is_err() {
            return start.elapsed();
        }
        if start.elapsed() > 3 * CONNECT_TIMEOUT {
            break;
        }
        thread::sleep(DRIP);
    }
    let _ = stream.read_to_end(&mut Vec::new());
    start.elapsed()
}
