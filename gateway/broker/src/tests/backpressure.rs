//! Publishers wait for subscribers that read and are behind, and for nobody else.

use std::time::Duration;

use super::peer::*;
use crate::{BrokerEvent, BrokerLimits, ConnId, QoS};

const LIMIT: Duration = Duration::from_millis(100);

/// Each message takes 259 bytes of it: behind is more than ten of forty, caught up at most five.
fn world() -> World {
    World::with(BrokerLimits {
        max_packet: 512,
        max_queued_bytes_per_session: 40 * 259,
        ..BrokerLimits::default()
    })
}

fn deliver(world: &mut World, count: usize) {
    for number in 0..count {
        world.inject("t", &format!("{number:02}"), QoS::AtLeastOnce);
    }
}

/// Acknowledges the oldest `count` of what `conn` was sent, which `waiting` keeps.
fn take(world: &mut World, conn: ConnId, waiting: &mut Vec<u16>, count: usize) {
    waiting.extend(world.received(conn).iter().filter_map(|one| one.id));
    waiting.drain(..count).for_each(|id| world.send(conn, &puback(id)));
}

/// Whether the publisher's next message is taken in at once.
fn is_read(world: &mut World, publisher: ConnId, id: u16) -> bool {
    let before = world.published().len();
    world.publish(publisher, "other", "x", Some(id));
    world.published().len() > before
}

#[test]
fn publishers_wait_until_a_subscriber_has_caught_up() {
    let mut world = world();
    let (sub, publisher) = (world.subscriber(v5("s"), &[("t", qos(1))]), world.connect(v5("p")));
    deliver(&mut world, 10);
    assert!(is_read(&mut world, publisher, 1));
    deliver(&mut world, 1);
    assert!(!is_read(&mut world, publisher, 2));
    assert!(world.events.contains(&BrokerEvent::Pause(publisher)));
    let mut waiting = Vec::new();
    take(&mut world, sub, &mut waiting, 5);
    assert_eq!(world.published().len(), 1);
    take(&mut world, sub, &mut waiting, 1);
    assert_eq!(world.published().len(), 2);
    assert!(world.events.contains(&BrokerEvent::Resume(publisher)));
    assert_eq!(world.broker.stats().counters.held_back, 1);
}

#[test]
fn one_that_takes_a_quarter_of_its_queue_in_time_is_waited_for_again_and_again() {
    let mut world = world();
    let (sub, publisher) = (world.subscriber(v5("s"), &[("t", qos(1))]), world.connect(v5("p")));
    deliver(&mut world, 30);
    assert!(!is_read(&mut world, publisher, 1));
    let mut waiting = Vec::new();
    for _ in 0..10 {
        world.pass(LIMIT * 9 / 10);
        take(&mut world, sub, &mut waiting, 11);
        deliver(&mut world, 11);
        assert_eq!(world.published().len(), 0);
    }
    world.pass(LIMIT);
    assert_eq!(world.published().len(), 1, "it has stopped");
    assert_eq!(world.broker.stats().counters.dropped_qos1, 0);
}

#[test]
fn one_that_takes_too_little_is_given_up_on_and_has_to_wait_longer_each_time() {
    let mut world = world();
    let (sub, publisher) = (world.subscriber(v5("s"), &[("t", qos(1))]), world.connect(v5("p")));
    let (mut waiting, mut id) = (Vec::new(), 0);
    let mut is_read = |world: &mut World| {
        id += 1;
        is_read(world, publisher, id)
    };
    for pause in [1, 4, 8, 16, 32, 64, 64].map(Duration::from_secs) {
        deliver(&mut world, 11);
        assert!(!is_read(&mut world), "before the pause of {pause:?}");
        world.pass(LIMIT);
        assert!(is_read(&mut world));
        // As long as it stays behind, nobody waits for it again.
        world.pass(pause);
        deliver(&mut world, 1);
        assert!(is_read(&mut world));
        take(&mut world, sub, &mut waiting, 12);
        if pause > Duration::from_secs(1) {
            continue;
        }
        deliver(&mut world, 11);
        assert!(!is_read(&mut world));
        world.pass(LIMIT);
        take(&mut world, sub, &mut waiting, 11);
        world.pass(Duration::from_secs(2) - LIMIT);
        deliver(&mut world, 11);
        assert!(is_read(&mut world), "it was not waited for long before");
        take(&mut world, sub, &mut waiting, 11);
        world.pass(LIMIT);
    }
}

#[test]
fn a_client_that_is_owed_something_is_read_on() {
    let mut world = world();
    let sub = world.subscriber(v5("s"), &[("t", qos(1)), ("own", qos(1))]);
    let both = world.subscriber(v5("p"), &[("own", qos(1))]);
    world.inject("own", "x", QoS::AtLeastOnce);
    deliver(&mut world, 11);
    assert!(is_read(&mut world, both, 1));
    assert!(is_read(&mut world, sub, 1));
    let id = world.received(both)[0].id.unwrap();
    world.send(both, &puback(id));
    assert!(!is_read(&mut world, both, 2));
}

#[test]
fn nobody_waits_for_one_that_has_gone() {
    let mut world = world();
    let (sub, publisher) = (world.subscriber(v5("s"), &[("t", qos(1))]), world.connect(v5("p")));
    deliver(&mut world, 11);
    assert!(!is_read(&mut world, publisher, 1));
    world.cut(sub);
    assert_eq!(world.published().len(), 1);
    assert!(is_read(&mut world, publisher, 2));
}
