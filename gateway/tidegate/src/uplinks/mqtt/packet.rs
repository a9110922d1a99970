//! From an outbound message to an MQTT 5 PUBLISH. What the protocol cannot carry is refused
//! here, with the reason: rumqttc would write wrong lengths, and the server would hang up.

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Publish, PublishProperties};
use tidegate_uplink::envelope::upstream_topic;
use tidegate_uplink::{Batch, BodyFormat, OutboundMessage, RefuseReason};

/// MQTT strings have a 16-bit length.
const MAX_STRING: usize = 65_535;

/// The QoS 1 PUBLISH for this message, at most `max` bytes long.
pub(super) fn publish(message: OutboundMessage, max: u32) -> Result<Publish, RefuseReason> {
    let OutboundMessage { topic, payload, headers, content_type, payload_is_text } = message;
    if topic.is_empty() || topic.contains(['+', '#']) {
        return Err(RefuseReason::Unencodable(format!("{topic:?} is no topic name")));
    }
    check("topic", &topic)?;
    for (name, value) in &headers {
        check("name of a user property", name)?;
        check(name, value)?;
    }
    if let Some(content_type) = &content_type {
        check("content type", content_type)?;
    }
    let properties = PublishProperties {
        payload_format_indicator: payload_is_text.then_some(1),
        user_properties: headers,
        content_type,
        ..PublishProperties::default()
    };
    let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload, Some(properties));
    // The id that is given later takes two bytes; any will do to measure.
    publish.pkid = 1;
    let bytes = publish.size() as u64;
    publish.pkid = 0;
    if bytes > u64::from(max) {
        let (bytes, max) = (Some(bytes), Some(u64::from(max)));
        return Err(RefuseReason::PacketTooLarge { bytes, max });
    }
    Ok(publish)
}

/// All records of a batch as the body of one message (`docs/formats/batch.md`).
pub(super) fn packed(gateway: &str, batch: &Batch, format: BodyFormat) -> OutboundMessage {
    OutboundMessage {
        topic: upstream_topic(gateway, &batch.stream),
        payload: format.encode(gateway, batch),
        headers: Vec::new(),
        content_type: Some(format.content_type().to_owned()),
        payload_is_text: format == BodyFormat::Ndjson,
    }
}

/// Whether the QoS 1 PUBLISH of MQTT 3.1.1 for this message has at most `max` bytes.
pub(super) fn check_311(message: &OutboundMessage, max: u32) -> Result<(), RefuseReason> {
    check("topic", &message.topic)?;
    // Length of the topic, topic, packet id, payload.
    let rest = 2 + message.topic.len() + 2 + message.payload.len();
    let length = match rest {
        0..128 => 1,
        128..16_384 => 2,
        16_384..2_097_152 => 3,
        _ => 4,
    };
    let bytes = (1 + length + rest) as u64;
    if bytes > u64::from(max) {
        return Err(RefuseReason::PacketTooLarge { bytes: Some(bytes), max: Some(u64::from(max)) });
    }
    Ok(())
}

fn check(what: &str, text: &str) -> Result<(), RefuseReason> {
    let why = if text.len() > MAX_STRING {
        format!("is {} bytes long; MQTT allows {MAX_STRING}", text.len())
    } else if text.contains('\0') {
        "holds U+0000, which MQTT forbids".to_owned()
    } else {
        return Ok(());
    };
    let what: String = what.chars().take(64).collect();
    Err(RefuseReason::Unencodable(format!("{what} {why}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> OutboundMessage {
        OutboundMessage {
            topic: "tidegate/gw/s".to_owned(),
            payload: b"12.5".to_vec(),
            headers: vec![("tg-v".to_owned(), "1".to_owned())],
            content_type: Some("text/plain".to_owned()),
            payload_is_text: true,
        }
    }

    #[test]
    fn message_becomes_these_bytes_on_the_wire() {
        let mut publish = publish(message(), 1_000).unwrap();
        publish.pkid = 0x0102;
        let mut wire = bytes::BytesMut::new();
        publish.write(&mut wire).unwrap();
        let expected = [
            b"\x32\x2f".as_slice(),       // PUBLISH, QoS 1; 47 bytes follow
            b"\x00\x0dtidegate/gw/s",     // topic
            b"\x01\x02",                  // packet id
            b"\x19",                      // 25 bytes of properties
            b"\x01\x01",                  // payload is UTF-8
            b"\x26\x00\x04tg-v\x00\x011", // user property
            b"\x03\x00\x0atext/plain",    // content type
            b"12.5",
        ];
        assert_eq!(&wire[..], expected.concat());
    }

    #[test]
    fn example_of_the_envelope_document_is_what_is_sent() {
        use tidegate_stream::{Epoch, Seq};
        use tidegate_uplink::{Envelope, envelope::Clock};
        let envelope = Envelope {
            gateway: "gw",
            epoch: Epoch(1),
            stream: "s",
            seq: Seq(1),
            topic: "t",
            client: "c",
            key: None,
            unix_ms: 0,
            clock: Clock::Synced,
            publisher: None,
            retain: false,
            expiry_s: None,
            response_topic: None,
            correlation: None,
            user: Vec::new(),
        };
        let mut publish = publish(envelope.encode(b"12.5".to_vec(), None, false), 1_000).unwrap();
        publish.pkid = 1;
        let mut wire = bytes::BytesMut::new();
        publish.write(&mut wire).unwrap();
        let begin = b"\x32\x92\x01\x00\x0dtidegate/gw/s\x00\x01\x7c\x26\x00\x04tg-v\x00\x011";
        assert_eq!(&wire[..begin.len()], begin);
        assert!(wire.ends_with(b"\x26\x00\x08tg-clock\x00\x06synced12.5"));
        assert_eq!(wire.len(), 3 + 146);
    }

    #[test]
    fn size_is_judged_to_the_byte() {
        assert!(publish(message(), 49).is_ok());
        let (bytes, max) = (Some(49), Some(48));
        let refused = publish(message(), 48).unwrap_err();
        assert_eq!(refused, RefuseReason::PacketTooLarge { bytes, max });
    }

    #[test]
    fn what_mqtt_cannot_carry_is_refused_with_its_name() {
        let long = "x".repeat(65_536);
        let header = |name: &str, value: &str| OutboundMessage {
            headers: vec![(name.to_owned(), value.to_owned())],
            ..message()
        };
        let cases = [
            (OutboundMessage { topic: "a/#".to_owned(), ..message() }, "\"a/#\" is no topic name"),
            (OutboundMessage { topic: String::new(), ..message() }, "\"\" is no topic name"),
            (OutboundMessage { topic: "a\0".to_owned(), ..message() }, "topic holds U+0000"),
            (header("unit", &long), "unit is 65536 bytes long"),
            (header(&long, "C"), "name of a user property is 65536 bytes long"),
            (header("unit", "\0"), "unit holds U+0000"),
            (
                OutboundMessage { content_type: Some(long.clone()), ..message() },
                "content type is 65536 bytes long",
            ),
        ];
        for (message, why) in cases {
            match publish(message, 1_000_000) {
                Err(RefuseReason::Unencodable(what)) => assert!(what.starts_with(why), "{what}"),
                other => panic!("{why}: {other:?}"),
            }
        }
    }
}
