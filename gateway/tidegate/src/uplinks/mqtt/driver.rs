//! The MQTT driver: one connection at a time, QoS 1, acknowledgements as they come. Moves bytes
//! between the socket and the client of `tidegate_uplink::mqtt`, as many as there are at a time.
//!
//! Not here: packets and which acknowledgement is for which message (that client); retries,
//! windows, delays and timeouts other than the keep-alive (the uplink core).

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tidegate_uplink::mqtt::{Client, ClientEvent};
use tidegate_uplink::{Action, UplinkEvent};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::mpsc::Receiver;
use tokio::time::{Instant, Sleep, sleep_until, timeout, timeout_at};

use super::complaint::{self, Lost, Stage};
use super::link::{self, Socket};
use super::target::MqttTarget;
use crate::uplinks::sessions::{self, After, Asked};

/// Time for a DISCONNECT to leave when the daemon shuts down.
const FAREWELL: Duration = Duration::from_millis(500);
/// Actions taken before the socket gets its turn again.
const TURN: usize = 1_024;
/// Room made for each read: two thousand acknowledgements.
const READ: usize = 8 * 1024;
/// How long the thread sleeps when it has read acknowledgements and more waits than the server
/// allows on its way: meanwhile some more come, and the next read and the next write are for all of
/// them. The kernel makes 0.1 ms of it, half of what mosquitto takes for the 20 that it allows.
/// What the thread does for other uplinks is late by that.
const NAP: Duration = Duration::from_micros(50);
/// With fewer messages on their way the server would wait for us.
const WORTH_A_NAP: usize = 8;
/// Acknowledgements that are told together while more waits: the core is not needed for what is sent
/// next.
const NEWS: usize = 64;
/// How long the first of them may wait. The core counts in seconds when a link is dead.
const NEWS_DELAY: Duration = Duration::from_millis(5);

/// See [`Target::run`](crate::uplinks::Target::run).
pub async fn run(
    servers: Vec<MqttTarget>,
    actions: Receiver<Action>,
    events: impl Fn(UplinkEvent),
) {
    let serve = async |target: &MqttTarget, session, actions: &mut Receiver<Action>| {
        serve(target, session, actions, &events).await
    };
    sessions::run(&servers, actions, &events, serve).await;
}

async fn serve(
    target: &MqttTarget,
    session: u64,
    actions: &mut Receiver<Action>,
    events: &impl Fn(UplinkEvent),
) -> After {
    let deadline = Instant::now() + target.connect_timeout();
    let mut client = Client::new(target.client_options());
    let opened = {
        let mut opening = pin!(timeout_at(deadline, link::open(target)));
        loop {
            tokio::select! {
                opened = &mut opening => break opened.unwrap_or(Err(Lost::Unanswered)),
                action = actions.recv() => match sessions::asked(session, action) {
                    Asked::Send(token, batch) => client.send(token, batch),
                    Asked::End(after) => return after,
                    Asked::Other => {}
                },
            }
        }
    };
    let socket = match opened {
        Ok(socket) => socket,
        Err(lost) => {
            events(complaint::ended(target, session, Stage::Opening, &lost));
            return After::Idle;
        }
    };
    let session = Session {
        target,
        session,
        events,
        client,
        socket,
        alarm: Box::pin(sleep_until(deadline)),
        deadline,
        buffer: vec![0; READ].into_boxed_slice(),
        unflushed: false,
        news: Vec::new(),
        news_due: None,
    };
    session.serve(actions).await
}

struct Session<'a, E> {
    target: &'a MqttTarget,
    session: u64,
    events: &'a E,
    client: Client,
    socket: Box<dyn Socket>,
    alarm: Pin<Box<Sleep>>,
    /// For CONNACK.
    deadline: Instant,
    buffer: Box<[u8]>,
    /// Something was written that TLS may still hold.
    unflushed: bool,
    /// Acknowledgements that the core has not been told of.
    news: Vec<UplinkEvent>,
    /// When it is to be told.
    news_due: Option<Instant>,
}

/// Why a session is over.
enum End {
    /// The core has said so.
    Told(After),
    /// The daemon ends.
    Farewell,
    /// The connection is gone.
    Lost(Lost),
}

impl From<Lost> for End {
    fn from(lost: Lost) -> End {
        End::Lost(lost)
    }
}

impl<E: Fn(UplinkEvent)> Session<'_, E> {
    async fn serve(mut self, actions: &mut Receiver<Action>) -> After {
        match poll_fn(|cx| self.poll(cx, actions)).await {
            End::Told(after) => after,
            End::Farewell => self.farewell().await,
            End::Lost(lost) => {
                self.tell_all();
                let stage = if self.client.is_open() { Stage::Open } else { Stage::Opening };
                (self.events)(complaint::ended(self.target, self.session, stage, &lost));
                After::Idle
            }
        }
    }

    /// Goes on until the session is over. Nothing is lost when it is given up half-way: what was
    /// read and what is to be written lie in the client.
    fn poll(&mut self, cx: &mut Context<'_>, actions: &mut Receiver<Action>) -> Poll<End> {
        match self.advance(cx, actions) {
            Ok(()) => Poll::Pending,
            Err(end) => Poll::Ready(end),
        }
    }

    /// All that can be done before something happens that wakes `cx`.
    fn advance(&mut self, cx: &mut Context<'_>, actions: &mut Receiver<Action>) -> Result<(), End> {
        self.take_actions(cx, actions)?;
        self.write(cx)?;
        let mut has_heard = false;
        while self.read(cx)? {
            has_heard = true;
            // What was acknowledged may have made room for more.
            self.write(cx)?;
        }
        self.look_at_clock(cx)?;
        // It may be time for a ping.
        self.write(cx)?;
        if has_heard && self.client.has_waiting() && self.client.in_flight() >= WORTH_A_NAP {
            std::thread::sleep(NAP);
        }
        Ok(())
    }

    fn take_actions(
        &mut self,
        cx: &mut Context<'_>,
        actions: &mut Receiver<Action>,
    ) -> Result<(), End> {
        for _ in 0..TURN {
            let Poll::Ready(action) = actions.poll_recv(cx) else { return Ok(()) };
            match sessions::asked(self.session, action) {
                Asked::Send(token, batch) => self.client.send(token, batch),
                Asked::End(After::Close) if self.client.is_open() => return Err(End::Farewell),
                Asked::End(after) => return Err(End::Told(after)),
                Asked::Other => {}
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn look_at_clock(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        loop {
            if self.news_due.is_some_and(|at| at <= Instant::now()) {
                self.tell_all();
            }
            let next = match self.client.poll_timeout() {
                Some(at) => self.news_due.map_or(at.into(), |due| due.min(at.into())),
                None if self.client.is_open() => return Ok(()),
                None => self.deadline,
            };
            if self.alarm.deadline() != next {
                self.alarm.as_mut().reset(next);
            }
            if self.alarm.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            if !self.client.is_open() {
                return Err(Lost::Unanswered);
            }
            self.client.handle_timeout(Instant::now().into())?;
        }
    }

    fn write(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        let written = self.write_all(cx);
        // What could not be encoded was refused meanwhile.
        self.tell();
        written.map_err(Lost::Io)
    }

    fn write_all(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        loop {
            let out = self.client.outbox();
            if out.is_empty() {
                break;
            }
            match Pin::new(&mut self.socket).poll_write(cx, out)? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(count) => self.client.written(count),
                Poll::Pending => return Ok(()),
            }
            self.unflushed = true;
        }
        if self.unflushed && Pin::new(&mut self.socket).poll_flush(cx)?.is_ready() {
            self.unflushed = false;
        }
        Ok(())
    }

    /// Whether anything was there to read.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        let mut anything = false;
        // Where the server does not read, the write above wakes us.
        while self.client.wants_input() {
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer).map_err(Lost::Io)? {
                Poll::Pending => break,
                Poll::Ready(()) if buffer.filled().is_empty() => return Err(Lost::Closed),
                Poll::Ready(()) => {}
            }
            anything = true;
            let taken = self.client.handle_input(Instant::now().into(), buffer.filled());
            self.tell();
            taken?;
        }
        Ok(anything)
    }

    fn tell(&mut self) {
        let session = self.session;
        let mut is_urgent = false;
        while let Some(event) = self.client.poll_event() {
            is_urgent |= !matches!(event, ClientEvent::Acknowledged { .. });
            self.news.push(match event {
                ClientEvent::Opened => UplinkEvent::Connected { session, held: Vec::new() },
                ClientEvent::Acknowledged { token } => UplinkEvent::Acknowledged { session, token },
                ClientEvent::Taken { token, part } => UplinkEvent::Taken { session, token, part },
                ClientEvent::Refused { token, reason } => {
                    UplinkEvent::Refused { session, token, reason }
                }
            });
        }
        if is_urgent || !self.client.has_waiting() || self.news.len() >= NEWS {
            self.tell_all();
        } else if !self.news.is_empty() {
            self.news_due.get_or_insert_with(|| Instant::now() + NEWS_DELAY);
        }
    }

    fn tell_all(&mut self) {
        self.news_due = None;
        self.news.drain(..).for_each(self.events);
    }

    /// Sends DISCONNECT, so that the server does not take the shutdown for a broken link.
    async fn farewell(mut self) -> After {
        self.client.leave();
        let left = async {
            self.socket.write_all(self.client.outbox()).await?;
            self.socket.shutdown().await
        };
        // Late or not, the daemon ends now.
        let _ = timeout(FAREWELL, left).await;
        After::Close
    }
}
