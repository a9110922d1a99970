//! Publishes in, acknowledgements and deliveries out.

use std::time::Duration;

use super::peer::*;
use crate::{Answer, BrokerEvent, BrokerLimits, QoS, RefuseReason, Version};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

fn hello(version: Version, client: &'static str) -> Hello {
    Hello { version, ..v3(client) }
}

#[test]
fn a_message_reaches_subscribers_of_either_version_with_the_lower_qos() {
    for from in BOTH {
        for to in BOTH {
            for (published, wished, expected) in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 1, 1)] {
                let mut world = World::new();
                let subscriber = world.subscriber(hello(to, "s"), &[("a/+", qos(wished))]);
                let publisher = world.connect(hello(from, "p"));
                world.publish(publisher, "a/b", "x", (published == 1).then_some(7));
                let received = world.received(subscriber);
                assert_eq!(received.len(), 1);
                assert_eq!(
                    (received[0].topic.as_str(), received[0].payload.as_str()),
                    ("a/b", "x")
                );
                assert_eq!((received[0].qos, received[0].retain), (expected, false));
                assert_eq!(received[0].id.is_some(), expected == 1);
                let acks = world.got(publisher);
                let expected: &[Got] =
                    if published == 1 { &[Got::PubAck { id: 7, code: 0 }] } else { &[] };
                assert_eq!(acks, expected);
            }
        }
    }
}
