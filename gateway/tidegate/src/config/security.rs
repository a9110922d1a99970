//! The sections below `[mqtt]`: where clients come in, who they are, what they may do.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use tidegate_broker::access::{Effect, Pattern, Policy, Rule};
use toml::de::DeValue;

use super::document::{Section, Spot};
use super::keys::{Key, Kind, acl, limits, listener, mqtt, tls};
use super::mistakes::Mistakes;
use super::sections::{Reader, check_name, list, listen_addresses};
use super::suggestion::nearest;
use super::value::expected;
use crate::links::{Identity, TlsFiles, Users, load_tls};

/// The listener that `[mqtt] listen` stands for.
pub(crate) const PLAIN: &str = "mqtt";

/// Most listeners of one gateway.
const MAX_LISTENERS: usize = 16;
/// Most rules of one gateway.
const MAX_RULES: usize = 1000;

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
    /// Proxies whose connections begin with a PROXY header.
    pub proxy_from: Vec<IpAddr>,
    /// Clients without a login are let in.
    pub allow_anonymous: bool,
    /// A client's identifier must be its user name.
    pub client_id_is_username: bool,
}

/// `[mqtt.tls]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// All files.
    pub files: TlsFiles,
    /// What in a client's certificate is its user name.
    pub identity: Identity,
}

/// `[mqtt.limits]`
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitSettings {
    /// Open connections from one address.
    pub connections_per_address: Option<u64>,
    /// Connections from one address in a minute.
    pub connects_per_minute: Option<u64>,
    /// Failed logins from one address in a minute.
    pub failed_logins_per_minute: Option<u64>,
}

/// Who is let in, and what they may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SecuritySettings {
    /// `[mqtt.tls]`
    pub tls: Option<TlsSettings>,
    /// Users with their hashed passwords.
    pub users_file: Option<PathBuf>,
    /// `[[mqtt.acl]]`; `None`: everybody may do everything.
    pub policy: Option<Policy>,
    /// `[mqtt.limits]`
    pub limits: LimitSettings,
}

/// Reads everything that has to do with clients and their rights.
pub(super) fn read(
    reader: &Reader<'_>,
    mqtt: &Section<'_>,
    out: &mut Mistakes,
) -> (Vec<ListenerSettings>, SecuritySettings) {
    let tls = read_tls(reader, out);
    let users_file = read_users(reader, mqtt, out);
    let by_certificate = tls.as_ref().is_some_and(|tls| tls.files.client_ca_file.is_some());
    let has_login = users_file.is_some() || by_certificate;
    let listeners = Listeners { reader, mqtt, has_login, has_tls: tls.is_some() }.read(out);
    let policy = read_policy(reader, &listeners, has_login, out);
    let limits = read_limits(reader, out);
    (listeners, SecuritySettings { tls, users_file, policy, limits })
}

fn read_tls(reader: &Reader<'_>, out: &mut Mistakes) -> Option<TlsSettings> {
    let section = Section::single(reader.source, reader.root, &tls::SECTION, out);
    if !section.is_there() {
        return None;
    }
    let files = TlsFiles {
        cert_file: reader.path(&section, &tls::CERT_FILE, out).unwrap_or_default(),
        key_file: reader.path(&section, &tls::KEY_FILE, out).unwrap_or_default(),
        client_ca_file: reader.path(&section, &tls::CLIENT_CA_FILE, out),
        crl_file: reader.path(&section, &tls::CRL_FILE, out),
        certificate_required: section.choice(&tls::CLIENT_CERTIFICATE, out) == "required",
        only_tls13: section.choice(&tls::MIN_VERSION, out) == "1.3",
    };
    let identity = match section.choice(&tls::IDENTITY, out) {
        "san-dns" => Identity::DnsName,
        "san-uri" => Identity::Uri,
        "san-email" => Identity::Email,
        _ => Identity::CommonName,
    };
    if files.client_ca_file.is_none()
        && let Some(spot) = section.spot(&tls::CRL_FILE)
    {
        spot.wrong(out, "has no use without client_ca_file");
    }
    let named = section.spot(&tls::CERT_FILE).is_some() && section.spot(&tls::KEY_FILE).is_some();
    if reader.looks_at_the_machine()
        && named
        && let Err(problems) = load_tls(&files)
    {
        for problem in problems {
            let key = tls::SECTION.keys.iter().find(|key| key.name == problem.key);
            match key.and_then(|key| section.spot(key)) {
                Some(spot) => spot.wrong(out, &problem.why),
                None => section.wrong_absent(problem.key, out, &problem.why),
            }
        }
    }
    Some(TlsSettings { files, identity })
}

fn read_users(reader: &Reader<'_>, mqtt: &Section<'_>, out: &mut Mistakes) -> Option<PathBuf> {
    let file = reader.path(mqtt, &mqtt::USERS_FILE, out)?;
    if reader.looks_at_the_machine()
        && let Some(spot) = mqtt.spot(&mqtt::USERS_FILE)
        && let Err(problem) = Users::load(&file)
    {
        spot.wrong(out, &problem);
    }
    Some(file)
}

struct Listeners<'a> {
    reader: &'a Reader<'a>,
    mqtt: &'a Section<'a>,
    has_login: bool,
    has_tls: bool,
}

impl Listeners<'_> {
    fn read(&self, out: &mut Mistakes) -> Vec<ListenerSettings> {
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

fn read_policy(
    reader: &Reader<'_>,
    listeners: &[ListenerSettings],
    has_login: bool,
    out: &mut Mistakes,
) -> Option<Policy> {
    let sections = Section::list(reader.source, reader.root, &acl::SECTION, out);
    if sections.is_empty() {
        if has_login {
            let why = "mqtt.acl: missing; clients log in, and without a rule nobody may publish or \
                       subscribe; write, for example, [[mqtt.acl]] with topics = \
                       [\"sensors/${username}/#\"], or topics = [\"#\"] to allow everything";
            out.add(None, why.to_owned());
        }
        return None;
    }
    if let Some(section) = sections.get(MAX_RULES) {
        section.wrong(out, &format!("one too many; allowed: {MAX_RULES}"));
    }
    let names: Vec<&str> = listeners.iter().map(|listener| listener.name.as_str()).collect();
    let rule = |section: &Section<'_>| rule(section, &names, out);
    Some(Policy { rules: sections.iter().map(rule).collect() })
}

fn rule(section: &Section<'_>, names: &[&str], out: &mut Mistakes) -> Rule {
    let action = section.choice(&acl::ACTION, out);
    let effect = match section.choice(&acl::EFFECT, out) {
        "deny" => Effect::Deny,
        _ => Effect::Allow,
    };
    let listeners = words(section, &acl::LISTENERS, out);
    for (spot, name) in &listeners {
        if !names.contains(&name.as_str()) {
            let help = match nearest(name, names.iter().copied()) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("there is: {}", names.join(", ")),
            };
            spot.wrong(out, &format!("no such listener; {help}"));
        }
    }
    let users = words(section, &acl::USERS, out);
    Rule {
        effect,
        publish: action != "subscribe",
        subscribe: action != "publish",
        topics: patterns(section, out),
        users: users.into_iter().map(|(_, user)| user).collect(),
        listeners: listeners.into_iter().map(|(_, name)| name).collect(),
    }
}

fn patterns(section: &Section<'_>, out: &mut Mistakes) -> Vec<Pattern> {
    let Kind::Patterns { max } = acl::TOPICS.kind else { return Vec::new() };
    let Some(spot) = section.spot(&acl::TOPICS) else {
        section.missing(&acl::TOPICS, out);
        return Vec::new();
    };
    let mut found = Vec::new();
    for element in list(&spot, 1, max, "topic filters", out).unwrap_or_default() {
        match element.value {
            DeValue::String(text) => match Pattern::parse(text) {
                Ok(pattern) => found.push(pattern),
                Err(error) => element.wrong(out, &error.to_string()),
            },
            other => element.wrong(out, &expected("text", other)),
        }
    }
    found
}

fn words<'a>(section: &Section<'a>, key: &Key, out: &mut Mistakes) -> Vec<(Spot<'a>, String)> {
    let Kind::Words { max } = key.kind else { return Vec::new() };
    let Some(spot) = section.spot(key) else { return Vec::new() };
    let mut found = Vec::new();
    for element in list(&spot, 1, max, "texts", out).unwrap_or_default() {
        match element.value {
            DeValue::String(text) if !text.is_empty() => {
                let text = text.clone().into_owned();
                found.push((element, text));
            }
            DeValue::String(_) => element.wrong(out, "must not be empty"),
            other => element.wrong(out, &expected("text", other)),
        }
    }
    found
}

fn read_limits(reader: &Reader<'_>, out: &mut Mistakes) -> LimitSettings {
    let section = Section::single(reader.source, reader.root, &limits::SECTION, out);
    LimitSettings {
        connections_per_address: section.count_if_set(&limits::CONNECTIONS, out),
        connects_per_minute: section.count_if_set(&limits::CONNECTS, out),
        failed_logins_per_minute: section.count_if_set(&limits::FAILED_LOGINS, out),
    }
}
