//! Header names. The same names are MQTT 5 user properties, NATS headers and HTTP headers,
//! so they are lower case, ASCII, and hold no character that any of the three forbids.

/// Every name that the gateway gives a meaning starts with this. A publisher's own property that
/// starts with it is passed on under [`ESCAPE`].
pub const RESERVED: &str = "tg-";

/// Put in front of a publisher's own property whose name starts with [`RESERVED`], so that a
/// publisher cannot forge an identity and loses nothing.
pub const ESCAPE: &str = "tg-x-";

/// Publisher identity: counter or random number of the publisher's boot, decimal `u64`.
pub const PUB_BOOT: &str = "tg-pub-boot";
/// Publisher identity: number of the message within that boot, decimal `u64`, rising.
pub const PUB_SEQ: &str = "tg-pub-seq";

/// Envelope version, decimal.
pub const VERSION: &str = "tg-v";
/// Gateway id.
pub const GATEWAY: &str = "tg-gw";
/// Epoch of the record, decimal `u32`.
pub const EPOCH: &str = "tg-epoch";
/// Name of the stream.
pub const STREAM: &str = "tg-stream";
/// Number of the record in its stream, decimal `u64`, the first is 1.
pub const SEQ: &str = "tg-seq";
/// Topic under which the gateway received the message.
pub const TOPIC: &str = "tg-topic";
/// Client id of the publisher.
pub const CLIENT: &str = "tg-client";
/// Time of receipt, milliseconds since 1970-01-01 UTC, decimal, a minus sign when before.
pub const TIME: &str = "tg-time";
/// Quality of [`TIME`]: [`CLOCK_SYNCED`] or [`CLOCK_UNSYNCED`].
pub const CLOCK: &str = "tg-clock";
/// Value of [`CLOCK`]: the gateway's wall clock had been set from a trusted source.
pub const CLOCK_SYNCED: &str = "synced";
/// Value of [`CLOCK`]: it had not, the time may be wrong by years.
pub const CLOCK_UNSYNCED: &str = "unsynced";
/// Partition key of the record; absent when its stream has none, or the record.
pub const KEY: &str = "tg-key";
/// `1` when the publisher had set RETAIN; absent otherwise.
pub const RETAIN: &str = "tg-retain";
/// Message expiry interval in seconds as given by the publisher, counted from [`TIME`]; absent
/// when there was none.
pub const EXPIRY: &str = "tg-expiry";
/// Response topic as given by the publisher (a topic of the gateway's own broker).
pub const RESPONSE_TOPIC: &str = "tg-response-topic";
/// Correlation data as given by the publisher, lower-case hexadecimal.
pub const CORRELATION: &str = "tg-correlation";

/// Whether a publisher's own property of this name would be mistaken for one of ours.
#[must_use]
pub fn is_reserved(name: &str) -> bool {
    name.as_bytes().starts_with(RESERVED.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_enough_for_mqtt_nats_and_http() {
        let names = [
            PUB_BOOT,
            PUB_SEQ,
            VERSION,
            GATEWAY,
            EPOCH,
            STREAM,
            SEQ,
            TOPIC,
            CLIENT,
            TIME,
            CLOCK,
            KEY,
            RETAIN,
            EXPIRY,
            RESPONSE_TOPIC,
            CORRELATION,
            ESCAPE,
        ];
        for (at, name) in names.iter().enumerate() {
            assert!(is_reserved(name), "{name}");
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{name}");
            assert!(!names[..at].contains(name), "{name} twice");
        }
        assert!(!is_reserved("tg"));
        assert!(!is_reserved("unit"));
    }
}
