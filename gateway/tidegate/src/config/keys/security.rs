//! The sections below `[mqtt]`: listeners, TLS, rules, limits.

/// `[mqtt.listener.NAME]`
pub(crate) mod listener {
    use crate::config::keys::{Fallback, Form, Key, Kind, SectionKeys};

    pub(crate) const LISTEN: Key = Key {
        name: "listen",
        kind: Kind::Listen { max: 8 },
        fallback: Fallback::Required(r#"listen = "127.0.0.1:8883""#),
        about: "Where it listens. `[::]` takes IPv4 as well, where the system says so.",
    };
    pub(crate) const TLS: Key = Key {
        name: "tls",
        kind: Kind::Flag,
        fallback: Fallback::Value("false"),
        about: "TLS with what `[mqtt.tls]` says.",
    };
    pub(crate) const WEBSOCKET: Key = Key {
        name: "websocket",
        kind: Kind::Text,
        fallback: Fallback::Absent("none: no WebSocket"),
        about: "MQTT in WebSocket (subprotocol `mqtt`) at this path, such as `\"/mqtt\"`, and nothing else.",
    };
    pub(crate) const ORIGINS: Key = Key {
        name: "origins",
        kind: Kind::Words { max: 64 },
        fallback: Fallback::Absent("none but the listener's own"),
        about: "With `websocket`: origins of the pages that browsers may open it from, such as `\"https://dash.example.com\"`; `\"*\"` for every page. Others get 403.",
    };
    pub(crate) const PROXY_FROM: Key = Key {
        name: "proxy_from",
        kind: Kind::Addresses { max: 16 },
        fallback: Fallback::Absent("none"),
        about: "Addresses of proxies. Their connections must begin with a PROXY protocol header (version 1 or 2), which says where the client is; from anywhere else it is not understood.",
    };
    pub(crate) const ALLOW_ANONYMOUS: Key = Key {
        name: "allow_anonymous",
        kind: Kind::Flag,
        fallback: Fallback::Absent("that of `[mqtt]`"),
        about: "Lets clients in that have no login.",
    };
    pub(crate) const CLIENT_ID: Key = Key {
        name: "client_id",
        kind: Kind::Choice(&["any", "username"]),
        fallback: Fallback::Value(r#""any""#),
        about: "Whether a client may choose its identifier, or must use the name it has logged in with.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "mqtt.listener",
        form: Form::Named,
        keys: &[&LISTEN, &TLS, &WEBSOCKET, &ORIGINS, &PROXY_FROM, &ALLOW_ANONYMOUS, &CLIENT_ID],
    };
}

/// `[mqtt.tls]`
pub(crate) mod tls {
    use crate::config::keys::{Fallback, Form, Key, Kind, SectionKeys};

    pub(crate) const CERT_FILE: Key = Key {
        name: "cert_file",
        kind: Kind::Path,
        fallback: Fallback::Required(r#"cert_file = "server.pem""#),
        about: "The gateway's certificate, followed by those between it and its authority (PEM).",
    };
    pub(crate) const KEY_FILE: Key = Key {
        name: "key_file",
        kind: Kind::Path,
        fallback: Fallback::Required(r#"key_file = "server.key""#),
        about: "Its private key (PEM), closed to others (mode 0600).",
    };
    pub(crate) const CLIENT_CA_FILE: Key = Key {
        name: "client_ca_file",
        kind: Kind::Path,
        fallback: Fallback::Absent("none: clients are not asked for a certificate"),
        about: "Certificates (PEM) of the authorities that sign the clients'. A client with a certificate of theirs is logged in by it.",
    };
    pub(crate) const CRL_FILE: Key = Key {
        name: "crl_file",
        kind: Kind::Path,
        fallback: Fallback::Absent("none: nothing is revoked"),
        about: "Revocation lists (PEM), one of each authority in `client_ca_file`. A list past its next update still counts.",
    };
    pub(crate) const CLIENT_CERTIFICATE: Key = Key {
        name: "client_certificate",
        kind: Kind::Choice(&["required", "optional"]),
        fallback: Fallback::Value(r#""required""#),
        about: "With `client_ca_file`: whether a client without a certificate may log in with a password, or not at all.",
    };
    pub(crate) const IDENTITY: Key = Key {
        name: "identity",
        kind: Kind::Choice(&["cn", "san-dns", "san-uri", "san-email"]),
        fallback: Fallback::Value(r#""cn""#),
        about: "What in a client's certificate is its user name: the common name, or the first name of that kind in the subject alternative name. A client whose certificate has none is turned away.",
    };
    pub(crate) const MIN_VERSION: Key = Key {
        name: "min_version",
        kind: Kind::Choice(&["1.2", "1.3"]),
        fallback: Fallback::Value(r#""1.2""#),
        about: "The oldest version of TLS that is spoken.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "mqtt.tls",
        form: Form::Single,
        keys: &[
            &CERT_FILE,
            &KEY_FILE,
            &CLIENT_CA_FILE,
            &CRL_FILE,
            &CLIENT_CERTIFICATE,
            &IDENTITY,
            &MIN_VERSION,
        ],
    };
}

/// `[[mqtt.acl]]`
pub(crate) mod acl {
    use crate::config::keys::{Fallback, Form, Key, Kind, SectionKeys};

    pub(crate) const EFFECT: Key = Key {
        name: "effect",
        kind: Kind::Choice(&["allow", "deny"]),
        fallback: Fallback::Value(r#""allow""#),
        about: "What the rule says of its topics.",
    };
    pub(crate) const ACTION: Key = Key {
        name: "action",
        kind: Kind::Choice(&["both", "publish", "subscribe"]),
        fallback: Fallback::Value(r#""both""#),
        about: "What it is about. A will counts as a publish.",
    };
    pub(crate) const TOPICS: Key = Key {
        name: "topics",
        kind: Kind::Patterns { max: 64 },
        fallback: Fallback::Required(r#"topics = ["sensors/${username}/#"]"#),
        about: "The topics, with variables.",
    };
    pub(crate) const USERS: Key = Key {
        name: "users",
        kind: Kind::Words { max: 256 },
        fallback: Fallback::Absent("everybody, those without a login included"),
        about: "The users that it is for.",
    };
    pub(crate) const LISTENERS: Key = Key {
        name: "listeners",
        kind: Kind::Words { max: 16 },
        fallback: Fallback::Absent("all"),
        about: "The listeners that it is for, by NAME; that of `[mqtt] listen` is called `mqtt`.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "mqtt.acl",
        form: Form::List,
        keys: &[&EFFECT, &ACTION, &TOPICS, &USERS, &LISTENERS],
    };
}

/// `[mqtt.limits]`
pub(crate) mod limits {
    use crate::config::keys::{Fallback, Form, GIB, KIB, Key, Kind, SectionKeys};

    pub(crate) const CONNECTIONS: Key = Key {
        name: "connections_per_address",
        kind: Kind::Count { min: 1, max: 100_000 },
        fallback: Fallback::Absent("no limit"),
        about: "Open connections from one address; a further one is closed at once.",
    };
    pub(crate) const CONNECTS: Key = Key {
        name: "connects_per_minute",
        kind: Kind::Count { min: 1, max: 1_000_000 },
        fallback: Fallback::Absent("no limit"),
        about: "Connections from one address in a minute; a further one is closed at once.",
    };
    pub(crate) const FAILED_LOGINS: Key = Key {
        name: "failed_logins_per_minute",
        kind: Kind::Count { min: 1, max: 1_000_000 },
        fallback: Fallback::Value("30"),
        about: "Failed logins from one address in a minute; then only passwords that were right before are, and all others are refused unread (0x9F, 3.1.1: 3).",
    };
    pub(crate) const CLIENT_CONNECTS: Key = Key {
        name: "connects_per_minute_per_client",
        kind: Kind::Count { min: 1, max: 1_000_000 },
        fallback: Fallback::Absent("no limit"),
        about: "Logins with one client identifier in a minute; a further one is refused (0x9F, 3.1.1: 3). Two devices with the same identifier take the connection from each other for ever: this stops them, and names the identifier.",
    };
    pub(crate) const USER_FAILURES: Key = Key {
        name: "failed_logins_per_minute_per_user",
        kind: Kind::Count { min: 1, max: 1_000_000 },
        fallback: Fallback::Absent("no limit"),
        about: "Failed logins under one user name in a minute, from wherever; then only a password that was right before is, and all others are refused unread (0x9F, 3.1.1: 3).",
    };
    pub(crate) const PUBLISHES: Key = Key {
        name: "publishes_per_second",
        kind: Kind::Count { min: 1, max: 1_000_000 },
        fallback: Fallback::Absent("no limit"),
        about: "Publishes of one client in a second, on average; beyond it the client is read more slowly, and nothing is lost.",
    };
    pub(crate) const PUBLISHES_PER_ADDRESS: Key = Key {
        name: "publishes_per_second_per_address",
        kind: Kind::Count { min: 1, max: 10_000_000 },
        fallback: Fallback::Absent("no limit"),
        about: "The same over all connections from one address; those that wait have their turns one after the other.",
    };
    pub(crate) const SPOOL_MESSAGES: Key = Key {
        name: "spool_messages_per_session",
        kind: Kind::Count { min: 1, max: 100_000_000 },
        fallback: Fallback::Value("100000"),
        about: "Messages that may wait on flash for one client whose session is kept; beyond it an eighth of them go, the oldest first, into the loss ledger under the client's name.",
    };
    pub(crate) const SPOOL_BYTES: Key = Key {
        name: "spool_bytes_per_session",
        kind: Kind::Bytes { min: 64 * KIB, max: 4 * GIB },
        fallback: Fallback::Value(r#""16MiB""#),
        about: "The same in bytes, 256 added for each message. Never less than twice `max_packet`. A message that waits for several clients is on flash once, and counts for each.",
    };
    pub(crate) const SLOW_SUBSCRIBER: Key = Key {
        name: "slow_subscriber",
        kind: Kind::Choice(&["drop-newest", "drop-oldest", "disconnect"]),
        fallback: Fallback::Value(r#""drop-newest""#),
        about: "What happens when `max_session_queue` is used up for a subscriber whose session ends with its connection: the newest message for it is dropped, or the oldest that it was not sent, or it is disconnected (MQTT 5: 0x97). What it did not get is entered in the loss ledger under its name.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "mqtt.limits",
        form: Form::Single,
        keys: &[
            &CONNECTIONS,
            &CONNECTS,
            &FAILED_LOGINS,
            &CLIENT_CONNECTS,
            &USER_FAILURES,
            &PUBLISHES,
            &PUBLISHES_PER_ADDRESS,
            &SPOOL_MESSAGES,
            &SPOOL_BYTES,
            &SLOW_SUBSCRIBER,
        ],
    };
}
