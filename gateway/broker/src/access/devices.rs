//! Topics by which devices and the gateway speak to each other: about firmware, `tg/{device}/ota/...`,
//! about what a device should be like, `tg/{device}/twin/...`, and about the time, `tg/{device}/time/...`. Nobody
//! speaks for a device but the device, whatever the rules allow, and nobody for the gateway.
//!
//! A device is the name that a client has logged in with, or its client identifier where it has
//! none. That a client without a login does not take the name of a device that logs in, or is on a
//! serial line, is for who lets clients in: here nobody knows those names.

use crate::topic::TopicName;

/// What a device says, and about what.
const SAYS: [(&str, &[&str]); 3] =
    [("/ota/", &["state", "req", "report"]), ("/twin/", &["reported"]), ("/time/", &["req"])];

/// Whether a client of this name may publish there, as far as devices are concerned.
pub(super) fn may_speak(topic: &str, name: &str) -> bool {
    let Some(rest) = topic.strip_prefix("tg/") else { return true };
    SAYS.iter().all(|(about, says)| match rest.split_once(about) {
        Some((device, said)) => !device.is_empty() && device == name && says.contains(&said),
        None => true,
    })
}

/// Whether a topic is one on which only a device itself speaks, or the gateway.
pub fn is_of_devices(topic: &TopicName) -> bool {
    let device = topic.as_str().strip_prefix("tg/");
    device.is_some_and(|rest| SAYS.iter().any(|(about, _)| rest.contains(about)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_says_what_devices_say_and_nobody_says_it_for_it() {
        for (topic, may) in [
            ("tg/a/ota/state", true),
            ("tg/a/ota/req", true),
            ("tg/a/ota/report", true),
            ("tg/a/twin/reported", true),
            ("tg/b/twin/reported", false),
            ("tg/a/twin/desired", false),
            ("tg/a/twin/reported/ota/state", false),
            ("tg/a/time/req", true),
            ("tg/b/time/req", false),
            ("tg/a/time/now", false),
            ("tg/a/time/req/x", false),
            ("tg/b/time", true),
            ("tg/b/ota/state", false),
            ("tg/a/ota/offer", false),
            ("tg/a/ota/blk", false),
            ("tg/a/ota/cmd", false),
            ("tg/a/ota/state/x", false),
            ("tg/a/ota/ota/state", false),
            ("tg/a/b/ota/state", false),
            ("tg//ota/state", false),
            ("tg/a/ota", true),
            ("tg/b/twin", true),
            ("a/tg/b/ota/state", true),
        ] {
            assert_eq!(may_speak(topic, "a"), may, "{topic}");
        }
    }
}
