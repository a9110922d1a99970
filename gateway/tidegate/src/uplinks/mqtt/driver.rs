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
use super::gathering::Gathering;
use super::link::{self, Socket};
use super::target::MqttTarget;
use crate::core::Timer;
use crate::uplinks::sessions::{self, After, Asked};

/// Time for a DISCONNECT to leave when the daemon shuts down.
const FAREWELL: Duration = Duration::from_millis(500);
/// Actions taken before the socket gets its turn again.
const TURN: usize = 1_024;
/// Room made for each read: two thousand acknowledgements.
const READ: usize = 8 * 1024;

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
        gathering: Gathering::new(),
        is_gathering: false,
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
    gathering: Gathering,
    /// Nothing is read for a moment.
    is_gathering: bool,
}

/// What comes next in a session.
enum Next {
    /// Acknowledgements are to gather for so long.
    Gather(Duration),
    /// It is over: the core has said so.
    Told(After),
    /// It is over: the daemon ends.
    Farewell,
    /// It is over: the connection is.
    Lost(Lost),
}

impl From<Lost> for Next {
    fn from(lost: Lost) -> Next {
        Next::Lost(lost)
    }
}

impl<E: Fn(UplinkEvent)> Session<'_, E> {
    async fn serve(mut self, actions: &mut Receiver<Action>) -> After {
        let lost = match Timer::new() {
            Ok(mut timer) => loop {
                match self.next(actions, &mut timer).await {
                    Next::Gather(wait) => {
                        let now = Instant::now().into();
                        if let Err(error) = timer.set(now, now + wait) {
                            break Lost::Io(error);
                        }
                        self.is_gathering = true;
                    }
                    Next::Told(after) => return after,
                    Next::Farewell => return self.farewell().await,
                    Next::Lost(lost) => break lost,
                }
            },
            Err(error) => Lost::Io(error),
        };
        let stage = if self.client.is_open() { Stage::Open } else { Stage::Opening };
        (self.events)(complaint::ended(self.target, self.session, stage, &lost));
        After::Idle
    }

    async fn next(&mut self, actions: &mut Receiver<Action>, timer: &mut Timer) -> Next {
        if self.is_gathering {
            tokio::select! {
                next = poll_fn(|cx| self.poll(cx, actions)) => return next,
                ring = timer.ring() => if let Err(error) = ring {
                    return Next::Lost(Lost::Io(error));
                },
            }
            self.is_gathering = false;
        }
        poll_fn(|cx| self.poll(cx, actions)).await
    }

    /// Goes on until there is a next step. Nothing is lost when it is given up half-way: what was
    /// read and what is to be written lie in the client.
    fn poll(&mut self, cx: &mut Context<'_>, actions: &mut Receiver<Action>) -> Poll<Next> {
        match self.advance(cx, actions) {
            Ok(()) => Poll::Pending,
            Err(next) => Poll::Ready(next),
        }
    }

    /// All that can be done before something happens that wakes `cx`.
    fn advance(
        &mut self,
        cx: &mut Context<'_>,
        actions: &mut Receiver<Action>,
    ) -> Result<(), Next> {
        self.take_actions(cx, actions)?;
        self.look_at_clock(cx)?;
        self.write(cx)?;
        if self.is_gathering {
            return Ok(());
        }
        loop {
            let owed = self.client.in_flight();
            if !self.read(cx)? {
                return Ok(());
            }
            self.gathering.heard(owed, self.client.in_flight());
            // What was acknowledged may have made room for more.
            self.write(cx)?;
            if let Some(wait) = self.gathering.wait(self.client.in_flight()) {
                return Err(Next::Gather(wait));
            }
        }
    }

    fn take_actions(
        &mut self,
        cx: &mut Context<'_>,
        actions: &mut Receiver<Action>,
    ) -> Result<(), Next> {
        for _ in 0..TURN {
            let Poll::Ready(action) = actions.poll_recv(cx) else { return Ok(()) };
            match sessions::asked(self.session, action) {
                Asked::Send(token, batch) => self.client.send(token, batch),
                Asked::End(After::Close) if self.client.is_open() => return Err(Next::Farewell),
                Asked::End(after) => return Err(Next::Told(after)),
                Asked::Other => {}
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn look_at_clock(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        loop {
            let next = match self.client.poll_timeout() {
                Some(at) => at.into(),
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
            let was_open = self.client.is_open();
            let taken = self.client.handle_input(Instant::now().into(), buffer.filled());
            self.tell();
            taken?;
            if !was_open {
                // From now on the alarm is the keep-alive's.
                self.look_at_clock(cx)?;
            }
        }
        Ok(anything)
    }

    fn tell(&mut self) {
        let session = self.session;
        while let Some(event) = self.client.poll_event() {
            (self.events)(match event {
                ClientEvent::Opened => UplinkEvent::Connected { session, held: Vec::new() },
                ClientEvent::Acknowledged { token } => UplinkEvent::Acknowledged { session, token },
                ClientEvent::Taken { token, part } => UplinkEvent::Taken { session, token, part },
                ClientEvent::Refused { token, reason } => {
                    UplinkEvent::Refused { session, token, reason }
                }
            });
        }
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
