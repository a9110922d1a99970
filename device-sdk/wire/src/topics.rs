//! Topics with a meaning of their own.

/// Below it the broker reports on itself; nobody else publishes there.
pub const SYS: &str = "$SYS";
/// Below it the gateway and its devices talk to each other (`tg/{device}/...`).
pub const DEVICES: &str = "tg";
/// Upstream, each stream arrives under `tidegate/{gateway}/{stream}`.
pub const UPSTREAM: &str = "tidegate";

/// Who may publish to a topic on the gateway's own broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// Any client that is allowed to by its permissions.
    Free,
    /// Nobody: the broker itself writes it (`$SYS/...`, and every other topic that starts
    /// with `$`, [MQTT-4.7.2-1]).
    ReadOnly,
    /// The device protocol (`tg/...`).
    Devices,
}

/// What is reserved about this topic name (or filter).
#[must_use]
pub fn reservation(topic: &str) -> Reservation {
    let first = topic.split('/').next().unwrap_or("");
    if first.as_bytes().first() == Some(&b'$') {
        Reservation::ReadOnly
    } else if first == DEVICES {
        Reservation::Devices
    } else {
        Reservation::Free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_first_levels_are_reserved() {
        let expected = [
            ("$SYS", Reservation::ReadOnly),
            ("$SYS/broker/uptime", Reservation::ReadOnly),
            ("$share/a/b", Reservation::ReadOnly),
            ("tg", Reservation::Devices),
            ("tg/dev-1/ota/req", Reservation::Devices),
            ("tgx/a", Reservation::Free),
            ("a/tg", Reservation::Free),
            ("a/$SYS", Reservation::Free),
            ("/tg", Reservation::Free),
            ("", Reservation::Free),
        ];
        for (topic, reserved) in expected {
            assert_eq!(reservation(topic), reserved, "{topic}");
        }
    }
}
