//! The driver against a server that does what the test says and, where nats-server is installed,
//! against that.

mod scripted;
mod server;

use std::time::Duration;

use tidegate_stream::{Epoch, Seq};
use tidegate_uplink::UplinkEvent;
use tidegate_uplink::{Action, Batch, Held, LaneId, OutboundRecord, RefuseReason, SeqRange};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use super::{NatsOptions, NatsTarget, run};

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

fn target(port: u16, options: NatsOptions) -> NatsTarget {
    NatsTarget::parse("gw", "up", &format!("nats://127.0.0.1:{port}"), options).unwrap()
}

/// Record `seq` of lane 0, stream `s`, epoch 1.
fn batch(seq: u64, payload: &[u8]) -> Batch {
    let record = OutboundRecord {
        seq: Seq(seq),
        topic: "t".to_owned(),
        client: "c".to_owned(),
        payload: payload.to_vec(),
        ..OutboundRecord::default()
    };
    Batch {
        lane: LaneId(0),
        stream: "s".into(),
        epoch: Epoch(1),
        range: SeqRange { first: Seq(seq), last: Seq(seq) },
        records: vec![record],
    }
}

/// A driver and its two channels.
struct Driver {
    actions: mpsc::Sender<Action>,
    events: mpsc::UnboundedReceiver<UplinkEvent>,
    task: JoinHandle<()>,
}

impl Driver {
    fn start(target: NatsTarget) -> Driver {
        let (actions, taken) = mpsc::channel(256);
        let (report, events) = mpsc::unbounded_channel();
        let task = spawn_local(run(vec![target], vec!["s".to_owned()], taken, move |event| {
            // The test may have ended.
            let _ = report.send(event);
        }));
        Driver { actions, events, task }
    }

    async fn act(&self, action: Action) {
        self.actions.send(action).await.unwrap();
    }

    async fn connect(&self, session: u64) {
        self.act(Action::Connect { session, endpoint: 0 }).await;
    }

    /// Sends record `seq` with its number as payload; the token is a thousand more.
    async fn send(&self, session: u64, seq: u64) {
        let batch = batch(seq, seq.to_string().as_bytes());
        self.act(Action::Send { session, token: 1_000 + seq, batch }).await;
    }

    async fn event(&mut self) -> UplinkEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    async fn connected(&mut self, session: u64, held: Option<u64>) {
        let held = held.map(|seq| Held::through(LaneId(0), Epoch(1), Seq(seq)));
        let held = held.into_iter().collect();
        assert_eq!(self.event().await, UplinkEvent::Connected { session, held });
    }

    /// As [`connected`](Self::connected), with records missing between what is held and the newest.
    async fn connected_with_gap(&mut self, session: u64, held: u64, newest: u64) {
        let newest = (Epoch(1), Seq(newest));
        let held = Held { newest, ..Held::through(LaneId(0), Epoch(1), Seq(held)) };
        assert_eq!(self.event().await, UplinkEvent::Connected { session, held: vec![held] });
    }

    async fn acknowledged(&mut self, session: u64, seq: u64) {
        let token = 1_000 + seq;
        assert_eq!(self.event().await, UplinkEvent::Acknowledged { session, token });
    }

    /// Hears how a session ended.
    async fn ended(&mut self, session: u64) -> String {
        match self.event().await {
            UplinkEvent::Disconnected { session: of, why } if of == session => why,
            other => panic!("{other:?}"),
        }
    }

    /// Connects and hears why that failed.
    async fn failure(&mut self, session: u64) -> String {
        self.connect(session).await;
        self.ended(session).await
    }
}
