//! The loop of the core thread: take what arrived, let the gateway decide, carry it out.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context;
use tidegate_flow::{Call, CallResult, CallVerdict, Notice, Now, Output, UplinkEvent};
use tokio::sync::mpsc::{Receiver, UnboundedReceiver};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::closing_notes::ClosingNotes;
use super::disks::Disks;
use super::functions::FunctionThreads;
use super::requests::Requests;
use super::timer::Timer;
use super::uplinks::{Drivers, News};
use super::versions::Versions;
use super::{Core, Event, clock};
use crate::core_handle::CoreRequest;
use crate::firmware::BlockReader;
use crate::guest_log::GuestLog;
use crate::routes::{Served, ServedRoute};
use crate::supervisor::Pulse;

/// Events taken in before the gateway's decisions are carried out.
const TURN: usize = 256;
/// How long functions may take to handle that the gateway ends.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a shutdown may take to bring everything to flash.
const SHUTDOWN: Duration = Duration::from_secs(10);

/// The core thread's side of everything else.
pub(crate) struct Pump {
    pub(crate) core: Rc<Core>,
    /// Unbounded in form; in substance one reply for each request under way, and those are
    /// few: a write, a few reads, a call for each worker of a function.
    pub(crate) events: UnboundedReceiver<Event>,
    pub(crate) requests: Receiver<CoreRequest>,
    pub(crate) disks: Disks,
    /// By index in the plan; `None` for a function that could not be loaded.
    pub(crate) functions: BTreeMap<usize, FunctionThreads>,
    pub(crate) versions: Versions,
    pub(crate) blocks: BlockReader,
    pub(crate) log: GuestLog,
    pub(crate) uplinks: Drivers,
    pub(crate) news: News,
    pub(crate) pending: Requests,
    pub(crate) routes: watch::Sender<Served>,
    pub(crate) timer: Timer,
    pub(crate) listeners: JoinSet<()>,
    pub(crate) notes: ClosingNotes,
    /// Beats with the turns of this thread, so that one that stands still is noticed.
    pub(crate) pulse: Pulse,
    pub(crate) shutdown: watch::Receiver<bool>,
}

/// What the core's thread wakes up for.
enum Happened {
    Event(Option<Event>),
    Work,
    Alarm(std::io::Result<()>),
    News(usize, UplinkEvent),
    Request(CoreRequest),
}

impl Pump {
    /// Runs until the shutdown is done.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        self.show_routes();
        // What the store already holds needs nobody to ask for it: uplinks connect, functions go
        // on, and the timer is set for the first time.
        self.carry_out()?;
        while !self.turn().await? {
            self.carry_out()?;
        }
        self.settle().await
    }

    /// Waits for something to happen and hands it to the gateway. True when the daemon is to end.
    async fn turn(&mut self) -> anyhow::Result<bool> {
        let happened = tokio::select! {
            biased;
            event = self.events.recv() => Happened::Event(event),
            () = self.core.work.notified() => Happened::Work,
            ring = self.timer.ring() => Happened::Alarm(ring),
            Some((uplink, event)) = self.news.recv() => Happened::News(uplink, event),
            Some(request) = self.requests.recv() => Happened::Request(request),
            _ = self.shutdown.wait_for(|stop| *stop) => return Ok(true),
        };
        self.take(happened)?;
        Ok(false)
    }

    fn take(&mut self, happened: Happened) -> anyhow::Result<()> {
        match happened {
            Happened::Event(event) => self.take_events(event.context("the threads are gone")?),
            Happened::Work => {}
            Happened::Alarm(ring) => {
                ring.context("the timer failed")?;
                self.core.gateway.borrow_mut().handle_timeout(clock::now());
            }
            Happened::News(uplink, event) => self.take_news(uplink, event),
            Happened::Request(CoreRequest::Reload { reload, reply }) => {
                // Who asked may have given up; the configuration counts all the same.
                let _ = reply.send(self.reload(*reload));
            }
            Happened::Request(request) => self.pending.serve(&self.core, request),
        }
        Ok(())
    }

    fn take_events(&mut self, first: Event) {
        let core = self.core.clone();
        let mut next = Some(first);
        let mut left = TURN;
        while let Some(event) = next {
            let now = clock::now();
            match event {
                Event::Disk(reply) => core.gateway.borrow_mut().handle_disk(now, reply),
                Event::Called(call, result) => {
                    core.gateway.borrow_mut().handle_call(now, call, result);
                }
                Event::NotStarted(function, why) => self.not_started(function, why),
                Event::Checked(checked) => core.password_checked(&checked),
                Event::News(news) => core.take_news(*news),
                Event::Block(read, data) => {
                    self.blocks.is_read();
                    let data = data.as_deref().map_err(String::as_str);
                    core.gateway.borrow_mut().handle_firmware_read(now, &read, data);
                }
            }
            left -= 1;
            next = if left > 0 { self.events.try_recv().ok() } else { None };
        }
    }

    fn take_news(&mut self, uplink: usize, event: UplinkEvent) {
        let mut gateway = self.core.gateway.borrow_mut();
        let more = std::iter::from_fn(|| self.news.try_recv().ok()).take(TURN - 1);
        for (uplink, event) in std::iter::once((uplink, event)).chain(more) {
            gateway.handle_uplink(clock::now(), uplink, event);
        }
    }

    /// Does what the gateway says until it has nothing more to say, and sets the alarm.
    fn carry_out(&mut self) -> anyhow::Result<()> {
        let now = clock::now();
        loop {
            self.carry_out_all(now)?;
            // What waited may want the disk again.
            self.pending.go_on(&self.core);
            let output = self.core.gateway.borrow_mut().poll_output(now);
            match output {
                Some(output) => self.carry_out_one(output)?,
                None => break,
            }
        }
        self.uplinks.drain();
        if self.blocks.is_idle() && self.core.gateway.borrow().needed_bundles().is_empty() {
            self.blocks.rest();
        }
        self.watch_congestion();
        let at = self.core.gateway.borrow().poll_timeout();
        let at = self.pulse.beat(now.instant).map_or(at, |beat| at.min(beat));
        self.timer.set(now.instant, at).context("cannot set the timer")
    }

    fn carry_out_all(&mut self, now: Now) -> anyhow::Result<()> {
        loop {
            let output = self.core.gateway.borrow_mut().poll_output(now);
            match output {
                Some(output) => self.carry_out_one(output)?,
                None => return Ok(()),
            }
        }
    }

    fn carry_out_one(&mut self, output: Output) -> anyhow::Result<()> {
        match output {
            Output::Writable(conn) => {
                self.core.flush(conn);
            }
            Output::Close(conn, why) => {
                if let Some(link) = self.core.link(conn) {
                    if !link.is_turned_away() {
                        self.notes.note(clock::now().instant, link.origin(), &why);
                    }
                    link.close();
                }
            }
            Output::Pause(conn) => self.pause(conn, true),
            Output::Resume(conn) => self.pause(conn, false),
            Output::Authenticate(conn, login) => self.core.log_in(conn, login),
            Output::Disk(request) => {
                anyhow::ensure!(self.disks.submit(request), "a disk thread died");
            }
            Output::Answer(id, answer) => self.pending.answered(id, answer),
            Output::Call(call) => self.call(call),
            Output::Uplink(index, action) => self.uplinks.submit(index, action),
            Output::Function(order) => {
                self.carry_out_order(order);
                self.show_routes();
            }
            Output::ReadFirmware(read) => self.blocks.read(read),
            Output::Letter(letter) => self.core.mailboxes.post(letter),
            Output::Notice(Notice::Denied { client, user, action, topic }) => {
                let now = clock::now().instant;
                self.notes.denied(now, &client, user.as_deref(), action, &topic);
            }
            Output::Notice(notice) => {
                self.log.note(&notice);
                log(notice);
            }
        }
        Ok(())
    }

    /// Shows which functions answer which routes now.
    pub(crate) fn show_routes(&self) {
        let gateway = self.core.gateway.borrow();
        let served = gateway.http_routes().map(|(function, name, route)| ServedRoute {
            function,
            name: name.to_owned(),
            route: route.clone(),
        });
        self.routes.send_replace(served.collect());
    }

    fn pause(&self, conn: tidegate_broker::ConnId, paused: bool) {
        if let Some(link) = self.core.link(conn) {
            link.pause(paused);
        }
    }

    fn call(&mut self, call: Call) {
        let id = call.id;
        let threads = self.functions.get(&id.function);
        if !threads.is_some_and(|threads| threads.submit(call)) {
            let why = "its thread died; restart the daemon".to_owned();
            let result = CallResult {
                verdict: CallVerdict::Failed(why.clone()),
                fuel: 0,
                elapsed: Duration::ZERO,
                cpu: Duration::ZERO,
                memory_bytes: 0,
            };
            let mut gateway = self.core.gateway.borrow_mut();
            gateway.handle_call(clock::now(), id, result);
            gateway.park_function(id.function, why);
        }
    }

    /// Tells every connection when reading stops or goes on because of the log's memory.
    fn watch_congestion(&self) {
        let congested = !self.core.gateway.borrow().wants_input();
        if self.core.congested.replace(congested) == congested {
            return;
        }
        self.core.gateway.borrow_mut().handle_reading(clock::now(), !congested);
        if !congested {
            for link in self.core.links.borrow().values() {
                link.reconsider();
            }
        }
    }

    /// Lets functions that want to know it handle that the gateway is about to end.
    async fn say_goodbye(&mut self) -> anyhow::Result<()> {
        self.core.gateway.borrow_mut().say_goodbye(clock::now());
        self.carry_out()?;
        let handled = async {
            while !self.core.gateway.borrow().has_said_goodbye() {
                let happened = tokio::select! {
                    event = self.events.recv() => Happened::Event(event),
                    ring = self.timer.ring() => Happened::Alarm(ring),
                };
                self.take(happened)?;
                self.carry_out()?;
            }
            anyhow::Ok(())
        };
        match tokio::time::timeout(GOODBYE, handled).await {
            Ok(result) => result,
            Err(_) => {
                let seconds = GOODBYE.as_secs();
                tracing::warn!(
                    seconds,
                    "functions have not handled the event stop; they are given it at the next start"
                );
                Ok(())
            }
        }
    }

    /// The way down: no more input, everything to flash.
    async fn settle(mut self) -> anyhow::Result<()> {
        self.core.stopping.set(true);
        self.pulse.stopping();
        self.listeners.abort_all();
        self.say_goodbye().await?;
        self.core.gateway.borrow_mut().shut_down(clock::now());
        self.carry_out()?;
        let settled = async {
            while !self.core.gateway.borrow().is_idle() {
                let happened = tokio::select! {
                    event = self.events.recv() => Happened::Event(event),
                    ring = self.timer.ring() => Happened::Alarm(ring),
                };
                self.take(happened)?;
                self.carry_out()?;
            }
            Ok(())
        };
        match tokio::time::timeout(SHUTDOWN, settled).await {
            Ok(result) => result,
            Err(_) => anyhow::bail!(
                "the disk did not take everything within {} s; what was acknowledged is on it, \
                 the rest will be sent again by its publishers",
                SHUTDOWN.as_secs()
            ),
        }
    }
}

fn log(notice: Notice) {
    match notice {
        Notice::ClientConnected { client, peer } => tracing::debug!(client, peer, "connected"),
        Notice::ClientDisconnected { client, why } => {
            tracing::debug!(client, why, "disconnected");
        }
        // Limited, see ClosingNotes.
        Notice::Denied { .. } => {}
        Notice::FunctionLog { function, level, text } => match level {
            1 => tracing::error!(target: "function", function, "{text}"),
            2 => tracing::warn!(target: "function", function, "{text}"),
            3 => tracing::info!(target: "function", function, "{text}"),
            _ => tracing::debug!(target: "function", function, "{text}"),
        },
        Notice::CallFailed { function, records, failure } => {
            tracing::warn!(function, records, failure, "a call failed; it will be made again");
        }
        Notice::RequestFailed { function, route, failure } => {
            tracing::warn!(function, route, failure, "the call of a request failed");
        }
        Notice::DeadLettered { function, stream, seq, reason } => {
            tracing::warn!(function, stream, seq, reason, "record moved to dead-letters");
        }
        Notice::RolledBack { function, version, to, reason } => {
            let to = to.unwrap_or_else(|| "none".to_owned());
            tracing::error!(function, version, to, reason, "failed on trial; taken back");
        }
        Notice::VersionWaits { function, why } => {
            tracing::error!(
                function,
                why,
                "failed on trial; it stands still until the log has room"
            );
        }
        Notice::UplinkConnected { uplink } => tracing::info!(uplink, "uplink connected"),
        Notice::UplinkDown { uplink, why } => {
            tracing::warn!(uplink, why, "uplink down; records wait on flash");
        }
        Notice::Setback { uplink, what } => {
            tracing::error!(uplink, what, "the upstream holds less than it acknowledged");
        }
        Notice::SessionsWait { why } => tracing::error!(
            why,
            "MQTT sessions cannot be written yet; clients that connect, subscribe or use QoS 2 wait"
        ),
        Notice::FirmwareNotKept { why } => {
            tracing::error!(why, "what has become of firmware is not kept");
        }
        Notice::DeviceForgotten { device, newcomer } => tracing::warn!(
            device = &*device,
            newcomer = &*newcomer,
            "too many devices are known: the one not seen for longest is forgotten"
        ),
        Notice::LossesWait { why } => {
            tracing::warn!(why, "the stream losses cannot tell the newest losses yet");
        }
        Notice::Rejected { uplink, stream, seq, reason } => tracing::error!(
            uplink,
            stream,
            seq,
            reason,
            "the upstream will not take this record; it is in the loss ledger"
        ),
    }
}
