//! A serial line with one device: the link of the SDK at both ends.

use std::collections::VecDeque;

use tidegate_link::{Config, Link, Micros, Role, Turns};
use tidegate_wire::message::CHANNEL;

/// As the gateway and a small device have them.
type GatewayLink = Link<1024, 8, 8192>;
type DeviceLink = Link<256, 4, 1280>;

/// See the module. `true` is the device's end, or the way to it.
pub(super) struct Cable {
    gateway: Box<GatewayLink>,
    device: Box<DeviceLink>,
    /// What is to be said, by the gateway and by the device.
    says: [VecDeque<Vec<u8>>; 2],
    /// Bytes on the line to the device.
    pub(super) sent: u64,
    due: u64,
}

impl Cable {
    pub(super) fn new(seed: u64) -> Cable {
        let config = |role| Config { role, address: 1, turns: Turns::Free };
        Cable {
            gateway: Box::new(Link::new(config(Role::Gateway), seed)),
            device: Box::new(Link::new(config(Role::Device), !seed)),
            says: [VecDeque::new(), VecDeque::new()],
            sent: 0,
            due: u64::MAX,
        }
    }

    pub(super) fn say(&mut self, by_device: bool, message: Vec<u8>) {
        self.says[usize::from(by_device)].push_back(message);
    }

    /// A frame arrives at an end.
    pub(super) fn take(&mut self, ms: u64, at_device: bool, frame: &[u8]) {
        let now = Micros(ms * 1_000);
        match at_device {
            true => self.device.handle_input(now, frame),
            false => self.gateway.handle_input(now, frame),
        }
    }

    /// What both ends have to send now, and whether it goes to the device.
    pub(super) fn frames(&mut self, ms: u64) -> Vec<(bool, Vec<u8>)> {
        let now = Micros(ms * 1_000);
        let mut frames = Vec::new();
        let mut out = [0; GatewayLink::MAX_OUTPUT];
        loop {
            let [gateway, device] = &mut self.says;
            hand_over(gateway, |rest| self.gateway.send(CHANNEL, rest).ok());
            hand_over(device, |rest| self.device.send(CHANNEL, rest).ok());
            let down = self.gateway.poll_output(now, &mut out);
            if down > 0 {
                self.sent += down as u64;
                frames.push((true, out[..down].to_vec()));
            }
            let up = self.device.poll_output(now, &mut out);
            if up > 0 {
                frames.push((false, out[..up].to_vec()));
            }
            if down + up == 0 {
                return frames;
            }
        }
    }

    /// Messages that came through, and whether to the device.
    pub(super) fn heard(&mut self) -> Vec<(bool, Vec<u8>)> {
        let mut heard = Vec::new();
        while let Some(message) = self.gateway.receive() {
            heard.push((false, message.bytes.to_vec()));
        }
        while let Some(message) = self.device.receive() {
            heard.push((true, message.bytes.to_vec()));
        }
        heard
    }

    /// When something is due, if that was not said yet.
    pub(super) fn next_due(&mut self, ms: u64) -> Option<u64> {
        let deadlines = [self.gateway.next_deadline(), self.device.next_deadline()];
        let due = deadlines.into_iter().flatten().min()?;
        let due = due.0.div_ceil(1_000).max(ms + 1);
        let said = self.due > ms && self.due <= due;
        (!said).then(|| {
            self.due = due;
            due
        })
    }

    pub(super) fn is_due(&self, ms: u64) -> bool {
        self.due <= ms
    }
}

/// Gives a link as much as it takes.
fn hand_over(says: &mut VecDeque<Vec<u8>>, mut send: impl FnMut(&[u8]) -> Option<usize>) {
    while let Some(message) = says.front_mut() {
        match send(message) {
            Some(count) if count == message.len() => drop(says.pop_front()),
            Some(count) if count > 0 => drop(message.drain(..count)),
            Some(_) | None => return,
        }
    }
}
