//! The name of the object that a batch becomes: `docs/formats/s3-sink.md`.

use tidegate_uplink::Batch;

/// `{prefix}{gateway}/{stream}/{epoch}/{first}-{last}.{extension}`, sequences with 20 digits, so
/// that names sort as the records do. The same batch always has the same name.
pub(super) fn key(prefix: &str, gateway: &str, batch: &Batch, extension: &str) -> String {
    let (first, last) = (batch.range.first.0, batch.range.last.0);
    let (stream, epoch) = (&batch.stream, batch.epoch.0);
    format!("{prefix}{gateway}/{stream}/{epoch:010}/{first:020}-{last:020}.{extension}")
}

/// A key as a path: everything but unreserved characters and slashes as `%XX`, which is also the
/// form that is signed.
pub(super) fn encoded(key: &str) -> String {
    let mut path = String::with_capacity(key.len());
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            path.push(char::from(byte));
        } else {
            path.push_str(&format!("%{byte:02X}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tidegate_stream::{Epoch, Seq};
    use tidegate_uplink::{LaneId, OutboundRecord, SeqRange};

    use super::*;

    #[test]
    fn names_sort_as_the_records_do() {
        let name = |epoch, first, last| {
            // The first records of a batch may be lost; its name stays.
            let records = vec![OutboundRecord { seq: Seq(last), ..OutboundRecord::default() }];
            let range = SeqRange { first: Seq(first), last: Seq(last) };
            let (lane, stream) = (LaneId(0), Arc::from("telemetry"));
            let batch = Batch { lane, stream, epoch: Epoch(epoch), range, records };
            key("raw/", "gw-01", &batch, "ndjson.gz")
        };
        assert_eq!(
            name(2, 101, 200),
            "raw/gw-01/telemetry/0000000002/00000000000000000101-00000000000000000200.ndjson.gz"
        );
        let names = [name(2, 1, 9), name(2, 10, 99), name(2, 100, u64::MAX), name(10, 1, 2)];
        assert!(names.is_sorted());
    }

    #[test]
    fn only_what_needs_it_is_encoded() {
        assert_eq!(encoded("a/B-c_d.e~f"), "a/B-c_d.e~f");
        assert_eq!(encoded("a b+ä$"), "a%20b%2B%C3%A4%24");
    }
}
