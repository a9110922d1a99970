//! Where an MQTT uplink goes: read once from the configuration, with every mistake reported.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tidegate_uplink::BodyFormat;
pub use tidegate_uplink::mqtt::Version;
use tidegate_uplink::mqtt::{ClientOptions, MAX_PACKET, MAX_TEXT};

use super::super::tls::{Authorities, client_config};
use super::super::url::{Scheme, Shape, Url, masked};
use super::super::{TargetError, TlsFiles};

/// What an MQTT upstream's URL looks like.
const SHAPE: Shape = Shape {
    schemes: &[
        Scheme { name: "mqtt", tls: false, port: 1883 },
        Scheme { name: "mqtts", tls: true, port: 8883 },
    ],
    path: false,
    example: "write \"mqtt://HOST:PORT\" or \"mqtts://USER:PASSWORD@HOST:PORT\"",
};

/// Shorter ones mostly cost traffic.
const MIN_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The field in CONNECT has 16 bits of seconds.
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(65_535);
/// Smallest Maximum Packet Size worth announcing.
const MIN_PACKET: u32 = 1_024;

/// The settings of one MQTT uplink besides its URL.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Certificates and keys, with `mqtts`.
    pub tls: TlsFiles,
    /// Time without traffic after which the server is asked whether it is there. Default 30 s.
    pub keep_alive: Duration,
    /// Time for name resolution, TCP, TLS and the answer to CONNECT together. Default 10 s.
    pub connect_timeout: Duration,
    /// Largest packet taken from the server, in bytes; announced to it. Default 256 KiB.
    pub max_packet: u32,
    /// Messages in flight: the uplink core's window. Default 100.
    pub window: usize,
    /// Version of the protocol. Default 5.
    pub version: Version,
    /// How the records of a batch are written into one message; `None`: one record a message,
    /// with MQTT 5 only (with 3.1.1 that means NDJSON). Default `None`.
    pub packing: Option<BodyFormat>,
    /// Largest packet sent, where the server does not say; `None`: what MQTT can express.
    pub max_message: Option<u32>,
}

impl Default for TargetOptions {
    fn default() -> TargetOptions {
        TargetOptions {
            tls: TlsFiles::default(),
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            max_packet: 256 * 1024,
            window: 100,
            version: Version::V5,
            packing: None,
            max_message: None,
        }
    }
}

/// A server, and how to log in there. Shows itself without the password.
#[derive(Clone)]
pub struct MqttTarget {
    url: Url,
    tls: Option<Arc<ClientConfig>>,
    gateway: String,
    client_id: String,
    options: TargetOptions,
}

impl MqttTarget {
    /// Reads `mqtt://[user[:password]@]host[:port]` or `mqtts://...`, and the files that the
    /// options name. `gateway` and `uplink` give the client id `tidegate-{gateway}-{uplink}`.
    ///
    /// # Errors
    /// All mistakes, each with its key and value.
    pub fn parse(
        gateway: &str,
        uplink: &str,
        url: &str,
        options: TargetOptions,
    ) -> Result<MqttTarget, Vec<TargetError>> {
        let mut mistakes = Vec::new();
        check_ranges(&options, &mut mistakes);
        let url = match Url::parse(url, &SHAPE) {
            Ok(url) => url,
            Err(why) => {
                mistakes.push(TargetError { key: "url", value: masked(url), why, later: false });
                return Err(mistakes);
            }
        };
        let login = url.login.iter().flat_map(|(user, password)| [user, password]);
        if login.into_iter().any(|text| text.len() > MAX_TEXT) {
            let why = format!("user name and password may have {MAX_TEXT} bytes each in MQTT");
            mistakes.push(TargetError { key: "url", value: url.to_string(), why, later: false });
        }
        let tls = if url.scheme.tls {
            if url.host.starts_with('[') {
                let why = "mqtts needs a host name or an IPv4 address, not an IPv6 address";
                let (value, why) = (url.to_string(), why.to_owned());
                mistakes.push(TargetError { key: "url", value, why, later: false });
                return Err(mistakes);
            }
            client_config("mqtts", &url.host, &options.tls, Authorities::Named, &mut mistakes)
        } else {
            options.tls.refuse("mqtt", "mqtts", &mut mistakes);
            None
        };
        if mistakes.is_empty() {
            let client_id = format!("tidegate-{gateway}-{uplink}");
            Ok(MqttTarget { url, tls, gateway: gateway.to_owned(), client_id, options })
        } else {
            Err(mistakes)
        }
    }

    /// `host:port`, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.url.host, self.url.port)
    }

    /// The host without the brackets of an IPv6 address, and the port.
    pub(super) fn host_and_port(&self) -> (&str, u16) {
        let host = &*self.url.host;
        let inside = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        (inside.unwrap_or(host), self.url.port)
    }

    pub(super) fn tls(&self) -> Option<Arc<ClientConfig>> {
        self.tls.clone()
    }

    pub(super) fn version(&self) -> Version {
        self.options.version
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.options.connect_timeout
    }

    pub(super) fn keep_alive(&self) -> Duration {
        self.options.keep_alive
    }

    /// What one connection is like.
    pub(super) fn client_options(&self) -> ClientOptions {
        ClientOptions {
            version: self.options.version,
            gateway: self.gateway.clone(),
            client_id: self.client_id.clone(),
            login: self.url.login.clone(),
            keep_alive: self.options.keep_alive,
            max_packet: self.options.max_packet,
            max_message: self.options.max_message,
            packet_ids: self.packet_ids(),
            packing: self.options.packing,
        }
    }

    /// Packet ids go round at this limit. Twice the window, so that an acknowledgement which comes
    /// twice does not meet the next message; not more, because each has a place in memory.
    fn packet_ids(&self) -> u16 {
        self.options.window.saturating_mul(2).clamp(16, 4_096) as u16
    }
}

impl fmt::Display for MqttTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for MqttTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MqttTarget({self}, {})", self.client_id)
    }
}

fn check_ranges(options: &TargetOptions, mistakes: &mut Vec<TargetError>) {
    if !(MIN_KEEP_ALIVE..=MAX_KEEP_ALIVE).contains(&options.keep_alive) {
        let why = "allowed: 5s to 65535s".to_owned();
        let value = format!("{:?}", options.keep_alive);
        mistakes.push(TargetError { key: "keep_alive", value, why, later: false });
    }
    if !(MIN_PACKET..=MAX_PACKET).contains(&options.max_packet) {
        let why = format!("allowed: {MIN_PACKET} to {MAX_PACKET} bytes");
        let value = options.max_packet.to_string();
        mistakes.push(TargetError { key: "max_packet", value, why, later: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<MqttTarget, Vec<TargetError>> {
        MqttTarget::parse("gw-01", "cloud", url, TargetOptions::default())
    }

    #[test]
    fn urls_are_read_with_their_default_ports_and_decoded_logins() {
        let accepted = [
            ("mqtt://127.0.0.1:18830", "mqtt://127.0.0.1:18830", None),
            ("mqtt://cloud.example/", "mqtt://cloud.example:1883", None),
            ("mqtt://[::1]:9", "mqtt://[::1]:9", None),
            ("mqtt://[::1]", "mqtt://[::1]:1883", None),
            ("mqtt://bob@h", "mqtt://bob:***@h:1883", Some(("bob", ""))),
            ("mqtt://bob:a@b:c@h", "mqtt://bob:***@h:1883", Some(("bob", "a@b:c"))),
            ("mqtt://b%40b:%2f%C3%BC@h:1", "mqtt://b@b:***@h:1", Some(("b@b", "/ü"))),
        ];
        for (text, shown, login) in accepted {
            let target = parse(text).unwrap();
            assert_eq!(target.to_string(), shown);
            assert_eq!(target.client_id, "tidegate-gw-01-cloud");
            let found = target.url.login.as_ref().map(|(user, word)| (&user[..], &word[..]));
            assert_eq!(found, login, "{text}");
        }
    }

    #[test]
    fn wrong_urls_are_refused_and_no_password_is_shown() {
        let refused = [
            ("cloud.example", "has no scheme"),
            ("amqp://h", "is not mqtt or mqtts"),
            ("mqtt://", "is no host name"),
            ("mqtt://h:0", "is no port"),
            ("mqtt://h:65536", "is no port"),
            ("mqtt://h:1/topic", "must end after the port"),
            ("mqtt://h?x=1", "must not have a ?"),
            ("mqtt://[::1", "without its ]"),
            ("mqtt://[::1]1883", "after ]"),
            ("mqtt://[nonsense]", "is no IPv6 address"),
            ("mqtt://::1", "is no host name"),
            ("mqtts://[::1]", "not an IPv6 address"),
            ("mqtt://u:secret@h:x", "is no port"),
            ("amqp://u:secret@h", "is not mqtt or mqtts"),
            ("u:secret@h", "has no scheme"),
            ("mqtt://u:secret%@h", "the password has a %"),
            ("mqtt://u:secret%zz@h", "the password has a %"),
            ("mqtt://u:secret%+1@h", "the password has a %"),
            ("mqtt://u%00:secret@h", "the user name has a %"),
            ("mqtt://:secret@h", "empty user name"),
            ("mqtt://ho st", "is no host name"),
        ];
        for (text, why) in refused {
            let mistakes = parse(text).unwrap_err();
            assert_eq!(mistakes.len(), 1, "{text}");
            let shown = mistakes[0].to_string();
            assert!(shown.starts_with("url = ") && shown.contains(why), "{text}: {shown}");
            assert!(!shown.contains("secret"), "{shown}");
        }
        let shown = format!("{:?}", parse("mqtt://u:secret@h").unwrap());
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let options = TargetOptions {
            tls: TlsFiles { cert_file: Some("/nowhere/cert.pem".into()), ..TlsFiles::default() },
            keep_alive: Duration::from_secs(4),
            max_packet: 10,
            ..TargetOptions::default()
        };
        let mistakes = MqttTarget::parse("gw", "up", "mqtts://cloud.example", options.clone());
        let keys: Vec<_> = mistakes.unwrap_err().iter().map(|mistake| mistake.key).collect();
        assert_eq!(keys, ["keep_alive", "max_packet", "ca_file", "cert_file"]);
        let mistakes = MqttTarget::parse("gw", "up", "mqtt://cloud.example", options);
        let keys: Vec<_> = mistakes.unwrap_err().iter().map(|mistake| mistake.key).collect();
        assert_eq!(keys, ["keep_alive", "max_packet", "cert_file"]);
    }

    #[test]
    fn unreadable_authorities_are_named() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        for (file, why) in [("/nowhere/ca.pem", "cannot be read"), (file, "no certificate")] {
            let tls = TlsFiles { ca_file: Some(file.into()), ..TlsFiles::default() };
            let options = TargetOptions { tls, ..TargetOptions::default() };
            let mistakes = MqttTarget::parse("gw", "up", "mqtts://h", options).unwrap_err();
            let shown = mistakes[0].to_string();
            assert!(shown.contains("ca_file") && shown.contains(file), "{shown}");
            assert!(shown.contains(why), "{shown}");
        }
    }
}
