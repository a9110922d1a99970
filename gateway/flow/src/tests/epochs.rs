//! Stores that come and go under one gateway id, at a sink that remembers: wipes, boots without a
//! clock, unclean ends, imports.

use tidegate_stream::Epoch;
use tidegate_uplink::{Batch, Held, LaneId};

use super::*;

/// What the sink remembers, as docs/formats/https-sink.md has it: each epoch's committed sequence,
/// of which it names the newest epoch only.
#[derive(Default, Clone)]
struct CommittedSink {
    committed: BTreeMap<u32, u64>,
    /// Payloads in the order of their arrival.
    taken: Vec<String>,
}

impl CommittedSink {
    fn held(&self) -> Vec<Held> {
        let newest = self.committed.last_key_value();
        let held = |(epoch, seq): (&u32, &u64)| Held::through(LaneId(0), Epoch(*epoch), Seq(*seq));
        newest.map(held).into_iter().collect()
    }

    fn take(&mut self, batch: Batch) {
        let committed = self.committed.entry(batch.epoch.0).or_default();
        for record in batch.records {
            if record.seq.0 > *committed {
                *committed = record.seq.0;
                self.taken.push(String::from_utf8(record.payload).unwrap());
            }
        }
    }
}

impl Bench {
    fn kept_records(&self) -> usize {
        let (log, id) = (self.gateway.log(), self.gateway.routes.id("telemetry").unwrap());
        (log.durable_seq(id).0 - log.first_seq(id).0) as usize
    }
}

/// Chance that a seed decides (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// One machine after the other under one id, and the sink.
struct Site {
    chance: Chance,
    bench: Bench,
    sink: CommittedSink,
    backup: CommittedSink,
    conn: u64,
    readings: u64,
    /// Acknowledged to the sensor, and in the present store or at the sink.
    acknowledged: Vec<String>,
    clock_set: bool,
    /// What a set clock says.
    clock_ms: i64,
    entropy: u64,
}

fn site_plan() -> Plan {
    let mut plan = plan();
    plan.functions.clear();
    plan.uplinks[0].streams.truncate(1);
    plan.uplinks[0].setback = Setback::SentAgain;
    plan.streams[0].retain = Duration::from_secs(1 << 30);
    plan
}

impl Site {
    fn new(seed: u64) -> Site {
        let mut site = Site {
            chance: Chance(seed),
            bench: Bench::new(site_plan(), echo()),
            sink: CommittedSink::default(),
            backup: CommittedSink::default(),
            conn: 0,
            readings: 0,
            acknowledged: Vec::new(),
            clock_set: true,
            clock_ms: 1_780_000_000_000,
            entropy: seed,
        };
        site.boot(CrashDisk::new());
        site
    }

    /// The gateway starts on this disk, with the clock as it is.
    fn boot(&mut self, disk: CrashDisk) {
        self.entropy += 1_000_003;
        let instant = self.bench.now.instant;
        self.clock_ms += 3_600_000;
        let unix_ms = if self.clock_set { self.clock_ms } else { 9_000 };
        let clock = if self.clock_set { ClockQuality::Synced } else { ClockQuality::Unsynced };
        let now = Now { instant, unix_ms, micros: 0, clock };
        let (gateway, _) = Gateway::open(site_plan(), &disk, now, self.entropy).unwrap();
        self.bench = Bench { gateway, disk, ..Bench::new(site_plan(), echo()) };
        self.bench.now = now;
    }

    fn publish(&mut self) {
        self.conn += 1;
        let conn = self.bench.connect(self.conn, "s1");
        for id in 1..=1 + self.chance.below(6) {
            self.readings += 1;
            let payload = format!("reading {}", self.readings);
            self.bench.publish(conn, id as u16, "sensors/a", &payload);
            self.acknowledged.push(payload);
        }
        self.bench.pass(SETTLE);
    }

    /// The link is there for a while; the sink may fall silent in the middle.
    fn uplink(&mut self, takes: usize) {
        self.bench.upstream = true;
        self.bench.upstream_holds = self.sink.held();
        self.bench.takes = takes;
        self.bench.takes_silently = self.chance.below(4) as usize;
        self.bench.pass(Duration::from_secs(if takes == usize::MAX { 120 } else { 1 }));
        self.bench.upstream = false;
        for batch in std::mem::take(&mut self.bench.batches) {
            self.sink.take(batch);
        }
        let session = self.bench.sessions;
        let why = "cut".to_owned();
        let event = UplinkEvent::Disconnected { session, why };
        self.bench.gateway.handle_uplink(self.bench.now, 0, event);
        self.bench.pass(Duration::from_millis(20));
    }

    /// Power fails, and leaves half a frame behind the last one.
    fn end_uncleanly(&mut self) {
        self.bench.pass(SETTLE);
        self.bench.disk_stands_still = true;
        self.conn += 1;
        let conn = self.bench.connect(self.conn, "s1");
        self.readings += 1;
        self.bench.publish(conn, 1, "sensors/a", &format!("unanswered {}", self.readings));
        self.bench.pass(SETTLE);
        let disk = self.bench.disk.clone();
        disk.crash_at(disk.operations() + 1);
        for request in std::mem::take(&mut self.bench.held_disk) {
            let _ = request.perform(&disk);
        }
        let seed = self.chance.below(u64::MAX);
        self.boot(disk.crash(seed));
    }

    /// The machine is exchanged: what was not sent is gone with its store.
    fn wipe(&mut self) {
        let there: std::collections::BTreeSet<_> = self.sink.taken.iter().cloned().collect();
        self.acknowledged.retain(|payload| there.contains(payload));
        self.boot(CrashDisk::new());
    }

    /// The sink comes back as its backup was. What former stores had sent since is gone.
    fn restore(&mut self) {
        self.sink = self.backup.clone();
        let kept = self.kept();
        let taken = &self.sink.taken;
        self.acknowledged.retain(|payload| taken.contains(payload) || kept.contains(payload));
    }

    /// What the store holds, in the order of the stream.
    fn kept(&mut self) -> Vec<String> {
        loop {
            let kept = self.bench.payloads("telemetry");
            if kept.len() >= self.bench.kept_records() {
                return kept;
            }
            // It is being read from the disk.
            self.bench.pass(Duration::from_millis(1));
        }
    }

    /// What the operator is told to do: export what waits, and import it into a new directory.
    fn import(&mut self) {
        let there: std::collections::BTreeSet<_> = self.sink.taken.iter().cloned().collect();
        let waiting: Vec<_> =
            self.acknowledged.iter().filter(|payload| !there.contains(*payload)).cloned().collect();
        self.clock_set = true;
        self.boot(CrashDisk::new());
        self.conn += 1;
        let conn = self.bench.connect(self.conn, "import");
        for (id, payload) in (1..).zip(&waiting) {
            self.bench.publish(conn, id, "sensors/a", payload);
        }
        self.bench.pass(SETTLE);
    }

    fn step(&mut self) {
        match self.chance.below(15) {
            0..4 => self.publish(),
            4..6 => self.uplink(usize::MAX),
            6 => {
                let takes = self.chance.below(5) as usize;
                self.uplink(takes);
            }
            7 => self.end_uncleanly(),
            8 => self.boot(self.bench.disk.after_kill()),
            9 => self.clock_set = !self.clock_set,
            10 => self.wipe(),
            11 => self.backup = self.sink.clone(),
            12 => self.restore(),
            _ => self.import(),
        }
    }

    /// The reason for which the uplink stands, when it does.
    fn stands(&mut self) -> Option<String> {
        let status = self.bench.gateway.status(self.bench.now);
        status.uplinks[0].last_error.clone().filter(|why| why.contains("gateway.id"))
    }

    /// Whether the operator was told that the sink cannot say what it lost.
    fn hides(&self) -> bool {
        let status = self.bench.gateway.status(self.bench.now);
        let told = status.uplinks[0].setback.clone();
        told.is_some_and(|told| told.contains("another store's"))
    }

    /// Everything is at the sink once and in order, or waits behind a reason. Whether it stands.
    fn judge(&mut self, seed: u64) -> bool {
        self.uplink(usize::MAX);
        let mut times: BTreeMap<&str, u32> = BTreeMap::new();
        self.sink.taken.iter().for_each(|payload| *times.entry(payload).or_default() += 1);
        assert!(times.values().all(|times| *times == 1), "seed {seed}: twice: {times:?}");
        let missing: Vec<_> =
            self.acknowledged.iter().filter(|p| !times.contains_key(p.as_str())).cloned().collect();
        let kept = self.kept();
        assert!(missing.iter().all(|payload| kept.contains(payload)), "seed {seed}: {missing:?}");
        let told = self.stands().is_some() || self.hides();
        assert!(missing.is_empty() || told, "seed {seed}: {missing:?} wait for nothing");
        !missing.is_empty()
    }
}

#[test]
fn whatever_stores_come_and_go_nothing_acknowledged_is_lost_or_doubled_at_a_sink_that_remembers() {
    let (mut stood, mut through) = (0, 0);
    for seed in 0..300 {
        let mut site = Site::new(seed);
        for _ in 0..30 {
            site.step();
        }
        if site.judge(seed) {
            stood += 1;
            // The operator does what the reason says.
            site.import();
            assert!(!site.judge(seed), "seed {seed}: it stands after the import");
        } else {
            through += 1;
        }
    }
    assert!(stood > 3 && through > 100, "{stood} stood, {through} went through");
}

/// The store that had no clock, and then jumps over what a former one sent.
#[test]
fn records_of_a_clockless_store_do_not_pass_for_sent_after_its_epoch_jumped() {
    let mut site = Site::new(1);
    site.publish();
    site.uplink(usize::MAX);
    let former = site.bench.gateway.log().epoch();
    site.clock_set = false;
    site.wipe();
    site.publish();
    let low = site.bench.gateway.log().epoch();
    site.clock_set = true;
    while site.bench.gateway.log().epoch() == low {
        site.end_uncleanly();
    }
    assert!(low < former && former < site.bench.gateway.log().epoch());
    site.publish();
    assert!(site.judge(1), "records of epoch {low} wait behind {former}");
    let why = site.stands().unwrap_or_default();
    assert!(why.contains(&format!("older epoch {low}")), "{why}");
    site.import();
    assert!(!site.judge(1));
}
