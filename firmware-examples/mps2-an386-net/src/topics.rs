//! Topics of this device, and what it is.

/// Images for the board's serial line are not for this device.
pub(crate) const CLASS: [u8; 16] = [0x23; 16];

pub(crate) const TELEMETRY: &str = "sensors/pump-7/telemetry";
pub(crate) const LOGS: &str = "logs/pump-7";
pub(crate) const FAN: &str = "commands/pump-7/fan";
/// Below it, gateway and agent speak.
pub(crate) const FIRMWARE: &str = "tg/pump-7/ota/";
/// Where it asks for the time. What it subscribes to has the answers.
pub(crate) const TIME: &str = "tg/pump-7/time/req";
pub(crate) const SUBSCRIPTIONS: &[&str] =
    &["commands/pump-7/#", "tg/pump-7/ota/+", "tg/pump-7/time/now"];

/// Where the agent's messages go, by the kind that they name first: docs/formats/device-messages.md.
pub(crate) fn topic(message: &[u8]) -> &'static str {
    match message.get(2) {
        Some(4) => "tg/pump-7/ota/req",
        Some(7) => "tg/pump-7/ota/report",
        Some(_) | None => "tg/pump-7/ota/state",
    }
}
