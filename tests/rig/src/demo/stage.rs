//! Everything that runs during the demo, and how to look at it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::site::Site;
use super::verdict::{Evidence, SensorEvidence};
use super::view::Snapshot;
use super::{DemoOptions, Outage, Which};
use crate::cloud::Cloud;
use crate::consumer::Consumer;
use crate::gateway::Gateway;
use crate::mqtt::Version;
use crate::proxy::{Mode, Proxy};
use crate::publisher::{Publisher, PublisherOptions, Source};
use crate::scratch::Scratch;
use crate::sensors::{AlertRule, Expected, Host, HostReading, Quantity, Simulated};

/// The function's configuration, and what the demo expects of it.
const LIMIT: f64 = 30.0;
const HYSTERESIS: f64 = 1.0;
/// Most readings of one sensor that wait for their acknowledgement.
const WINDOW: usize = 20;
const FIRST_DATA: Duration = Duration::from_secs(30);
const END_OF_SENSORS: Duration = Duration::from_secs(30);

/// Name, quantity and readings a second of the simulated sensors.
const SENSORS: [(&str, Quantity, f64); 5] = [
    ("s1", Quantity::Temperature, 50.0),
    ("s2", Quantity::Vibration, 50.0),
    ("s3", Quantity::Current, 40.0),
    ("s4", Quantity::Temperature, 30.0),
    ("s5", Quantity::Current, 20.0),
];
/// Name of the real one.
const HOST: &str = "host";

pub(super) struct Stage {
    pub(super) proxy: Proxy,
    sensors: Vec<Sensor>,
    consumer: Consumer,
    gateway: Site,
    cloud: Cloud,
    host: HostReading,
    published_before: u64,
}

struct Sensor {
    publisher: Publisher,
    expected: Expected,
}

impl Stage {
    /// Starts everything, the sensors last.
    pub(super) fn set(options: &DemoOptions) -> Result<Stage> {
        let scratch = match &options.keep {
            Some(path) => Scratch::at(path)?,
            None => Scratch::new("demo")?,
        };
        let log = File::create(scratch.path().join("cloud.log"))?;
        let cloud = Cloud::start(&options.rig, log)?;
        let consumer = Consumer::start(cloud.address())?;
        let (proxy, gateway) = match &options.gateway {
            Which::Own { binary, function } => {
                ensure!(
                    function.is_file(),
                    "{} is missing: build the function `threshold` for wasm32, or run cargo xtask demo",
                    function.display()
                );
                let proxy = Proxy::start(cloud.address())?;
                let mut gateway = Gateway::new(binary, scratch, &config(function, &proxy)?)?;
                gateway.tie_with(&options.rig);
                gateway.start()?;
                (proxy, Site::Own(gateway))
            }
            Which::Running(running) => {
                let proxy = Proxy::start_at(running.uplink, cloud.address())?;
                (proxy, Site::Running(*running, scratch))
            }
        };
        let mut stage = Stage {
            proxy,
            sensors: Vec::new(),
            consumer,
            gateway,
            cloud,
            host: HostReading::default(),
            published_before: 0,
        };
        stage.start_sensors()?;
        Ok(stage)
    }

    fn start_sensors(&mut self) -> Result<()> {
        for (at, (name, quantity, rate)) in SENSORS.into_iter().enumerate() {
            let expected = Expected::default();
            let rule = AlertRule::new(LIMIT, HYSTERESIS);
            let seed = at as u64 + 1;
            let source = Simulated::new(name, quantity, rate, seed, rule, expected.clone());
            // Both protocol versions, with and without an identity of their own.
            let version = if at % 2 == 0 { Version::V5 } else { Version::V311 };
            self.start_sensor(name, version, Box::new(source), expected)?;
        }
        let expected = Expected::default();
        let rule = AlertRule::new(LIMIT, HYSTERESIS);
        let host = Host::new(HOST, rule, expected.clone(), self.host.clone());
        self.start_sensor(HOST, Version::V5, Box::new(host), expected)
    }

    fn start_sensor(
        &mut self,
        name: &str,
        version: Version,
        source: Box<dyn Source>,
        expected: Expected,
    ) -> Result<()> {
        let options = PublisherOptions {
            address: self.gateway.mqtt(),
            name: name.to_owned(),
            version,
            window: WINDOW,
            identity: (version == Version::V5).then_some(1),
        };
        let publisher = Publisher::start(options, source)?;
        self.sensors.push(Sensor { publisher, expected });
        Ok(())
    }

    /// Who takes part, in one line.
    pub(super) fn scene(&self) -> String {
        format!(
            "{} simulated sensors and this machine's own load -> gateway {} -> proxy {} -> \
             cloud (rumqttd) {}",
            SENSORS.len(),
            self.gateway.mqtt(),
            self.proxy.address(),
            self.cloud.address()
        )
    }

    /// Waits until the first reading has come through to the cloud.
    pub(super) fn wait_for_data(&mut self) -> Result<()> {
        let deadline = Instant::now() + FIRST_DATA;
        while !self.consumer.wait_until(Instant::now() + Duration::from_millis(200), |arrivals| {
            arrivals.distinct("telemetry") > 0
        }) {
            self.check()?;
            if Instant::now() > deadline {
                let errors: Vec<String> =
                    self.sensors.iter().filter_map(|one| one.publisher.last_error()).collect();
                bail!(
                    "no reading has reached the cloud after {FIRST_DATA:?}; sensors: {errors:?}; \
                     gateway:\n{}",
                    self.gateway.log_tail()
                );
            }
        }
        Ok(())
    }

    /// Sees that the processes live.
    pub(super) fn check(&mut self) -> Result<()> {
        if let Some(status) = self.gateway.exited()? {
            bail!("the gateway ended: {status}\n{}", self.gateway.log_tail());
        }
        if let Some(status) = self.cloud.ended()? {
            let log = self.gateway.directory().join("cloud.log");
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            bail!("the cloud process ended: {status}\n{text}");
        }
        Ok(())
    }

    /// Messages that the cloud's consumer has received.
    pub(super) fn received(&self) -> u64 {
        self.consumer.arrivals().received
    }

    /// One look at everything.
    pub(super) fn look(&mut self, elapsed: Duration, phase: &str) -> Snapshot {
        let status = self.gateway.status();
        let (acknowledged, published) = self.sensors.iter().fold((0, 0), |(acked, sent), one| {
            let progress = one.publisher.progress();
            (acked + progress.acknowledged, sent + progress.published)
        });
        let arrivals = self.consumer.arrivals();
        let (received, delivered) = (arrivals.received, arrivals.distinct("telemetry"));
        let alerts = arrivals.distinct("alerts");
        drop(arrivals);
        let per_second = published - self.published_before;
        self.published_before = published;
        let uplink = status.as_ref().ok().and_then(first_uplink);
        Snapshot {
            elapsed,
            phase: phase.to_owned(),
            link: self.proxy.mode(),
            published,
            per_second,
            acknowledged,
            delivered,
            alerts,
            received,
            buffered: uplink.and_then(|uplink| uplink.get("backlog")?.as_u64()),
            host: self.host.text(),
            connected: uplink.is_some_and(|uplink| text(uplink, "state") == Some("connected")),
            uplink: match (&status, uplink) {
                (Err(error), _) => format!("status: {error:#}"),
                (Ok(_), None) => "status names no uplink".to_owned(),
                (Ok(_), Some(uplink)) => describe(uplink),
            },
        }
    }

    pub(super) fn stop_sensors(&self) {
        for sensor in &self.sensors {
            sensor.publisher.stop();
        }
    }

    /// Whether everything acknowledged and every alert due has arrived, and the gateway has
    /// nothing left to send: what would still come, would come too much.
    pub(super) fn is_quiet(&self) -> bool {
        if !self.sensors.iter().all(|one| one.publisher.is_finished()) {
            return false;
        }
        let acknowledged: u64 =
            self.sensors.iter().map(|one| one.publisher.progress().acknowledged).sum();
        let due: usize = self.sensors.iter().map(|one| one.expected.numbers().len()).sum();
        let arrivals = self.consumer.arrivals();
        let complete = arrivals.distinct("telemetry") >= acknowledged
            && arrivals.distinct("alerts") >= due as u64;
        drop(arrivals);
        complete && self.gateway.status().is_ok_and(|status| is_idle(&status))
    }

    /// Ends the sensors and collects what the verdict is about.
    pub(super) fn evidence(&mut self, outages: &[Outage]) -> Result<Evidence> {
        let deadline = Instant::now() + END_OF_SENSORS;
        let mut reports = Vec::new();
        for sensor in self.sensors.drain(..) {
            reports.push((sensor.publisher.finish(deadline)?, sensor.expected.numbers()));
        }
        let arrivals = self.consumer.arrivals();
        let sensors = reports.into_iter().map(|(report, expected)| SensorEvidence {
            delivered: arrivals.numbers("telemetry", &report.name),
            alerts: arrivals.numbers("alerts", &report.name),
            expected_alerts: expected,
            report,
        });
        Ok(Evidence {
            sensors: sensors.collect(),
            duplicates: arrivals.repeated("telemetry"),
            alert_duplicates: arrivals.repeated("alerts"),
            discarded: arrivals.discarded,
            foreign: arrivals.foreign,
            oddities: arrivals.oddities.clone(),
            outage: outages.iter().map(Outage::length).sum(),
            leaks: outages.iter().filter_map(leak).collect(),
        })
    }

    pub(super) fn keep_files(&mut self) -> PathBuf {
        self.gateway.keep_files();
        self.gateway.directory().to_owned()
    }
}

/// Messages that came through while the link was cut, if any.
fn leak(outage: &Outage) -> Option<u64> {
    let leaked = outage.received_at_end.saturating_sub(outage.received_at_start?);
    (leaked > 0).then_some(leaked)
}

/// The minimal configuration, with a retry that suits a short demo.
fn config(function: &Path, proxy: &Proxy) -> Result<String> {
    let module = function.canonicalize().context("the function's path")?;
    debug_assert_eq!(proxy.mode(), Mode::Pass);
    Ok(format!(
        r#"[gateway]
id = "gw-demo"
data_dir = "{{data}}"

[mqtt]
listen = "{{mqtt}}"

[http]
listen = "{{http}}"

[stream.telemetry]
topics = ["sensors/+/telemetry"]
max_bytes = "1GiB"
overflow = "drop-oldest"
retain = "24h"

[function.threshold]
module = "{module}"
input = {{ stream = "telemetry" }}
publish = ["alerts/#"]
config = {{ limit = {LIMIT:?}, hysteresis = {HYSTERESIS:?} }}

[stream.alerts]
topics = ["alerts/#"]

[uplink.cloud]
url = "mqtt://{cloud}"
streams = ["telemetry", "alerts"]
ack_timeout = "5s"
backoff_max = "2s"
"#,
        module = module.display(),
        cloud = proxy.address()
    ))
}

fn first_uplink(status: &Value) -> Option<&Value> {
    status.get("uplinks")?.get(0)
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

/// The uplink's state as one line.
fn describe(uplink: &Value) -> String {
    let state = text(uplink, "state").unwrap_or("unknown");
    let mut line = state.to_owned();
    if state != "connected" {
        if let Some(wait) = uplink.get("retry_in_ms").and_then(Value::as_u64) {
            line.push_str(&format!(", tries again in {:.1} s", wait as f64 / 1000.0));
        }
        if let Some(error) = text(uplink, "last_error") {
            line.push_str(&format!(": {error}"));
        }
    }
    line
}

/// Nothing in flight, nothing in the backlog, no function behind.
fn is_idle(status: &Value) -> bool {
    let zero = |list: &str, key: &str| {
        let entries = status.get(list).and_then(Value::as_array);
        entries.is_some_and(|entries| {
            entries.iter().all(|one| one.get(key).and_then(Value::as_u64) == Some(0))
        })
    };
    zero("uplinks", "backlog") && zero("uplinks", "in_flight") && zero("functions", "lag")
}
