//! The messages of one publisher: encoded once, with payloads that differ where the measurement
//! wants them to.

use crate::packet::{MessageTag, Qos, push_length, push_text};
use crate::random::Random;

/// What follows the tag in a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filling {
    /// The same text in every message.
    Text,
    /// Random bytes, other ones in every message: nothing that could be compressed.
    Random,
    /// No tag, but a sensor's reading as JSON, filled up with random letters. Every tenth is
    /// above 30.
    Reading,
    /// No tag, but what a weather station sends, as JSON of 128 bytes: names that repeat, digits
    /// that do not.
    Weather,
}

/// A PUBLISH of one publisher, encoded once; only identifier, sequence and random filling change
/// per message.
#[derive(Debug)]
pub(crate) struct PublishTemplate {
    bytes: Vec<u8>,
    id_at: Option<usize>,
    payload_at: usize,
    filling: Filling,
    random: Random,
}

impl PublishTemplate {
    /// `payload_bytes` includes the tag; shorter payloads are filled up to hold it, or the reading.
    pub(crate) fn new(
        topic: &str,
        qos: Qos,
        publisher: u32,
        payload_bytes: usize,
        filling: Filling,
    ) -> Self {
        let payload = first_payload(publisher, payload_bytes, filling);
        let id_bytes = match qos {
            Qos::Zero => 0,
            Qos::One => 2,
        };
        let mut bytes = vec![0x30 | (qos.level() << 1)];
        push_length(&mut bytes, 2 + topic.len() + id_bytes + payload.len());
        push_text(&mut bytes, topic);
        let id_at = (id_bytes > 0).then_some(bytes.len());
        bytes.resize(bytes.len() + id_bytes, 0);
        let payload_at = bytes.len();
        bytes.extend_from_slice(&payload);
        let random = Random::new(u64::from(publisher));
        PublishTemplate { bytes, id_at, payload_at, filling, random }
    }

    /// Appends message number `seq` to `out`.
    pub(crate) fn encode(&mut self, out: &mut Vec<u8>, id: u16, seq: u64) {
        if let Some(at) = self.id_at {
            self.bytes[at..at + 2].copy_from_slice(&id.to_be_bytes());
        }
        let payload = &mut self.bytes[self.payload_at..];
        match self.filling {
            Filling::Text => payload[4..12].copy_from_slice(&seq.to_be_bytes()),
            Filling::Random => {
                payload[4..12].copy_from_slice(&seq.to_be_bytes());
                self.random.fill(&mut payload[MessageTag::BYTES..]);
            }
            Filling::Reading => write_reading(payload, seq, &mut self.random),
            Filling::Weather => write_weather(payload, seq, &mut self.random),
        }
        out.extend_from_slice(&self.bytes);
    }
}

/// A reading up to its filling; what is written over per message has its place already.
const READING: &[u8] = br#"{"id":"s-000000000000","value":21.5,"pad":""#;
const READING_ID: std::ops::Range<usize> = 9..21;
const READING_VALUE: std::ops::Range<usize> = 31..35;
const READING_END: &[u8] = br#""}"#;

const WEATHER: &[u8] = br#"{"id":"north-07:00000000","temperature":21.00,"humidity":48.00,"pressure":1013.00,"wind":3.00,"battery":3.71,"heating_on":false}"#;
const WEATHER_NUMBER: std::ops::Range<usize> = 16..24;
/// Where the two digits behind the points of the first four values are.
const WEATHER_DIGITS: [usize; 4] = [43, 60, 79, 91];

fn first_payload(publisher: u32, bytes: usize, filling: Filling) -> Vec<u8> {
    if filling == Filling::Weather {
        return WEATHER.to_vec();
    }
    if filling == Filling::Reading {
        let pad = bytes.saturating_sub(READING.len() + READING_END.len());
        return [READING, &vec![b'x'; pad], READING_END].concat();
    }
    let mut payload = publisher.to_be_bytes().to_vec();
    // Printable filling that does not compress to nothing.
    let bytes = bytes.max(MessageTag::BYTES);
    payload.extend((4..bytes).map(|at| b'!' + ((at * 37 + at / 7) % 94) as u8));
    payload
}

fn write_reading(payload: &mut [u8], seq: u64, random: &mut Random) {
    let (digits, value) = (READING_ID.len(), if seq % 10 == 3 { b"31.5" } else { b"21.5" });
    let id = format!("{:0digits$}", seq % 1_000_000_000_000);
    payload[READING_ID].copy_from_slice(id.as_bytes());
    payload[READING_VALUE].copy_from_slice(value);
    let end = payload.len() - READING_END.len();
    let pad = &mut payload[READING.len()..end];
    random.fill(pad);
    for byte in pad {
        *byte = b'A' + (*byte & 31);
        // Between the two alphabets lie characters that JSON escapes.
        *byte = if *byte > b'Z' { *byte - b'Z' + b'0' } else { *byte };
    }
}

fn write_weather(payload: &mut [u8], seq: u64, random: &mut Random) {
    payload[WEATHER_NUMBER].copy_from_slice(format!("{:08}", seq % 100_000_000).as_bytes());
    let mut bits = random.bits();
    for at in WEATHER_DIGITS {
        payload[at] = b'0' + (bits % 10) as u8;
        payload[at + 1] = b'0' + (bits / 10 % 10) as u8;
        bits /= 100;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Packet, decode};

    fn payloads(filling: Filling) -> Vec<Vec<u8>> {
        let mut template = PublishTemplate::new("bench/7", Qos::One, 7, 128, filling);
        let payload = |seq| {
            let mut out = Vec::new();
            template.encode(&mut out, 1, seq);
            match decode(&out).unwrap() {
                Some((Packet::Publish { payload, .. }, _)) => payload.to_vec(),
                other => panic!("not a PUBLISH: {other:?}"),
            }
        };
        (0..20).map(payload).collect()
    }

    #[test]
    fn random_payloads_have_the_tag_and_nothing_else_in_common() {
        let payloads = payloads(Filling::Random);
        for (seq, payload) in payloads.iter().enumerate() {
            let tag = MessageTag { publisher: 7, seq: seq as u64 };
            assert_eq!((MessageTag::read(payload), payload.len()), (Some(tag), 128));
            assert_ne!(payload[12..20], payloads[(seq + 1) % 20][12..20]);
        }
    }

    #[test]
    fn weather_is_json_with_the_number_and_other_digits_each_time() {
        let payloads = payloads(Filling::Weather);
        for (seq, payload) in payloads.iter().enumerate() {
            let value: serde_json::Value = serde_json::from_slice(payload).unwrap();
            assert_eq!((payload.len(), &value["id"]), (128, &format!("north-07:{seq:08}").into()));
            for (name, around) in [("temperature", 21.0), ("humidity", 48.0), ("wind", 3.0)] {
                let off = value[name].as_f64().unwrap() - around;
                assert!((0.0..1.0).contains(&off), "{name}: {value}");
            }
            let behind = WEATHER_NUMBER.end;
            assert_ne!(payload[behind..], payloads[(seq + 1) % 20][behind..]);
        }
    }

    #[test]
    fn readings_are_json_of_the_size_asked_for_and_every_tenth_is_high() {
        for (seq, payload) in payloads(Filling::Reading).iter().enumerate() {
            let value: serde_json::Value = serde_json::from_slice(payload).unwrap();
            assert_eq!(payload.len(), 128);
            assert_eq!(value["value"].as_f64(), Some(if seq % 10 == 3 { 31.5 } else { 21.5 }));
            assert_eq!(value["id"], format!("s-{seq:012}"));
            assert_eq!(
                value["pad"].as_str().map(str::len),
                Some(128 - READING.len() - READING_END.len())
            );
        }
    }
}
