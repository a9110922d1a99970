use super::*;

#[test]
fn records_come_back_in_order_with_everything_in_them() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    let b = rig.stream("b", keep_all());
    let mut sent = Vec::new();
    for n in 0..500u64 {
        let mut record = record(START_MS + n as i64, &numbered(n, (n % 200) as usize));
        record.topic = format!("t/{}", n % 7);
        record.publisher = (n % 3 == 0).then_some(PublisherIdentity { boot: 9, seq: n });
        let stream = if n % 5 == 0 { b } else { a };
        let done = rig.log.append(rig.now, stream, &record.as_ref()).expect("there is room");
        sent.push((stream, done.seq, record));
        if n % 11 == 0 {
            rig.settle();
        }
    }
    rig.settle();
    for mut rig in [rig.reopen(), rig.crash(1), rig] {
        for stream in [a, b] {
            let own = sent.iter().filter(|s| s.0 == stream).map(|s| (s.1, s.2.clone()));
            assert_eq!(rig.read_all(stream), own.collect::<Vec<_>>());
        }
    }
}

#[test]
fn nothing_is_durable_before_the_disk_says_so() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    let first = rig.append(a, b"1").expect("room");
    rig.log.flush(rig.now);
    let request = rig.log.poll_disk(rig.now).expect("a write");
    assert!(rig.log.durable() < first.position);
    let second = rig.append(a, b"2").expect("room");
    let reply = request.perform(&rig.disk);
    assert!(rig.log.durable() < first.position);
    rig.log.handle_disk(rig.now, reply);
    assert_eq!(rig.log.durable(), first.position);
    assert_eq!(rig.log.durable_seq(a), second.seq);
    assert_eq!(rig.read_all(a).len(), 1);
    rig.settle();
    assert_eq!(rig.log.durable(), second.position);
}

#[test]
fn a_group_waits_for_quiet_and_no_longer_than_it_may() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    rig.settle();
    let groups = rig.log.status().groups;
    let start = rig.now;
    // Somebody who never pauses.
    while rig.log.status().groups == groups {
        rig.append(a, b"x").expect("room");
        rig.pass(Duration::from_micros(100));
        rig.step();
    }
    assert_eq!((rig.now - start).as_millis(), 10);
    rig.settle();
    // A lone record.
    let start = rig.now;
    rig.append(a, b"x").expect("room");
    rig.settle();
    assert_eq!(rig.now - start, Duration::from_micros(500));
    // A large group.
    for n in 0..40 {
        rig.append(a, &numbered(n, 128)).expect("room");
    }
    let groups = rig.log.status().groups;
    rig.step();
    assert_eq!(rig.log.status().groups, groups + 1);
}

#[test]
fn a_transaction_is_there_after_reopening_with_records_table_and_cursor() {
    let mut rig = Rig::new(small());
    let (a, out) = (rig.stream("a", keep_all()), rig.stream("out", keep_all()));
    let reader = rig.log.reader(a, "fn").expect("a reader");
    let table = rig.log.table("state").expect("a table");
    rig.append(a, b"in").expect("room");
    let mut tx = Transaction::new();
    tx.append(out, record(5, b"out"));
    tx.put(table, b"k".to_vec(), b"v".to_vec());
    tx.put(table, b"gone".to_vec(), b"v".to_vec());
    tx.delete(table, b"gone".to_vec());
    tx.advance(reader, Seq(2));
    let committed = rig.log.commit(rig.now, tx).expect("room");
    assert_eq!(committed.seqs, [(out, Seq(1))]);
    assert_eq!(rig.log.cursor(reader), Seq(2));
    rig.settle();
    let mut rig = rig.reopen();
    assert_eq!(rig.log.cursor(reader), Seq(2));
    assert_eq!(rig.log.reader(a, "fn"), Ok(reader));
    assert_eq!(rig.log.table("state"), Ok(table));
    let entries = rig.log.table_entries(table);
    assert_eq!(entries.iter().collect::<Vec<_>>(), [(&b"k".to_vec(), &b"v".to_vec())]);
    assert_eq!(rig.payloads(out), BTreeMap::from([(1, b"out".to_vec())]));
}

#[test]
fn a_cursor_rides_along_or_goes_by_itself_after_a_while() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    let reader = rig.log.reader(a, "up").expect("a reader");
    rig.append(a, b"1").expect("room");
    rig.settle();
    let groups = rig.log.status().groups;
    rig.log.advance(rig.now, reader, Seq(2));
    rig.pass(Duration::from_millis(500));
    rig.step();
    assert_eq!(rig.log.status().groups, groups);
    rig.pass(Duration::from_millis(500));
    rig.step();
    assert_eq!(rig.log.status().groups, groups + 1);
    assert_eq!(rig.reopen().log.cursor(reader), Seq(2));
}

#[test]
fn a_publisher_is_remembered_across_reopening() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    for seq in 1..400 {
        let mut record = record(1, &numbered(seq, 300));
        record.publisher = Some(PublisherIdentity { boot: 7, seq });
        rig.log.append(rig.now, a, &record.as_ref()).expect("room");
        rig.settle();
    }
    let last = Some(PublisherIdentity { boot: 7, seq: 399 });
    assert_eq!(rig.log.publisher_last("kitchen"), last);
    assert_eq!(rig.reopen().log.publisher_last("kitchen"), last);
}

#[test]
fn a_clean_end_is_recognised_and_keeps_the_epoch() {
    let mut rig = Rig::new(small());
    let a = rig.stream("a", keep_all());
    for n in 0..300 {
        rig.append(a, &numbered(n, 500)).expect("room");
        rig.settle();
    }
    rig.log.shut_down(rig.now);
    rig.settle();
    let mut rig = rig.crash(3);
    assert!(rig.recovery.clean);
    assert_eq!(rig.log.epoch(), Epoch(EPOCH));
    assert_eq!(rig.read_all(a).len(), 300);
    assert_eq!(rig.log.next_seq(a), Seq(301));
    rig.append(a, b"more").expect("room");
    rig.settle();
    assert_eq!(rig.reopen().read_all(a).len(), 301);
}
