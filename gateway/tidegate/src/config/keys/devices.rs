//! Keys of firmware for devices.

/// `[firmware]`
pub(crate) mod firmware {
    use crate::config::keys::{Fallback, Form, GIB, KIB, Key, Kind, MIB, SectionKeys};

    pub(crate) const MAX_BUNDLE_BYTES: Key = Key {
        name: "max_bundle_bytes",
        kind: Kind::Bytes { min: MIB, max: 16 * GIB },
        fallback: Fallback::Value(r#""128MiB""#),
        about: "Most disk for bundles, those on their way and those of earlier campaigns included.",
    };
    pub(crate) const CONCURRENT: Key = Key {
        name: "concurrent",
        kind: Kind::Count { min: 1, max: 4_096 },
        fallback: Fallback::Value("16"),
        about: "Devices that load a release at a time.",
    };
    pub(crate) const MAX_BYTES_PER_SECOND: Key = Key {
        name: "max_bytes_per_second",
        kind: Kind::Bytes { min: KIB, max: 16 * GIB },
        fallback: Fallback::Absent("no limit"),
        about: "Most bytes of firmware sent in a second, to all devices together.",
    };
    pub(crate) const SECTION: SectionKeys = SectionKeys {
        name: "firmware",
        form: Form::Single,
        keys: &[&MAX_BUNDLE_BYTES, &CONCURRENT, &MAX_BYTES_PER_SECOND],
    };
}
