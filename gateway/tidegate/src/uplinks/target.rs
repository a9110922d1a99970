//! Where an MQTT uplink goes: read once from the configuration, with every mistake reported.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::v5::MqttOptions;
use rumqttc::{TlsConfiguration, Transport};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// rumqttc refuses shorter ones; shorter ones also mostly cost traffic.
const MIN_KEEP_ALIVE: Duration = Duration::from_secs(5);
/// The field in CONNECT has 16 bits of seconds.
const MAX_KEEP_ALIVE: Duration = Duration::from_secs(65_535);
/// Smallest Maximum Packet Size worth announcing.
const MIN_PACKET: u32 = 1_024;
/// Largest packet that MQTT can express.
pub(super) const MAX_PACKET: u32 = 268_435_455;
/// Longest host name in DNS.
const MAX_HOST: usize = 253;

/// The settings of one MQTT uplink besides its URL.
#[derive(Clone, Debug)]
pub struct TargetOptions {
    /// Certificates (PEM) of the authorities that may have signed the server's; needed with
    /// `mqtts`.
    pub ca_file: Option<PathBuf>,
    /// Our own certificate chain (PEM), for servers that ask for one.
    pub cert_file: Option<PathBuf>,
    /// The private key (PEM) of `cert_file`.
    pub key_file: Option<PathBuf>,
    /// Time without traffic after which the server is asked whether it is there. Default 30 s.
    pub keep_alive: Duration,
    /// Time for name resolution, TCP, TLS and the answer to CONNECT, rounded up to seconds.
    /// Default 10 s.
    pub connect_timeout: Duration,
    /// Largest packet taken from the server, in bytes; announced to it. Default 256 KiB.
    pub max_packet: u32,
    /// Messages in flight: the uplink core's window. Default 100.
    pub window: usize,
}

impl Default for TargetOptions {
    fn default() -> TargetOptions {
        TargetOptions {
            ca_file: None,
            cert_file: None,
            key_file: None,
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            max_packet: 256 * 1024,
            window: 100,
        }
    }
}

/// One mistake in the settings of an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError {
    /// Key below `[uplink.NAME]`.
    pub key: &'static str,
    /// Its value, passwords masked.
    pub value: String,
    /// What is wrong, and what is allowed.
    pub why: String,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = \"{}\": {}", self.key, self.value, self.why)
    }
}

impl std::error::Error for TargetError {}

/// A server, and how to log in there. Shows itself without the password.
#[derive(Clone)]
pub struct MqttTarget {
    url: Url,
    tls: Option<Arc<ClientConfig>>,
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
        let url = match Url::parse(url) {
            Ok(url) => url,
            Err(why) => {
                mistakes.push(TargetError { key: "url", value: masked(url), why });
                return Err(mistakes);
            }
        };
        let tls = if url.tls {
            client_config(&url, &options, &mut mistakes)
        } else {
            refuse_files(&options, &mut mistakes);
            None
        };
        if mistakes.is_empty() {
            let client_id = format!("tidegate-{gateway}-{uplink}");
            Ok(MqttTarget { url, tls, client_id, options })
        } else {
            Err(mistakes)
        }
    }

    /// `host:port`, for messages.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.url.host, self.url.port)
    }

    pub(super) fn window(&self) -> usize {
        self.options.window
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.options.connect_timeout
    }

    pub(super) fn keep_alive(&self) -> Duration {
        self.options.keep_alive
    }

    /// Options for one connection: clean start, nothing carried over from an earlier one.
    pub(super) fn mqtt_options(&self) -> MqttOptions {
        let mut mqtt = MqttOptions::new(&self.client_id, &self.url.host, self.url.port);
        mqtt.set_keep_alive(self.options.keep_alive);
        mqtt.set_clean_start(true);
        let seconds = self.options.connect_timeout.as_millis().div_ceil(1_000).max(1);
        mqtt.set_connection_timeout(u64::try_from(seconds).unwrap_or(u64::MAX));
        mqtt.set_max_packet_size(Some(self.options.max_packet));
        // Packet ids go round at this limit. Twice the window, so that one late acknowledgement
        // does not hold up the next round; not more, because a slot each is allocated.
        let in_flight = self.options.window.saturating_mul(2).clamp(16, 4_096);
        mqtt.set_outgoing_inflight_upper_limit(in_flight as u16);
        if let Some((user, password)) = &self.url.login {
            mqtt.set_credentials(user, password);
        }
        if let Some(tls) = &self.tls {
            let config = TlsConfiguration::Rustls(Arc::clone(tls));
            mqtt.set_transport(Transport::tls_with_config(config));
        }
        mqtt
    }
}

impl fmt::Display for MqttTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Url { tls, login, host, port } = &self.url;
        let scheme = if *tls { "mqtts" } else { "mqtt" };
        match login {
            None => write!(f, "{scheme}://{host}:{port}"),
            Some((user, _)) => write!(f, "{scheme}://{user}:***@{host}:{port}"),
        }
    }
}

impl fmt::Debug for MqttTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MqttTarget({self}, {})", self.client_id)
    }
}

/// The parts of the URL, percent-decoded where that applies.
#[derive(Clone, PartialEq, Eq)]
struct Url {
    tls: bool,
    login: Option<(String, String)>,
    /// With brackets when it is an IPv6 address.
    host: String,
    port: u16,
}

const SHAPE: &str = "write \"mqtt://HOST:PORT\" or \"mqtts://USER:PASSWORD@HOST:PORT\"";

impl Url {
    fn parse(text: &str) -> Result<Url, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("has no scheme; {SHAPE}"));
        };
        let tls = match scheme {
            "mqtt" => false,
            "mqtts" => true,
            _ => return Err(format!("scheme \"{scheme}\" is not mqtt or mqtts; {SHAPE}")),
        };
        let (login, rest) = match rest.rsplit_once('@') {
            None => (None, rest),
            Some((login, rest)) => (Some(parse_login(login)?), rest),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(format!("must end after the port; {SHAPE}"));
        }
        let (host, port) = split_host(rest)?;
        if tls && host.starts_with('[') {
            return Err("mqtts needs a host name or an IPv4 address, not an IPv6 address".into());
        }
        let port = match port {
            None if tls => 8883,
            None => 1883,
            Some(port) => match port.parse::<u16>() {
                Ok(0) | Err(_) => {
                    return Err(format!("\"{port}\" is no port; allowed: 1 to 65535"));
                }
                Ok(port) => port,
            },
        };
        Ok(Url { tls, login, host: host.to_owned(), port })
    }
}

fn split_host(rest: &str) -> Result<(&str, Option<&str>), String> {
    if rest.starts_with('[') {
        let end = rest.find(']').ok_or("has a [ without its ]")?;
        let (host, after) = rest.split_at(end + 1);
        let address = &host[1..end];
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(format!("\"{address}\" is no IPv6 address"));
        }
        return match after.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if after.is_empty() => Ok((host, None)),
            None => Err("write the port after ]: \"mqtt://[::1]:1883\"".to_owned()),
        };
    }
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let fits = (1..=MAX_HOST).contains(&host.len());
    if fits && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)) {
        Ok((host, port))
    } else {
        Err(format!("\"{host}\" is no host name or address"))
    }
}

/// User and password lie in the URL with `%XX` for what would end them early.
fn parse_login(login: &str) -> Result<(String, String), String> {
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let decode = |text: &str, what: &str| {
        percent_decoded(text)
            .filter(|decoded| decoded.len() <= usize::from(u16::MAX))
            .ok_or_else(|| format!("the {what} has a % that is not %XX, or is no text"))
    };
    if user.is_empty() {
        return Err("has an empty user name before the @".to_owned());
    }
    Ok((decode(user, "user name")?, decode(password, "password")?))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let (digits, after) = rest.split_at_checked(2)?;
            let digits = str::from_utf8(digits).ok().filter(|d| !d.starts_with('+'))?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = after;
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// The URL as it may be shown: whatever stands between scheme and `@` after a colon is hidden,
/// also when the URL is wrong elsewhere.
fn masked(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    match rest.rsplit_once('@') {
        None => url.to_owned(),
        Some((login, host)) => {
            let user = login.split_once(':').map_or(login, |(user, _)| user);
            format!("{scheme}{user}:***@{host}")
        }
    }
}

fn check_ranges(options: &TargetOptions, mistakes: &mut Vec<TargetError>) {
    if !(MIN_KEEP_ALIVE..=MAX_KEEP_ALIVE).contains(&options.keep_alive) {
        let why = "allowed: 5s to 65535s".to_owned();
        let value = format!("{:?}", options.keep_alive);
        mistakes.push(TargetError { key: "keep_alive", value, why });
    }
    if !(MIN_PACKET..=MAX_PACKET).contains(&options.max_packet) {
        let why = format!("allowed: {MIN_PACKET} to {MAX_PACKET} bytes");
        let value = options.max_packet.to_string();
        mistakes.push(TargetError { key: "max_packet", value, why });
    }
}

fn refuse_files(options: &TargetOptions, mistakes: &mut Vec<TargetError>) {
    let files = [
        ("ca_file", &options.ca_file),
        ("cert_file", &options.cert_file),
        ("key_file", &options.key_file),
    ];
    for (key, file) in files {
        if let Some(file) = file {
            let why = "has no use with mqtt://; write mqtts:// or leave it out".to_owned();
            mistakes.push(TargetError { key, value: file.display().to_string(), why });
        }
    }
}

fn client_config(
    url: &Url,
    options: &TargetOptions,
    mistakes: &mut Vec<TargetError>,
) -> Option<Arc<ClientConfig>> {
    let roots = match &options.ca_file {
        Some(file) => roots(file).map_err(|mistake| mistakes.push(mistake)).ok(),
        None => {
            let why = format!(
                "is needed with mqtts://: a PEM file with the certificate of the authority that \
                 signed the one of {} (for a public one, often \
                 /etc/ssl/certs/ca-certificates.crt)",
                url.host
            );
            mistakes.push(TargetError { key: "ca_file", value: String::new(), why });
            None
        }
    };
    let identity = match (&options.cert_file, &options.key_file) {
        (None, None) => None,
        (Some(cert), Some(key)) => match (certificates("cert_file", cert), private_key(key)) {
            (Ok(cert), Ok(key)) => Some((cert, key)),
            (cert, key) => {
                mistakes.extend(cert.err());
                mistakes.extend(key.err());
                return None;
            }
        },
        (Some(file), None) | (None, Some(file)) => {
            let key = if options.key_file.is_none() { "cert_file" } else { "key_file" };
            let why = "give cert_file and key_file, or neither".to_owned();
            mistakes.push(TargetError { key, value: file.display().to_string(), why });
            return None;
        }
    };
    let roots = roots?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_root_certificates(roots))
        .and_then(|builder| match identity {
            None => Ok(builder.with_no_client_auth()),
            Some((cert, key)) => builder.with_client_auth_cert(cert, key),
        });
    match config {
        Ok(config) => Some(Arc::new(config)),
        Err(error) => {
            let value = shown(options.cert_file.as_deref());
            let why = format!("cannot be used for TLS: {error}");
            mistakes.push(TargetError { key: "cert_file", value, why });
            None
        }
    }
}

fn roots(file: &Path) -> Result<RootCertStore, TargetError> {
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(certificates("ca_file", file)?);
    if usable > 0 {
        Ok(roots)
    } else {
        let why = "holds no usable certificate".to_owned();
        Err(TargetError { key: "ca_file", value: file.display().to_string(), why })
    }
}

fn certificates(
    key: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, TargetError> {
    let wrong = |why: String| TargetError { key, value: file.display().to_string(), why };
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(format!("cannot be read as PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong("holds no certificate (no -----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(found)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, TargetError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| TargetError {
        key: "key_file",
        value: file.display().to_string(),
        why: format!("holds no private key that can be read: {error}"),
    })
}

fn shown(file: Option<&Path>) -> String {
    file.map(|file| file.display().to_string()).unwrap_or_default()
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
            ("mqtt://h?x=1", "must end after the port"),
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
            cert_file: Some("/nowhere/cert.pem".into()),
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
            let options = TargetOptions { ca_file: Some(file.into()), ..Default::default() };
            let mistakes = MqttTarget::parse("gw", "up", "mqtts://h", options).unwrap_err();
            let shown = mistakes[0].to_string();
            assert!(shown.contains("ca_file") && shown.contains(file), "{shown}");
            assert!(shown.contains(why), "{shown}");
        }
    }
}
