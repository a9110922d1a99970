//! Keys of folders whose files become records.

/// `[files.NAME]`
pub(crate) mod folder {
    use std::time::Duration;

    use crate::config::keys::{Fallback, Form, Key, Kind, SectionKeys, time};

    pub(crate) const DIRECTORY: Key = Key {
        name: "directory",
        kind: Kind::Path,
        fallback: Fallback::Required(r#"directory = "/var/spool/tidegate/reports""#),
        about: "The folder. It need not be there: it is waited for. The gateway makes `done` and `failed` in it, on the same file system.",
    };
    pub(crate) const STREAM: Key = Key {
        name: "stream",
        kind: Kind::Text,
        fallback: Fallback::Required(r#"stream = "telemetry""#),
        about: "The stream whose records the files become.",
    };
    pub(crate) const MAX_FILE: Key = Key {
        name: "max_file",
        kind: Kind::Bytes { min: 1, max: 960 << 10 },
        fallback: Fallback::Value(r#""256KiB""#),
        about: "Largest file; a larger one goes to `failed`.",
    };
    pub(crate) const SETTLE: Key = Key {
        name: "settle",
        kind: time(Duration::ZERO, Duration::from_secs(3600)),
        fallback: Fallback::Value(r#""2s""#),
        about: "How long size and time of a file must have stood still. With 0s, where all who write rename complete files into the folder.",
    };
    pub(crate) const EVERY: Key = Key {
        name: "every",
        kind: time(Duration::from_millis(100), Duration::from_secs(3600)),
        fallback: Fallback::Value(r#""1s""#),
        about: "How often it is looked into.",
    };
    pub(crate) const KEEP: Key = Key {
        name: "keep",
        kind: Kind::Count { min: 0, max: 10_000 },
        fallback: Fallback::Value("100"),
        about: "Files that stay in `done`, the newest; with 0 each is removed when its record is on flash. `failed` keeps as many, and at least 100.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "files",
        form: Form::Named,
        keys: &[&DIRECTORY, &STREAM, &MAX_FILE, &SETTLE, &EVERY, &KEEP],
    };
}
