//! Who is let in: `[mqtt.tls]`, users and limits, with the listeners and the rules.

use std::path::PathBuf;

use tidegate_broker::SlowSubscriber;
use tidegate_broker::access::Policy;

use super::acl;
use super::document::Section;
use super::keys::{limits, mqtt, tls};
use super::listeners::{ListenerSettings, Listeners};
use super::mistakes::Mistakes;
use super::sections::{Reader, size, small};
use crate::links::{Identity, TlsFiles, Users, load_tls};

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
    /// Logins with one client identifier in a minute.
    pub connects_per_minute_per_client: Option<u64>,
    /// Failed logins of one user in a minute.
    pub failed_logins_per_minute_per_user: Option<u64>,
    /// Publishes of one client in a second.
    pub publishes_per_second: Option<u32>,
    /// Publishes from one address in a second.
    pub publishes_per_second_per_address: Option<u32>,
    /// Messages that may wait on flash for one client.
    pub spool_messages_per_session: u64,
    /// The same in bytes.
    pub spool_bytes_per_session: usize,
    /// What happens to a subscriber that does not keep up.
    pub slow_subscriber: SlowSubscriber,
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
    let policy = acl::read(reader, &listeners, has_login, out);
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

fn read_limits(reader: &Reader<'_>, out: &mut Mistakes) -> LimitSettings {
    let section = Section::single(reader.source, reader.root, &limits::SECTION, out);
    LimitSettings {
        connections_per_address: section.count_if_set(&limits::CONNECTIONS, out),
        connects_per_minute: section.count_if_set(&limits::CONNECTS, out),
        failed_logins_per_minute: section.count_if_set(&limits::FAILED_LOGINS, out),
        connects_per_minute_per_client: section.count_if_set(&limits::CLIENT_CONNECTS, out),
        failed_logins_per_minute_per_user: section.count_if_set(&limits::USER_FAILURES, out),
        publishes_per_second: section.count_if_set(&limits::PUBLISHES, out).map(small),
        publishes_per_second_per_address: section
            .count_if_set(&limits::PUBLISHES_PER_ADDRESS, out)
            .map(small),
        spool_messages_per_session: section.count(&limits::SPOOL_MESSAGES, out),
        spool_bytes_per_session: size(section.bytes(&limits::SPOOL_BYTES, out)),
        slow_subscriber: match section.choice(&limits::SLOW_SUBSCRIBER, out) {
            "drop-oldest" => SlowSubscriber::DropOldest,
            "disconnect" => SlowSubscriber::Disconnect,
            _ => SlowSubscriber::DropNewest,
        },
    }
}
