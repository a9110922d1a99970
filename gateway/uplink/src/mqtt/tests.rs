//! The client against bytes: what it writes, and what it makes of what a server writes.

mod hostile;
mod sending;

use std::time::{Duration, Instant};

use tidegate_stream::{Epoch, Seq};

use super::*;
use crate::{Batch, LaneId, OutboundRecord, SeqRange};

#[expect(clippy::disallowed_methods, reason = "an Instant cannot be made from nothing")]
fn some_instant() -> Instant {
    Instant::now()
}

fn options(version: Version) -> ClientOptions {
    ClientOptions {
        version,
        gateway: "gw".to_owned(),
        client_id: "tidegate-gw-up".to_owned(),
        login: None,
        keep_alive: Duration::from_secs(30),
        max_packet: 1_024,
        max_message: None,
        packet_ids: 16,
        packing: None,
    }
}

fn batch(stream: &str, records: Vec<OutboundRecord>) -> Batch {
    let seq = |record: Option<&OutboundRecord>| record.map_or(Seq(1), |record| record.seq);
    let range = SeqRange { first: seq(records.first()), last: seq(records.last()) };
    Batch { lane: LaneId(0), stream: stream.into(), epoch: Epoch(1), range, records }
}

fn one(payload: &[u8]) -> Batch {
    let record = OutboundRecord {
        topic: "t".to_owned(),
        client: "c".to_owned(),
        payload: payload.to_vec(),
        ..OutboundRecord::default()
    };
    batch("s", vec![record])
}

/// Everything in the outbox, which the socket takes.
fn sent(client: &mut Client) -> Vec<u8> {
    let mut sent = Vec::new();
    loop {
        let out = client.outbox().to_vec();
        if out.is_empty() {
            return sent;
        }
        client.written(out.len());
        sent.extend(out);
    }
}

/// A client whose server has answered with these bytes.
fn welcomed(options: ClientOptions, connack: &[u8]) -> Client {
    let mut client = Client::new(options);
    sent(&mut client);
    client.handle_input(some_instant(), connack).unwrap();
    assert_eq!(client.poll_event(), Some(ClientEvent::Opened));
    client
}

fn open(version: Version) -> Client {
    let connack: &[u8] = match version {
        Version::V5 => &[0x20, 3, 0, 0, 0],
        Version::V311 => &[0x20, 2, 0, 0],
    };
    welcomed(options(version), connack)
}

fn events(client: &mut Client) -> Vec<ClientEvent> {
    std::iter::from_fn(|| client.poll_event()).collect()
}

/// A PUBLISH as it stands in the bytes.
#[derive(Debug, PartialEq)]
struct Sent {
    topic: String,
    id: u16,
    is_text: bool,
    content_type: Option<String>,
    user: Vec<(String, String)>,
    payload: Vec<u8>,
}

/// Takes a stream of QoS 1 PUBLISHes apart; by other code than what wrote them.
fn publishes(version: Version, bytes: &[u8]) -> Vec<Sent> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while !rest.is_empty() {
        assert_eq!(rest[0], 0x32, "PUBLISH, QoS 1");
        rest = &rest[1..];
        let length = variable(&mut rest);
        let (mut body, after) = rest.split_at(length);
        rest = after;
        let topic = text(&mut body);
        let id = u16::from_be_bytes([body[0], body[1]]);
        body = &body[2..];
        let (mut is_text, mut content_type, mut user) = (false, None, Vec::new());
        if version == Version::V5 {
            let length = variable(&mut body);
            let (mut properties, after) = body.split_at(length);
            body = after;
            while !properties.is_empty() {
                let kind = properties[0];
                properties = &properties[1..];
                match kind {
                    0x01 => {
                        is_text = properties[0] == 1;
                        properties = &properties[1..];
                    }
                    0x03 => content_type = Some(text(&mut properties)),
                    0x26 => user.push((text(&mut properties), text(&mut properties))),
                    other => panic!("property {other:#x}"),
                }
            }
        }
        found.push(Sent { topic, id, is_text, content_type, user, payload: body.to_vec() });
    }
    found
}

fn variable(bytes: &mut &[u8]) -> usize {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap();
    let (digits, rest) = bytes.split_at(end + 1);
    *bytes = rest;
    digits.iter().rev().fold(0, |value, digit| value << 7 | usize::from(digit & 0x7f))
}

fn text(bytes: &mut &[u8]) -> String {
    let length = usize::from(u16::from_be_bytes([bytes[0], bytes[1]]));
    let (text, rest) = bytes[2..].split_at(length);
    *bytes = rest;
    String::from_utf8(text.to_vec()).unwrap()
}
