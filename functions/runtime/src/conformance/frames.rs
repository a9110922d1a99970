//! The frames that a module is given.

use super::Subject;
use tidegate_abi::{
    BatchWriter, ENTRY_BYTES, HEADER_BYTES, InputFlags, Kind, MessageRef, Qos, property,
    write_property,
};

/// Time of all batches, nanoseconds since 1970.
const NOW_NS: i64 = 1_700_000_000_000_000_000;

fn written(writer: &mut BatchWriter, entry: &MessageRef<'_>) -> Result<(), String> {
    writer.push(entry).map_err(|error| error.to_string())
}

fn list(pairs: &[(&str, &str)]) -> Result<Vec<u8>, String> {
    let mut list = Vec::new();
    for (key, value) in pairs {
        write_property(&mut list, key, value).map_err(|error| error.to_string())?;
    }
    Ok(list)
}

fn message<'a>(subject: &'a Subject<'_>, seq: u64) -> MessageRef<'a> {
    MessageRef {
        seq,
        ts_ns: NOW_NS,
        topic: subject.topic,
        payload: subject.payload,
        qos: Qos::AtLeastOnce,
        ..MessageRef::default()
    }
}

/// So many messages, all alike.
pub(super) fn messages(
    subject: &Subject<'_>,
    count: u64,
    flags: InputFlags,
) -> Result<Vec<u8>, String> {
    let mut writer = BatchWriter::new(Kind::Messages, NOW_NS, 1).with_flags(flags);
    for seq in 1..=count {
        written(&mut writer, &message(subject, seq))?;
    }
    Ok(writer.finish())
}

/// One message with this payload.
pub(super) fn payload(subject: &Subject<'_>, payload: &[u8]) -> Result<Vec<u8>, String> {
    let mut writer = BatchWriter::new(Kind::Messages, NOW_NS, 1).with_flags(InputFlags::CAUSES);
    written(&mut writer, &MessageRef { payload, ..message(subject, 1) })?;
    Ok(writer.finish())
}

/// Messages at the ends of each field: empty, long, retained, tried often, with many properties.
pub(super) fn edges(subject: &Subject<'_>) -> Result<Vec<u8>, String> {
    let long = "x".repeat(65_535);
    let props = list(&[("a", ""), ("", "b"), ("a", "again"), ("traceparent", "00-1-2-00")])?;
    let long_props = list(&[(&long, &long)])?;
    let plain = message(subject, 1);
    let entries = [
        MessageRef { topic: "", payload: b"", ..plain },
        MessageRef { topic: &long, ..plain },
        MessageRef { topic: "größe/°C", props: &props, ..plain },
        MessageRef { props: &long_props, seq: u64::MAX, ts_ns: i64::MIN, ..plain },
        MessageRef { retain: true, qos: Qos::ExactlyOnce, attempt: u16::MAX, source: 7, ..plain },
        MessageRef { qos: Qos::AtMostOnce, ts_ns: -1, seq: 0, ..plain },
    ];
    let mut writer = BatchWriter::new(Kind::Messages, NOW_NS, 2).with_flags(InputFlags::CAUSES);
    for entry in &entries {
        written(&mut writer, entry)?;
    }
    Ok(writer.finish())
}

/// Two messages that share their bytes, which lie in the reverse order with gaps between them.
pub(super) fn shared_bytes(subject: &Subject<'_>) -> Vec<u8> {
    let data = HEADER_BYTES + 2 * ENTRY_BYTES;
    let payload_at = data + 13;
    let topic_at = payload_at + subject.payload.len() + 5;
    let total = topic_at + subject.topic.len() + 3;
    let mut frame = vec![0xee; total];
    frame[..4].copy_from_slice(b"TGB1");
    let mut put = |at: usize, bytes: &[u8]| frame[at..at + bytes.len()].copy_from_slice(bytes);
    put(4, &(Kind::Messages as u16).to_le_bytes());
    put(6, &1u16.to_le_bytes());
    put(8, &2u32.to_le_bytes());
    put(12, &(total as u32).to_le_bytes());
    put(16, &NOW_NS.to_le_bytes());
    put(24, &1u64.to_le_bytes());
    for (seq, at) in [(1u64, HEADER_BYTES), (2, HEADER_BYTES + ENTRY_BYTES)] {
        put(at, &[0; ENTRY_BYTES]);
        put(at, &seq.to_le_bytes());
        put(at + 8, &NOW_NS.to_le_bytes());
        for (field, offset, len) in
            [(16, topic_at, subject.topic.len()), (24, payload_at, subject.payload.len())]
        {
            put(at + field, &(offset as u32).to_le_bytes());
            put(at + field + 4, &(len as u32).to_le_bytes());
        }
        put(at + 40, &[1]);
    }
    put(payload_at, subject.payload);
    put(topic_at, subject.topic.as_bytes());
    frame
}

/// The same frame with all bits of the flags set that mean nothing yet.
pub(super) fn with_unknown_flags(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[6] |= 0xfe;
    frame[7] = 0xff;
    frame
}

/// Timers, of names that the function has never heard of.
pub(super) fn timers() -> Result<Vec<u8>, String> {
    let missed = list(&[(property::MISSED, "12")])?;
    let timer = MessageRef { seq: 1, ts_ns: NOW_NS, topic: "conformance", ..MessageRef::default() };
    let mut writer = BatchWriter::new(Kind::Timer, NOW_NS, 3).with_flags(InputFlags::CAUSES);
    written(&mut writer, &timer)?;
    written(&mut writer, &MessageRef { seq: 2, props: &missed, attempt: 1, ..timer })?;
    Ok(writer.finish())
}

/// A request, with every part that one can have.
pub(super) fn request() -> Result<Vec<u8>, String> {
    let props = list(&[
        (property::METHOD, "PUT"),
        (property::PATH, "/conformance/a%20b"),
        (property::USER, "ann"),
        ("{id}", "a b"),
        (property::QUERY, "unit=%C2%B0C&empty=&bare&%"),
        ("content-type", "application/json"),
        ("accept", "text/plain"),
        ("accept", "*/*"),
    ])?;
    let request = MessageRef {
        seq: 1,
        ts_ns: NOW_NS,
        topic: "/conformance/{id}",
        payload: br#"{"limit":30}"#,
        props: &props,
        ..MessageRef::default()
    };
    let mut writer = BatchWriter::new(Kind::Request, NOW_NS, 4).with_flags(InputFlags::CAUSES);
    written(&mut writer, &request)?;
    Ok(writer.finish())
}

/// Events, one of them with a name that no contract has yet.
pub(super) fn events() -> Result<Vec<u8>, String> {
    let mut writer = BatchWriter::new(Kind::Event, NOW_NS, 5).with_flags(InputFlags::CAUSES);
    for name in ["start", "online", "disconnected", "conformance"] {
        let payload = format!(
            r#"{{"v":1,"gateway":"gw-01","event":"{name}","unix_ms":1700000000000,"client":"c","why":"it is a test"}}"#
        );
        let event = MessageRef {
            ts_ns: NOW_NS,
            topic: name,
            payload: payload.as_bytes(),
            ..MessageRef::default()
        };
        written(&mut writer, &event)?;
    }
    Ok(writer.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_abi::BatchReader;

    #[test]
    fn all_frames_are_right() {
        let subject = Subject::default();
        let many = messages(&subject, 256, InputFlags::CAUSES).unwrap();
        let frames = [
            with_unknown_flags(&many),
            many,
            edges(&subject).unwrap(),
            payload(&subject, &[0xff; 1000]).unwrap(),
            shared_bytes(&subject),
            timers().unwrap(),
            request().unwrap(),
            events().unwrap(),
        ];
        for frame in frames {
            BatchReader::parse(&frame).unwrap();
        }
        let shared = shared_bytes(&subject);
        let entries: Vec<_> = BatchReader::parse(&shared).unwrap().iter().collect();
        assert_eq!((entries[0].topic, entries[1].payload), (subject.topic, subject.payload));
    }
}
