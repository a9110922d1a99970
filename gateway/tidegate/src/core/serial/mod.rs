//! Serial lines: each a task on the core's thread that owns the port, opens it again when it was
//! unplugged, and carries bytes between the links of its devices and the broker.
//!
//! Invariants:
//! - a device is one client of the broker, with the name that the configuration gives it;
//! - nothing is read from a link that the broker does not take: the link's credit holds the
//!   device back.
//!
//! Not here: the link itself (`tidegate_link`), and MQTT: a device speaks that on channel 2.

mod device;
mod tally;

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tidegate_flow::ClockQuality;
use tidegate_link::{Bus, Config, Micros, Role, Turns};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::time::{Sleep, sleep, timeout};
use tokio_serial::{SerialPortBuilderExt, SerialStream};

use self::device::{Device, Link};
use super::links::connect_device;
use super::{Core, clock};
use crate::config::SerialSettings;

pub(crate) use self::tally::Tally;

/// Pause before the port is opened again: a plug that is put back is found within a second.
const RETRY: Duration = Duration::from_millis(500);
/// How long the port may take none of the bytes that are written to it.
const STALL: Duration = Duration::from_secs(2);
/// Bytes of one read. Slow ports bring a few at a time.
const READ_BYTES: usize = 4 * 1024;
/// Time of a device to begin when it has the turn, beside that of two frames.
const TURN: Duration = Duration::from_millis(20);
/// Bits of a byte on the line: 8, start and stop.
const BITS: u64 = 10;

/// Serves a line for ever. `listener` stands for it where clients are judged; `seed` is random.
pub(super) fn serve(
    core: Rc<Core>,
    settings: SerialSettings,
    listener: usize,
    seed: u64,
) -> impl Future<Output = ()> {
    let tally = Rc::new(RefCell::new(Tally::new(&settings, clock::now().instant)));
    core.lines.borrow_mut().push(tally.clone());
    serve_port(core, settings, listener, seed, tally)
}

async fn serve_port(
    core: Rc<Core>,
    settings: SerialSettings,
    listener: usize,
    seed: u64,
    tally: Rc<RefCell<Tally>>,
) {
    let (line, port) = (settings.name.clone(), settings.device.display().to_string());
    let mut said = String::new();
    let mut opened = 0;
    loop {
        match open(&settings) {
            Ok(stream) => {
                tracing::info!(%line, port, baud = settings.baud, "serial line is open");
                opened += 1;
                tally.borrow_mut().open(clock::now().instant);
                let (settings, seed) = (&settings, seed ^ (opened << 32));
                let why = Line::new(&core, settings, listener, seed, stream, &tally).run().await;
                tracing::warn!(%line, port, %why, "serial line is lost; trying to open it again");
                tally.borrow_mut().fail(clock::now().instant, &why.to_string());
                said.clear();
            }
            Err(error) => {
                let why = error.to_string();
                tally.borrow_mut().fail(clock::now().instant, &why);
                if why != said {
                    tracing::warn!(%line, port, why, "cannot open the serial line; trying again");
                    said = why;
                }
            }
        }
        sleep(RETRY).await;
    }
}

fn open(settings: &SerialSettings) -> io::Result<SerialStream> {
    let path = settings.device.to_string_lossy();
    Ok(tokio_serial::new(path, settings.baud).open_native_async()?)
}

/// An open port with its devices.
struct Line<'a> {
    core: &'a Rc<Core>,
    settings: &'a SerialSettings,
    listener: usize,
    port: SerialStream,
    /// Of each device, in order of the addresses.
    links: Vec<Link>,
    devices: Vec<Device>,
    /// Shared lines: whose turn it is.
    bus: Option<Bus>,
    tally: &'a RefCell<Tally>,
    began: Instant,
    timer: Pin<Box<Sleep>>,
    buffer: Box<[u8]>,
}

/// What a line was woken by.
enum Woken {
    /// So many bytes came in.
    Bytes(usize),
    /// The time has come, or the broker has something or takes something again.
    Other,
}

impl<'a> Line<'a> {
    fn new(
        core: &'a Rc<Core>,
        settings: &'a SerialSettings,
        listener: usize,
        seed: u64,
        port: SerialStream,
        tally: &'a RefCell<Tally>,
    ) -> Line<'a> {
        let turns = if settings.shared { Turns::Shared } else { Turns::Free };
        let link = |(address, _): &(u8, _)| {
            let config = Config { role: Role::Gateway, address: *address, turns };
            Link::new(config, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(*address))
        };
        let frames = 2 * Link::MAX_OUTPUT as u64 * BITS * 1_000_000 / u64::from(settings.baud);
        let turn = Micros(frames + TURN.as_micros() as u64);
        Line {
            core,
            settings,
            listener,
            port,
            links: settings.devices.iter().map(link).collect(),
            devices: settings
                .devices
                .iter()
                .map(|(_, name)| Device::new(name.clone(), core.mailboxes.of(name)))
                .collect(),
            bus: settings.shared.then(|| Bus::new(turn)),
            tally,
            began: Instant::now(),
            timer: Box::pin(sleep(Duration::ZERO)),
            buffer: vec![0; READ_BYTES].into(),
        }
    }

    /// Carries bytes until the port fails; says why.
    async fn run(mut self) -> io::Error {
        loop {
            if let Err(error) = self.send().await {
                return error;
            }
            let deadline = self.deadline();
            self.timer.as_mut().reset(deadline.into());
            let woken = std::future::poll_fn(|cx| self.poll(cx)).await;
            match woken {
                Ok(Woken::Bytes(count)) => self.take(count),
                Ok(Woken::Other) => {}
                Err(error) => return error,
            }
        }
    }

    fn now(&self) -> Micros {
        Micros(self.began.elapsed().as_micros() as u64)
    }

    /// Sends until nothing is left that may be sent.
    async fn send(&mut self) -> io::Result<()> {
        let mut frame = [0; Link::MAX_OUTPUT];
        loop {
            self.exchange();
            let now = self.now();
            let length = match (&mut self.bus, self.links.as_mut_slice()) {
                (Some(bus), links) => bus.poll_output(now, links, &mut frame),
                (None, [link, ..]) => link.poll_output(now, &mut frame),
                (None, []) => 0,
            };
            // What was sent, or time that has passed, may have ended a session.
            self.exchange();
            if length == 0 {
                return Ok(());
            }
            let Some(bytes) = frame.get(..length) else { return Ok(()) };
            match timeout(STALL, self.port.write_all(bytes)).await {
                Ok(written) => {
                    written?;
                    self.tally.borrow_mut().sent(length);
                }
                Err(_) => return Err(io::Error::other("the port takes no bytes")),
            }
        }
    }

    /// Lets each device's link and the broker have what they have for each other.
    fn exchange(&mut self) {
        let now = clock::now();
        let micros = i64::try_from(self.now().0).unwrap_or(i64::MAX);
        let ahead = now.unix_us().saturating_sub(micros);
        let trusted = now.clock == ClockQuality::Synced;
        for (at, (link, device)) in self.links.iter_mut().zip(&mut self.devices).enumerate() {
            link.set_wall(ahead, trusted);
            let (core, line) = (self.core, &self.settings.name);
            let connect = |name: &_| connect_device(core, self.listener, line, name);
            let firmware = |name: &str, said: &[u8]| core.firmware_said(name, said);
            let ended = device.exchange(link, line, connect, firmware);
            self.tally.borrow_mut().link(at, link.counters(), link.is_up(), ended);
        }
    }

    fn take(&mut self, count: usize) {
        self.tally.borrow_mut().received(count);
        let now = self.now();
        let bytes = self.buffer.get(..count).unwrap_or_default();
        match (&mut self.bus, self.links.as_mut_slice()) {
            (Some(bus), links) => bus.handle_input(now, bytes, links),
            (None, [link, ..]) => link.handle_input(now, bytes),
            (None, []) => {}
        }
    }

    fn deadline(&self) -> Instant {
        let due = match &self.bus {
            Some(bus) => Some(bus.next_deadline()),
            None => self.links.first().and_then(Link::next_deadline),
        };
        let idle = Micros::from_millis(1_000);
        self.began + Duration::from_micros(due.map_or(self.now().after(idle), |due| due).0)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Woken>> {
        let mut bytes = ReadBuf::new(&mut self.buffer);
        match Pin::new(&mut self.port).poll_read(cx, &mut bytes) {
            Poll::Ready(Ok(())) if bytes.filled().is_empty() => {
                let error = io::Error::new(io::ErrorKind::UnexpectedEof, "the port is gone");
                return Poll::Ready(Err(error));
            }
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(Woken::Bytes(bytes.filled().len()))),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
        let ready = self.devices.iter().any(|device| device.poll_ready(cx).is_ready());
        if ready || self.timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(Woken::Other));
        }
        Poll::Pending
    }
}
