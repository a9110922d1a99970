//! The gateway driven by hand: a disk that answers at once, functions that are closures, an
//! upstream that is a list.

mod access;
mod canary;
mod carried;
mod chain;
mod control;
mod edges;
mod epochs;
mod events;
mod expiry;
mod files;
mod firmware;
mod imports;
mod lanes;
mod letters;
mod losses;
mod metrics;
mod ordering;
mod quotas;
mod reload;
mod requests;
mod schedules;
mod sessions;
mod setbacks;
mod shared;
mod stores;
mod tidings;
mod time;
mod timers;
mod twin;
mod versions;
mod watching;
mod wills;

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use tidegate_abi::{BatchReader, NackClass, Operation, OutputWriter, Qos};
use tidegate_broker::access::Access;
use tidegate_broker::{BrokerLimits, ConnId, TopicFilter};
use tidegate_stream::crash::CrashDisk;
use tidegate_stream::{Compression, LogOptions, Overflow, ReadLimit, ReadOutcome, RecordRef, Seq};
use tidegate_uplink::{Action, OutboundMessage, OutboundRecord, UplinkEvent, UplinkOptions};

use crate::attributes::Attributes;
use crate::{
    Answer, Call, CallResult, CallVerdict, ClockQuality, DEAD_LETTER_STREAM, FunctionPlan, Gateway,
    Now, Output, Plan, RequestId, Setback, StreamPlan, UplinkPlan,
};

/// What a function, by its index, does with a batch.
type Guest = Box<dyn FnMut(usize, &BatchReader<'_>, &BTreeMap<Vec<u8>, Vec<u8>>) -> CallVerdict>;

struct Bench {
    gateway: Gateway,
    disk: CrashDisk,
    now: Now,
    /// Time since the wall clock last moved, by whole milliseconds.
    since_ms: Duration,
    guest: Guest,
    calls: u64,
    sent: Vec<OutboundMessage>,
    batches: Vec<tidegate_uplink::Batch>,
    /// First and last sequence of each batch sent.
    ranges: Vec<(u64, u64)>,
    /// Records that the upstream still takes before it falls silent.
    takes: usize,
    /// Batches that it takes then, without an answer that arrives.
    takes_silently: usize,
    upstream: bool,
    /// A lane whose batches are not answered.
    silent_lane: Option<&'static str>,
    disk_stands_still: bool,
    held_disk: Vec<tidegate_stream::DiskRequest>,
    /// Calls end when the test says so.
    calls_take_time: bool,
    /// Blocks of firmware that are to be read, and what goes to devices on serial lines.
    reads: Vec<tidegate_firmware::Read>,
    letters: Vec<tidegate_firmware::Letter>,
    held_calls: Vec<Call>,
    upstream_holds: Vec<tidegate_uplink::Held>,
    /// The newest session that was asked for.
    sessions: u64,
    received: BTreeMap<ConnId, Vec<u8>>,
    closed: Vec<ConnId>,
    /// What everybody may do who logs in.
    access: Option<Access>,
    /// Functions whose calls fail.
    broken: std::collections::BTreeSet<usize>,
    orders: Vec<crate::FunctionOrder>,
    answers: Vec<(RequestId, Answer)>,
}

impl Bench {
    fn new(plan: Plan, guest: Guest) -> Bench {
        Bench::on(CrashDisk::new(), plan, guest)
    }

    fn on(disk: CrashDisk, plan: Plan, guest: Guest) -> Bench {
        let now = start();
        let (gateway, _) = Gateway::open(plan, &disk, now, 7).unwrap();
        Bench {
            gateway,
            disk,
            now,
            since_ms: Duration::ZERO,
            guest,
            calls: 0,
            reads: Vec::new(),
            letters: Vec::new(),
            sent: Vec::new(),
            batches: Vec::new(),
            ranges: Vec::new(),
            takes: usize::MAX,
            takes_silently: 0,
            upstream: false,
            silent_lane: None,
            disk_stands_still: false,
            held_disk: Vec::new(),
            calls_take_time: false,
            held_calls: Vec::new(),
            upstream_holds: Vec::new(),
            sessions: 0,
            received: BTreeMap::new(),
            closed: Vec::new(),
            access: None,
            broken: std::collections::BTreeSet::new(),
            orders: Vec::new(),
            answers: Vec::new(),
        }
    }

    fn connect(&mut self, conn: u64, client: &str) -> ConnId {
        let conn = ConnId(conn);
        self.gateway.handle_open(self.now, conn, "test".to_owned());
        let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 0, 0, client.len() as u8];
        body.extend_from_slice(client.as_bytes());
        self.bytes(conn, 0x10, &body);
        conn
    }

    fn bytes(&mut self, conn: ConnId, kind: u8, body: &[u8]) {
        let mut packet = vec![kind];
        let mut len = body.len();
        while len > 127 {
            packet.push((len & 127) as u8 | 128);
            len >>= 7;
        }
        packet.push(len as u8);
        packet.extend_from_slice(body);
        self.gateway.handle_bytes(self.now, conn, &packet);
        self.drain();
    }

    fn publish(&mut self, conn: ConnId, id: u16, topic: &str, payload: &str) {
        self.publish_with(conn, id, topic, payload, &[]);
    }

    fn publish_with(
        &mut self,
        conn: ConnId,
        id: u16,
        topic: &str,
        payload: &str,
        user: &[(&str, &str)],
    ) {
        let string = |out: &mut Vec<u8>, text: &str| {
            out.extend_from_slice(&(text.len() as u16).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        };
        let mut body = Vec::new();
        string(&mut body, topic);
        body.extend_from_slice(&id.to_be_bytes());
        let mut properties = Vec::new();
        for (key, value) in user {
            properties.push(0x26);
            string(&mut properties, key);
            string(&mut properties, value);
        }
        assert!(properties.len() < 128);
        body.push(properties.len() as u8);
        body.extend_from_slice(&properties);
        body.extend_from_slice(payload.as_bytes());
        self.bytes(conn, 0x32, &body);
    }

    fn subscribe(&mut self, conn: ConnId, filter: &str) {
        let mut body = vec![0, 1, 0, 0, filter.len() as u8];
        body.extend_from_slice(filter.as_bytes());
        body.push(1);
        self.bytes(conn, 0x82, &body);
    }

    /// Packet identifiers and reason codes of the PUBACKs so far.
    fn pubacks(&self, conn: ConnId) -> Vec<(u16, u8)> {
        packets(self.received.get(&conn).map_or(&[], |bytes| bytes))
            .filter(|(kind, _)| *kind == 0x40)
            .map(|(_, body)| {
                (u16::from_be_bytes([body[0], body[1]]), body.get(2).copied().unwrap_or(0))
            })
            .collect()
    }

    fn publishes(&self, conn: ConnId) -> usize {
        packets(self.received.get(&conn).map_or(&[], |bytes| bytes))
            .filter(|(kind, _)| kind >> 4 == 3)
            .count()
    }

    fn drain(&mut self) {
        while let Some(output) = self.gateway.poll_output(self.now) {
            match output {
                Output::Writable(conn) => {
                    if let Some(outbox) = self.gateway.unsent(conn) {
                        let bytes = outbox.as_slice().to_vec();
                        outbox.consume(bytes.len());
                        self.received.entry(conn).or_default().extend(bytes);
                    }
                }
                Output::Close(conn, _) => self.closed.push(conn),
                Output::Disk(request) if self.disk_stands_still && !request.is_read() => {
                    self.held_disk.push(request);
                }
                Output::Disk(request) => {
                    let reply = request.perform(&self.disk);
                    self.gateway.handle_disk(self.now, reply);
                }
                Output::Call(call) if self.calls_take_time => self.held_calls.push(call),
                Output::Call(call) => self.call(call),
                Output::Uplink(index, action) => self.upstream(index, action),
                Output::Function(order) => self.orders.push(order),
                Output::Answer(id, answer) => self.answers.push((id, answer)),
                Output::ReadFirmware(read) => self.reads.push(read),
                Output::Letter(letter) => self.letters.push(letter),
                Output::Authenticate(conn, _) => {
                    let access = self.access.clone().expect("a plan without logins");
                    self.gateway.authenticated(self.now, conn, Ok(access));
                }
                Output::Pause(_) | Output::Resume(_) | Output::Notice(_) => {}
            }
        }
    }

    /// Makes a call, and tells what came of it.
    fn call(&mut self, call: Call) {
        self.calls += 1;
        let batch = BatchReader::parse(&call.frame).unwrap();
        let id = call.id;
        let verdict = match self.broken.contains(&id.function) {
            true => CallVerdict::Failed("it is broken".to_owned()),
            false => (self.guest)(id.function, &batch, &call.state),
        };
        drop(call.state);
        let elapsed = Duration::from_micros(10);
        let result = CallResult { verdict, fuel: 1, elapsed, cpu: elapsed, memory_bytes: 65536 };
        self.gateway.handle_call(self.now, id, result);
    }

    /// Ends one of the calls that are under way.
    fn end_call(&mut self, index: usize) {
        let call = self.held_calls.remove(index);
        self.call(call);
        self.drain();
    }

    fn upstream(&mut self, index: usize, action: Action) {
        if let Action::Connect { session, .. } = action {
            self.sessions = session;
        }
        let event = match action {
            Action::Connect { session, .. } if self.upstream => {
                UplinkEvent::Connected { session, held: self.upstream_holds.clone() }
            }
            Action::Connect { session, .. } => {
                UplinkEvent::Disconnected { session, why: "refused".to_owned() }
            }
            Action::Send { batch, .. } if self.silent_lane == Some(&*batch.stream) => return,
            Action::Send { session, token, batch } => {
                let Some(left) = self.takes.checked_sub(batch.records.len()) else {
                    self.takes = 0;
                    if let Some(left) = self.takes_silently.checked_sub(1) {
                        self.takes_silently = left;
                        self.batches.push(batch);
                    }
                    return;
                };
                self.takes = left;
                self.batches.push(batch.clone());
                self.ranges.push((batch.range.first.0, batch.range.last.0));
                let (stream, epoch) = (batch.stream, batch.epoch);
                let message = |record: OutboundRecord| record.into_message("gw", &stream, epoch);
                self.sent.extend(batch.records.into_iter().map(message));
                UplinkEvent::Acknowledged { session, token }
            }
            Action::Disconnect { session, why } => UplinkEvent::Disconnected { session, why },
            Action::Advance { .. } | Action::Reject { .. } | Action::Seal { .. } => {
                panic!("not for the driver")
            }
        };
        self.gateway.handle_uplink(self.now, index, event);
    }

    /// Lets simulated time pass, alarm by alarm.
    fn pass(&mut self, time: Duration) {
        let end = self.now.instant + time;
        loop {
            self.drain();
            let at = self.gateway.poll_timeout().max(self.now.instant + Duration::from_micros(50));
            if at > end {
                break;
            }
            self.set_time(at);
            self.gateway.handle_timeout(self.now);
        }
        self.set_time(end);
        self.drain();
    }

    fn set_time(&mut self, instant: Instant) {
        self.since_ms += instant - self.now.instant;
        self.now.instant = instant;
        let whole = Duration::from_millis(self.since_ms.as_millis() as u64);
        self.now.unix_ms += whole.as_millis() as i64;
        self.since_ms -= whole;
        self.now.micros = self.since_ms.as_micros() as u16;
    }

    fn let_the_disk_go(&mut self) {
        self.disk_stands_still = false;
        for request in std::mem::take(&mut self.held_disk) {
            let reply = request.perform(&self.disk);
            self.gateway.handle_disk(self.now, reply);
        }
        self.pass(Duration::from_millis(50));
    }

    /// Payloads and attributes of a stream.
    fn stream(&mut self, name: &str) -> Vec<(String, String, Attributes)> {
        let id = self.gateway.routes.id(name).unwrap();
        let limit = ReadLimit { records: 10_000, bytes: usize::MAX };
        let mut found = Vec::new();
        let mut from = Seq(1);
        loop {
            let now = self.now.instant;
            let visit = &mut |_, _, record: RecordRef<'_>| {
                found.push((
                    record.topic.to_owned(),
                    String::from_utf8_lossy(record.payload).into_owned(),
                    Attributes::decode(record.attributes).unwrap(),
                ));
            };
            match self.gateway.log_mut().read(now, id, from, limit, visit) {
                ReadOutcome::Read { next } | ReadOutcome::Lost { next } => from = next,
                ReadOutcome::Fetching => self.drain(),
                ReadOutcome::End => return found,
            }
        }
    }

    fn payloads(&mut self, name: &str) -> Vec<String> {
        self.stream(name).into_iter().map(|(_, payload, _)| payload).collect()
    }
}

#[expect(clippy::disallowed_methods, reason = "simulated time has to begin somewhere")]
fn beginning() -> Instant {
    Instant::now()
}

/// When a gateway is opened.
fn start() -> Now {
    Now { instant: beginning(), unix_ms: 1_780_000_000_000, micros: 0, clock: ClockQuality::Synced }
}

fn packets(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let kind = *bytes.get(at)?;
        let (mut len, mut shift, mut cursor) = (0_usize, 0, at + 1);
        loop {
            let byte = bytes[cursor];
            cursor += 1;
            len |= usize::from(byte & 127) << shift;
            shift += 7;
            if byte & 128 == 0 {
                break;
            }
        }
        at = cursor + len;
        Some((kind, &bytes[cursor..at]))
    })
}

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

fn stream(name: &str, topics: &[&str]) -> StreamPlan {
    StreamPlan {
        name: name.to_owned(),
        topics: topics.iter().map(|topic| filter(topic)).collect(),
        max_bytes: 1 << 30,
        max_records: None,
        overflow: Overflow::Block,
        retain: Duration::from_secs(3600),
        priority: 0,
        max_age: None,
        compression: Compression::None,
        key: None,
    }
}

fn plan() -> Plan {
    Plan {
        gateway: "gw".to_owned(),
        broker: BrokerLimits::default(),
        requires_login: false,
        log: LogOptions {
            segment_bytes: 256 * 1024,
            max_frame_bytes: 64 * 1024,
            ..LogOptions::default()
        },
        streams: vec![stream("telemetry", &["sensors/#"]), stream("alerts", &["alerts/#"])],
        functions: vec![FunctionPlan {
            publish: vec![filter("alerts/#")],
            batch_records: 8,
            batch_bytes: 4096,
            attempts: 3,
            state_bytes: 64,
            ..FunctionPlan::new("echo", "telemetry")
        }],
        uplinks: vec![UplinkPlan {
            name: "cloud".to_owned(),
            streams: vec!["telemetry".to_owned(), "alerts".to_owned()],
            live_first: Vec::new(),
            setback: Setback::Unseen,
            late: crate::LateLimits::default(),
            options: UplinkOptions::default(),
        }],
        seed: 1,
    }
}

/// A guest that emits one message for each entry and counts them in its state.
fn echo() -> Guest {
    Box::new(|_, batch, state| {
        let mut out = OutputWriter::new();
        let count =
            state.get(&b"count"[..]).map_or(0, |value| value[0]) + batch.iter().count() as u8;
        for message in batch.iter() {
            emit(&mut out, "alerts/echo", message.payload);
        }
        out.push(&Operation::KvPut { key: b"count", value: &[count], ttl_ms: 0 }).unwrap();
        CallVerdict::Done(out.finish())
    })
}

fn emit(out: &mut OutputWriter, topic: &str, payload: &[u8]) {
    emit_for(out, None, topic, payload);
}

/// An output of the entry with this number, counted from 1.
fn emit_for(out: &mut OutputWriter, entry: Option<u16>, topic: &str, payload: &[u8]) {
    let cause = entry.and_then(NonZeroU16::new);
    let (qos, retain, props) = (Qos::AtLeastOnce, false, &[][..]);
    out.push(&Operation::Emit { topic, payload, qos, retain, props, cause }).unwrap();
}

const SETTLE: Duration = Duration::from_millis(200);

#[test]
fn publisher_gets_no_puback_before_the_sync_and_one_after_it() {
    let mut bench = Bench::new(plan(), echo());
    let conn = bench.connect(1, "s1");
    bench.disk_stands_still = true;
    bench.publish(conn, 1, "sensors/a", "x");
    bench.pass(SETTLE);
    assert_eq!(bench.pubacks(conn), []);
    bench.let_the_disk_go();
    assert_eq!(bench.pubacks(conn), [(1, 0)]);
}

#[test]
fn a_publish_without_a_stream_is_acknowledged_at_once_and_says_that_nobody_listens() {
    let mut bench = Bench::new(plan(), echo());
    let conn = bench.connect(1, "s1");
    bench.disk_stands_still = true;
    bench.publish(conn, 1, "elsewhere", "x");
    assert_eq!(bench.pubacks(conn), [(1, 0x10)]);
}

#[test]
fn a_topic_of_two_streams_is_in_both_once() {
    let mut both = plan();
    both.streams.push(stream("all", &["#", "sensors/#"]));
    let mut bench = Bench::new(both, echo());
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "x");
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("telemetry"), ["x"]);
    assert_eq!(bench.payloads("all"), ["x", "x"], "the reading, and the function's echo of it");
    assert_eq!(bench.pubacks(conn), [(1, 0)]);
}

#[test]
fn outputs_state_and_cursor_survive_together_and_nothing_is_handled_twice() {
    let disk = {
        let mut bench = Bench::new(plan(), echo());
        let conn = bench.connect(1, "s1");
        for id in 1..=20 {
            bench.publish(conn, id, "sensors/a", &format!("r{id}"));
        }
        bench.pass(SETTLE);
        assert_eq!(bench.payloads("alerts").len(), 20);
        bench.disk.crash(3)
    };
    let mut bench = Bench::on(disk, plan(), echo());
    bench.pass(SETTLE);
    assert_eq!(bench.calls, 0, "everything was handled before the power cut");
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "after");
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("alerts").len(), 21);
    let status = bench.gateway.status(bench.now);
    assert_eq!(status.functions[0].state_keys, 1);
}

#[test]
fn a_message_with_a_known_publisher_identity_is_acknowledged_and_not_stored_again() {
    let mut bench = Bench::new(plan(), echo());
    let conn = bench.connect(1, "s1");
    let identity = [("tg-pub-boot", "4"), ("tg-pub-seq", "9")];
    bench.publish_with(conn, 1, "sensors/a", "x", &identity);
    bench.publish_with(conn, 2, "sensors/a", "x", &identity);
    bench.pass(SETTLE);
    assert_eq!(bench.pubacks(conn), [(1, 0), (2, 0)]);
    assert_eq!(bench.payloads("telemetry"), ["x"]);
    let newer = [("tg-pub-boot", "3"), ("tg-pub-seq", "1")];
    bench.publish_with(conn, 3, "sensors/a", "y", &newer);
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("telemetry"), ["x", "y"], "another boot is a new beginning");
}

#[test]
fn a_duplicate_is_acknowledged_though_nothing_new_comes() {
    let mut bench = Bench::new(plan(), echo());
    let conn = bench.connect(1, "s1");
    let identity = [("tg-pub-boot", "4"), ("tg-pub-seq", "9")];
    bench.publish_with(conn, 1, "sensors/a", "x", &identity);
    bench.pass(Duration::from_secs(5));
    bench.publish_with(conn, 2, "sensors/a", "x", &identity);
    assert_eq!(bench.pubacks(conn), [(1, 0), (2, 0)]);
}

#[test]
fn half_a_publisher_identity_is_refused_with_a_reason() {
    let mut bench = Bench::new(plan(), echo());
    let conn = bench.connect(1, "s1");
    bench.publish_with(conn, 1, "sensors/a", "x", &[("tg-pub-seq", "9")]);
    bench.pass(SETTLE);
    assert_eq!(bench.pubacks(conn), [(1, 0x83)]);
    assert!(bench.payloads("telemetry").is_empty());
}

#[test]
fn subscribers_get_inbound_messages_at_once_and_emitted_ones_when_they_are_durable() {
    let mut bench = Bench::new(plan(), echo());
    let listener = bench.connect(2, "listener");
    bench.subscribe(listener, "#");
    let conn = bench.connect(1, "s1");
    bench.disk_stands_still = true;
    bench.publish(conn, 1, "sensors/a", "x");
    assert_eq!(bench.publishes(listener), 1);
    bench.pass(SETTLE);
    assert_eq!(bench.publishes(listener), 1);
    bench.let_the_disk_go();
    bench.pass(SETTLE);
    assert_eq!(bench.publishes(listener), 2);
}

#[test]
fn what_a_function_emits_to_subscribers_alone_does_not_wait_for_the_next_record() {
    let mut local = plan();
    local.streams.pop();
    local.uplinks.clear();
    let mut bench = Bench::new(local, echo());
    let listener = bench.connect(2, "listener");
    bench.subscribe(listener, "alerts/#");
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "x");
    bench.pass(Duration::from_millis(30));
    assert_eq!(bench.publishes(listener), 1);
}

#[test]
fn a_record_that_traps_ends_in_the_dead_letters_and_the_rest_is_processed() {
    let guest: Guest = Box::new(|_, batch, _| {
        if batch.iter().any(|message| message.payload == b"poison") {
            return CallVerdict::Failed("trap: unreachable".to_owned());
        }
        let mut out = OutputWriter::new();
        for message in batch.iter() {
            emit(&mut out, "alerts/echo", message.payload);
        }
        CallVerdict::Done(out.finish())
    });
    let mut bench = Bench::new(plan(), guest);
    let conn = bench.connect(1, "s1");
    for id in 1..=30 {
        let payload = if id == 13 { "poison".to_owned() } else { format!("r{id}") };
        bench.publish(conn, id, "sensors/a", &payload);
    }
    bench.pass(Duration::from_secs(5));
    let good: Vec<String> = (1..=30).filter(|id| *id != 13).map(|id| format!("r{id}")).collect();
    assert_eq!(bench.payloads("alerts"), good);
    let dead = bench.stream(DEAD_LETTER_STREAM);
    assert_eq!(dead.len(), 1);
    let letter = dead[0].2.dead.clone().unwrap();
    assert_eq!(
        (dead[0].1.as_str(), letter.seq, letter.attempts, letter.reason.as_str()),
        ("poison", 13, 3, "trap: unreachable")
    );
    assert_eq!((letter.function.as_str(), letter.stream.as_str()), ("echo", "telemetry"));
}

#[test]
fn nack_dead_moves_one_record_and_nack_drop_forgets_one() {
    let guest: Guest = Box::new(|_, batch, _| {
        let mut out = OutputWriter::new();
        for (index, message) in batch.iter().enumerate() {
            let class = match message.payload {
                b"dead" => NackClass::Dead,
                b"drop" => NackClass::Drop,
                _ => {
                    emit(&mut out, "alerts/echo", message.payload);
                    continue;
                }
            };
            let nack = Operation::Nack { index: index as u32, class, code: 7, text: "no" };
            out.push(&nack).unwrap();
        }
        CallVerdict::Done(out.finish())
    });
    let mut bench = Bench::new(plan(), guest);
    let conn = bench.connect(1, "s1");
    for (id, payload) in ["a", "dead", "b", "drop", "c"].iter().enumerate() {
        bench.publish(conn, id as u16 + 1, "sensors/a", payload);
    }
    bench.pass(SETTLE);
    assert_eq!(bench.payloads("alerts"), ["a", "b", "c"]);
    assert_eq!(bench.payloads(DEAD_LETTER_STREAM), ["dead"]);
    assert_eq!(bench.gateway.status(bench.now).functions[0].dropped, 1);
}

#[test]
fn nack_retry_keeps_the_order_and_gives_up_after_the_attempts() {
    let guest: Guest = Box::new(|_, batch, _| {
        let mut out = OutputWriter::new();
        for (index, message) in batch.iter().enumerate() {
            if message.payload == b"later" && message.attempt < 2 || message.payload == b"never" {
                let (index, class) = (index as u32, NackClass::Retry);
                out.push(&Operation::Nack { index, class, code: 0, text: "not yet" }).unwrap();
            } else {
                emit(&mut out, "alerts/echo", message.payload);
            }
        }
        CallVerdict::Done(out.finish())
    });
    let mut bench = Bench::new(plan(), guest);
    let conn = bench.connect(1, "s1");
    for (id, payload) in ["a", "later", "b", "never", "c"].iter().enumerate() {
        bench.publish(conn, id as u16 + 1, "sensors/a", payload);
    }
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.payloads("alerts"), ["a", "later", "b", "c"]);
    assert_eq!(bench.payloads(DEAD_LETTER_STREAM), ["never"]);
}

#[test]
fn an_emit_that_is_not_granted_fails_the_call() {
    let guest: Guest = Box::new(|_, _, _| {
        let mut out = OutputWriter::new();
        emit(&mut out, "secrets/x", b"y");
        CallVerdict::Done(out.finish())
    });
    let mut bench = Bench::new(plan(), guest);
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "x");
    bench.pass(Duration::from_secs(5));
    let dead = bench.stream(DEAD_LETTER_STREAM);
    let reason = &dead[0].2.dead.as_ref().unwrap().reason;
    assert!(reason.contains("\"secrets/x\" is not granted"), "{reason}");
}

#[test]
fn state_beyond_its_quota_fails_the_call() {
    let guest: Guest = Box::new(|_, _, _| {
        let mut out = OutputWriter::new();
        out.push(&Operation::KvPut { key: b"k", value: &[0; 64], ttl_ms: 0 }).unwrap();
        CallVerdict::Done(out.finish())
    });
    let mut bench = Bench::new(plan(), guest);
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "x");
    bench.pass(Duration::from_secs(5));
    let dead = bench.stream(DEAD_LETTER_STREAM);
    let reason = &dead[0].2.dead.as_ref().unwrap().reason;
    assert!(reason.contains("65 bytes, more than its quota of 64"), "{reason}");
    assert_eq!(bench.gateway.status(bench.now).functions[0].state_keys, 0);
}

#[test]
fn a_function_that_feeds_itself_stops_at_the_hop_limit() {
    let mut circle = plan();
    circle.functions[0].publish = vec![filter("sensors/#")];
    let guest: Guest = Box::new(|_, batch, _| {
        let mut out = OutputWriter::new();
        for message in batch.iter() {
            emit(&mut out, "sensors/again", message.payload);
        }
        CallVerdict::Done(out.finish())
    });
    let mut bench = Bench::new(circle, guest);
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "x");
    bench.pass(Duration::from_secs(5));
    assert_eq!(bench.payloads("telemetry").len(), 17);
    assert_eq!(bench.payloads(DEAD_LETTER_STREAM), ["x"]);
}

#[test]
fn the_uplink_sends_both_streams_with_their_identity_and_moves_the_cursors() {
    let mut bench = Bench::new(plan(), echo());
    bench.upstream = true;
    let conn = bench.connect(1, "s1");
    for id in 1..=3 {
        bench.publish(conn, id, "sensors/a", &format!("r{id}"));
    }
    bench.pass(Duration::from_secs(3));
    let topics = |topic: &str| bench.sent.iter().filter(|m| m.topic == topic).count();
    assert_eq!((topics("tidegate/gw/telemetry"), topics("tidegate/gw/alerts")), (3, 3));
    let first = &bench.sent[0];
    let header = |name: &str| first.headers.iter().find(|(k, _)| k == name).map(|(_, v)| &**v);
    assert_eq!(header("tg-gw"), Some("gw"));
    assert_eq!(header("tg-stream"), Some("telemetry"));
    assert_eq!(header("tg-seq"), Some("1"));
    assert_eq!(header("tg-topic"), Some("sensors/a"));
    assert_eq!(header("tg-client"), Some("s1"));
    let status = bench.gateway.status(bench.now);
    assert_eq!(status.uplinks[0].backlog, 0);
}

#[test]
fn what_was_acknowledged_upstream_is_not_sent_again_after_a_restart() {
    let mut bench = Bench::new(plan(), echo());
    bench.upstream = true;
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "x");
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.sent.len(), 2);
    let mut bench = Bench::on(bench.disk.crash(9), plan(), echo());
    bench.upstream = true;
    bench.pass(Duration::from_secs(3));
    assert!(bench.sent.is_empty(), "{:?}", bench.sent);
}

#[test]
fn a_full_stream_that_rejects_answers_quota_exceeded() {
    let mut small = plan();
    small.streams[0].max_bytes = 16 * 1024;
    small.streams[0].overflow = Overflow::Reject;
    let mut bench = Bench::new(small, echo());
    let conn = bench.connect(1, "s1");
    for id in 1..=60 {
        bench.publish(conn, id, "sensors/a", &"x".repeat(1000));
        bench.pass(Duration::from_millis(20));
    }
    let pubacks = bench.pubacks(conn);
    assert!(pubacks.contains(&(1, 0)) && pubacks.contains(&(60, 0x97)), "{pubacks:?}");
}

#[test]
fn a_full_stream_that_blocks_withholds_the_puback_until_the_uplink_makes_room() {
    let mut small = plan();
    small.functions.clear();
    small.streams[0].max_bytes = 16 * 1024;
    small.streams[0].retain = Duration::ZERO;
    let mut bench = Bench::new(small, echo());
    let conn = bench.connect(1, "s1");
    for id in 1..=60 {
        bench.publish(conn, id, "sensors/a", &"x".repeat(1000));
        bench.pass(Duration::from_millis(20));
    }
    assert!(bench.pubacks(conn).len() < 60);
    assert!(bench.pubacks(conn).iter().all(|(_, reason)| *reason == 0));
    bench.upstream = true;
    bench.pass(Duration::from_secs(120));
    assert_eq!(bench.pubacks(conn).len(), 60);
    assert_eq!(bench.sent.len(), 60);
}

#[test]
fn a_removed_function_and_uplink_no_longer_hold_records_back() {
    let mut bench = Bench::new(plan(), echo());
    let conn = bench.connect(1, "s1");
    bench.publish(conn, 1, "sensors/a", "x");
    bench.pass(SETTLE);
    let mut fewer = plan();
    fewer.functions.clear();
    fewer.uplinks.clear();
    let bench = Bench::on(bench.disk.crash(1), fewer, echo());
    let status = bench.gateway.status(bench.now);
    assert!(status.streams.iter().all(|stream| stream.readers.is_empty()), "{status:?}");
}
