//! A lane against a made-up stream.

use super::*;

fn place(seq: u64) -> Place {
    Place { epoch: Epoch(7), seq: Seq(seq) }
}

fn stored(seq: u64, at: u64) -> Stored {
    Stored { place: place(seq), at }
}

fn outgoing(seq: u64) -> Outgoing {
    Outgoing { token: 1_000 + seq, place: place(seq), message: OutboundMessage::default() }
}

fn publish(seq: u64, fence: Option<u64>) -> Step {
    Step::Publish { outgoing: outgoing(seq), fence }
}

/// A lane whose fence is behind it: records up to `seq` are in messages 101, 102 ...
fn passed(seq: u64) -> Lane {
    let mut lane = Lane::empty();
    for seq in 1..=seq {
        assert!(matches!(lane.send(outgoing(seq)), Step::Publish { .. }));
        assert_eq!(lane.acknowledged(place(seq), 100 + seq, false), Ok(Vec::new()));
    }
    lane
}

#[test]
fn nothing_follows_the_fenced_publish_before_it_is_through() {
    let mut lane = Lane::empty();
    assert_eq!((lane.held(), lane.floor(place(1))), (None, None));
    assert_eq!(lane.send(outgoing(1)), publish(1, Some(0)));
    assert_eq!(lane.send(outgoing(2)), Step::Wait);
    assert_eq!(lane.send(outgoing(3)), Step::Wait);
    let released = lane.acknowledged(place(1), 41, false);
    assert_eq!(released, Ok(vec![outgoing(2), outgoing(3)]));
    assert_eq!(lane.floor(place(9_999)), Some(stored(1, 41)));
    assert_eq!(lane.send(outgoing(4)), publish(4, None));
}

#[test]
fn what_waits_behind_a_refused_fence_is_handed_back_and_the_next_is_fenced_again() {
    let mut lane = Lane::resumed(stored(5, 60), None, &[]);
    assert_eq!(lane.send(outgoing(6)), publish(6, Some(60)));
    assert_eq!(lane.send(outgoing(7)), Step::Wait);
    assert_eq!(lane.refused(place(6)), [outgoing(7)]);
    assert_eq!(lane.send(outgoing(6)), publish(6, Some(60)));
}

#[test]
fn a_subject_that_begins_behind_a_refused_record_says_so() {
    let mut lane = Lane::empty();
    assert_eq!(lane.send(outgoing(1)), publish(1, Some(0)));
    assert_eq!(lane.send(outgoing(2)), Step::Wait);
    assert_eq!(lane.refused(place(1)), [outgoing(2)]);
    assert_eq!(lane.send(outgoing(2)), publish(2, Some(0)));
    let floor = lane.floor(place(2));
    assert_eq!(floor, Some(stored(0, 0)));
    assert_eq!(lane.acknowledged(place(2), 41, false), Ok(Vec::new()));
    assert_eq!(lane.floor(place(3)), floor);
    // The connection breaks before record 1 is sent again.
    assert_eq!(unread(stored(2, 41), floor), Some(1));
    let mut again = Lane::resumed(stored(2, 41), floor, &[]);
    assert_eq!((again.held(), again.newest()), (Some(place(0)), Some(place(2))));
    assert_eq!(again.send(outgoing(1)), publish(1, Some(41)));
    assert_eq!(again.send(outgoing(2)), Step::Present { token: 1_002 });
}

#[test]
fn the_newest_record_there_is_told_whatever_is_missing_in_front_of_it() {
    let told = |lane: &Lane| (lane.held(), lane.newest());
    assert_eq!(told(&Lane::empty()), (None, None));
    let whole = Lane::resumed(stored(5, 60), None, &[]);
    assert_eq!(told(&whole), (Some(place(5)), Some(place(5))));
    let gap = Lane::resumed(stored(8, 64), Some(stored(5, 60)), &[stored(6, 61)]);
    assert_eq!(told(&gap), (Some(place(6)), Some(place(8))));
    // A refused record was stored behind its successors.
    let late = Lane::resumed(stored(6, 64), Some(stored(5, 60)), &[stored(7, 61), stored(8, 62)]);
    assert_eq!(told(&late), (Some(place(8)), Some(place(8))));
    // Another store's record is the last, and newer than ours.
    let foreign = Place { epoch: Epoch(9), seq: Seq(1) };
    let last = Stored { place: foreign, at: 61 };
    let foreign_last = Lane::resumed(last, Some(stored(5, 60)), &[]);
    assert_eq!(told(&foreign_last), (Some(place(5)), Some(foreign)));
}

#[test]
fn floor_is_the_last_record_below_all_that_are_open() {
    let mut lane = passed(3);
    for seq in 4..=8 {
        assert_eq!(lane.send(outgoing(seq)), publish(seq, None));
    }
    for (seq, at, floor) in [(4, 104, 4), (6, 106, 4), (8, 108, 4)] {
        assert_eq!(lane.acknowledged(place(seq), at, false), Ok(Vec::new()));
        assert_eq!(lane.floor(place(9_999)), Some(stored(floor, 100 + floor)), "after {seq}");
    }
    // 5 is refused: whatever comes after it, the floor stays below it until it is stored.
    assert_eq!(lane.refused(place(5)), []);
    assert_eq!(lane.acknowledged(place(7), 120, false), Ok(Vec::new()));
    assert_eq!(lane.floor(place(9_999)), Some(stored(4, 104)));
    assert_eq!(lane.send(outgoing(5)), publish(5, None));
    assert_eq!(lane.acknowledged(place(5), 130, false), Ok(Vec::new()));
    assert_eq!(lane.floor(place(9_999)), Some(stored(8, 108)));
    assert_eq!(lane.stored.len(), 1, "what is below the floor is forgotten");
}

#[test]
fn floor_names_a_place_before_everything_that_is_stored_above_it() {
    let mut lane = passed(1);
    for seq in 2..=5 {
        lane.send(outgoing(seq));
    }
    lane.refused(place(2));
    lane.refused(place(3));
    for (seq, at) in [(4, 104), (5, 105)] {
        assert_eq!(lane.acknowledged(place(seq), at, false), Ok(Vec::new()));
    }
    // 2 is stored behind 4 and 5, while 3 is still missing.
    lane.send(outgoing(2));
    assert_eq!(lane.acknowledged(place(2), 106, false), Ok(Vec::new()));
    assert_eq!(lane.floor(place(9_999)), Some(stored(2, 103)));
}

#[test]
fn record_that_was_given_up_does_not_hold_the_floor_for_longer_than_a_window() {
    let mut lane = passed(1);
    assert_eq!(lane.send(outgoing(2)), publish(2, None));
    assert_eq!(lane.refused(place(2)), []);
    for seq in 3..=1_001 {
        lane.send(outgoing(seq));
        assert_eq!(lane.acknowledged(place(seq), 100 + seq, false), Ok(Vec::new()));
        assert_eq!(lane.floor(place(9_999)), Some(stored(1, 101)));
    }
    assert_eq!(lane.stored.len(), 1_000);
    lane.send(outgoing(1_002));
    assert_eq!(lane.acknowledged(place(1_002), 1_102, false), Ok(Vec::new()));
    assert_eq!(lane.floor(place(9_999)), Some(stored(1_002, 1_102)));
}

#[test]
fn session_goes_on_behind_what_the_server_holds_and_sends_only_what_it_lacks() {
    // The message of record 12 was sent when 5 was the last of the settled ones; 8 is missing.
    let between = [6, 7, 9, 10, 11].map(|seq| stored(seq, 200 + seq));
    let floor = Some(stored(5, 205));
    assert_eq!(unread(stored(12, 212), floor), Some(206));
    let mut lane = Lane::resumed(stored(12, 212), floor, &between);
    assert_eq!(lane.held(), Some(place(7)));
    assert_eq!(lane.send(outgoing(8)), publish(8, Some(212)));
    for seq in 9..=12 {
        assert_eq!(lane.send(outgoing(seq)), Step::Present { token: 1_000 + seq });
    }
    assert_eq!(lane.floor(place(9_999)), Some(stored(7, 207)));
    assert_eq!(lane.send(outgoing(13)), Step::Wait);
    assert_eq!(lane.acknowledged(place(8), 213, false), Ok(vec![outgoing(13)]));
    assert_eq!(lane.floor(place(9_999)), Some(stored(12, 212)));
}

#[test]
fn last_message_that_follows_its_floor_says_everything() {
    assert_eq!(unread(stored(6, 61), Some(stored(5, 60))), None);
    let lane = Lane::resumed(stored(6, 61), Some(stored(5, 60)), &[]);
    assert_eq!((lane.held(), lane.floor(place(9_999))), (Some(place(6)), Some(stored(6, 61))));
    // The first message of a subject has no floor.
    assert_eq!(unread(stored(1, 9), None), None);
    assert_eq!(Lane::resumed(stored(1, 9), None, &[]).held(), Some(place(1)));
}

#[test]
fn floor_that_stayed_behind_is_raised_to_what_the_window_proves() {
    let lane = Lane::resumed(stored(5_000, 900), Some(stored(10, 20)), &[stored(4_001, 850)]);
    assert_eq!(lane.held(), Some(place(4_001)));
    assert_eq!(lane.present.len(), 1);
}

#[test]
fn records_of_two_epochs_are_told_apart() {
    let new = |seq| Place { epoch: Epoch(8), seq: Seq(seq) };
    // 98 and 99 of the old epoch were under way when the gateway gave up its end and began anew
    // at 98.
    let last = Stored { place: new(99), at: 304 };
    let between = [stored(98, 301), stored(99, 302), Stored { place: new(98), at: 303 }];
    let mut lane = Lane::resumed(last, Some(stored(97, 300)), &between);
    assert_eq!(lane.held(), Some(place(99)));
    for seq in [98, 99] {
        let outgoing = Outgoing { place: new(seq), ..outgoing(seq) };
        assert_eq!(lane.send(outgoing), Step::Present { token: 1_000 + seq });
    }
}

#[test]
fn stream_that_counts_from_the_beginning_again_is_another_one() {
    let mut lane = passed(3);
    lane.send(outgoing(4));
    let renumbered = Renumbered { newest: 103, at: 1 };
    assert_eq!(lane.acknowledged(place(4), 1, false), Err(renumbered));
    // A duplicate names the message that is there already.
    assert_eq!(lane.acknowledged(place(4), 50, true), Ok(Vec::new()));
}

/// Lanes of one session after the other on a server that loses answers, refuses single publishes,
/// and stores what is under way when a session ends, up to some point or not at all.
#[test]
fn each_record_is_stored_once_whatever_the_server_refuses_and_wherever_sessions_end() {
    for seed in 1..=400 {
        World::new(seed).run();
    }
}

const RECORDS: u64 = 120;
const WINDOW: usize = 10;

struct World {
    random: u64,
    /// What the stream holds: the record, and the floor that its message carries.
    messages: Vec<(Place, Option<Stored>)>,
    /// Records that the gateway's cursor has passed: all below.
    cursor: u64,
    done: BTreeSet<u64>,
}

impl World {
    fn new(seed: u64) -> World {
        World { random: seed, messages: Vec::new(), cursor: 1, done: BTreeSet::new() }
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 100 < percent
    }

    fn run(mut self) {
        while self.cursor <= RECORDS {
            self.session();
        }
        let mut seqs: Vec<u64> = self.messages.iter().map(|(place, _)| place.seq.0).collect();
        seqs.sort_unstable();
        assert!(seqs.iter().copied().eq(1..=RECORDS), "{seqs:?}");
    }

    fn at(&self, index: usize) -> Stored {
        Stored { place: self.messages[index].0, at: index as u64 + 1 }
    }

    fn resume(&self) -> Lane {
        let Some(last) = self.messages.len().checked_sub(1) else { return Lane::empty() };
        let floor = self.messages[last].1;
        let between: Vec<Stored> = match unread(self.at(last), floor) {
            Some(from) => (from as usize - 1..last).map(|index| self.at(index)).collect(),
            None => Vec::new(),
        };
        Lane::resumed(self.at(last), floor, &between)
    }

    fn done(&mut self, seq: u64) {
        self.done.insert(seq);
        while self.done.remove(&self.cursor) {
            self.cursor += 1;
        }
    }

    fn session(&mut self) {
        let mut lane = self.resume();
        if let Some(held) = lane.held() {
            (self.cursor..=held.seq.0).for_each(|seq| self.done(seq));
        }
        let mut under_way: Vec<(Place, Option<u64>, Option<Stored>)> = Vec::new();
        let mut sent: BTreeSet<u64> = BTreeSet::new();
        let mut refused: Vec<u64> = Vec::new();
        while self.cursor <= RECORDS {
            if under_way.is_empty() || self.chance(30) {
                for seq in refused.drain(..) {
                    sent.remove(&seq);
                }
            }
            let end = self.cursor + WINDOW as u64;
            for seq in self.cursor..end.min(RECORDS + 1) {
                if !self.done.contains(&seq) && sent.insert(seq) {
                    match lane.send(outgoing(seq)) {
                        Step::Publish { outgoing, fence } => {
                            under_way.push((outgoing.place, fence, lane.floor(outgoing.place)));
                        }
                        Step::Present { token } => self.done(token - 1_000),
                        Step::Wait => {}
                    }
                }
            }
            if self.chance(4) {
                break;
            }
            if under_way.is_empty() {
                continue;
            }
            let (place, fence, floor) = under_way.remove(0);
            let released = if self.chance(20) {
                refused.push(place.seq.0);
                // As the driver does: those behind go at once, the refused one when its pause is
                // over.
                for outgoing in lane.refused(place) {
                    match lane.send(outgoing) {
                        Step::Publish { outgoing, fence } => {
                            let floor = lane.floor(outgoing.place);
                            under_way.push((outgoing.place, fence, floor));
                        }
                        Step::Present { token } => self.done(token - 1_000),
                        Step::Wait => {}
                    }
                }
                Vec::new()
            } else {
                let at = self.store(place, fence, floor);
                self.done(place.seq.0);
                lane.acknowledged(place, at, false).unwrap()
            };
            let released = released.into_iter();
            under_way.extend(
                released.map(|outgoing| (outgoing.place, None, lane.floor(outgoing.place))),
            );
        }
        // What the server had received when the session ended; the answers are lost.
        for (place, fence, floor) in under_way {
            if self.chance(10) {
                break;
            }
            if !self.chance(20) {
                self.store(place, fence, floor);
            }
        }
        // A power cut takes what the cursor gained last, and what was answered above it.
        self.done.clear();
        if self.chance(30) {
            self.cursor = self.cursor.saturating_sub(25).max(1);
        }
    }

    fn store(&mut self, place: Place, fence: Option<u64>, floor: Option<Stored>) -> u64 {
        assert!(fence.is_none_or(|last| last == self.messages.len() as u64), "{fence:?}");
        self.messages.push((place, floor));
        self.messages.len() as u64
    }
}
