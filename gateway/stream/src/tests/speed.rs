//! How fast the core is without a disk. `cargo test --release -p tidegate-stream speed -- --ignored --nocapture`

use super::*;

const RECORDS: u64 = 2_000_000;

#[test]
#[ignore = "a measurement, not a verdict"]
fn speed_of_append_and_read() {
    let options = LogOptions { reserve_segments: 1, ..LogOptions::default() };
    let mut rig = Rig::new(options);
    let a = rig.stream("a", config(64 << 20, Overflow::DropOldest));
    let names: Vec<_> =
        (0..100).map(|n| (format!("sensors/{n}/telemetry"), format!("dev-{n}"))).collect();
    let payload = [7; 128];
    let start = any_instant();
    for n in 0..RECORDS {
        let (topic, client) = &names[n as usize % names.len()];
        let publisher = Some(PublisherIdentity { boot: 5, seq: n });
        let record = RecordRef {
            unix_ms: START_MS + (n / 1000) as i64,
            topic,
            client,
            publisher,
            attributes: &[],
            payload: &payload,
        };
        rig.log.append(rig.now, a, &record).expect("room");
        if n % 400 == 399 {
            rig.pass(Duration::from_millis(1));
            rig.step();
        }
    }
    rig.settle();
    let total = start.elapsed();
    let status = rig.log.status();
    let ratio = status.bytes_written as f64 / status.payload_bytes as f64;
    println!(
        "segments {} spare {} groups {}",
        status.segments, status.spare_segments, status.groups
    );
    println!(
        "append and write: {:.0}/s, {ratio:.2} bytes written for each payload byte",
        RECORDS as f64 / total.as_secs_f64()
    );
    for limit in [100, 1_000] {
        let (mut next, mut count, mut bytes) = (rig.log.first_seq(a), 0u64, 0usize);
        let start = any_instant();
        loop {
            let mut visit = |_, _, record: RecordRef<'_>| {
                count += 1;
                bytes += record.payload.len();
            };
            let limit = ReadLimit { records: limit, bytes: 1 << 20 };
            match rig.log.read(rig.now, a, next, limit, &mut visit) {
                ReadOutcome::Read { next: n } | ReadOutcome::Lost { next: n } => next = n,
                ReadOutcome::Fetching => rig.step(),
                ReadOutcome::End => break,
            }
        }
        println!("read by {limit}: {:.0}/s", count as f64 / start.elapsed().as_secs_f64());
        assert_eq!(bytes as u64, count * 128);
    }
}
