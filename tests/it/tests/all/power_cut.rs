//! The power of a real disk is cut, again and again, while publishers send: an ext4 of its own
//! on a loop device, shut down by `EXT4_IOC_SHUTDOWN`, mounted again with its journal's recovery,
//! and the gateway started on what is there. Judged, as after a `kill -9`, by the ids in the
//! payloads that reached the upstream broker.
//!
//! A `kill -9` leaves the page cache as it is and so proves nothing about syncs; this does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidegate_rig::consumer::Consumer;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mosquitto::Mosquitto;
use tidegate_rig::mqtt::Version;
use tidegate_rig::proxy::{Mode, Proxy};
use tidegate_rig::publisher::{Next, Publisher, Source};
use tidegate_rig::scratch::Scratch;
use tidegate_rig::sensors::Random;
use tidegate_volume::{Unavailable, Volume, say_skipped};

use crate::binaries;
use crate::kill::{
    PUBLISHERS, Publishers, READINGS, Upstream, acknowledged, finish, judge, seed,
    wait_for_acknowledgements, wait_until_all_arrived,
};
use crate::setup::{Readings, beside_others, config, publisher, threshold};

/// Two tests with this many make the fifty.
const CUTS: u64 = 25;
/// Least acknowledgements that are waited for between two cuts.
const LEAST_BETWEEN_CUTS: u64 = 50;
/// Longest time, in microseconds, that a gateway lives on without its disk: whatever it
/// acknowledges then is lost.
const LONGEST_AFTERLIFE: u64 = 20_000;
/// Bytes added to each payload, so that segments fill up, and are recycled where they may.
const PADDING: usize = 900;
const VOLUME_BYTES: u64 = 128 << 20;

/// Every record must outlive every later cut: the log alone holds them until the end.
#[test]
fn nothing_acknowledged_is_lost_or_doubled_over_25_power_cuts_with_the_upstream_down() {
    run("25 power cuts, upstream down", Upstream::DownUntilTheEnd);
}

/// What went upstream must be there still after the cut, under the same identity, and recycled
/// segments must not bring back what they held before.
#[test]
fn nothing_acknowledged_is_lost_or_doubled_over_25_power_cuts_with_the_upstream_up() {
    run("25 power cuts, upstream up", Upstream::Up);
}

fn run(name: &str, upstream: Upstream) {
    let _machine = beside_others();
    let disk = Scratch::new("disk").unwrap();
    let (mut gateway, broker, proxy) = prepare(upstream);
    let mut volume = match mounted(&disk, &gateway) {
        Ok(volume) => volume,
        Err(why) => return say_skipped(name, &why),
    };
    let seed = seed();
    println!("TIDEGATE_SEED={seed} repeats the counts of acknowledgements before each cut");
    let mut random = Random::new(seed);
    let consumer = Consumer::start_keeping(broker.address()).unwrap();
    gateway.start().unwrap();
    let given = Arc::new(AtomicU64::new(0));
    let publishers: Vec<Publisher> =
        (0..PUBLISHERS).map(|at| sender(&gateway, at, given.clone())).collect();
    for cut in 0..CUTS {
        let (share, so_far) = (READINGS * (cut + 1) / (CUTS + 1), acknowledged(&publishers));
        given.store(share, Ordering::Relaxed);
        // In the first half of what there is, so that publishers are at work.
        let most = (PUBLISHERS * share - so_far) / 2;
        let after = so_far + random.integer(LEAST_BETWEEN_CUTS, most);
        wait_for_acknowledgements(&publishers, after, &gateway, cut);
        volume.cut().unwrap();
        std::thread::sleep(Duration::from_micros(random.integer(0, LONGEST_AFTERLIFE)));
        gateway.kill().unwrap();
        let count = acknowledged(&publishers);
        assert!(count < PUBLISHERS * READINGS, "cut {cut} came after the last acknowledgement");
        volume.unmount().unwrap();
        volume.mount().unwrap();
        if let Err(error) = gateway.start() {
            panic!("no start after cut {cut}: {error:#}");
        }
    }
    given.store(READINGS, Ordering::Relaxed);
    let reports = finish(publishers, &gateway);
    proxy.set(Mode::Pass);
    wait_until_all_arrived(&consumer, &gateway, &reports);
    judge(&consumer.arrivals(), &reports, Publishers::WithIdentity);
    println!("{}", recoveries(&gateway));
}

/// A gateway that is not yet started, and its upstream, behind a proxy.
fn prepare(upstream: Upstream) -> (Gateway, Mosquitto, Proxy) {
    let broker = Mosquitto::start().unwrap();
    let proxy = Proxy::start(broker.address()).unwrap();
    if upstream == Upstream::DownUntilTheEnd {
        proxy.set(Mode::Cut);
    }
    // Records that were sent go at once, so that segments are recycled.
    let config = config(proxy.address(), &threshold(", every = true"))
        .replace("retain = \"1h\"", "retain = \"0s\"")
        + "\n[storage]\nsegment_bytes = \"2MiB\"\n";
    let scratch = Scratch::new("it").unwrap();
    let gateway = Gateway::new(&binaries::tidegate(), scratch, &config).unwrap();
    (gateway, broker, proxy)
}

/// The data directory is the volume; configuration and output stay on the machine's own disk.
fn mounted(disk: &Scratch, gateway: &Gateway) -> Result<Volume, Unavailable> {
    Volume::new(&disk.path().join("image"), VOLUME_BYTES, &gateway.data_dir())
}

fn sender(gateway: &Gateway, at: u64, given: Arc<AtomicU64>) -> Publisher {
    let name = format!("p{at}");
    let source = Padded { readings: Readings::new(&name, READINGS), given };
    publisher(gateway.mqtt(), &name, Version::V5, Some(7), source)
}

/// Readings of about a kilobyte, as fast as they are taken. Each cut has its share of them: on a machine whose
/// disk is fast all would be gone in a few of the times that the gateway lives on without it.
struct Padded {
    readings: Readings,
    /// How many each publisher may have published by now.
    given: Arc<AtomicU64>,
}

impl Source for Padded {
    fn next(&mut self, number: u64, now: Instant) -> Next {
        if number >= self.given.load(Ordering::Relaxed) && number < READINGS {
            return Next::At(now + Duration::from_millis(1));
        }
        let Next::Message { topic, mut payload } = self.readings.next(number, now) else {
            return Next::End;
        };
        payload.pop();
        payload.extend_from_slice(format!(r#","pad":"{:x<PADDING$}"}}"#, "").as_bytes());
        Next::Message { topic, payload }
    }
}

/// What the starts after the cuts found, in numbers.
fn recoveries(gateway: &Gateway) -> String {
    let log = std::fs::read_to_string(gateway.log_file()).unwrap();
    let opened: Vec<&str> = log.lines().filter(|line| line.contains("opened the store")).collect();
    let torn = opened.iter().filter(|line| !line.contains("torn_bytes=0")).count();
    let epochs = opened.iter().filter(|line| line.contains("new_epoch=true")).count();
    assert_eq!(opened.len() as u64, CUTS, "starts that found a store\n{}", gateway.log_tail());
    format!("{CUTS} cuts: {torn} left a torn write, {epochs} began a new epoch")
}
