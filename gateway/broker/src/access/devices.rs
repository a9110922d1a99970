//! Topics by which devices and the gateway speak about firmware: `tg/{device}/ota/...`. Nobody
//! speaks for a device but the device, whatever the rules allow, and nobody for the gateway.
//!
//! A device is the name that a client has logged in with, or its client identifier where it has
//! none. So a listener without logins lets its clients take the name of a device that logs in elsewhere.

use crate::topic::TopicName;

/// What a device says.
const SAYS: [&str; 3] = ["state", "req", "report"];

/// Whether a client of this name may publish there, as far as devices are concerned.
pub(super) fn may_speak(topic: &str, name: &str) -> bool {
    let Some(rest) = topic.strip_prefix("tg/") else { return true };
    let Some((device, said)) = rest.split_once("/ota/") else { return true };
    !device.is_empty() && device == name && SAYS.contains(&said)
}

/// Whether a topic is one on which only a device itself speaks, or the gateway.
pub fn is_of_devices(topic: &TopicName) -> bool {
    let device = topic.as_str().strip_prefix("tg/");
    device.is_some_and(|rest| rest.contains("/ota/"))
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
