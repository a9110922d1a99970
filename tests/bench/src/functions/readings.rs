//! Input frames with readings, every tenth above the limit of 30.

use anyhow::Result;
use tidegate_abi::{BatchWriter, InputFlags, Kind, MessageRef, Qos};
use tidegate_gauge::READING_BYTES;

use crate::packet::{self, Packet};
use crate::template::{Filling, PublishTemplate};

/// The time of the first batch: 2026-01-01.
const START_NS: i64 = 1_767_225_600 * 1_000_000_000;
const TOPICS: u64 = 10;

/// How a reading is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// A little-endian `f32` and filling.
    Packed,
    /// A JSON object.
    Json,
}

/// Frames of `batch` records each; different ones, so that no run is the same record for ever.
pub(super) fn frames(shape: Shape, batch: usize, count: usize) -> Result<Vec<Vec<u8>>> {
    let template = |_| {
        let qos = packet::Qos::One;
        PublishTemplate::new("bench/0", qos, 0, READING_BYTES, Filling::Reading)
    };
    let mut json = template(());
    let mut frames = Vec::with_capacity(count);
    let mut seq = 1;
    for _ in 0..count {
        let writer = BatchWriter::new(Kind::Messages, START_NS + seq as i64 * 1_000_000, seq);
        let mut writer = writer.with_flags(InputFlags::CAUSES);
        for _ in 0..batch {
            let payload = match shape {
                Shape::Packed => packed(seq),
                Shape::Json => payload(&mut json, seq)?,
            };
            writer.push(&MessageRef {
                seq,
                ts_ns: START_NS + seq as i64 * 1_000_000,
                topic: &format!("sensors/{}/telemetry", seq % TOPICS),
                payload: &payload,
                props: &[],
                qos: Qos::AtLeastOnce,
                retain: false,
                attempt: 0,
                source: 0,
            })?;
            seq += 1;
        }
        frames.push(writer.finish());
    }
    Ok(frames)
}

fn packed(seq: u64) -> Vec<u8> {
    let value: f32 = if seq % 10 == 3 { 31.5 } else { 21.5 };
    let mut payload = value.to_le_bytes().to_vec();
    payload.resize(READING_BYTES, seq as u8);
    payload
}

/// The payload of a PUBLISH as the load generator makes it.
fn payload(template: &mut PublishTemplate, seq: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    template.encode(&mut bytes, 1, seq);
    match packet::decode(&bytes)? {
        Some((Packet::Publish { payload, .. }, _)) => Ok(payload.to_vec()),
        other => anyhow::bail!("the template makes no PUBLISH but {other:?}"),
    }
}
