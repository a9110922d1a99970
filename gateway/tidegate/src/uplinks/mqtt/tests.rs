//! The driver with its core, against a server that does what the test says and, where mosquitto
//! is installed, against that, through a proxy that cuts and freezes links.

mod broker;
mod packing;
mod scripted;

use std::time::{Duration, Instant};

use tidegate_stream::{Epoch, Seq};
use tidegate_uplink::{
    Action, Batch, Clock, LaneId, LaneStart, OutboundRecord, RefuseReason, SeqRange, Uplink,
    UplinkEvent, UplinkOptions,
};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet};

use super::{MqttTarget, TargetOptions, run};

/// No single wait in these tests is longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test as the daemon's side thread runs the drivers.
fn on_side_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        tokio::time::timeout(PATIENCE * 2, test).await.expect("the test takes too long");
    });
    runtime.shutdown_background();
}

fn target(port: u16) -> MqttTarget {
    let url = format!("mqtt://127.0.0.1:{port}");
    MqttTarget::parse("gw", "up", &url, TargetOptions::default()).unwrap()
}

/// A driver and its two channels.
struct Driver {
    actions: mpsc::Sender<Action>,
    events: mpsc::UnboundedReceiver<UplinkEvent>,
    task: JoinHandle<()>,
}

impl Driver {
    fn start(target: MqttTarget) -> Driver {
        let (actions, taken) = mpsc::channel(256);
        let (report, events) = mpsc::unbounded_channel();
        let report = move |event| {
            // The test may have ended.
            let _ = report.send(event);
        };
        let task = tokio::task::spawn_local(run(vec![target], taken, report));
        Driver { actions, events, task }
    }

    async fn act(&self, action: Action) {
        self.actions.send(action).await.unwrap();
    }

    async fn send(&self, session: u64, token: u64, record: OutboundRecord) {
        let range = SeqRange { first: record.seq, last: record.seq };
        let (lane, stream, epoch, records) = (LaneId(0), "s".into(), Epoch(1), vec![record]);
        let batch = Batch { lane, stream, epoch, range, records };
        self.act(Action::Send { session, token, batch }).await;
    }

    async fn connect(&self, session: u64) {
        self.act(Action::Connect { session, endpoint: 0 }).await;
    }

    async fn event(&mut self) -> UplinkEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    /// Connects and hears why that failed.
    async fn failure(&mut self, session: u64) -> String {
        self.connect(session).await;
        match self.event().await {
            UplinkEvent::Disconnected { session: of, why } if of == session => why,
            other => panic!("{other:?}"),
        }
    }
}

/// A core at a log of `records` records in each of two streams, and its driver.
struct Gate {
    uplink: Uplink,
    driver: Driver,
    records: u64,
    cursors: [u64; 2],
    disconnects: Vec<String>,
}

const STREAMS: [&str; 2] = ["telemetry", "alerts"];

impl Gate {
    fn new(target: MqttTarget, options: UplinkOptions, records: u64) -> Gate {
        Gate {
            uplink: Uplink::new(options, STREAMS.map(lane).to_vec(), 1),
            driver: Driver::start(target),
            records,
            cursors: [1; 2],
            disconnects: Vec::new(),
        }
    }

    /// Until `enough` of this gate.
    async fn run(&mut self, enough: impl Fn(&Gate) -> bool) {
        loop {
            self.act().await;
            self.feed();
            self.act().await;
            if enough(self) {
                return;
            }
            let alarm = self.uplink.poll_timeout().unwrap_or(Instant::now() + PATIENCE);
            tokio::select! {
                event = self.driver.events.recv() => {
                    let event = event.unwrap();
                    if let UplinkEvent::Disconnected { why, .. } = &event {
                        self.disconnects.push(why.clone());
                    }
                    self.uplink.handle_event(Instant::now(), event);
                }
                () = tokio::time::sleep_until(alarm.into()) => {}
            }
        }
    }

    async fn act(&mut self) {
        while let Some(action) = self.uplink.poll_action(Instant::now()) {
            match action {
                Action::Advance { lane, next } => self.cursors[lane.0] = next.0,
                Action::Reject { .. } | Action::Seal { .. } => panic!("{action:?}"),
                Action::Disconnect { ref why, .. } => {
                    self.disconnects.push(why.clone());
                    self.driver.act(action).await;
                }
                Action::Connect { .. } | Action::Send { .. } => self.driver.act(action).await,
            }
        }
    }

    fn feed(&mut self) {
        while let Some(want) = self.uplink.wanted() {
            let last = (want.from.0 + want.records as u64 - 1).min(self.records);
            if want.from.0 > last {
                self.uplink.exhausted(want.lane);
            }
            for seq in want.from.0..=last {
                let record = record(want.lane, seq);
                if !self.uplink.offer(Instant::now(), want.lane, Epoch(1), record) {
                    break;
                }
            }
        }
    }

    fn is_done(&self) -> bool {
        self.cursors.iter().all(|cursor| *cursor == self.records + 1)
    }
}

fn lane(stream: &str) -> LaneStart {
    LaneStart { stream: stream.into(), ..LaneStart::from(Seq(1)) }
}

fn record(lane: LaneId, seq: u64) -> OutboundRecord {
    OutboundRecord {
        seq: Seq(seq),
        topic: "sensors/ä/telemetry".to_owned(),
        client: "sensor".to_owned(),
        unix_ms: 1_767_225_600_000,
        clock: Clock::Synced,
        user: vec![("unit".to_owned(), "°C".to_owned())],
        payload_is_text: true,
        payload: format!("{}-{seq}", lane.0).into_bytes(),
        ..OutboundRecord::default()
    }
}
