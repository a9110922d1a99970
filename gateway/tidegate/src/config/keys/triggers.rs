//! Keys of what calls a function besides its streams.

/// `[function.NAME]`, and `function.toml`.
pub(crate) mod trigger {
    use std::time::Duration;

    use crate::config::keys::{DAY, Fallback, Key, Kind};

    pub(crate) const SCHEDULE: Key = Key {
        name: "schedule",
        kind: Kind::Schedule {
            max: tidegate_flow::MAX_SCHEDULES,
            shortest: Duration::from_millis(10),
            longest: Duration::from_secs(366 * DAY),
        },
        fallback: Fallback::Absent("none"),
        about: "When the function is called by the clock, see above.",
    };
    pub(crate) const EVENTS: Key = Key {
        name: "events",
        kind: Kind::Events,
        fallback: Fallback::Value("[]"),
        about: "What the function is told of, see above.",
    };
    pub(crate) const WATCH: Key = Key {
        name: "watch",
        kind: Kind::Watch { max: tidegate_flow::MAX_WATCHES },
        fallback: Fallback::Absent("none"),
        about: "Keys of another function's state whose changes call the function, see above.",
    };
}
