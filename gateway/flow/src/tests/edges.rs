//! Where a queue, a size or a stop could go wrong.

use super::*;

impl Bench {
    /// A QoS 1 publish with one user property of any length.
    fn publish_large(&mut self, conn: ConnId, id: u16, topic: &str, value: &str) {
        let string = |out: &mut Vec<u8>, text: &str| {
            out.extend_from_slice(&(text.len() as u16).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        };
        let mut properties = vec![0x26];
        string(&mut properties, "k");
        string(&mut properties, value);
        let mut body = Vec::new();
        string(&mut body, topic);
        body.extend_from_slice(&id.to_be_bytes());
        let mut len = properties.len();
        while len > 127 {
            body.push((len & 127) as u8 | 128);
            len >>= 7;
        }
        body.push(len as u8);
        body.extend_from_slice(&properties);
        self.bytes(conn, 0x32, &body);
    }
}

fn large_frames() -> Plan {
    Plan { log: LogOptions::default(), ..plan() }
}

#[test]
fn a_record_whose_attributes_are_as_large_as_can_be_becomes_a_dead_letter() {
    let mut bench = Bench::new(large_frames(), Box::new(|_, _, _| CallVerdict::DeadLetterBatch));
    let conn = bench.connect(1, "s1");
    bench.publish_large(conn, 1, "sensors/a", &"v".repeat(65_500));
    bench.publish(conn, 2, "sensors/a", "next");
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.pubacks(conn), [(1, 0), (2, 0)]);
    let dead = bench.stream(DEAD_LETTER_STREAM);
    assert_eq!(dead.len(), 2);
    let letter = dead[0].2.dead.as_ref().unwrap();
    assert_eq!(letter.seq, 1);
    assert!(letter.reason.contains("properties"), "{}", letter.reason);
    assert!(dead[0].2.user.is_empty());
}

#[test]
fn a_reason_as_long_as_the_function_likes_is_cut() {
    let reason = "é".repeat(32_000);
    let guest: Guest = Box::new(move |_, _, _| {
        let mut out = OutputWriter::new();
        let nack = Operation::Nack { index: 0, class: NackClass::Dead, code: 0, text: &reason };
        out.push(&nack).unwrap();
        CallVerdict::Done(out.finish())
    });
    let mut bench = Bench::new(large_frames(), guest);
    let conn = bench.connect(1, "s1");
    bench.publish_large(conn, 1, "sensors/a", &"v".repeat(3_000));
    bench.pass(Duration::from_secs(5));
    let dead = bench.stream(DEAD_LETTER_STREAM);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].2.user.len(), 1, "the properties are kept");
    let reason = &dead[0].2.dead.as_ref().unwrap().reason;
    assert!(reason.starts_with("éé") && reason.len() < 2_000, "{}", reason.len());
}

#[test]
fn a_record_too_large_to_be_copied_as_a_dead_letter_is_a_loss_and_holds_nothing_up() {
    let mut bench = Bench::new(plan(), Box::new(|_, _, _| CallVerdict::DeadLetterBatch));
    let conn = bench.connect(1, "s1");
    // As large as a frame takes: no room for what makes it a dead letter.
    let limit = 64 * 1024 - 256 - 24 - 48;
    let payload = "x".repeat(limit - "sensors/a".len() - "s1".len());
    bench.publish(conn, 1, "sensors/a", &payload);
    bench.publish(conn, 2, "sensors/a", "next");
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.pubacks(conn), [(1, 0), (2, 0)]);
    assert_eq!(bench.payloads(DEAD_LETTER_STREAM), ["next"]);
    let losses: Vec<_> = bench.gateway.log().losses().map(|l| (l.first, l.reason)).collect();
    assert_eq!(losses, [(Seq(1), tidegate_stream::LossReason::DeadLetter)]);
}

#[test]
fn a_publish_that_was_held_is_no_duplicate_of_a_later_one_to_another_stream() {
    let mut plan = plan();
    plan.functions.clear();
    plan.uplinks[0].streams = vec!["telemetry".to_owned()];
    plan.streams[0].max_bytes = 20_000;
    plan.streams[0].retain = Duration::ZERO;
    let mut bench = Bench::new(plan, echo());
    let conn = bench.connect(1, "s1");
    let large = "x".repeat(900);
    let mut sent = 0;
    while bench.gateway.hold.is_empty() {
        sent += 1;
        let seq = sent.to_string();
        let identity = [("tg-pub-boot", "1"), ("tg-pub-seq", seq.as_str())];
        bench.publish_with(conn, sent, "sensors/a", &large, &identity);
        bench.pass(Duration::from_millis(5));
    }
    let seq = (sent + 1).to_string();
    let identity = [("tg-pub-boot", "1"), ("tg-pub-seq", seq.as_str())];
    bench.publish_with(conn, sent + 1, "alerts/a", "to another stream", &identity);
    bench.upstream = true;
    bench.pass(Duration::from_secs(120));
    let acknowledged = bench.pubacks(conn).len();
    assert_eq!(acknowledged, usize::from(sent) + 1);
    assert_eq!(bench.sent.len(), usize::from(sent), "what was acknowledged reaches the upstream");
    assert_eq!(bench.payloads("alerts"), ["to another stream"]);
    assert_eq!(bench.gateway.status(bench.now).broker.duplicates, 0);
}

#[test]
fn a_function_does_not_run_ahead_of_a_disk_that_stands_still() {
    let mut quiet = large_frames();
    quiet.functions.clear();
    let disk = {
        let mut bench = Bench::new(quiet, echo());
        let conn = bench.connect(1, "s1");
        for id in 1..=600 {
            bench.publish(conn, id, "sensors/a", "x");
        }
        bench.pass(SETTLE);
        bench.disk.after_kill()
    };
    let mut plan = large_frames();
    plan.functions[0].publish = vec![filter("elsewhere/#")];
    let amplify: Guest = Box::new(|_, batch, _| {
        let mut out = OutputWriter::new();
        for _ in batch.iter() {
            emit(&mut out, "elsewhere/a", &[7; 32 * 1024]);
        }
        CallVerdict::Done(out.finish())
    });
    let mut bench = Bench::on(disk, plan, amplify);
    bench.disk_stands_still = true;
    bench.pass(Duration::from_secs(5));
    let held = bench.gateway.waiting.len() * 32 * 1024;
    assert!(held <= 5 * 1024 * 1024, "{held} bytes wait for the disk");
    bench.let_the_disk_go();
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.gateway.status(bench.now).functions[0].emitted, 600, "and goes on later");
    assert!(bench.gateway.waiting.is_empty());
}

#[test]
fn a_parked_function_wakes_nobody() {
    let mut bench = Bench::new(plan(), Box::new(|_, _, _| CallVerdict::Failed("gone".to_owned())));
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "x");
    bench.pass(Duration::from_millis(20));
    bench.gateway.park_function(0, "its thread died".to_owned());
    bench.pass(Duration::from_secs(3));
    assert!(bench.gateway.poll_timeout() > bench.now.instant, "or the shell would spin");
}

#[test]
fn a_gateway_that_shuts_down_starts_no_calls_and_ends_clean_in_the_middle_of_a_backlog() {
    let mut quiet = plan();
    quiet.functions.clear();
    let disk = {
        let mut bench = Bench::new(quiet, echo());
        let conn = bench.connect(1, "s1");
        for id in 1..=200 {
            bench.publish(conn, id, "sensors/a", "x");
        }
        bench.pass(SETTLE);
        bench.disk.after_kill()
    };
    let mut slow = plan();
    slow.functions[0].batch_records = 1;
    let mut bench = Bench::on(disk, slow, echo());
    // One call is under way when the end comes.
    let call = loop {
        match bench.gateway.poll_output(bench.now) {
            Some(Output::Call(call)) => break call,
            Some(Output::Disk(request)) => {
                let reply = request.perform(&bench.disk);
                bench.gateway.handle_disk(bench.now, reply);
            }
            Some(_) => {}
            None => {
                bench.now.instant += Duration::from_millis(1);
                bench.gateway.handle_timeout(bench.now);
            }
        }
    };
    bench.gateway.shut_down(bench.now);
    bench.drain();
    let mut out = OutputWriter::new();
    emit(&mut out, "alerts/echo", b"late");
    let result = CallResult {
        verdict: CallVerdict::Done(out.finish()),
        fuel: 1,
        elapsed: Duration::ZERO,
        cpu: Duration::ZERO,
        memory_bytes: 0,
    };
    bench.gateway.handle_call(bench.now, call.id, result);
    bench.drain();
    assert!(bench.gateway.is_idle());
    assert_eq!(bench.calls, 0);
    let now = bench.now;
    let (again, recovery) = Gateway::open(plan(), &bench.disk.after_kill(), now, 7).unwrap();
    assert!(recovery.clean);
    assert_eq!(again.status(now).functions[0].lag, 200, "what was not committed is done again");
}

#[test]
fn a_full_stream_with_thousands_of_held_publishes_does_not_slow_another() {
    let mut plan = large_frames();
    plan.functions.clear();
    plan.streams[0].max_bytes = 2_000;
    let mut bench = Bench::new(plan, echo());
    let blocked = bench.connect(1, "s1");
    for _ in 0..15_000 {
        let mut body = vec![0, 9];
        body.extend_from_slice(b"sensors/a");
        body.push(0);
        body.push(b'x');
        bench.bytes(blocked, 0x30, &body);
    }
    bench.pass(SETTLE);
    assert!(!bench.gateway.hold.is_empty());
    let before = bench.gateway.hold.retried;
    let conn = bench.connect(2, "s2");
    for id in 1..=1_000 {
        bench.publish(conn, id, "alerts/a", "x");
        bench.pass(Duration::from_millis(1));
    }
    let retried = bench.gateway.hold.retried - before;
    assert!(retried < 110 * 15_000, "{retried} tries of held publishes in a second");
    assert_eq!(bench.pubacks(conn).len(), 1_000);
}

#[test]
fn a_publish_that_was_refused_for_want_of_room_is_no_duplicate_when_it_comes_again() {
    let mut plan = plan();
    plan.functions.clear();
    plan.uplinks[0].streams = vec!["telemetry".to_owned()];
    plan.streams[0].max_bytes = 5_000;
    plan.streams[0].overflow = Overflow::Reject;
    plan.streams[0].retain = Duration::ZERO;
    let mut bench = Bench::new(plan, echo());
    let conn = bench.connect(1, "s1");
    let large = "x".repeat(900);
    let mut sent = 0;
    let publish = |bench: &mut Bench, id: u16, topic: &str| {
        let seq = id.to_string();
        let identity = [("tg-pub-boot", "1"), ("tg-pub-seq", seq.as_str())];
        bench.publish_with(conn, id, topic, &large, &identity);
        bench.pass(Duration::from_millis(5));
        bench.pubacks(conn).last().copied().unwrap().1
    };
    loop {
        sent += 1;
        if publish(&mut bench, sent, "sensors/a") == 0x97 {
            break;
        }
    }
    assert_eq!(publish(&mut bench, sent + 1, "alerts/a"), 0);
    bench.upstream = true;
    bench.pass(Duration::from_secs(120));
    for _ in 0..2 {
        assert_eq!(publish(&mut bench, sent, "sensors/a"), 0);
    }
    bench.pass(Duration::from_secs(10));
    assert_eq!(bench.sent.len(), usize::from(sent), "acknowledged, so upstream, once");
}

#[test]
fn a_refused_publish_is_no_duplicate_after_a_restart_either() {
    let mut plan = plan();
    plan.functions.clear();
    plan.uplinks.clear();
    plan.streams[0].max_bytes = 5_000;
    plan.streams[0].overflow = Overflow::Reject;
    let mut bench = Bench::new(plan.clone(), echo());
    let conn = bench.connect(1, "s1");
    let large = "x".repeat(900);
    let publish = |bench: &mut Bench, id: u16, topic: &str| {
        let seq = id.to_string();
        let identity = [("tg-pub-boot", "1"), ("tg-pub-seq", seq.as_str())];
        bench.publish_with(conn, id, topic, &large, &identity);
        bench.pass(Duration::from_millis(5));
        bench.pubacks(conn).last().copied().unwrap().1
    };
    let refused = (1..).find(|id| publish(&mut bench, *id, "sensors/a") == 0x97).unwrap();
    assert_eq!(publish(&mut bench, refused + 1, "alerts/a"), 0);

    plan.streams[0].max_bytes = 50_000;
    let mut bench = Bench::on(bench.disk.after_kill(), plan, echo());
    bench.connect(1, "s1");
    let telemetry = bench.gateway.stream("telemetry").unwrap();
    for _ in 0..2 {
        assert_eq!(publish(&mut bench, refused, "sensors/a"), 0);
    }
    assert_eq!(bench.gateway.log().next_seq(telemetry), Seq(u64::from(refused) + 1));
}

#[test]
fn a_gateway_that_shuts_down_on_a_slow_disk_does_not_spin_for_its_uplinks() {
    let mut bench = Bench::new(plan(), echo());
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "x");
    bench.disk_stands_still = true;
    bench.gateway.shut_down(bench.now);
    bench.drain();
    assert!(!bench.gateway.is_idle());
    for _ in 0..20 {
        bench.now.instant = bench.gateway.poll_timeout();
        bench.gateway.handle_timeout(bench.now);
        bench.drain();
        assert!(bench.gateway.poll_timeout() > bench.now.instant, "the shell would spin");
    }
}

#[test]
fn nothing_passes_for_sent_at_a_server_that_holds_an_epoch_from_elsewhere() {
    let mut bench = Bench::new(plan(), Box::new(|_, _, _| CallVerdict::Done(Vec::new())));
    let epoch = bench.gateway.log_mut().epoch();
    let held = |epoch| {
        let (lane, epoch) = (tidegate_uplink::LaneId(0), tidegate_stream::Epoch(epoch));
        tidegate_uplink::Held::through(lane, epoch, Seq(1))
    };
    bench.upstream = true;
    bench.upstream_holds = vec![held(epoch.0 + 1)];
    let conn = bench.connect(1, "s1");
    for id in 1..=3 {
        bench.publish(conn, id, "sensors/a", &format!("reading {id}"));
    }
    bench.pass(Duration::from_secs(5));
    let status = bench.gateway.status(bench.now);
    let why = status.uplinks[0].last_error.clone().unwrap_or_default();
    assert!(why.contains("gateway.id") && why.contains("epoch"), "{why}");
    assert!(bench.sent.is_empty(), "{} sent", bench.sent.len());

    // Somebody put it right there: everything is still here.
    bench.upstream_holds = vec![held(epoch.0)];
    bench.pass(Duration::from_secs(120));
    let sent: Vec<_> = bench.sent.iter().map(|sent| sent.payload.clone()).collect();
    assert_eq!(sent, [b"reading 2".to_vec(), b"reading 3".to_vec()]);
}
