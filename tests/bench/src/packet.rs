//! The few MQTT 3.1.1 packets that a load generator needs, encoded and decoded by hand so that
//! the generator costs little beside the broker it measures.
//!
//! Deliberately not here: QoS 2, MQTT 5, sessions. Section numbers are those of MQTT 3.1.1.

/// Largest packet body accepted from a broker. A broker that sends more is broken.
pub(crate) const MAX_BODY: usize = 1024 * 1024;

/// A packet from the broker. Topic and payload borrow from the read buffer.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Packet<'a> {
    /// 3.2: the answer to CONNECT; `code` 0 is success.
    ConnAck { code: u8 },
    /// 3.4: the broker has taken over the message with this identifier.
    PubAck { id: u16 },
    /// 3.9: the answer to SUBSCRIBE; `code` is the granted QoS, 0x80 a refusal.
    SubAck { id: u16, code: u8 },
    /// 3.3: a message; `id` is there from QoS 1 on.
    Publish { id: Option<u16>, topic: &'a [u8], payload: &'a [u8] },
    /// 3.13: nothing to do.
    PingResp,
}

/// What a broker sent is not MQTT 3.1.1, or not what this client can have asked for.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct Malformed {
    /// First byte of the packet.
    pub(crate) first: u8,
    /// What is wrong with it.
    pub(crate) why: &'static str,
}

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "malformed packet (first byte 0x{:02x}): {}", self.first, self.why)
    }
}

impl std::error::Error for Malformed {}

/// Decodes the packet at the start of `bytes` and says how long it is; `None` when more bytes
/// are needed.
pub(crate) fn decode(bytes: &[u8]) -> Result<Option<(Packet<'_>, usize)>, Malformed> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let bad = |why| Malformed { first, why };
    let Some((length, digits)) = remaining_length(rest).map_err(bad)? else { return Ok(None) };
    if length > MAX_BODY {
        return Err(bad("longer than 1 MiB"));
    }
    let Some(body) = rest.get(digits..digits + length) else { return Ok(None) };
    let packet = match first >> 4 {
        2 => Packet::ConnAck { code: *body.get(1).ok_or(bad("CONNACK without a code"))? },
        3 => decode_publish(first, body)?,
        4 => Packet::PubAck { id: u16_at(body, 0).ok_or(bad("PUBACK without an identifier"))? },
        9 => Packet::SubAck {
            id: u16_at(body, 0).ok_or(bad("SUBACK without an identifier"))?,
            code: *body.get(2).ok_or(bad("SUBACK without a code"))?,
        },
        13 => Packet::PingResp,
        _ => return Err(bad("a packet type that this client does not expect")),
    };
    Ok(Some((packet, 1 + digits + length)))
}

/// 2.2.3: one to four digits of seven bits, least significant first.
fn remaining_length(bytes: &[u8]) -> Result<Option<(usize, usize)>, &'static str> {
    let mut length = 0usize;
    for (index, &digit) in bytes.iter().take(4).enumerate() {
        length |= usize::from(digit & 0x7f) << (7 * index);
        if digit & 0x80 == 0 {
            return Ok(Some((length, index + 1)));
        }
    }
    if bytes.len() >= 4 { Err("remaining length of more than four bytes") } else { Ok(None) }
}

fn decode_publish(first: u8, body: &[u8]) -> Result<Packet<'_>, Malformed> {
    let bad = |why| Malformed { first, why };
    let topic_end = 2 + usize::from(u16_at(body, 0).ok_or(bad("PUBLISH without a topic"))?);
    let topic = body.get(2..topic_end).ok_or(bad("PUBLISH with a cut topic"))?;
    match (first >> 1) & 3 {
        0 => Ok(Packet::Publish { id: None, topic, payload: &body[topic_end..] }),
        1 => {
            let id = u16_at(body, topic_end).ok_or(bad("PUBLISH without an identifier"))?;
            Ok(Packet::Publish { id: Some(id), topic, payload: &body[topic_end + 2..] })
        }
        _ => Err(bad("PUBLISH above the QoS that was asked for")),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// CONNECT with a clean session and without keep-alive (0: the broker never times us out).
pub(crate) fn encode_connect(out: &mut Vec<u8>, client: &str) {
    out.push(0x10);
    push_length(out, 10 + 2 + client.len());
    out.extend_from_slice(b"\x00\x04MQTT\x04\x02\x00\x00");
    push_text(out, client);
}

/// SUBSCRIBE to one filter with packet identifier 1.
pub(crate) fn encode_subscribe(out: &mut Vec<u8>, filter: &str, qos: Qos) {
    out.push(0x82);
    push_length(out, 2 + 2 + filter.len() + 1);
    out.extend_from_slice(&[0, 1]);
    push_text(out, filter);
    out.push(qos.level());
}

/// PUBACK.
pub(crate) fn encode_puback(out: &mut Vec<u8>, id: u16) {
    let [high, low] = id.to_be_bytes();
    out.extend_from_slice(&[0x40, 2, high, low]);
}

/// A QoS 1 PUBLISH of any payload.
pub(crate) fn encode_publish(out: &mut Vec<u8>, topic: &str, id: u16, payload: &[u8]) {
    out.push(0x32);
    push_length(out, 2 + topic.len() + 2 + payload.len());
    push_text(out, topic);
    out.extend_from_slice(&id.to_be_bytes());
    out.extend_from_slice(payload);
}

/// DISCONNECT.
pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// The qualities of service that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Qos {
    /// At most once: no acknowledgement.
    Zero,
    /// At least once: PUBACK.
    One,
}

impl Qos {
    /// The number on the wire.
    pub(crate) fn level(self) -> u8 {
        match self {
            Qos::Zero => 0,
            Qos::One => 1,
        }
    }
}

/// Which message a payload is: `(publisher, seq)`, in its first twelve bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MessageTag {
    /// Number of the publisher, from 0.
    pub(crate) publisher: u32,
    /// Number of the message of that publisher, from 0.
    pub(crate) seq: u64,
}

impl MessageTag {
    /// Bytes that the tag takes of a payload.
    pub(crate) const BYTES: usize = 12;

    /// Reads the tag back; `None` when the payload is too short to be ours.
    pub(crate) fn read(payload: &[u8]) -> Option<MessageTag> {
        let publisher = u32::from_be_bytes(*payload.first_chunk()?);
        let seq = u64::from_be_bytes(*payload.get(4..)?.first_chunk()?);
        Some(MessageTag { publisher, seq })
    }
}

/// 2.2.3.
pub(crate) fn push_length(out: &mut Vec<u8>, mut length: usize) {
    loop {
        let digit = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            out.push(digit);
            return;
        }
        out.push(digit | 0x80);
    }
}

/// 1.5.3: a length of two bytes, then the text, cut at what these can say.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&text.as_bytes()[..usize::from(length)]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::{Filling, PublishTemplate};
    use proptest::prelude::*;

    #[test]
    fn connect_is_encoded_as_the_specification_draws_it() {
        let mut out = Vec::new();
        encode_connect(&mut out, "ab");
        assert_eq!(out, b"\x10\x0e\x00\x04MQTT\x04\x02\x00\x00\x00\x02ab");
    }

    #[test]
    fn subscribe_carries_the_filter_and_the_qos() {
        let mut out = Vec::new();
        encode_subscribe(&mut out, "a/#", Qos::One);
        assert_eq!(out, b"\x82\x08\x00\x01\x00\x03a/#\x01");
    }

    #[test]
    fn a_128_byte_publish_comes_back_with_its_tag() {
        for (qos, id) in [(Qos::Zero, None), (Qos::One, Some(515))] {
            let mut template = PublishTemplate::new("bench/7", qos, 7, 128, Filling::Text);
            let mut out = Vec::new();
            template.encode(&mut out, 515, 1 << 40);
            let (packet, used) = decode(&out).unwrap().unwrap();
            assert_eq!(used, out.len());
            let Packet::Publish { id: found, topic, payload } = packet else {
                panic!("not a PUBLISH: {packet:?}")
            };
            assert_eq!((found, topic, payload.len()), (id, &b"bench/7"[..], 128));
            let tag = MessageTag::read(payload).unwrap();
            assert_eq!(tag, MessageTag { publisher: 7, seq: 1 << 40 });
        }
    }

    #[test]
    fn a_publish_of_any_payload_comes_back() {
        let mut out = Vec::new();
        encode_publish(&mut out, "a/b", 9, b"{}");
        let packet = Packet::Publish { id: Some(9), topic: b"a/b", payload: b"{}" };
        assert_eq!(decode(&out), Ok(Some((packet, out.len()))));
    }

    #[test]
    fn acknowledgements_are_decoded() {
        let check = |bytes: &[u8], packet| {
            assert_eq!(decode(bytes), Ok(Some((packet, bytes.len()))));
        };
        check(b"\x20\x02\x00\x05", Packet::ConnAck { code: 5 });
        check(b"\x40\x02\x01\x02", Packet::PubAck { id: 258 });
        check(b"\x90\x03\x00\x01\x80", Packet::SubAck { id: 1, code: 0x80 });
        check(b"\xd0\x00", Packet::PingResp);
        let mut out = Vec::new();
        encode_puback(&mut out, 258);
        check(&out, Packet::PubAck { id: 258 });
    }

    #[test]
    fn a_cut_packet_waits_for_more_at_every_length() {
        let mut out = Vec::new();
        PublishTemplate::new("bench/0", Qos::One, 0, 300, Filling::Text).encode(&mut out, 1, 1);
        for cut in 0..out.len() {
            assert_eq!(decode(&out[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn what_no_broker_may_send_is_refused() {
        for bytes in [
            &b"\x30\xff\xff\xff\xff\x01"[..],
            &b"\x30\xff\xff\xff\x7f"[..],
            &b"\x30\x01\x00"[..],
            &b"\x30\x03\x00\x09a"[..],
            &b"\x32\x03\x00\x01a"[..],
            &b"\x34\x05\x00\x01a\x00\x01"[..],
            &b"\x20\x01\x00"[..],
            &b"\x40\x01\x00"[..],
            &b"\x90\x02\x00\x01"[..],
            &b"\x10\x00"[..],
        ] {
            assert!(decode(bytes).is_err(), "{bytes:02x?} was accepted");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_from_a_broker_make_the_decoder_panic(bytes: Vec<u8>) {
            if let Ok(Some((_, used))) = decode(&bytes) {
                prop_assert!(used <= bytes.len());
            }
        }

        #[test]
        fn every_payload_size_round_trips(size in 12usize..20_000, id in 1u16.., seq: u64) {
            let mut out = Vec::new();
            PublishTemplate::new("t", Qos::One, 3, size, Filling::Text).encode(&mut out, id, seq);
            let (packet, used) = decode(&out).unwrap().unwrap();
            prop_assert_eq!(used, out.len());
            let Packet::Publish { id: found, payload, .. } = packet else {
                panic!("not a PUBLISH")
            };
            prop_assert_eq!((found, payload.len()), (Some(id), size));
            prop_assert_eq!(MessageTag::read(payload), Some(MessageTag { publisher: 3, seq }));
        }
    }
}
