//! Every key that the configuration knows, with its default, range and meaning: the one source
//! of the parser, of its messages, and (checked by a test) of `docs/configuration.md`.

use std::time::Duration;

mod devices;
mod folders;
mod http_keys;
mod packages;
mod security;
mod serial;
mod triggers;

pub(crate) use devices::firmware;
pub(crate) use folders::folder;
pub(crate) use http_keys::{http, route};
pub(crate) use packages::{allow, functions, package};
pub(crate) use security::{acl, limits, listener, tls};
pub(crate) use serial::line;
pub(crate) use triggers::trigger;

use super::units::{show_bytes, show_duration};

/// A section of the file.
#[derive(Debug)]
pub(crate) struct SectionKeys {
    /// `mqtt` for `[mqtt]`; `stream` for `[stream.NAME]`; `mqtt.tls` for `[mqtt.tls]`.
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    /// Its keys, in the order of the reference.
    pub(crate) keys: &'static [&'static Key],
}

/// How often a section may be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Once: `[mqtt]`.
    Single,
    /// Several times, each with a name: `[stream.NAME]`.
    Named,
    /// Several times, in an order that counts: `[[mqtt.acl]]`.
    List,
}

impl SectionKeys {
    /// As it is written in the file.
    pub(crate) fn header(&self) -> String {
        match self.form {
            Form::Single => format!("[{}]", self.name),
            Form::Named => format!("[{}.NAME]", self.name),
            Form::List => format!("[[{}]]", self.name),
        }
    }
}

/// One key.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) fallback: Fallback,
    /// One sentence for the reference.
    pub(crate) about: &'static str,
}

/// What a key holds, with its range.
#[derive(Debug)]
pub(crate) enum Kind {
    Name,
    Path,
    /// Checked by the one who uses it.
    Text,
    Flag,
    Count {
        min: u64,
        max: u64,
    },
    Bytes {
        min: u64,
        max: u64,
    },
    Time {
        min: Duration,
        max: Duration,
    },
    Choice(&'static [&'static str]),
    /// An address, or a list of addresses.
    Listen {
        max: usize,
    },
    /// An address, or `"off"`.
    ListenOrOff,
    Topics {
        min: usize,
        max: usize,
    },
    Streams {
        max: usize,
    },
    PartitionKey,
    /// A table with a stream and topics, or a list of such tables.
    Input {
        max: usize,
    },
    /// A table with a name and a rhythm, or a list of such tables.
    Schedule {
        max: usize,
        /// Of an interval.
        shortest: Duration,
        longest: Duration,
    },
    /// A table of addresses on a serial line by name.
    Devices {
        max: usize,
    },
    Json {
        max: usize,
    },
    /// A URL, or a list of URLs.
    Urls {
        max: usize,
    },
    /// A list of IP addresses.
    Addresses {
        max: usize,
    },
    /// A list of topic filters with variables.
    Patterns {
        max: usize,
    },
    /// A list of what functions can be told of.
    Events,
    /// A table with a function and a prefix of keys, or a list of such tables.
    Watch {
        max: usize,
    },
    /// A list of texts.
    Words {
        max: usize,
    },
}

/// What holds when the key is absent.
#[derive(Debug)]
pub(crate) enum Fallback {
    /// The key must be there; the text is an example of it.
    Required(&'static str),
    /// This TOML literal.
    Value(&'static str),
    /// Nothing; the text says what happens then.
    Absent(&'static str),
}

impl Kind {
    /// The values allowed, in words: for messages and for the reference.
    pub(crate) fn allowed(&self) -> String {
        match self {
            Kind::Name => format!("1 to {MAX_NAME} of A-Z a-z 0-9 _ -"),
            Kind::Path => "path, relative to this file".to_owned(),
            Kind::Text => "text".to_owned(),
            Kind::Flag => "true or false".to_owned(),
            Kind::Count { min, max } => format!("{min} to {max}"),
            Kind::Bytes { min, max } => format!("{} to {}", show_bytes(*min), show_bytes(*max)),
            Kind::Time { min, max } => {
                format!("{} to {}", show_duration(*min), show_duration(*max))
            }
            Kind::Choice(words) => {
                words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
            }
            Kind::Listen { max } => format!("\"ADDRESS:PORT\", or a list of at most {max}"),
            Kind::ListenOrOff => "\"ADDRESS:PORT\", or \"off\"".to_owned(),
            Kind::Topics { min, max } => format!("list of {min} to {max} topic filters"),
            Kind::Streams { max } => format!("list of 1 to {max} names of streams"),
            Kind::PartitionKey => {
                r#""client", "topic", "topic/N", "topic/N-M", "property/NAME""#.to_owned()
            }
            Kind::Input { max } => format!(
                "{{ stream = \"NAME\" }}, with topics = [...] or without, or a list of at most {max}"
            ),
            Kind::Schedule { max, shortest, longest } => format!(
                "{{ name = \"NAME\", every = \"10s\" }} ({} to {}) or {{ name = \"NAME\", cron = \"0 3 * * *\" }}, with missed = \"skip\", \"once\", \"all\" or without, or a list of at most {max}",
                show_duration(*shortest),
                show_duration(*longest)
            ),
            Kind::Devices { max } => {
                format!("table of 1 to {max} names with their addresses, 1 to 254")
            }
            Kind::Json { max } => format!("table, at most {} as JSON", show_bytes(*max as u64)),
            Kind::Addresses { max } => format!("list of 1 to {max} IP addresses"),
            Kind::Patterns { max } => format!("list of 1 to {max} topic filters with variables"),
            Kind::Watch { max } => format!(
                "{{ function = \"NAME\" }}, with prefix = \"...\" or without, or a list of at most {max}"
            ),
            Kind::Events => {
                let names =
                    tidegate_flow::EventKind::NAMED.map(|kind| format!("\"{}\"", kind.name()));
                format!("list of {}", names.join(", "))
            }
            Kind::Words { max } => format!("list of 1 to {max} texts"),
            Kind::Urls { max } => format!("URL, or a list of at most {max}, all of one kind"),
        }
    }
}

/// Longest name of a gateway, stream, function or uplink.
pub(crate) const MAX_NAME: usize = 64;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const DAY: u64 = 86_400;

const fn time(min: Duration, max: Duration) -> Kind {
    Kind::Time { min, max }
}

/// All sections, in the order of the reference.
pub(crate) const SECTIONS: &[&SectionKeys] = &[
    &gateway::SECTION,
    &mqtt::SECTION,
    &listener::SECTION,
    &tls::SECTION,
    &acl::SECTION,
    &limits::SECTION,
    &line::SECTION,
    &firmware::SECTION,
    &http::SECTION,
    &route::SECTION,
    &log::SECTION,
    &storage::SECTION,
    &stream::SECTION,
    &folder::SECTION,
    &function::SECTION,
    &functions::SECTION,
    &allow::SECTION,
    &uplink::SECTION,
];

/// `[gateway]`
pub(crate) mod gateway {
    use super::{Fallback, Form, Key, Kind, SectionKeys};

    pub(crate) const ID: Key = Key {
        name: "id",
        kind: Kind::Name,
        fallback: Fallback::Required(r#"id = "gw-01""#),
        about: "The gateway's identity; part of every record's identity upstream, so no two gateways may share it.",
    };
    pub(crate) const DATA_DIR: Key = Key {
        name: "data_dir",
        kind: Kind::Path,
        fallback: Fallback::Required(r#"data_dir = "/var/lib/tidegate""#),
        about: "Where the store, the lock and the administration socket live; created with mode 0700.",
    };
    pub(crate) const SECTION: SectionKeys =
        SectionKeys { name: "gateway", form: Form::Single, keys: &[&ID, &DATA_DIR] };
}

/// `[mqtt]`
pub(crate) mod mqtt {
    use super::{DAY, Duration, Fallback, Form, GIB, KIB, Key, Kind, MIB, SectionKeys, time};

    pub(crate) const LISTEN: Key = Key {
        name: "listen",
        kind: Kind::Listen { max: 8 },
        fallback: Fallback::Value(r#""127.0.0.1:1883""#),
        about: "Where devices connect, MQTT 3.1.1 and 5 on one port, without TLS. Port 0 takes a free one. With a `[mqtt.listener.NAME]` in the file the default is none.",
    };
    pub(crate) const ALLOW_ANONYMOUS: Key = Key {
        name: "allow_anonymous",
        kind: Kind::Flag,
        fallback: Fallback::Absent(
            "true on loopback addresses while there are neither `users_file` nor `client_ca_file`, else false",
        ),
        about: "Lets clients in that have no login, but none whose client identifier is the name of a user with a password, of a user in a rule, or of a device on a serial line. Without rules (`[[mqtt.acl]]`) they may publish and subscribe everywhere.",
    };
    pub(crate) const USERS_FILE: Key = Key {
        name: "users_file",
        kind: Kind::Path,
        fallback: Fallback::Absent("none: no passwords"),
        about: "Users with their hashed passwords, as `tidegate mqtt passwd` writes it; closed to others (mode 0600).",
    };
    pub(crate) const MAX_CONNECTIONS: Key = Key {
        name: "max_connections",
        kind: Kind::Count { min: 1, max: 100_000 },
        fallback: Fallback::Value("1024"),
        about: "Open connections; a further one is closed at once.",
    };
    pub(crate) const MAX_PACKET: Key = Key {
        name: "max_packet",
        kind: Kind::Bytes { min: KIB, max: 512 * KIB },
        fallback: Fallback::Value(r#""256KiB""#),
        about: "Largest MQTT packet taken in after CONNECT; a larger one closes the connection.",
    };
    pub(crate) const RECEIVE_MAXIMUM: Key = Key {
        name: "receive_maximum",
        kind: Kind::Count { min: 1, max: 65_535 },
        fallback: Fallback::Value("1024"),
        about: "Publishes of one connection that may wait for their acknowledgement; beyond it the gateway stops reading that connection.",
    };
    pub(crate) const CONNECT_TIMEOUT: Key = Key {
        name: "connect_timeout",
        kind: time(Duration::from_millis(100), Duration::from_secs(300)),
        fallback: Fallback::Value(r#""10s""#),
        about: "Time from the TCP connection to a complete CONNECT packet.",
    };
    pub(crate) const MAX_KEEP_ALIVE: Key = Key {
        name: "max_keep_alive",
        kind: time(Duration::from_secs(1), Duration::from_secs(65_535)),
        fallback: Fallback::Absent("none: what the client asks for"),
        about: "Longest keep-alive of an MQTT 5 client: one that asks for a longer one, or for none, is given this one (Server Keep Alive). Parts of a second do not count.",
    };
    pub(crate) const MAX_SESSIONS: Key = Key {
        name: "max_sessions",
        kind: Kind::Count { min: 1, max: 1_000_000 },
        fallback: Fallback::Value("2048"),
        about: "Sessions, connected or not. For one more, the one away for longest is given up.",
    };
    pub(crate) const MAX_SESSION_EXPIRY: Key = Key {
        name: "max_session_expiry",
        kind: time(Duration::ZERO, Duration::from_secs(365 * DAY)),
        fallback: Fallback::Value(r#""7d""#),
        about: "Longest life of a session whose client is away.",
    };
    pub(crate) const MAX_SESSION_QUEUE: Key = Key {
        name: "max_session_queue",
        kind: Kind::Bytes { min: 64 * KIB, max: 256 * MIB },
        fallback: Fallback::Value(r#""4MiB""#),
        about: "Bytes queued in memory for one subscriber whose session ends with its connection; beyond it `slow_subscriber` in `[mqtt.limits]` says what goes. Never less than `max_packet`. A session that is kept has its messages on flash.",
    };
    pub(crate) const MAX_QUEUE: Key = Key {
        name: "max_queue",
        kind: Kind::Bytes { min: 64 * KIB, max: 4 * GIB },
        fallback: Fallback::Value(r#""64MiB""#),
        about: "The same over all subscribers; and bytes on flash for all sessions that are kept, from the oldest message that any of them still needs to the newest: beyond it the oldest go, into the loss ledger.",
    };
    pub(crate) const MAX_RETAINED: Key = Key {
        name: "max_retained",
        kind: Kind::Count { min: 0, max: 1_000_000 },
        fallback: Fallback::Value("10000"),
        about: "Retained messages; a further one is delivered but not retained, and counted.",
    };
    pub(crate) const MAX_RETAINED_BYTES: Key = Key {
        name: "max_retained_bytes",
        kind: Kind::Bytes { min: 0, max: GIB },
        fallback: Fallback::Value(r#""16MiB""#),
        about: "The same in bytes.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "mqtt",
        form: Form::Single,
        keys: &[
            &LISTEN,
            &ALLOW_ANONYMOUS,
            &USERS_FILE,
            &MAX_CONNECTIONS,
            &MAX_PACKET,
            &RECEIVE_MAXIMUM,
            &CONNECT_TIMEOUT,
            &MAX_KEEP_ALIVE,
            &MAX_SESSIONS,
            &MAX_SESSION_EXPIRY,
            &MAX_SESSION_QUEUE,
            &MAX_QUEUE,
            &MAX_RETAINED,
            &MAX_RETAINED_BYTES,
        ],
    };
}

/// `[log]`
pub(crate) mod log {
    use super::{Fallback, Form, Key, Kind, SectionKeys};

    pub(crate) const LEVEL: Key = Key {
        name: "level",
        kind: Kind::Choice(&["error", "warn", "info", "debug", "trace"]),
        fallback: Fallback::Value(r#""info""#),
        about: "The least important messages that are written to standard error.",
    };
    pub(crate) const FORMAT: Key = Key {
        name: "format",
        kind: Kind::Choice(&["text", "json"]),
        fallback: Fallback::Value(r#""text""#),
        about: "Text for people (and the journal), or one JSON object a line for machines.",
    };
    pub(crate) const SECTION: SectionKeys =
        SectionKeys { name: "log", form: Form::Single, keys: &[&LEVEL, &FORMAT] };
}

/// `[storage]`
pub(crate) mod storage {
    use super::{Duration, Fallback, Form, GIB, KIB, Key, Kind, MIB, SectionKeys, TIB, time};

    pub(crate) const SEGMENT_BYTES: Key = Key {
        name: "segment_bytes",
        kind: Kind::Bytes { min: 2 * MIB, max: 64 * MIB },
        fallback: Fallback::Value(r#""8MiB""#),
        about: "Size of one segment file; segments are written with zeros ahead of use and recycled.",
    };
    pub(crate) const GROUP_BYTES: Key = Key {
        name: "group_bytes",
        kind: Kind::Bytes { min: 4 * KIB, max: MIB },
        fallback: Fallback::Value(r#""64KiB""#),
        about: "A group of records is synced as soon as it holds this much.",
    };
    pub(crate) const MAX_ACK_DELAY: Key = Key {
        name: "max_ack_delay",
        kind: time(Duration::ZERO, Duration::from_secs(10)),
        fallback: Fallback::Value(r#""10ms""#),
        about: "Longest time that a record waits for others to share its sync. Longer spares the flash, shorter answers busy publishers sooner.",
    };
    pub(crate) const QUIET: Key = Key {
        name: "quiet",
        kind: time(Duration::ZERO, Duration::from_secs(1)),
        fallback: Fallback::Value(r#""500us""#),
        about: "A group is synced when nothing has arrived for this long, so that a lone publisher never waits for `max_ack_delay`.",
    };
    pub(crate) const CACHE_BYTES: Key = Key {
        name: "cache_bytes",
        kind: Kind::Bytes { min: 64 * KIB, max: 256 * MIB },
        fallback: Fallback::Value(r#""1MiB""#),
        about: "Newest records kept in memory, so that readers that keep up never read the disk.",
    };
    pub(crate) const ENDURANCE: Key = Key {
        name: "endurance",
        kind: Kind::Bytes { min: GIB, max: 65_536 * TIB },
        fallback: Fallback::Absent("none: no life is told"),
        about: "What the card is rated for, in bytes written (TBW), such as `\"100TB\"`; `tidegate status` then tells how many years it lasts at the present rate.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "storage",
        form: Form::Single,
        keys: &[&SEGMENT_BYTES, &GROUP_BYTES, &MAX_ACK_DELAY, &QUIET, &CACHE_BYTES, &ENDURANCE],
    };
}

/// `[stream.NAME]`
pub(crate) mod stream {
    use super::{DAY, Duration, Fallback, Form, Key, Kind, MIB, SectionKeys, TIB, time};

    pub(crate) const TOPICS: Key = Key {
        name: "topics",
        kind: Kind::Topics { min: 1, max: 64 },
        fallback: Fallback::Required(r#"topics = ["sensors/+/telemetry"]"#),
        about: "Topics that feed the stream. A topic that matches two streams goes to both, once each.",
    };
    pub(crate) const MAX_BYTES: Key = Key {
        name: "max_bytes",
        kind: Kind::Bytes { min: MIB, max: 16 * TIB },
        fallback: Fallback::Value(r#""256MiB""#),
        about: "The stream's quota on disk.",
    };
    pub(crate) const MAX_RECORDS: Key = Key {
        name: "max_records",
        kind: Kind::Count { min: 1, max: 1_000_000_000_000 },
        fallback: Fallback::Absent("none"),
        about: "The stream's quota in records.",
    };
    pub(crate) const OVERFLOW: Key = Key {
        name: "overflow",
        kind: Kind::Choice(&["drop-oldest", "reject", "block"]),
        fallback: Fallback::Value(r#""drop-oldest""#),
        about: "At a quota: drop the oldest records and enter them in the loss ledger; or refuse the publish (MQTT 5: PUBACK 0x97, 3.1.1: disconnect); or leave it unacknowledged and stop reading.",
    };
    pub(crate) const RETAIN: Key = Key {
        name: "retain",
        kind: time(Duration::ZERO, Duration::from_secs(3650 * DAY)),
        fallback: Fallback::Value(r#""0s""#),
        about: "How long records are kept for replay after every reader (function or uplink) has passed them. In a stream without readers they stay until `max_bytes`, `max_records` or `max_age`.",
    };
    pub(crate) const MAX_AGE: Key = Key {
        name: "max_age",
        kind: time(Duration::from_secs(1), Duration::from_secs(3650 * DAY)),
        fallback: Fallback::Absent("none"),
        about: "Records older than this go, read or not; what goes unread is entered in the loss ledger.",
    };
    pub(crate) const PRIORITY: Key = Key {
        name: "priority",
        kind: Kind::Count { min: 0, max: 9 },
        fallback: Fallback::Value("0"),
        about: "An uplink sends what a stream of a higher priority has before what others have; streams of the same priority take turns.",
    };
    pub(crate) const COMPRESSION: Key = Key {
        name: "compression",
        kind: Kind::Choice(&["none", "lz4"]),
        fallback: Fallback::Value(r#""none""#),
        about: "How groups of records are written. It pays for text such as JSON in groups of 2 KiB and more; what does not shrink by an eighth stays as it is.",
    };
    pub(crate) const KEY: Key = Key {
        name: "key",
        kind: Kind::PartitionKey,
        fallback: Fallback::Absent("none: partition by the stream"),
        about: "What a consumer may partition the stream by: the publisher's client id, the topic, its N-th level from 1, its levels N to M, or an MQTT 5 user property. It goes upstream with each record that has it.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "stream",
        form: Form::Named,
        keys: &[
            &TOPICS,
            &MAX_BYTES,
            &MAX_RECORDS,
            &OVERFLOW,
            &RETAIN,
            &MAX_AGE,
            &PRIORITY,
            &COMPRESSION,
            &KEY,
        ],
    };
}

/// `[function.NAME]`
pub(crate) mod function {
    use super::{Duration, Fallback, Form, GIB, KIB, Key, Kind, MIB, SectionKeys, time};

    pub(crate) const MODULE: Key = Key {
        name: "module",
        kind: Kind::Path,
        fallback: Fallback::Required(r#"module = "threshold.wasm""#),
        about: "The WebAssembly module (ABI `tg1`), at most 8 MiB.",
    };
    /// An example of the next one.
    pub(crate) const INPUT_EXAMPLE: &str = r#"input = { stream = "telemetry" }"#;
    pub(crate) const INPUT: Key = Key {
        name: "input",
        kind: Kind::Input { max: tidegate_flow::MAX_INPUTS },
        fallback: Fallback::Absent(
            "required, unless something else calls the function: `schedule`, `events`, `watch`, `routes`",
        ),
        about: "The streams that the function reads. With topics it gets records of those alone and passes the others.",
    };
    pub(crate) const ORDERING: Key = Key {
        name: "ordering",
        kind: Kind::Choice(&["strict", "per-key", "none"]),
        fallback: Fallback::Value(r#""strict""#),
        about: "What waits while a record is tried again: all behind it; what has the same `key` of its stream (records without a key count as one); nothing.",
    };
    pub(crate) const WORKERS: Key = Key {
        name: "workers",
        kind: Kind::Count { min: 1, max: tidegate_flow::MAX_WORKERS as u64 },
        fallback: Fallback::Value("1"),
        about: "Calls at a time, each in an instance and a thread of its own; 1 with strict ordering.",
    };
    pub(crate) const PUBLISH: Key = Key {
        name: "publish",
        kind: Kind::Topics { min: 0, max: 64 },
        fallback: Fallback::Value("[]"),
        about: "Topics that the function may publish to; nothing else.",
    };
    pub(crate) const CONFIG: Key = Key {
        name: "config",
        kind: Kind::Json { max: 65_536 },
        fallback: Fallback::Value("{}"),
        about: "Handed to the function as JSON when it starts.",
    };
    pub(crate) const BATCH_RECORDS: Key = Key {
        name: "batch_records",
        kind: Kind::Count { min: 1, max: 4096 },
        fallback: Fallback::Value("256"),
        about: "Most records in one call.",
    };
    pub(crate) const BATCH_BYTES: Key = Key {
        name: "batch_bytes",
        kind: Kind::Bytes { min: KIB, max: 4 * MIB },
        fallback: Fallback::Value(r#""256KiB""#),
        about: "Most payload bytes in one call; a larger record comes alone.",
    };
    pub(crate) const BATCH_WINDOW: Key = Key {
        name: "batch_window",
        kind: time(Duration::ZERO, Duration::from_secs(3600)),
        fallback: Fallback::Value(r#""0s""#),
        about: "How long records wait for a batch to fill before the function is called with what is there.",
    };
    pub(crate) const ATTEMPTS: Key = Key {
        name: "attempts",
        kind: Kind::Count { min: 1, max: 100 },
        fallback: Fallback::Value("5"),
        about: "Times that a record is tried before it goes to the stream `dead-letters`.",
    };
    pub(crate) const RETRY_MAX_AGE: Key = Key {
        name: "retry_max_age",
        kind: time(Duration::from_secs(1), Duration::from_secs(365 * 86_400)),
        fallback: Fallback::Value(r#""1h""#),
        about: "How long a record is tried, however many attempts are left; time without power does not count.",
    };
    pub(crate) const MEMORY: Key = Key {
        name: "memory",
        kind: Kind::Bytes { min: 64 * KIB, max: GIB },
        fallback: Fallback::Value(r#""16MiB""#),
        about: "Most linear memory of the instance; a module that declares more is refused.",
    };
    pub(crate) const FUEL_PER_BATCH: Key = Key {
        name: "fuel_per_batch",
        kind: Kind::Count { min: 1_000, max: 1_000_000_000_000 },
        fallback: Fallback::Value("10000000"),
        about: "Fuel (about one a Wasm instruction) of a call, whatever its size.",
    };
    pub(crate) const FUEL_PER_MESSAGE: Key = Key {
        name: "fuel_per_message",
        kind: Kind::Count { min: 0, max: 1_000_000_000_000 },
        fallback: Fallback::Value("1000000"),
        about: "Fuel that each record of a call adds.",
    };
    pub(crate) const DEADLINE: Key = Key {
        name: "deadline",
        kind: time(Duration::from_millis(1), Duration::from_secs(60)),
        fallback: Fallback::Value(r#""1s""#),
        about: "Longest time of a call by the clock.",
    };
    pub(crate) const STATE_BYTES: Key = Key {
        name: "state_bytes",
        kind: Kind::Bytes { min: 0, max: 64 * MIB },
        fallback: Fallback::Value(r#""1MiB""#),
        about: "Most bytes of durable state, keys and values; held in memory.",
    };
    pub(crate) const TIMERS: Key = Key {
        name: "timers",
        kind: Kind::Count { min: 0, max: tidegate_flow::MAX_TIMERS as u64 },
        fallback: Fallback::Value("16"),
        about: "Most timers that the function may have set; with 0 it may set none.",
    };
    pub(crate) const ROUTES: Key = Key {
        name: "routes",
        kind: Kind::Words { max: 64 },
        fallback: Fallback::Absent("none"),
        about: "The HTTP routes that the function answers, such as `\"GET,PUT /sensors/{id}/limit\"`; who may use them says `[[http.route]]`.",
    };
    pub(crate) const SECRETS: Key = Key {
        name: "secrets",
        kind: Kind::Words { max: crate::secrets::MAX_GRANTED },
        fallback: Fallback::Absent("none"),
        about: "Names of the secrets that the function may read; `tidegate secret set` gives them their values.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "function",
        form: Form::Named,
        keys: &[
            &MODULE,
            &INPUT,
            &ORDERING,
            &WORKERS,
            &PUBLISH,
            &CONFIG,
            &BATCH_RECORDS,
            &BATCH_BYTES,
            &BATCH_WINDOW,
            &ATTEMPTS,
            &RETRY_MAX_AGE,
            &MEMORY,
            &FUEL_PER_BATCH,
            &FUEL_PER_MESSAGE,
            &DEADLINE,
            &STATE_BYTES,
            &TIMERS,
            &super::trigger::SCHEDULE,
            &super::trigger::EVENTS,
            &super::trigger::WATCH,
            &ROUTES,
            &SECRETS,
        ],
    };
}

/// `[uplink.NAME]`
pub(crate) mod uplink {
    use super::{Duration, Fallback, Form, GIB, KIB, Key, Kind, MIB, SectionKeys, time};

    pub(crate) const URL: Key = Key {
        name: "url",
        kind: Kind::Urls { max: 8 },
        fallback: Fallback::Required(r#"url = "mqtt://cloud.example:1883""#),
        about: "The upstream; the kinds are above. Of several servers one is used at a time: the next when it cannot be reached. They must share what they hold, as the nodes of a cluster do.",
    };
    pub(crate) const STREAMS: Key = Key {
        name: "streams",
        kind: Kind::Streams { max: 64 },
        fallback: Fallback::Required(r#"streams = ["telemetry"]"#),
        about: "The streams that it sends, each in order.",
    };
    pub(crate) const LIVE_FIRST: Key = Key {
        name: "live_first",
        kind: Kind::Streams { max: 64 },
        fallback: Fallback::Absent("none: each stream is sent in order"),
        about: "Of those, the streams whose fresh records go first after an outage. What came late follows under the name `NAME.late`, in order there.",
    };
    pub(crate) const CA_FILE: Key = Key {
        name: "ca_file",
        kind: Kind::Path,
        fallback: Fallback::Absent(
            "needed with `mqtts` and `tls`; else those that the system trusts",
        ),
        about: "Certificates (PEM) of the authorities that may have signed the upstream's.",
    };
    pub(crate) const CERT_FILE: Key = Key {
        name: "cert_file",
        kind: Kind::Path,
        fallback: Fallback::Absent("none"),
        about: "The gateway's own certificate chain (PEM), for an upstream that asks for one.",
    };
    pub(crate) const KEY_FILE: Key = Key {
        name: "key_file",
        kind: Kind::Path,
        fallback: Fallback::Absent("none"),
        about: "The private key (PEM) of `cert_file`.",
    };
    pub(crate) const TOKEN_FILE: Key = Key {
        name: "token_file",
        kind: Kind::Path,
        fallback: Fallback::Absent("none"),
        about: "HTTPS: a file with the bearer token, closed to others (mode 0600); read again at each connection.",
    };
    pub(crate) const MQTT_VERSION: Key = Key {
        name: "mqtt_version",
        kind: Kind::Choice(&["5", "3.1.1"]),
        fallback: Fallback::Value(r#""5""#),
        about: "MQTT: version of the protocol. 3.1.1 has no properties for an envelope: the records go as the body of the message.",
    };
    pub(crate) const FORMAT: Key = Key {
        name: "format",
        kind: Kind::Choice(&["cbor", "ndjson"]),
        fallback: Fallback::Absent("\"cbor\" with HTTPS, \"ndjson\" with S3 and MQTT"),
        about: "How the records of a batch are written, for machines or for people.",
    };
    pub(crate) const COMPRESSION: Key = Key {
        name: "compression",
        kind: Kind::Choice(&["gzip", "none"]),
        fallback: Fallback::Absent("\"gzip\""),
        about: "HTTPS and S3: compression of a batch.",
    };
    pub(crate) const REGION: Key = Key {
        name: "region",
        kind: Kind::Text,
        fallback: Fallback::Absent("needed with `s3://`, else `us-east-1`"),
        about: "S3: region of the bucket.",
    };
    pub(crate) const CREDENTIALS_FILE: Key = Key {
        name: "credentials_file",
        kind: Kind::Path,
        fallback: Fallback::Absent(
            "S3: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` of the environment",
        ),
        about: "S3: a file with the account's keys in the form of `~/.aws/credentials`, closed to others (mode 0600); read again at each connection. NATS: a file with the user's JWT and seed (`.creds`), or with the seed of an nkey.",
    };
    pub(crate) const ADDRESSING: Key = Key {
        name: "addressing",
        kind: Kind::Choice(&["path", "virtual-host"]),
        fallback: Fallback::Absent(
            "\"virtual-host\" with `s3://`, unless the bucket's name has a dot; else \"path\"",
        ),
        about: "S3: whether the bucket stands in the path or in front of the host's name.",
    };
    pub(crate) const MAX_MESSAGE: Key = Key {
        name: "max_message",
        kind: Kind::Bytes { min: KIB, max: 256 * MIB - 1 },
        fallback: Fallback::Absent("what the server says"),
        about: "MQTT: largest message sent, for servers that do not say what they take. A batch that is larger goes in several messages.",
    };
    pub(crate) const KEEP_ALIVE: Key = Key {
        name: "keep_alive",
        kind: time(Duration::from_secs(5), Duration::from_secs(65_535)),
        fallback: Fallback::Value(r#""30s""#),
        about: "MQTT and NATS: time without traffic after which the upstream is asked whether it is there.",
    };
    pub(crate) const WINDOW: Key = Key {
        name: "window",
        kind: Kind::Count { min: 1, max: 1000 },
        fallback: Fallback::Value("100"),
        about: "Records sent and not yet acknowledged.",
    };
    pub(crate) const WINDOW_BYTES: Key = Key {
        name: "window_bytes",
        kind: Kind::Bytes { min: 16 * KIB, max: 64 * MIB },
        fallback: Fallback::Value(r#""1MiB""#),
        about: "The same in bytes; a larger record goes alone.",
    };
    pub(crate) const BATCH_RECORDS: Key = Key {
        name: "batch_records",
        kind: Kind::Count { min: 1, max: 1000 },
        fallback: Fallback::Absent("1 with MQTT 5 and NATS, else 100"),
        about: "A batch is sent when it has so many records; never more than `window`. With MQTT 5, more than 1 makes a batch the body of one message; with NATS each record is a message of its own.",
    };
    pub(crate) const BATCH_BYTES: Key = Key {
        name: "batch_bytes",
        kind: Kind::Bytes { min: KIB, max: 16 * MIB },
        fallback: Fallback::Absent("64KiB"),
        about: "A batch is sent when it has so many bytes.",
    };
    pub(crate) const BATCH_AGE: Key = Key {
        name: "batch_age",
        kind: time(Duration::ZERO, Duration::from_secs(3600)),
        fallback: Fallback::Absent("0s: a batch is what is there, and nothing waits"),
        about: "A batch is sent when its first record has waited so long.",
    };
    pub(crate) const MAX_BATCHES_PER_SECOND: Key = Key {
        name: "max_batches_per_second",
        kind: Kind::Count { min: 1, max: 1_000_000 },
        fallback: Fallback::Absent("no limit"),
        about: "Most batches (with MQTT: messages) sent in a second, for servers that count them.",
    };
    pub(crate) const MAX_BYTES_PER_SECOND: Key = Key {
        name: "max_bytes_per_second",
        kind: Kind::Bytes { min: KIB, max: 16 * GIB },
        fallback: Fallback::Absent("no limit"),
        about: "Most bytes sent in a second, before compression.",
    };
    pub(crate) const MAX_BACKFILL_PER_SECOND: Key = Key {
        name: "max_backfill_bytes_per_second",
        kind: Kind::Bytes { min: KIB, max: 16 * GIB },
        fallback: Fallback::Absent("no limit"),
        about: "The same for what was there before the connection: catching up after an outage then leaves room for what is new in other streams.",
    };
    pub(crate) const ACK_TIMEOUT: Key = Key {
        name: "ack_timeout",
        kind: time(Duration::from_millis(500), Duration::from_secs(600)),
        fallback: Fallback::Value(r#""10s""#),
        about: "A link that acknowledges nothing for this long is dead, though nobody closed it.",
    };
    pub(crate) const CONNECT_TIMEOUT: Key = Key {
        name: "connect_timeout",
        kind: time(Duration::from_millis(500), Duration::from_secs(300)),
        fallback: Fallback::Value(r#""10s""#),
        about: "Time for a connection to be ready.",
    };
    pub(crate) const BACKOFF_MIN: Key = Key {
        name: "backoff_min",
        kind: time(Duration::from_millis(10), Duration::from_secs(3600)),
        fallback: Fallback::Value(r#""200ms""#),
        about: "First wait after a failed connection; it doubles, with jitter.",
    };
    pub(crate) const BACKOFF_MAX: Key = Key {
        name: "backoff_max",
        kind: time(Duration::from_millis(10), Duration::from_secs(3600)),
        fallback: Fallback::Value(r#""30s""#),
        about: "Longest wait between connections.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "uplink",
        form: Form::Named,
        keys: &[
            &URL,
            &STREAMS,
            &LIVE_FIRST,
            &CA_FILE,
            &CERT_FILE,
            &KEY_FILE,
            &TOKEN_FILE,
            &CREDENTIALS_FILE,
            &REGION,
            &ADDRESSING,
            &MQTT_VERSION,
            &FORMAT,
            &COMPRESSION,
            &MAX_MESSAGE,
            &KEEP_ALIVE,
            &WINDOW,
            &WINDOW_BYTES,
            &BATCH_RECORDS,
            &BATCH_BYTES,
            &BATCH_AGE,
            &MAX_BATCHES_PER_SECOND,
            &MAX_BYTES_PER_SECOND,
            &MAX_BACKFILL_PER_SECOND,
            &ACK_TIMEOUT,
            &CONNECT_TIMEOUT,
            &BACKOFF_MIN,
            &BACKOFF_MAX,
        ],
    };
}
