//! Retained messages: section 3.3.1.3.

use tidegate_peer::Version;
use tidegate_peer::encode::*;

use super::bench::*;

/// A broker with a retained message on `t`.
fn with_retained(version: Version) -> (Bench, Line) {
    let mut bench = Bench::new();
    let line = bench.client(version, "publisher");
    bench.publish(line, &publish("t", "old").qos(1, 1).retain());
    bench.got(line);
    (bench, line)
}

// 5: MQTT-3.3.1-5
// 3.1.1: MQTT-3.3.1-5, MQTT-3.3.1-6
#[test]
fn a_retained_message_is_given_to_later_subscribers_with_its_qos() {
    for version in BOTH {
        let mut bench = Bench::new();
        let publisher = bench.client(version, "publisher");
        for (qos, payload) in [(0, "a"), (1, "b"), (2, "c")] {
            bench.publish(publisher, &publish("t", payload).qos(qos, 9).retain());
            if qos == 2 {
                bench.send(publisher, &ack(PUBREL, 9));
            }
            let retained = bench.retained("t");
            assert_eq!(retained.len(), 1, "the last one replaces those before");
            assert_eq!((retained[0].qos, payloads(&retained)[0].as_str()), (qos, payload));
        }
    }
}

// 3.1.1: MQTT-3.3.1-6
#[test]
fn each_matching_topic_gives_its_last_retained_message() {
    for version in BOTH {
        let (mut bench, publisher) = with_retained(version);
        for topic in ["a/1", "a/2", "a/1"] {
            bench.publish(publisher, &publish(topic, topic).retain());
        }
        let line = bench.client(version, "c");
        let mut got = payloads(&messages(bench.subscribe(line, &[("a/+", 0)])));
        got.sort();
        assert_eq!(got, ["a/1", "a/2"]);
    }
}

// 3.1.1: MQTT-3.3.1-7
#[test]
fn qos_0_replaces_the_retained_message_too() {
    let (mut bench, publisher) = with_retained(Version::V3_1_1);
    bench.publish(publisher, &publish("t", "new").retain());
    assert_eq!(payloads(&bench.retained("t")), ["new"]);
}

// 3.1.1: MQTT-3.3.1-8
#[test]
fn retain_is_set_on_what_a_new_subscription_brings() {
    for version in BOTH {
        let (mut bench, _) = with_retained(version);
        let line = bench.client(version, "c");
        let got = messages(bench.subscribe(line, &[("t", 1)]));
        assert!(got.len() == 1 && got[0].retain);
    }
}

// 5: MQTT-3.3.1-12
// 3.1.1: MQTT-3.3.1-9
#[test]
fn retain_is_clear_for_an_established_subscription() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.subscriber(version, "c", &[("t", 1)]);
        for publish in [publish("t", "x").retain(), publish("t", "y")] {
            bench.publish(line, &publish);
            assert!(!bench.messages(line)[0].retain);
        }
    }
}

// 5: MQTT-3.3.1-13
#[test]
fn retain_as_published_keeps_retain_as_it_was_published() {
    let mut bench = Bench::new();
    let line = bench.subscriber(Version::V5, "c", &[("t", RETAIN_AS_PUBLISHED)]);
    bench.publish(line, &publish("t", "x").retain());
    bench.publish(line, &publish("t", "y"));
    let retain: Vec<bool> = bench.messages(line).iter().map(|message| message.retain).collect();
    assert_eq!(retain, [true, false]);
}

// 5: MQTT-3.3.1-6, MQTT-3.3.1-7
// 3.1.1: MQTT-3.3.1-10, MQTT-3.3.1-11
#[test]
fn an_empty_retained_message_is_delivered_and_removes_the_old_one() {
    for version in BOTH {
        let (mut bench, publisher) = with_retained(version);
        let line = bench.subscriber(version, "c", &[("t", 0)]);
        bench.got(line);
        bench.publish(publisher, &publish("t", "").retain());
        assert_eq!(bench.payloads(line), [""]);
        assert_eq!(bench.retained("t"), [], "neither the old one nor the empty one");
    }
}

// 5: MQTT-3.3.1-8
// 3.1.1: MQTT-3.3.1-12
#[test]
fn a_message_without_retain_leaves_the_retained_one_alone() {
    for version in BOTH {
        let (mut bench, publisher) = with_retained(version);
        bench.publish(publisher, &publish("t", "passing"));
        bench.publish(publisher, &publish("t", "passing").qos(1, 2));
        bench.publish(publisher, &publish("t", ""));
        bench.publish(publisher, &publish("other", "passing"));
        assert_eq!(payloads(&bench.retained("#")), ["old"]);
    }
}

// 3.1.1: MQTT-3.1.2-7
#[test]
fn retained_messages_outlive_the_session_of_their_publisher() {
    let (mut bench, publisher) = with_retained(Version::V3_1_1);
    bench.send(publisher, DISCONNECT);
    bench.client(Version::V3_1_1, "publisher");
    bench.pass(30 * 24 * 3600);
    assert_eq!(payloads(&bench.retained("t")), ["old"]);
}

// 5: MQTT-3.3.1-9, MQTT-3.3.1-10, MQTT-3.3.1-11
#[test]
fn retain_handling_decides_whether_a_subscription_brings_retained_messages() {
    for (handling, first, again) in
        [(0, true, true), (RETAINED_IF_NEW, true, false), (RETAINED_NEVER, false, false)]
    {
        let (mut bench, _) = with_retained(Version::V5);
        let line = bench.client(Version::V5, "c");
        for expected in [first, again] {
            let got = bench.subscribe(line, &[("t", handling)]);
            assert_eq!(got.len(), usize::from(expected), "{handling:#x}");
        }
        // After UNSUBSCRIBE it is new again.
        bench.send(line, &unsubscribe(Version::V5, 1, &["t"]));
        bench.got(line);
        assert_eq!(bench.subscribe(line, &[("t", handling)]).len(), usize::from(first));
    }
}

// 5: MQTT-3.3.1-10
#[test]
fn a_subscription_that_survived_with_its_session_is_not_new() {
    let (mut bench, _) = with_retained(Version::V5);
    let line = bench.connect(&connect(Version::V5, "c").kept());
    assert_eq!(bench.subscribe(line, &[("t", RETAINED_IF_NEW)]).len(), 1);
    bench.cut(line);
    let line = bench.connect(&connect(Version::V5, "c").keep());
    assert_eq!(bench.subscribe(line, &[("t", RETAINED_IF_NEW)]), []);
}

// 5: MQTT-3.3.2-5, MQTT-3.3.2-6
#[test]
fn a_retained_message_expires_and_says_what_is_left_until_then() {
    let mut bench = Bench::new();
    let publisher = bench.client(Version::V5, "publisher");
    let expiry = prop::four(prop::MESSAGE_EXPIRY, 10);
    bench.publish(publisher, &publish("t", "x").retain().with(expiry));
    bench.pass(4);
    assert_eq!(bench.retained("t")[0].properties.number(prop::MESSAGE_EXPIRY), Some(6));
    bench.pass(6);
    assert_eq!(bench.retained("t"), []);
}

// 5: MQTT-3.3.1-9, MQTT-3.3.1-12, MQTT-4.3.3-10
// 3.1.1: MQTT-3.3.1-6, MQTT-3.3.1-9
#[test]
fn a_message_published_while_retained_ones_still_wait_comes_once() {
    let mut bench = Bench::new();
    let publisher = bench.client(Version::V5, "publisher");
    for (id, topic) in [(1, "t/1"), (2, "t/2"), (3, "t/3")] {
        bench.publish(publisher, &publish(topic, topic).qos(1, id).retain());
    }
    // One message at a time: the others have to wait for the first.
    let narrow = connect(Version::V5, "c").with(prop::two(prop::RECEIVE_MAXIMUM, 1));
    let line = bench.connect(&narrow);
    let mut got = messages(bench.subscribe(line, &[("t/+", 2)]));
    bench.publish(publisher, &publish("t/3", "newer").qos(1, 4).retain());
    bench.publish(publisher, &publish("t/4", "new").qos(1, 5).retain());
    let mut seen = Vec::new();
    while let Some(message) = got.pop() {
        bench.send(line, &ack(PUBACK, message.id));
        seen.push((payloads(std::slice::from_ref(&message)).remove(0), message.retain));
        got.extend(bench.messages(line));
    }
    seen.sort();
    // The old message on t/3 is gone when its turn comes.
    let expected = [("new", false), ("newer", false), ("t/1", true), ("t/2", true)];
    assert_eq!(seen, expected.map(|(payload, retain)| (payload.to_owned(), retain)));
}

// 5: MQTT-3.3.1-9, MQTT-3.3.1-11
// 3.1.1: MQTT-3.3.1-6, MQTT-3.3.1-8
#[test]
fn what_was_published_in_the_same_bytes_before_a_subscription_is_an_old_message_to_it() {
    for version in BOTH {
        let mut bench = Bench::new();
        let line = bench.client(version, "c");
        let before = [publish("t", "old").retain(), publish("t/x", "not kept")];
        let mut bytes: Vec<u8> = before.iter().flat_map(|one| one.bytes(version)).collect();
        bytes.extend(subscribe(version, 1, &[("t/#", 0)]));
        bytes.extend(publish("t/x", "new").bytes(version));
        bench.send(line, &bytes);
        let got = bench.messages(line);
        let got: Vec<_> = got.iter().map(|one| (one.payload.as_slice(), one.retain)).collect();
        assert_eq!(got, [(&b"old"[..], true), (&b"new"[..], false)]);
    }
}
