//! On a link: the end of a connection is said by both sides, and another follows.

use std::vec::Vec;
use tidegate_link::{Config as LinkConfig, Link, Role};

use super::{CONNACK, config};
use crate::{Client, Incoming, Line, MQTT, Micros, Publish};

type DeviceLink = Link<64, 4, 256>;

struct Site<'b> {
    now: Micros,
    device: DeviceLink,
    gateway: DeviceLink,
    line: Line,
    client: Client<'b>,
    /// What came to the gateway, message by message.
    came: Vec<Vec<u8>>,
    events: Vec<std::string::String>,
}

impl<'b> Site<'b> {
    fn new(shelf: &'b mut [u8], input: &'b mut [u8]) -> Site<'b> {
        Site {
            now: Micros(0),
            device: Link::new(LinkConfig::new(Role::Device, 1), 3),
            gateway: Link::new(LinkConfig::new(Role::Gateway, 1), 4),
            line: Line::new(5),
            client: Client::new(config(&[]), shelf, input),
            came: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Lets the time pass, millisecond by millisecond.
    fn run(&mut self, millis: u64) {
        let mut frame = [0; DeviceLink::MAX_OUTPUT];
        for _ in 0..millis {
            self.now = self.now.after(Micros::from_millis(1));
            let events = &mut self.events;
            self.line.exchange(self.now, &mut self.device, &mut self.client, |incoming| {
                match incoming {
                    Incoming::Mqtt(event) => events.push(std::format!("{event:?}")),
                    Incoming::Other { channel, bytes } => {
                        events.push(std::format!("{channel}: {bytes:?}"));
                    }
                    Incoming::LinkUp => events.push("link up".into()),
                    Incoming::LinkDown => events.push("link down".into()),
                }
            });
            loop {
                let up = self.device.poll_output(self.now, &mut frame);
                self.gateway.handle_input(self.now, &frame[..up]);
                while let Some(message) = self.gateway.receive() {
                    assert_eq!(message.channel, MQTT);
                    self.came.push(message.bytes.to_vec());
                }
                let down = self.gateway.poll_output(self.now, &mut frame);
                self.device.handle_input(self.now, &frame[..down]);
                if up + down == 0 {
                    break;
                }
            }
        }
    }

    fn say(&mut self, bytes: &[u8]) {
        assert_eq!(self.gateway.send(MQTT, bytes), Ok(bytes.len()));
    }
}

#[test]
fn a_packet_longer_than_a_frame_takes_several_messages() {
    let (mut shelf, mut input) = ([0; 256], [0; 64]);
    let mut site = Site::new(&mut shelf, &mut input);
    let payload = [7; 150];
    let id = site.client.publish(&Publish::new("t", &payload)).unwrap();
    site.run(20);
    assert_eq!(site.came[0][0], 0x10);
    site.came.clear();
    site.say(CONNACK);
    site.run(100);
    let sizes: Vec<usize> = site.came.iter().map(Vec::len).collect();
    assert_eq!(sizes, [53, 53, 53], "frames of 64 bytes");
    site.say(&[0x40, 2, 0, id as u8]);
    site.gateway.send(1, b"firmware").unwrap();
    site.run(20);
    let expected = [
        "link up",
        "Up { session_present: false }",
        "Acknowledged { id: 1, reason: 0 }",
        "1: [102, 105, 114, 109, 119, 97, 114, 101]",
    ];
    assert_eq!(site.events, expected);
    assert!(site.client.is_settled());
}

#[test]
fn an_end_is_answered_by_an_end_and_a_new_connection_follows_after_a_wait() {
    let (mut shelf, mut input) = ([0; 256], [0; 64]);
    let mut site = Site::new(&mut shelf, &mut input);
    site.run(20);
    // The gateway does not let it in: the device ends first.
    site.came.clear();
    site.say(b"\x20\x03\0\x85\0");
    site.run(100);
    assert_eq!(site.came, [b""], "its end");
    site.came.clear();
    // What was under way before the gateway's end belongs to the old connection.
    site.say(CONNACK);
    site.say(b"");
    site.run(400);
    assert_eq!(site.came.len(), 0, "it waits for half a second at least");
    site.run(1_000);
    assert_eq!(site.came[0][0], 0x10);
    site.say(CONNACK);
    site.run(20);
    assert!(site.client.is_up());
    // The gateway ends: the device answers.
    site.came.clear();
    site.say(b"");
    site.run(20);
    assert_eq!(site.came, [b""]);
    site.run(1_500);
    assert_eq!(site.came[1][0], 0x10);
    assert!(site.line.is_open());
    let refused = site.events.iter().any(|event| *event == "Refused(133)");
    assert!(refused, "{:?}", site.events);
}
