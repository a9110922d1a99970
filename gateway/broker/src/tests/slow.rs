//! Subscribers that do not keep up and whose sessions end with their connection.

use super::peer::*;
use crate::{BrokerLimits, CloseReason, ConnId, QoS, SlowSubscriber};

/// Each message takes 259 bytes of it: seven fit.
fn world(slow_subscriber: SlowSubscriber) -> World {
    World::with(BrokerLimits {
        max_packet: 512,
        max_queued_bytes_per_session: 1_900,
        slow_subscriber,
        ..BrokerLimits::default()
    })
}

/// One that takes a message at a time and acknowledges none, and one that takes all.
fn two(world: &mut World, filter: &str) -> (ConnId, ConnId) {
    let hello = Hello { properties: vec![property::receive_maximum(1)], ..v5("stuck") };
    let stuck = world.subscriber(hello, &[(filter, qos(1))]);
    let good = world.subscriber(v5("good"), &[(filter, qos(1))]);
    (stuck, good)
}

/// The good one acknowledges what it gets; answers its payloads.
fn take(world: &mut World, conn: ConnId) -> Vec<String> {
    let received = world.received(conn);
    received.iter().filter_map(|one| one.id).for_each(|id| world.send(conn, &puback(id)));
    received.into_iter().map(|one| one.payload).collect()
}

fn publish_thirty(world: &mut World, good: ConnId) -> Vec<String> {
    let mut got = Vec::new();
    for number in 0..30 {
        world.inject("t", &format!("{number:02}"), QoS::AtLeastOnce);
        got.extend(take(world, good));
    }
    got
}

/// What the stuck one gets when it takes everything after all.
fn rest(world: &mut World, stuck: ConnId) -> Vec<String> {
    let mut got = Vec::new();
    loop {
        let some = take(world, stuck);
        if some.is_empty() {
            return got;
        }
        got.extend(some);
    }
}

#[test]
fn by_default_the_newest_are_dropped_for_it() {
    let mut world = world(SlowSubscriber::default());
    let (stuck, good) = two(&mut world, "t");
    assert_eq!(publish_thirty(&mut world, good).len(), 30);
    assert_eq!(rest(&mut world, stuck), ["00", "01", "02", "03", "04", "05", "06"]);
    assert_eq!(world.broker.stats().counters.dropped_qos1, 23);
}

#[test]
fn the_oldest_that_were_not_sent_are_dropped_if_the_policy_says_so() {
    let mut world = world(SlowSubscriber::DropOldest);
    let (stuck, good) = two(&mut world, "t");
    assert_eq!(publish_thirty(&mut world, good).len(), 30);
    assert_eq!(rest(&mut world, stuck), ["00", "24", "25", "26", "27", "28", "29"]);
    let stats = world.broker.stats();
    assert_eq!((stats.counters.dropped_qos1, stats.queued_bytes), (23, 0));
}

#[test]
fn it_is_disconnected_if_the_policy_says_so_and_nobody_else_is() {
    let mut world = world(SlowSubscriber::Disconnect);
    let (stuck, good) = two(&mut world, "t");
    assert_eq!(publish_thirty(&mut world, good).len(), 30);
    assert!(matches!(world.closed(stuck), Some(CloseReason::Fault { code: 0x97, .. })));
    let goodbye = world.got(stuck).pop();
    assert!(matches!(goodbye, Some(Got::Disconnect(0x97))), "{goodbye:?}");
    assert_eq!(world.closed(good), None);
    let stats = world.broker.stats();
    assert_eq!((stats.counters.slow_disconnected, stats.queued_bytes), (1, 0));
    assert_eq!(stats.sessions.len(), 1);
}

#[test]
fn a_member_of_a_shared_subscription_that_takes_nothing_costs_the_others_nothing() {
    for policy in [SlowSubscriber::DropNewest, SlowSubscriber::DropOldest] {
        let mut world = world(policy);
        let (stuck, good) = two(&mut world, "$share/g/t");
        let got = publish_thirty(&mut world, good);
        assert_eq!(world.payloads(stuck), ["00"]);
        // One is under way to it and one waits behind.
        assert_eq!(got.len(), 28, "{got:?}");
        assert_eq!(world.broker.stats().counters.dropped_qos1, 0);
    }
}

#[test]
fn a_member_that_is_full_is_passed_over_while_another_has_room() {
    let mut world = world(SlowSubscriber::DropNewest);
    let members = ["stuck", "slow"].map(|client| {
        let hello = Hello { properties: vec![property::receive_maximum(1)], ..v5(client) };
        world.subscriber(hello, &[("$share/g/t", qos(1))])
    });
    let [stuck, slow] = members;
    // The other one has a backlog too, and takes it only now and then.
    for number in 0..60 {
        world.inject("t", &format!("{number:02}"), QoS::AtLeastOnce);
        if number % 6 == 5 {
            rest(&mut world, slow);
        }
    }
    assert_eq!(world.payloads(stuck).len(), 1);
    let dropped = world.broker.stats().counters.dropped_qos1;
    assert!(dropped <= 1, "{dropped} dropped, though the other one had room");
}
