//! Bytes of any kind at both sides.

use std::vec::Vec;

use tidegate_device_sim::random::Random;
use tidegate_device_sim::uart::Faults;

use super::Pair;
use crate::Micros;

/// What both sides of a busy link have sent.
fn recorded(seed: u64) -> Vec<Vec<u8>> {
    let mut pair: Pair = Pair::new(seed, Faults::all(500));
    pair.queue(6, 400);
    let mut frames = Vec::new();
    let mut out = [0; 300];
    for step in 0..400u64 {
        let now = Micros(step * 25_000);
        pair.device.fill();
        pair.gateway.fill();
        let length = pair.device.link.poll_output(now, &mut out);
        pair.gateway.link.handle_input(now, &out[..length]);
        frames.push(out[..length].to_vec());
        let length = pair.gateway.link.poll_output(now, &mut out);
        pair.device.link.handle_input(now, &out[..length]);
        frames.push(out[..length].to_vec());
        let _ = (pair.device.link.receive(), pair.gateway.link.receive());
    }
    frames.retain(|frame| !frame.is_empty());
    frames
}

/// Frames changed before they were put on the line, so that COBS and form are often right.
#[test]
fn a_million_mutated_frames_panic_at_no_side() {
    let mut random = Random::new(7);
    let frames = recorded(7);
    assert!(frames.len() > 20);
    let mut pair: Pair = Pair::new(7, Faults::default());
    for step in 0..1_000_000 {
        let mut bytes = frames[random.below(frames.len())].clone();
        for _ in 0..1 + random.below(3) {
            random.mutate(&mut bytes);
        }
        let now = Micros(step * 500);
        pair.device.link.handle_input(now, &bytes);
        pair.gateway.link.handle_input(now, &bytes);
        let mut out = [0; 300];
        pair.device.link.poll_output(now, &mut out);
        pair.gateway.link.poll_output(now, &mut out);
        // The nonces of the recorded session come from the same seeds, so its frames may count; a
        // message that comes out of them then is one that was sent.
        if let Some(message) = pair.gateway.link.receive() {
            assert!(message.bytes.len() >= 8);
        }
    }
}
