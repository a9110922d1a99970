//! The soak: a gateway under 2,000 readings a second for minutes or an hour, while its configuration
//! is read again, functions are replaced, links are cut and come back. Judged: its memory is flat,
//! its files are closed, its log has no ERROR, and every reading that it acknowledged has reached the
//! cloud once.

mod judge;
mod load;
mod process;

use std::fs::{self, File};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cloud::Cloud;
use crate::consumer::Consumer;
use crate::gateway::Gateway;
use crate::proxy::{Mode, Proxy};
use crate::scratch::Scratch;
use judge::{Evidence, Verdict};
use load::Load;
use process::Sample;

/// Between two changes of the configuration.
const RELOAD_EVERY: Duration = Duration::from_secs(7);
/// Between two cuts of the devices' link, and of the uplink.
const CUT_EVERY: Duration = Duration::from_secs(23);
const CUT_FOR: Duration = Duration::from_millis(700);
/// Before memory is judged: tables and buffers have the size that they need. They have it once each disturbance
/// has come a few times, with what piles up meanwhile: the third cut was the last one that memory rose with.
const WARM_UP: f64 = 0.25;
const LEAST_WARM_UP: Duration = Duration::from_secs(4 * CUT_EVERY.as_secs());
/// Until everything has come through at the end.
const CATCH_UP: Duration = Duration::from_secs(120);
/// What a load leaves behind is closed by then.
const REST: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(100);

/// How to soak.
#[derive(Debug)]
pub struct SoakOptions {
    /// The gateway's binary.
    pub gateway: PathBuf,
    /// The function `threshold`.
    pub function: PathBuf,
    /// This program.
    pub rig: PathBuf,
    /// How long.
    pub run_time: Duration,
    /// Print the verdict as JSON on the last line of standard output.
    pub json: bool,
    /// Leave data, configuration and logs here.
    pub keep: Option<PathBuf>,
}

/// Soaks; true when the gateway has stood it.
///
/// # Errors
/// When something of the rig fails.
pub fn run(options: &SoakOptions) -> Result<bool> {
    ensure!(options.function.is_file(), "{} is missing", options.function.display());
    let scratch = match &options.keep {
        Some(path) => Scratch::at(path)?,
        None => Scratch::new("soak")?,
    };
    let cloud = Cloud::start(&options.rig, File::create(scratch.path().join("cloud.log"))?)?;
    let consumer = Consumer::start(cloud.address())?;
    let uplink = Proxy::start(cloud.address())?;
    let module = scratch.path().join("threshold.wasm");
    fs::copy(&options.function, &module).context("cannot copy the function")?;
    let config = Config { module, uplink: uplink.address().to_string() };
    let mut gateway = Gateway::new(&options.gateway, scratch, &config.text(0))?;
    gateway.tie_with(&options.rig);
    gateway.start()?;
    let pid = gateway.pid().context("the gateway has no process")?;
    let idle = Sample::of(pid)?;
    let devices = Proxy::start(gateway.mqtt())?;
    let load = Load::start(gateway.mqtt(), devices.address())?;
    let (samples, reloads, cuts) =
        course(options.run_time, &gateway, &config, (&devices, &uplink), &load)?;
    let reports = load.finish(Instant::now() + CATCH_UP)?;
    let published: u64 = reports.iter().map(|report| report.acknowledged.len() as u64).sum();
    consumer.wait_until(Instant::now() + CATCH_UP, |arrivals| {
        arrivals.distinct("telemetry") >= published
    });
    let rested = at_rest(pid, idle)?;
    let log = fs::read_to_string(gateway.log_file()).context("cannot read the gateway's log")?;
    let evidence = Evidence {
        run_time: options.run_time,
        samples: &samples,
        idle,
        rested,
        reports: &reports,
        arrivals: &consumer.arrivals(),
        log: &log,
        reloads,
        cuts,
    };
    let verdict = Verdict::of(&evidence);
    print!("{verdict}");
    if options.json {
        println!("{}", verdict.json());
    }
    if !verdict.passed() {
        gateway.keep_files();
        println!("files are left in {}", gateway.directory().display());
    }
    Ok(verdict.passed())
}

/// What the gateway's configuration is made of.
struct Config {
    module: PathBuf,
    uplink: String,
}

impl Config {
    /// The configuration of a round: the function, a quota and a second stream with an uplink of
    /// its own change with it.
    fn text(&self, round: u64) -> String {
        let module = self.module.display();
        let (limit, quota) = (30.0 + (round % 5) as f64, 64 + round % 3);
        let second = match round % 4 {
            1 | 2 => format!(
                "[stream.copy]\ntopics = [\"sensors/+/telemetry\"]\nmax_bytes = \"8MiB\"\n\
                 [uplink.second]\nurl = \"mqtt://{}\"\nstreams = [\"copy\"]\n",
                self.uplink
            ),
            _ => String::new(),
        };
        format!(
            r#"[gateway]
id = "gw-soak"
data_dir = "{{data}}"
[mqtt]
listen = "{{mqtt}}"
[http]
listen = "{{http}}"
[stream.telemetry]
topics = ["sensors/+/telemetry"]
max_bytes = "{quota}MiB"
overflow = "block"
[stream.alerts]
topics = ["alerts/#"]
max_bytes = "16MiB"
[function.threshold]
module = "{module}"
input = {{ stream = "telemetry" }}
publish = ["alerts/#"]
config = {{ limit = {limit:?} }}
[uplink.cloud]
url = "mqtt://{uplink}"
streams = ["telemetry", "alerts"]
backoff_max = "500ms"
{second}"#,
            uplink = self.uplink
        )
    }
}

/// What is open when the load is gone: as soon as it is no more than before, else what is left after a while.
fn at_rest(pid: u32, idle: Sample) -> Result<Sample> {
    let deadline = Instant::now() + REST;
    loop {
        let now = Sample::of(pid)?;
        let rests = now.files <= idle.files && now.threads <= idle.threads;
        if rests || Instant::now() >= deadline {
            return Ok(now);
        }
        thread::sleep(LOOK);
    }
}

/// The hour. Answers the samples, and how many reloads and cuts there were.
fn course(
    run_time: Duration,
    gateway: &Gateway,
    config: &Config,
    (devices, uplink): (&Proxy, &Proxy),
    load: &Load,
) -> Result<(Vec<Sample>, u64, u64)> {
    let pid = gateway.pid().context("the gateway has no process")?;
    let (began, mut samples, mut reloads, mut cuts) = (Instant::now(), Vec::new(), 0, 0);
    while began.elapsed() < run_time {
        thread::sleep(Duration::from_secs(1));
        samples.push(Sample::of(pid)?);
        let due = |done: u64, every: Duration| began.elapsed() >= every * (done as u32 + 1);
        if due(reloads, RELOAD_EVERY) {
            reloads += 1;
            reload(gateway, config, reloads)?;
        }
        if due(cuts, CUT_EVERY) {
            cuts += 1;
            for link in [devices, uplink] {
                link.set(Mode::Cut);
                thread::sleep(CUT_FOR);
                link.set(Mode::Pass);
            }
        }
        if samples.len().is_multiple_of(60) {
            let (minutes, last) = (samples.len() / 60, samples.last());
            let rss = last.map_or(0, |sample| sample.rss_kib);
            println!(
                "{minutes:4} min  {:>9} acknowledged  {rss} KiB resident",
                load.acknowledged()
            );
        }
    }
    Ok((samples, reloads, cuts))
}

/// Changes the configuration, now and then the module's file, and has it read again.
fn reload(gateway: &Gateway, config: &Config, round: u64) -> Result<()> {
    if round.is_multiple_of(3) {
        let new = config.module.with_extension("new");
        fs::copy(&config.module, &new)?;
        fs::rename(&new, &config.module)?;
    }
    let text = gateway.filled_in(&config.text(round));
    fs::write(gateway.config_file(), text).context("cannot write the configuration")?;
    gateway.command(&["reload"]).with_context(|| format!("reload {round}"))?;
    Ok(())
}
