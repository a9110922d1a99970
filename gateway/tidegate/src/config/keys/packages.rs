//! What has to do with packages of functions: what the gateway takes, and what a
//! function asks for.

/// `[functions]`
pub(crate) mod functions {
    use std::time::Duration;

    use crate::config::keys::{Fallback, Form, GIB, Key, Kind, MIB, SectionKeys, time};

    pub(crate) const TRUSTED_KEYS: Key = Key {
        name: "trusted_keys",
        kind: Kind::Words { max: 16 },
        fallback: Fallback::Absent("none: no package is taken"),
        about: "Public keys whose packages may be pushed, as `tidegate fn keygen` shows them.",
    };
    pub(crate) const MAX_PACKAGE_BYTES: Key = Key {
        name: "max_package_bytes",
        kind: Kind::Bytes { min: MIB, max: GIB },
        fallback: Fallback::Value(r#""64MiB""#),
        about: "Most disk for packages, those on their way and old versions included.",
    };
    pub(crate) const TRIAL: Key = Key {
        name: "trial",
        kind: time(Duration::from_secs(1), Duration::from_secs(86_400)),
        fallback: Fallback::Value(r#""30s""#),
        about: "How long a pushed version must run without a failed call before it is kept; a failure takes the version before back.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "functions",
        form: Form::Single,
        keys: &[&TRUSTED_KEYS, &MAX_PACKAGE_BYTES, &TRIAL],
    };
}

/// `[functions.allow]`
pub(crate) mod allow {
    use std::time::Duration;

    use crate::config::keys::{Fallback, Form, GIB, KIB, Key, Kind, MIB, SectionKeys, time};

    pub(crate) const FUNCTIONS: Key = Key {
        name: "functions",
        kind: Kind::Count { min: 0, max: 64 },
        fallback: Fallback::Value("16"),
        about: "How many pushed functions there may be.",
    };
    pub(crate) const WORKERS: Key = Key {
        name: "workers",
        kind: Kind::Count { min: 1, max: tidegate_flow::MAX_WORKERS as u64 },
        fallback: Fallback::Value("1"),
        about: "Most calls of one at a time.",
    };
    pub(crate) const STREAMS: Key = Key {
        name: "streams",
        kind: Kind::Streams { max: 64 },
        fallback: Fallback::Absent("none"),
        about: "Streams that they may read.",
    };
    pub(crate) const PUBLISH: Key = Key {
        name: "publish",
        kind: Kind::Topics { min: 0, max: 64 },
        fallback: Fallback::Value("[]"),
        about: "Topics that they may publish to: what a package asks for must lie within one of these.",
    };
    pub(crate) const MEMORY: Key = Key {
        name: "memory",
        kind: Kind::Bytes { min: 64 * KIB, max: GIB },
        fallback: Fallback::Value(r#""16MiB""#),
        about: "Most linear memory of one.",
    };
    pub(crate) const STATE_BYTES: Key = Key {
        name: "state_bytes",
        kind: Kind::Bytes { min: 0, max: 64 * MIB },
        fallback: Fallback::Value(r#""1MiB""#),
        about: "Most state of one.",
    };
    pub(crate) const TIMERS: Key = Key {
        name: "timers",
        kind: Kind::Count { min: 0, max: tidegate_flow::MAX_TIMERS as u64 },
        fallback: Fallback::Value("16"),
        about: "Most timers of one, its schedules included.",
    };
    pub(crate) const FUEL_PER_BATCH: Key = Key {
        name: "fuel_per_batch",
        kind: Kind::Count { min: 1_000, max: 1_000_000_000_000 },
        fallback: Fallback::Value("10000000"),
        about: "Most fuel of a call.",
    };
    pub(crate) const FUEL_PER_MESSAGE: Key = Key {
        name: "fuel_per_message",
        kind: Kind::Count { min: 0, max: 1_000_000_000_000 },
        fallback: Fallback::Value("1000000"),
        about: "Most fuel that each record adds.",
    };
    pub(crate) const DEADLINE: Key = Key {
        name: "deadline",
        kind: time(Duration::from_millis(1), Duration::from_secs(60)),
        fallback: Fallback::Value(r#""1s""#),
        about: "Longest time of a call.",
    };
    pub(crate) const CLOCK: Key = Key {
        name: "clock",
        kind: Kind::Flag,
        fallback: Fallback::Value("false"),
        about: "Whether they may read the time of the batch.",
    };
    pub(crate) const RANDOM: Key = Key {
        name: "random",
        kind: Kind::Flag,
        fallback: Fallback::Value("false"),
        about: "Whether they may have random numbers.",
    };
    pub(crate) const EVENTS: Key = Key {
        name: "events",
        kind: Kind::Events,
        fallback: Fallback::Value("[]"),
        about: "What they may be told of.",
    };
    pub(crate) const SECRETS: Key = Key {
        name: "secrets",
        kind: Kind::Words { max: crate::secrets::MAX_GRANTED },
        fallback: Fallback::Absent("none"),
        about: "Names of the secrets that they may read.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "functions.allow",
        form: Form::Single,
        keys: &[
            &FUNCTIONS,
            &WORKERS,
            &STREAMS,
            &PUBLISH,
            &MEMORY,
            &STATE_BYTES,
            &TIMERS,
            &FUEL_PER_BATCH,
            &FUEL_PER_MESSAGE,
            &DEADLINE,
            &CLOCK,
            &RANDOM,
            &EVENTS,
            &SECRETS,
        ],
    };
}

/// `function.toml`, beside the keys of `[function.NAME]`.
pub(crate) mod package {
    use crate::config::keys::{Fallback, Key, Kind};

    pub(crate) const CLOCK: Key = Key {
        name: "clock",
        kind: Kind::Flag,
        fallback: Fallback::Value("false"),
        about: "Whether it may read the time of the batch.",
    };
    pub(crate) const RANDOM: Key = Key {
        name: "random",
        kind: Kind::Flag,
        fallback: Fallback::Value("false"),
        about: "Whether it may have random numbers.",
    };
    pub(crate) const TIMERS: Key = Key {
        name: "timers",
        kind: Kind::Count { min: 0, max: tidegate_flow::MAX_TIMERS as u64 },
        fallback: Fallback::Value("0"),
        about: "How many timers it sets.",
    };
}
