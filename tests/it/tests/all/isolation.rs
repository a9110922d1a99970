//! Thirty hostile modules in the gateway beside a paced 2,000 messages a second: everything is
//! acknowledged in its time, and a function that does no harm handles all of it.

use std::time::{Duration, Instant};

use tidegate_hostile::{Fate, Hostile};
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mqtt::Version;
use tidegate_rig::publisher::Publisher;

use crate::setup::{PATIENCE, Readings, alone, explain, number, publisher, scratch_with, wait};
use crate::{binaries, poison};

const MODULES: usize = 30;
const PUBLISHERS: u64 = 4;
/// 4 publishers at 500 messages a second for 5 seconds.
const READINGS: u64 = 2_500;
const INTERVAL: Duration = Duration::from_millis(2);
const SECONDS: u64 = 5;
/// How much later than paced the last acknowledgement may come on a busy machine.
const GRACE: Duration = Duration::from_secs(2);
/// What 99 of 100 acknowledgements may take at most beside the hostile modules. A debug build on two
/// processors that others use as well; without hostile modules it is some milliseconds.
const P99: Duration = Duration::from_millis(250);

/// Modules that can be installed and hurt when they run: first those that loop, which is worst.
fn hostile() -> Vec<Hostile> {
    let runs = |one: &Hostile| match one.fate {
        Fate::Fails(_) | Fate::NotStarted(_) => true,
        Fate::Refused(_) | Fate::Handled => false,
    };
    let found: Vec<Hostile> = tidegate_hostile::small().into_iter().filter(runs).collect();
    assert!(found.len() >= MODULES, "{}", found.len());
    found.into_iter().take(MODULES).collect()
}

fn gateway(hostile: &[Hostile]) -> Gateway {
    let scratch = scratch_with("echo.wasm", &poison::module(""));
    let mut text = r#"[gateway]
id = "gw-it"
data_dir = "{data}"

[mqtt]
listen = "{mqtt}"

[http]
listen = "{http}"

[stream.telemetry]
topics = ["sensors/+/telemetry"]
retain = "1h"

[stream.alerts]
topics = ["alerts/#"]
retain = "1h"

[function.echo]
module = "echo.wasm"
input = { stream = "telemetry" }
publish = ["alerts/#"]
"#
    .to_owned();
    for (at, one) in hostile.iter().enumerate() {
        std::fs::write(scratch.path().join(format!("h{at}.wasm")), (one.module)()).unwrap();
        // Without end to the fuel: only the deadline stops it.
        text.push_str(&format!(
            "\n[function.h{at}]\nmodule = \"h{at}.wasm\"\ninput = {{ stream = \"telemetry\" }}\n\
             deadline = \"200ms\"\nattempts = 2\nfuel_per_batch = 1000000000000\n"
        ));
    }
    let mut gateway = Gateway::new(&binaries::tidegate(), scratch, &text).unwrap();
    gateway.start().unwrap();
    gateway
}

/// Publishes for some seconds; answers how long that took and the slowest but one percent of the
/// acknowledgements.
fn load(gateway: &Gateway) -> (Duration, Duration) {
    let started = Instant::now();
    let start = |at: u64| {
        let name = format!("p{at}");
        let readings = Readings::paced(&name, READINGS, INTERVAL);
        publisher(gateway.mqtt(), &name, Version::V311, None, readings)
    };
    let publishers: Vec<Publisher> = (0..PUBLISHERS).map(start).collect();
    for one in publishers {
        let report = one.finish(started + PATIENCE).unwrap();
        assert_eq!(report.acknowledged.len() as u64, READINGS, "{:?}", report.last_error);
    }
    let took = started.elapsed();
    let p99 = number(gateway, "/latency/0/p99_us").unwrap();
    (took, Duration::from_micros(p99))
}

#[test]
fn thirty_hostile_modules_delay_no_acknowledgement_and_lose_nothing() {
    let _machine = alone();
    let quiet = {
        let gateway = gateway(&[]);
        load(&gateway).1
    };
    let hostile = hostile();
    let mut gateway = gateway(&hostile);
    let (took, p99) = load(&gateway);
    println!(
        "p99 of acknowledgements: {p99:?} beside {MODULES} hostile modules, {quiet:?} without"
    );
    assert!(
        took < Duration::from_secs(SECONDS) + GRACE,
        "{SECONDS} s of paced messages were acknowledged after {took:?}\n{}",
        explain(&gateway)
    );
    assert!(p99 <= P99, "{p99:?}\n{}", explain(&gateway));
    let total = PUBLISHERS * READINGS;
    wait(&gateway, "the function that does no harm has handled all", || {
        number(&gateway, "/functions/0/records") == Some(total)
    });
    assert_eq!(number(&gateway, "/streams/0/appended"), Some(total));
    assert_eq!(number(&gateway, "/functions/0/emitted"), Some(total));
    // They did run, and each that does is stopped.
    let ran = (1..=MODULES).filter(|at| {
        number(&gateway, &format!("/functions/{at}/failures")).is_some_and(|failed| failed > 0)
    });
    assert_eq!(ran.count(), MODULES, "{}", explain(&gateway));
    assert!(gateway.exited().unwrap().is_none());
}
