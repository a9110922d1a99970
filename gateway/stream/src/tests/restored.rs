//! Copies of a store that is in use, and what is appended to them.

use super::*;

fn fill(rig: &mut Rig, stream: StreamId, records: std::ops::Range<u32>) {
    for number in records {
        let payload = number.to_string().into_bytes();
        let record = RecordRef {
            unix_ms: rig.ms,
            topic: "t",
            client: "c",
            publisher: None,
            attributes: &[],
            payload: &payload,
        };
        rig.log.append(rig.now, stream, &record).unwrap();
        rig.settle();
    }
}

/// A copy of all segments, the newest cut behind its last whole frame.
fn copy(rig: &Rig) -> CrashDisk {
    let (from, to) = (rig.disk.after_kill(), CrashDisk::new());
    let names: Vec<String> =
        from.list().unwrap().into_iter().filter(|name| is_segment(name)).collect();
    for (index, name) in names.iter().enumerate() {
        let mut bytes = vec![0; from.len(name).unwrap() as usize];
        from.read_at(name, 0, &mut bytes).unwrap();
        if index + 1 == names.len() {
            let SegmentEnd::At(end) = segment_end(name, &bytes) else { continue };
            bytes[end..].fill(0);
        }
        to.create(name, bytes.len() as u64).unwrap();
        to.write_at(name, 0, &bytes).unwrap();
        to.sync(name).unwrap();
    }
    to.sync_dir().unwrap();
    to
}

#[test]
fn a_copy_begins_a_new_epoch_where_its_original_went_on_in_the_old_one() {
    for clean in [false, true] {
        let mut original = Rig::new(small());
        let stream = original.log.stream("s", keep_all()).unwrap();
        fill(&mut original, stream, 0..50);
        if clean {
            original.log.shut_down(original.now);
            original.settle();
        }
        let disk = copy(&original);
        if !clean {
            // Numbers that the copy would use again.
            fill(&mut original, stream, 50..80);
            assert_eq!(original.log.epoch(), Epoch(EPOCH));
        }
        let restored = Rig::on(disk, LogOptions { is_copy: true, ..small() });
        assert!(restored.recovery.new_epoch && restored.recovery.losses.is_empty());
        assert!(restored.log.epoch() > Epoch(EPOCH), "clean: {clean}");
        assert!(restored.log.has_had(Epoch(EPOCH)), "what the sink holds of it is ours");
        assert_eq!(restored.log.durable_seq(stream), Seq(51));
    }
}

#[test]
fn without_being_told_a_copy_would_go_on_in_the_old_epoch() {
    let mut original = Rig::new(small());
    let stream = original.log.stream("s", keep_all()).unwrap();
    fill(&mut original, stream, 0..50);
    let taken = Rig::on(copy(&original), small());
    assert!(!taken.recovery.new_epoch, "or the test before tells nothing");
}

#[test]
fn a_segment_ends_before_the_first_frame_that_is_not_whole() {
    let mut rig = Rig::new(small());
    let stream = rig.log.stream("s", keep_all()).unwrap();
    fill(&mut rig, stream, 0..5);
    let disk = rig.disk.after_kill();
    let name = disk.list().unwrap().into_iter().rfind(|name| is_segment(name)).unwrap();
    let mut bytes = vec![0; disk.len(&name).unwrap() as usize];
    disk.read_at(&name, 0, &mut bytes).unwrap();
    let SegmentEnd::At(whole) = segment_end(&name, &bytes) else { panic!("it has a header") };
    assert!(bytes[whole..whole + 4096].iter().all(|byte| *byte == 0));
    bytes[whole - 512] ^= 1;
    let SegmentEnd::At(less) = segment_end(&name, &bytes) else { panic!("it has a header") };
    assert!(less < whole);
    assert_eq!(segment_end("seg-00000000000000ff.log", &bytes), SegmentEnd::Unused);
    assert_eq!(segment_end(&name, &[0; 512]), SegmentEnd::Unused);
    assert!(!is_segment("spare-0000000000000001.log"));
}
