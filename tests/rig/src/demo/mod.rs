//! The demo: a gateway, a cloud, a link between them that is cut for a while, sensors that do not
//! stop, and the count at the end.

mod interrupt;
mod schedule;
mod site;
mod stage;
mod verdict;
mod view;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::proxy::Mode;
use interrupt::Interrupt;
use schedule::{Schedule, Step};
use stage::Stage;
pub use verdict::Counts;
use view::{Snapshot, View};

/// Longest wait at the end for what is still on its way.
const PATIENCE: Duration = Duration::from_secs(90);
/// A cut link may still deliver what the sockets hold, for this long.
const IN_THE_SOCKETS: Duration = Duration::from_secs(2);
const TICK: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

/// Whose gateway the demo shows.
#[derive(Debug, Clone)]
pub enum Which {
    /// One that it starts.
    Own {
        /// The `tidegate` binary.
        binary: PathBuf,
        /// The `threshold` function.
        function: PathBuf,
    },
    /// One that runs already, with the streams, the function and the uplink of the demo.
    Running(Running),
}

/// How a gateway that runs already is reached.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    /// Where it takes MQTT.
    pub mqtt: SocketAddr,
    /// Where it answers `/v1/status`.
    pub http: SocketAddr,
    /// Where it looks for the cloud: the demo listens there.
    pub uplink: SocketAddr,
}

/// What the demo is asked to do.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The gateway.
    pub gateway: Which,
    /// This program, to start the cloud with.
    pub rig: PathBuf,
    /// How long data flows; until Ctrl-C when `None`.
    pub run_time: Option<Duration>,
    /// How long the uplink is cut.
    pub outage: Option<Duration>,
    /// The link dies silently instead of being closed.
    pub silent: bool,
    /// Counts as JSON on the last line of standard output, progress on standard error.
    pub json: bool,
    /// Where to leave all files.
    pub keep: Option<PathBuf>,
}

/// Runs the demo and prints its counts. `true` when everything arrived exactly once.
///
/// # Errors
/// When a part of it cannot be started, dies, or the user stops it twice.
pub fn run(options: &DemoOptions) -> Result<bool> {
    let interrupt = Interrupt::install()?;
    let view = View::new(options.json);
    view.title(options);
    let mut stage = Stage::set(options)?;
    view.event(&stage.scene());
    let mut demo = Demo { options, interrupt, view, stage: &mut stage, outages: Vec::new() };
    let flowing = demo.flow()?;
    demo.drain(flowing)?;
    let Demo { view, outages, .. } = demo;
    let evidence = stage.evidence(&outages)?;
    let (counts, problems) = verdict::judge(&evidence);
    view.verdict(&counts, &problems, &evidence);
    if options.json {
        println!("{}", counts.json());
    }
    if !problems.is_empty() {
        view.event(&format!("files left in {}", stage.keep_files().display()));
    }
    Ok(problems.is_empty())
}

/// One outage, as it was.
#[derive(Debug, Clone, Copy)]
struct Outage {
    started: Instant,
    ended: Option<Instant>,
    /// Messages received by the cloud once the sockets had run dry, and at the end.
    received_at_start: Option<u64>,
    received_at_end: u64,
    /// Time until the backlog had gone.
    caught_up: Option<Duration>,
}

impl Outage {
    fn length(&self) -> Duration {
        self.ended.unwrap_or_else(Instant::now) - self.started
    }
}

struct Demo<'a> {
    options: &'a DemoOptions,
    interrupt: Interrupt,
    view: View,
    stage: &'a mut Stage,
    outages: Vec<Outage>,
}

impl Demo<'_> {
    /// Sensors publish, the link comes and goes.
    fn flow(&mut self) -> Result<Instant> {
        self.stage.wait_for_data()?;
        let start = Instant::now();
        let mut schedule = Schedule::new(self.options.run_time, self.options.outage);
        let mut next_tick = start;
        loop {
            match schedule.step(start.elapsed()) {
                Some(Step::Cut { length }) => self.cut(length),
                Some(Step::Restore) => self.restore(),
                Some(Step::End) => break,
                None => {}
            }
            if self.interrupt.count() > 0 {
                self.view.event("stopping: the sensors stop, what is buffered is still delivered");
                break;
            }
            if Instant::now() >= next_tick {
                next_tick += TICK;
                self.tick(start, schedule.phase())?;
            }
            std::thread::sleep(POLL);
        }
        self.restore();
        Ok(start)
    }

    fn cut(&mut self, length: Duration) {
        let (mode, how) = if self.options.silent {
            (Mode::BlackHole, "dies silently: nothing is closed, nothing answers")
        } else {
            (Mode::Cut, "is cut")
        };
        self.stage.proxy.set(mode);
        self.outages.push(Outage {
            started: Instant::now(),
            ended: None,
            received_at_start: None,
            received_at_end: 0,
            caught_up: None,
        });
        self.view.event(&format!(
            "the uplink {how}, for {} s. The gateway goes on acknowledging: each reading is on \
             disk first",
            length.as_secs()
        ));
    }

    fn restore(&mut self) {
        let received = self.stage.received();
        let Some(outage) = self.outages.last_mut().filter(|outage| outage.ended.is_none()) else {
            return;
        };
        self.stage.proxy.set(Mode::Pass);
        outage.ended = Some(Instant::now());
        outage.received_at_end = received;
        self.view.event("the uplink is back: the gateway sends what it held, in order");
    }

    /// Once a second: see that everything lives, look, and show.
    fn tick(&mut self, start: Instant, phase: &str) -> Result<()> {
        if self.interrupt.count() > 1 {
            bail!("stopped by the user before everything had arrived");
        }
        self.stage.check()?;
        let snapshot = self.stage.look(start.elapsed(), phase);
        self.note(&snapshot);
        self.view.show(&snapshot);
        Ok(())
    }

    /// Enters into the current outage what this look tells about it.
    fn note(&mut self, snapshot: &Snapshot) {
        let Some(outage) = self.outages.last_mut() else { return };
        let Some(ended) = outage.ended else {
            if outage.received_at_start.is_none() && outage.started.elapsed() > IN_THE_SOCKETS {
                outage.received_at_start = Some(snapshot.received);
            }
            return;
        };
        let behind = snapshot.acknowledged.saturating_sub(snapshot.delivered);
        if outage.caught_up.is_none() && snapshot.connected && behind <= snapshot.per_second {
            let took = ended.elapsed();
            outage.caught_up = Some(took);
            self.view.event(&format!("caught up after {:.1} s", took.as_secs_f64()));
        }
    }

    /// Sensors stop; waits until everything that was acknowledged has arrived.
    fn drain(&mut self, start: Instant) -> Result<()> {
        self.view.event("the sensors stop; waiting for what is still on its way");
        self.stage.stop_sensors();
        let deadline = Instant::now() + PATIENCE;
        let mut next_tick = Instant::now();
        while !self.stage.is_quiet() {
            if Instant::now() > deadline {
                self.view
                    .event(&format!("not everything has arrived after {} s", PATIENCE.as_secs()));
                break;
            }
            if Instant::now() >= next_tick {
                next_tick += TICK;
                self.tick(start, "the last ones arrive")?;
            }
            std::thread::sleep(POLL);
        }
        self.tick(start, "all is still")
    }
}
