//! Each byte of a small store changed, and each file cut at each length: it opens, gives every
//! record that was not hit, says which are gone, and goes on.

use super::*;
use crate::frame::Seed;
use crate::scan::Scan;
use crate::segment::FileName;

/// Where a frame is and which records it has.
struct Span {
    start: usize,
    end: usize,
    records: Vec<(StreamId, u64)>,
}

/// A store of several segments with footers, checkpoints, spares, trims and losses.
struct Store {
    disk: CrashDisk,
    keeps: Keeps,
    /// What each stream has to give, by sequence.
    expected: BTreeMap<StreamId, BTreeMap<u64, Vec<u8>>>,
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    frames: BTreeMap<String, Vec<Span>>,
}

fn tiny() -> LogOptions {
    LogOptions {
        segment_bytes: 36 << 10,
        max_frame_bytes: 4 << 10,
        group_bytes: 2 << 10,
        max_pending_bytes: 32 << 10,
        cache_bytes: 2 << 10,
        read_bytes: 8 << 10,
        ..LogOptions::default()
    }
}

/// How many records the store keeps: of many segments, or so few that all before the last
/// checkpoints is recycled.
#[derive(Clone, Copy)]
enum Keeps {
    Many,
    Few,
}

fn streams(rig: &mut Rig, keeps: Keeps) -> [StreamId; 2] {
    let (a, b) = match keeps {
        Keeps::Many => (Some(150), None),
        Keeps::Few => (Some(20), Some(5)),
    };
    [("a", a), ("b", b)]
        .map(|(name, max_records)| rig.stream(name, StreamConfig { max_records, ..keep_all() }))
}

fn store(keeps: Keeps, clean: bool) -> Store {
    let mut rig = Rig::new(tiny());
    let [a, b] = streams(&mut rig, keeps);
    let reader = rig.log.reader(a, "up").expect("a reader");
    let table = rig.log.table("t").expect("a table");
    for n in 0..260u64 {
        rig.append(a, &numbered(n, 250)).expect("room");
        if n % 9 == 0 {
            rig.append(b, &numbered(n, 60)).expect("room");
            let mut tx = Transaction::new();
            tx.put(table, vec![(n % 40) as u8], vec![n as u8; 30]);
            rig.log.commit(rig.now, tx).expect("room");
        }
        if n % 20 == 0 {
            rig.log.advance(rig.now, reader, Seq(n / 4));
            rig.log.trim(rig.now, WallClock::Trusted(rig.ms));
        }
        rig.settle();
    }
    if clean {
        rig.log.shut_down(rig.now);
        rig.settle();
    } else {
        rig.pass(Duration::from_secs(10));
        rig.step();
    }
    let expected = [a, b].map(|stream| (stream, rig.payloads(stream)));
    Store {
        disk: rig.disk.clone(),
        keeps,
        expected: BTreeMap::from(expected),
        entries: (**rig.log.table_entries(table)).clone(),
        frames: frames(&rig),
    }
}

fn frames(rig: &Rig) -> BTreeMap<String, Vec<Span>> {
    let mut all = BTreeMap::new();
    for name in rig.disk.list().expect("a list") {
        let mut spans = Vec::new();
        if let FileName::Segment(id) = FileName::parse(&name) {
            let mut bytes = vec![0; rig.disk.len(&name).expect("a length") as usize];
            rig.disk.read_at(&name, 0, &mut bytes).expect("read");
            let scan = Scan::of(id, &bytes, Seed::new(rig.log.store, id), None, false);
            for frame in &scan.frames {
                let numbers = frame.records.iter().chain(&frame.copies).flat_map(|chunk| {
                    (chunk.first.0..chunk.end().0).map(|seq| (chunk.stream, seq))
                });
                let (start, end) = (frame.offset as usize, (frame.offset + frame.total) as usize);
                spans.push(Span { start, end, records: numbers.collect() });
            }
        }
        all.insert(name, spans);
    }
    all
}

impl Store {
    /// Opens what became of the store when the frames that `hit` names were damaged.
    fn check(&self, disk: CrashDisk, name: &str, hit: impl Fn(&Span) -> bool, what: &str) {
        let hit: Vec<&Span> = self.frames[name].iter().filter(|span| hit(span)).collect();
        let mut rig = Rig::on(disk, tiny());
        let new_epoch = rig.recovery.new_epoch;
        let ids = streams(&mut rig, self.keeps);
        assert!(ids.iter().eq(self.expected.keys()), "{what}: the streams have kept their ids");
        if hit.is_empty() {
            assert_eq!(**rig.log.table_entries(TableId(0)), self.entries, "{what}");
        }
        let ends = ids.map(|id| rig.log.next_seq(id));
        let mut served = ids.map(|id| rig.payloads(id));
        for ((id, read), end) in ids.into_iter().zip(&served).zip(ends) {
            for (seq, payload) in &self.expected[&id] {
                if let Some(read) = read.get(seq) {
                    assert_eq!(read, payload, "{what}: record {seq} of {id}");
                    continue;
                }
                let may = hit.iter().any(|span| span.records.contains(&(id, *seq)));
                assert!(may, "{what}: record {seq} of {id} is gone and was not hit");
                let named =
                    |loss: &Loss| loss.stream == id && (loss.first.0..=loss.last.0).contains(seq);
                let told = rig.log.losses().any(named) || (*seq >= end.0 && new_epoch);
                assert!(told, "{what}: record {seq} of {id} is gone without an entry");
            }
        }
        for (id, read) in ids.into_iter().zip(&mut served) {
            let done = rig.append(id, b"after").expect("room");
            read.insert(done.seq.0, b"after".to_vec());
        }
        rig.settle();
        let losses: Vec<_> = rig.log.losses().copied().collect();
        let mut again = rig.crash(1);
        for (id, mut read) in ids.into_iter().zip(served) {
            // The quota of records takes the oldest for the one that was appended.
            let first = again.log.first_seq(id).0;
            read.retain(|seq, _| *seq >= first);
            assert_eq!(again.payloads(id), read, "{what}: {id} after the next start");
        }
        let told: Vec<_> = again.log.losses().copied().collect();
        assert_eq!(told, losses, "{what}: losses are told once");
    }

    fn check_flips(&self, from: usize, step: usize) {
        for name in self.frames.keys() {
            let len = self.disk.len(name).expect("a length") as usize;
            for at in (from % step..len).step_by(step) {
                let disk = self.disk.after_kill();
                let bit = (at / step + from) % 8;
                disk.damage(name, at, 1 << bit);
                let hit = |span: &Span| (span.start..span.end).contains(&at);
                self.check(disk, name, hit, &format!("bit {bit} of byte {at} of {name}"));
            }
        }
    }

    fn check_cuts(&self, from: usize, step: usize) {
        for name in self.frames.keys() {
            let len = self.disk.len(name).expect("a length") as usize;
            for cut in (from % step..len).step_by(step) {
                let disk = self.disk.after_kill();
                disk.cut(name, cut);
                self.check(disk, name, |span| span.end > cut, &format!("{name} cut at {cut}"));
            }
        }
    }
}

#[test]
fn the_store_under_test_has_all_that_a_store_can_have() {
    for (keeps, clean) in [(Keeps::Many, false), (Keeps::Many, true), (Keeps::Few, false)] {
        let store = store(keeps, clean);
        let names = store.frames.keys().cloned().collect::<Vec<_>>();
        let count = |prefix: &str| names.iter().filter(|name| name.starts_with(prefix)).count();
        assert!(count("seg-") >= 3 && count("spare-") >= 1, "{names:?}");
        let first = names.iter().any(|name| name == "seg-0000000000000001.log");
        assert_eq!(first, matches!(keeps, Keeps::Many), "{names:?}");
        let rig = Rig::on(store.disk.after_kill(), tiny());
        assert_eq!(rig.recovery.clean, clean);
        assert!(rig.recovery.scanned_segments < rig.recovery.segments, "footers are there");
        assert!(rig.log.checkpoint_before.is_some(), "two checkpoints are there");
        assert!(rig.log.losses().next().is_some());
    }
}

#[test]
fn bytes_changed_here_and_there_cost_only_what_they_hit() {
    store(Keeps::Many, false).check_flips(7, 149);
    store(Keeps::Many, true).check_flips(100, 311);
    store(Keeps::Few, false).check_flips(50, 149);
}

#[test]
fn files_cut_here_and_there_cost_only_what_is_behind_the_cut() {
    store(Keeps::Many, false).check_cuts(31, 149);
    store(Keeps::Many, true).check_cuts(8, 311);
    store(Keeps::Few, false).check_cuts(50, 149);
}

#[test]
#[ignore = "all bytes; minutes in a release build"]
fn every_byte_changed_costs_only_what_it_hits() {
    store(Keeps::Many, false).check_flips(0, 1);
    store(Keeps::Many, true).check_flips(3, 1);
    store(Keeps::Few, false).check_flips(5, 1);
}

#[test]
#[ignore = "all lengths; minutes in a release build"]
fn every_file_cut_at_every_length_costs_only_what_is_behind_the_cut() {
    store(Keeps::Many, false).check_cuts(0, 1);
    store(Keeps::Many, true).check_cuts(0, 1);
    store(Keeps::Few, false).check_cuts(0, 1);
}
