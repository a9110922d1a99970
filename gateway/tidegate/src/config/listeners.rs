//! Where clients come in: `[mqtt] listen` and `[mqtt.listener.NAME]`.

use std::net::{IpAddr, SocketAddr};

use toml::de::DeValue;

use super::acl::words;
use super::document::{Section, Spot};
use super::keys::{Key, Kind, listener, mqtt};
use super::mistakes::Mistakes;
use super::sections::{Reader, check_name, list, listen_addresses};
use super::value::expected;

/// The listener that `[mqtt] listen` stands for.
pub(crate) const PLAIN: &str = "mqtt";

/// Most listeners of one gateway.
const MAX_LISTENERS: usize = 16;

/// Where clients come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerSettings {
    /// NAME, or `mqtt` for `[mqtt] listen`.
    pub name: String,
    /// At least one address.
    pub listen: Vec<SocketAddr>,
    /// With TLS.
    pub tls: bool,
    /// In WebSocket, at this path.
    pub websocket: Option<String>,
    /// Pages that may open it, beside those of the listener's own host and port; `*` for all.
    pub origins: Vec<String>,
    /// Proxies whose connections begin with a PROXY header.
    pub proxy_from: Vec<IpAddr>,
    /// Clients without a login are let in.
    pub allow_anonymous: bool,
    /// A client's identifier must be its user name.
    pub client_id_is_username: bool,
}

/// Reads the listeners.
pub(super) struct Listeners<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) mqtt: &'a Section<'a>,
    pub(super) has_login: bool,
    pub(super) has_tls: bool,
}

impl Listeners<'_> {
    pub(super) fn read(&self, out: &mut Mistakes) -> Vec<ListenerSettings> {
        let (source, root) = (self.reader.source, self.reader.root);
        let named = Section::several(source, root, &listener::SECTION, out);
        let mut taken: Vec<SocketAddr> = Vec::new();
        let mut found = Vec::new();
        if named.is_empty() || self.mqtt.spot(&mqtt::LISTEN).is_some() {
            found.push(self.plain(&mut taken, out));
        }
        for (name, section) in &named {
            check_name(name, section, found.len(), MAX_LISTENERS, out);
            if *name == PLAIN {
                let why = "the name is reserved for [mqtt] listen; choose another name";
                section.wrong(out, why);
            }
            found.push(self.named(name, section, &mut taken, out));
        }
        found
    }

    /// `[mqtt] listen`
    fn plain(&self, taken: &mut Vec<SocketAddr>, out: &mut Mistakes) -> ListenerSettings {
        let explicit = self.mqtt.flag_if_set(&mqtt::ALLOW_ANONYMOUS, out);
        let listen = match self.mqtt.spot(&mqtt::LISTEN) {
            Some(spot) => {
                let check = |spot: &Spot<'_>, address, out: &mut Mistakes| {
                    self.refuse_open(spot, address, explicit, "[mqtt]", out);
                };
                listen_addresses(&spot, &mqtt::LISTEN, taken, check, out)
            }
            None => vec![SocketAddr::from(([127, 0, 0, 1], 1883))],
        };
        ListenerSettings {
            name: PLAIN.to_owned(),
            listen,
            tls: false,
            websocket: None,
            origins: Vec::new(),
            proxy_from: Vec::new(),
            allow_anonymous: explicit.unwrap_or(!self.has_login),
            client_id_is_username: false,
        }
    }

    fn named(
        &self,
        name: &str,
        section: &Section<'_>,
        taken: &mut Vec<SocketAddr>,
        out: &mut Mistakes,
    ) -> ListenerSettings {
        let own = section.flag_if_set(&listener::ALLOW_ANONYMOUS, out);
        // A mistake in it is reported where [mqtt] listen is read, or nowhere if that is not.
        let general = self.mqtt.spot(&mqtt::ALLOW_ANONYMOUS);
        let general = general.and_then(|spot| match spot.value {
            DeValue::Boolean(flag) => Some(*flag),
            _ => None,
        });
        let explicit = own.or(general);
        let listen = match section.spot(&listener::LISTEN) {
            Some(spot) => {
                let header = format!("[mqtt.listener.{name}]");
                let check = |spot: &Spot<'_>, address, out: &mut Mistakes| {
                    self.refuse_open(spot, address, explicit, &header, out);
                };
                listen_addresses(&spot, &listener::LISTEN, taken, check, out)
            }
            None => {
                section.missing(&listener::LISTEN, out);
                Vec::new()
            }
        };
        let tls = section.flag(&listener::TLS, out);
        if tls
            && !self.has_tls
            && let Some(spot) = section.spot(&listener::TLS)
        {
            spot.wrong(out, "needs a section [mqtt.tls] with cert_file and key_file");
        }
        ListenerSettings {
            name: name.to_owned(),
            listen,
            tls,
            websocket: websocket_path(section, out),
            origins: origins(section, out),
            proxy_from: addresses(section, &listener::PROXY_FROM, out),
            allow_anonymous: explicit.unwrap_or(!self.has_login),
            client_id_is_username: section.choice(&listener::CLIENT_ID, out) == "username",
        }
    }

    /// Whoever reaches a port without a login may do what its rules allow: only if asked for.
    fn refuse_open(
        &self,
        spot: &Spot<'_>,
        address: SocketAddr,
        explicit: Option<bool>,
        header: &str,
        out: &mut Mistakes,
    ) {
        if self.has_login || explicit == Some(true) || address.ip().is_loopback() {
            return;
        }
        let problem = format!(
            "reachable from other machines without a login; listen on 127.0.0.1, set up logins \
             (users_file in [mqtt], client_ca_file in [mqtt.tls]), or set allow_anonymous = true \
             in {header} if everybody who reaches the port may use it"
        );
        spot.wrong(out, &problem);
    }
}

fn websocket_path(section: &Section<'_>, out: &mut Mistakes) -> Option<String> {
    let path = section.text(&listener::WEBSOCKET, out)?;
    let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_path && let Some(spot) = section.spot(&listener::WEBSOCKET) {
        spot.wrong(out, "no path; write, for example, websocket = \"/mqtt\"");
    }
    Some(path)
}

fn origins(section: &Section<'_>, out: &mut Mistakes) -> Vec<String> {
    if section.spot(&listener::WEBSOCKET).is_none()
        && let Some(spot) = section.spot(&listener::ORIGINS)
    {
        spot.wrong(out, "has no use without websocket");
    }
    let mut found = Vec::new();
    for (spot, text) in words(section, &listener::ORIGINS, out) {
        let host = text.strip_prefix("http://").or(text.strip_prefix("https://"));
        let is_origin =
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '*', ' ']));
        if text == "*" || is_origin {
            found.push(text);
        } else {
            let why = "no origin; write a scheme, a host and a port if it is not the usual one, \
                       without a path, for example \"https://dash.example.com\"";
            spot.wrong(out, why);
        }
    }
    found
}

fn addresses(section: &Section<'_>, key: &Key, out: &mut Mistakes) -> Vec<IpAddr> {
    let Kind::Addresses { max } = key.kind else { return Vec::new() };
    let Some(spot) = section.spot(key) else { return Vec::new() };
    let mut found = Vec::new();
    for element in list(&spot, 1, max, "IP addresses", out).unwrap_or_default() {
        match element.value {
            DeValue::String(text) => match text.parse() {
                Ok(address) => found.push(address),
                Err(_) => element.wrong(out, "no IP address; write, for example, \"192.0.2.7\""),
            },
            other => element.wrong(out, &expected("text", other)),
        }
    }
    found
}
