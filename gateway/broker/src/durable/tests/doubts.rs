//! Identifiers of messages that are gone before it was known who had been sent them.

use std::time::Duration;

use super::waiting::Owner;
use crate::durable::format::{PLACE, PlaceValue};
use crate::inflight::{IDS, id_of};
use crate::tests::peer::*;
use crate::{Change, ConnId, PersistTicket};

/// Records that have been sent before the power fails.
const SENT: u64 = 4;

/// A subscriber has been sent messages of QoS 2, of which nothing is written down, and the power
/// fails; then the first of them are gone before they have been counted.
fn restarted(table: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> Owner {
    let mut owner = Owner::new();
    owner.table = table.into_iter().collect();
    let entries = owner.table.iter().map(|(key, value)| (&key[..], &value[..]));
    let restored = owner.world.broker.restore(owner.world.now, entries, SENT + 1);
    assert_eq!((restored.sessions, restored.unknown), (1, 0));
    owner
}

fn gone(gone_below: u64) -> Owner {
    let mut owner = Owner::new();
    let conn = owner.subscriber("s", 2);
    let table = owner.table.clone();
    (1..=SENT).for_each(|seq| drop(owner.spooled(seq, "x")));
    assert_eq!(owner.world.payloads(conn).len(), SENT as usize);
    let mut owner = restarted(table);
    owner.world.broker.spool_lost(gone_below);
    owner
}

fn back(owner: &mut Owner) -> ConnId {
    let conn = owner.world.hello(&v5("s").keep(60));
    owner.sync();
    conn
}

fn released(got: &[Got]) -> Vec<u16> {
    got.iter()
        .filter_map(|got| match got {
            Got::PubRel { id, .. } => Some(*id),
            _ => None,
        })
        .collect()
}

fn two() -> Vec<std::ops::Range<u64>> {
    std::iter::once(1..3).collect()
}

/// What the table says is in doubt.
fn written(owner: &mut Owner) -> Vec<std::ops::Range<u64>> {
    owner.world.pass(Duration::from_secs(2));
    if let Some((changes, _)) = owner.world.broker.take_progress(owner.world.now) {
        changes.into_iter().for_each(|change: Change| owner.change(change));
    }
    let place = owner.table.iter().find(|(key, _)| key[0] == PLACE).unwrap();
    PlaceValue::decode(place.1).unwrap().in_doubt
}

#[test]
fn pubrel_is_said_of_what_is_gone_and_may_have_been_sent() {
    let mut owner = gone(3);
    let conn = back(&mut owner);
    let got = owner.got(conn);
    assert_eq!(released(&got), [id_of(1), id_of(2)], "{got:?}");
    assert_eq!(written(&mut owner), two());
    owner.world.send(conn, &ack(PUBCOMP, id_of(1)));
    owner.world.send(conn, &ack(PUBCOMP, id_of(2)));
    assert!(written(&mut owner).is_empty());
    owner.world.cut(conn);
    let conn = back(&mut owner);
    assert!(released(&owner.got(conn)).is_empty());
}

#[test]
fn it_is_said_again_until_it_is_answered_also_after_another_power_cut() {
    let mut owner = gone(3);
    let conn = back(&mut owner);
    owner.world.send(conn, &ack(PUBCOMP, id_of(1)));
    owner.world.cut(conn);
    assert_eq!(written(&mut owner), two());
    let mut owner = restarted(owner.table);
    let conn = back(&mut owner);
    assert_eq!(released(&owner.got(conn)), [id_of(1), id_of(2)]);
}

#[test]
fn it_waits_until_it_is_durable_that_the_records_are_not_sent_again() {
    let mut owner = gone(1);
    let conn = back(&mut owner);
    assert!(released(&owner.got(conn)).is_empty());
    owner.world.broker.spool_lost(3);
    owner.world.settle();
    assert!(released(&owner.got(conn)).is_empty());
    owner.write();
    let place = owner.table.iter().find(|(key, _)| key[0] == PLACE).unwrap();
    assert_eq!(PlaceValue::decode(place.1).unwrap().in_doubt, two());
    owner.sync();
    assert_eq!(released(&owner.got(conn)), [id_of(1), id_of(2)]);
}

#[test]
fn a_later_message_under_the_identifier_comes_behind_its_pubrel() {
    let mut owner = gone(1);
    let conn = back(&mut owner);
    assert_eq!(owner.got(conn).len(), 1, "CONNACK");
    owner.world.broker.spool_lost(SENT + 1);
    owner.spooled(2 + IDS, "later");
    assert_eq!(owner.got(conn), []);
    owner.sync();
    let got = owner.got(conn);
    let ids: Vec<u16> = (1..=SENT).map(id_of).collect();
    assert_eq!(released(&got), ids);
    let Some(Got::Publish(later)) = got.last() else { panic!("{got:?}") };
    assert_eq!((later.payload.as_str(), later.id), ("later", Some(id_of(2))));
    // The answers are not taken for those of the message.
    ids.iter().for_each(|id| owner.world.send(conn, &ack(PUBCOMP, *id)));
    assert_eq!(owner.got(conn), []);
    owner.world.send(conn, &ack(PUBREC, id_of(2)));
    owner.sync();
    assert_eq!(owner.got(conn), [Got::PubRel { id: id_of(2), code: 0 }]);
    owner.world.send(conn, &ack(PUBCOMP, id_of(2)));
    assert!(written(&mut owner).is_empty());
}

#[test]
fn a_client_that_hangs_up_on_pubrel_is_left_alone_after_ten_connections() {
    let mut owner = gone(3);
    let mut asked = 0;
    for _ in 0..20 {
        let conn = back(&mut owner);
        asked += usize::from(!released(&owner.got(conn)).is_empty());
        owner.world.cut(conn);
    }
    assert_eq!(asked, 10);
    assert!(written(&mut owner).is_empty());
}

#[test]
fn what_was_under_way_below_a_floor_is_in_doubt_after_a_power_cut() {
    let mut owner = Owner::new();
    owner.subscriber("s", 2);
    let (_, value) = owner.table.iter_mut().find(|(key, _)| key[0] == PLACE).unwrap();
    let owed = crate::Amount { messages: 1, bytes: 300 };
    let settled = vec![(2, true)];
    let place = PlaceValue { first: 1, sent_through: 4, floor: 3, owed, in_doubt: vec![], settled };
    *value = place.encode();
    let mut owner = restarted(owner.table);
    owner.world.broker.persisted(owner.world.now, PersistTicket(0));
    let conn = back(&mut owner);
    let mut ids = released(&owner.got(conn));
    ids.sort_unstable();
    assert_eq!(ids, [id_of(1), id_of(2)]);
}
