//! For tests: a server that does what the test says, and a driver with its two channels.

use std::sync::Arc;
use std::time::Duration;

use tidegate_stream::{Epoch, Seq};
use tidegate_uplink::{Action, Batch, LaneId, OutboundRecord, SeqRange, UplinkEvent};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, Receiver, UnboundedReceiver};
use tokio::task::LocalSet;

/// No single wait in these tests is longer.
pub(in crate::uplinks) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test as the daemon's side thread runs the drivers.
pub(in crate::uplinks) fn on_side_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(PATIENCE * 2, test).await.expect("the test takes too long");
    });
    runtime.shutdown_background();
}

/// A listener and its port.
pub(in crate::uplinks) async fn listen() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// A request as it came.
#[derive(Debug)]
pub(in crate::uplinks) struct Asked {
    pub(in crate::uplinks) line: String,
    headers: Vec<(String, String)>,
    pub(in crate::uplinks) body: Vec<u8>,
}

impl Asked {
    pub(in crate::uplinks) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// One accepted connection.
pub(in crate::uplinks) struct Peer(TcpStream);

impl Peer {
    pub(in crate::uplinks) async fn accept(listener: &TcpListener) -> Peer {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        Peer(accepted.expect("nobody connects").unwrap().0)
    }

    /// Reads one request with its whole body.
    pub(in crate::uplinks) async fn asked(&mut self) -> Asked {
        let mut bytes = Vec::new();
        let head = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            assert_ne!(self.0.read_buf(&mut bytes).await.unwrap(), 0, "the driver closed");
        };
        let mut body = bytes.split_off(head + 4);
        let head = String::from_utf8(bytes).unwrap();
        let mut lines = head.trim_end().lines();
        let line = lines.next().unwrap().to_owned();
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_owned(), value.to_owned())
        });
        let mut asked = Asked { line, headers: headers.collect(), body: Vec::new() };
        let length = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
        while body.len() < length {
            assert_ne!(self.0.read_buf(&mut body).await.unwrap(), 0, "the driver closed");
        }
        assert_eq!(body.len(), length, "nothing comes before the answer");
        asked.body = body;
        asked
    }

    /// Writes an answer; `headers` are whole lines.
    pub(in crate::uplinks) async fn answer(&mut self, status: u16, headers: &str, body: &str) {
        let length = body.len();
        let text =
            format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}\r\n{body}");
        self.say(text.as_bytes()).await;
    }

    pub(in crate::uplinks) async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// Reads until the driver has closed the connection.
    pub(in crate::uplinks) async fn closed(&mut self) {
        let mut rest = Vec::new();
        let end = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        // Reset or end of file, both are gone.
        let _ = end.expect("the driver keeps the socket");
    }
}

/// A driver and its two channels.
pub(in crate::uplinks) struct Driver {
    pub(in crate::uplinks) actions: mpsc::Sender<Action>,
    events: UnboundedReceiver<UplinkEvent>,
}

impl Driver {
    /// Starts what `run` makes of the channels.
    pub(in crate::uplinks) fn start<F: Future<Output = ()> + 'static>(
        run: impl FnOnce(Receiver<Action>, Box<dyn Fn(UplinkEvent)>) -> F,
    ) -> Driver {
        let (actions, taken) = mpsc::channel(256);
        let (report, events) = mpsc::unbounded_channel();
        let report = move |event| {
            // The test may have ended.
            let _ = report.send(event);
        };
        tokio::task::spawn_local(run(taken, Box::new(report)));
        Driver { actions, events }
    }

    pub(in crate::uplinks) async fn connect(&self, session: u64, endpoint: usize) {
        self.actions.send(Action::Connect { session, endpoint }).await.unwrap();
    }

    #[cfg(feature = "sink-http")]
    pub(in crate::uplinks) async fn disconnect(&self, session: u64) {
        self.actions.send(Action::Disconnect { session, why: String::new() }).await.unwrap();
    }

    pub(in crate::uplinks) async fn send(&self, session: u64, token: u64, batch: Batch) {
        self.actions.send(Action::Send { session, token, batch }).await.unwrap();
    }

    pub(in crate::uplinks) async fn event(&mut self) -> UplinkEvent {
        tokio::time::timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap()
    }

    /// Connects and hears why that failed.
    pub(in crate::uplinks) async fn failure(&mut self, session: u64) -> String {
        self.connect(session, 0).await;
        match self.event().await {
            UplinkEvent::Disconnected { session: of, why } if of == session => why,
            other => panic!("{other:?}"),
        }
    }
}

/// Records `first` to `last` of lane 0, stream `telemetry`.
pub(in crate::uplinks) fn batch(epoch: u32, first: u64, last: u64) -> Batch {
    let record = |seq| OutboundRecord {
        seq: Seq(seq),
        topic: "t".to_owned(),
        client: "c".to_owned(),
        payload: format!("{epoch}-{seq}").into_bytes(),
        ..OutboundRecord::default()
    };
    Batch {
        lane: LaneId(0),
        stream: Arc::from("telemetry"),
        epoch: Epoch(epoch),
        range: SeqRange { first: Seq(first), last: Seq(last) },
        records: (first..=last).map(record).collect(),
    }
}
