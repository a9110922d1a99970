//! One alarm clock for the core thread, finer than the runtime's own where it matters: the log's
//! quiet rule counts in fractions of a millisecond, which a millisecond timer would round up.
//!
//! Near alarms go to a `timerfd`; far ones to the runtime's timer, which costs no system call.

use std::io;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Alarms closer together than this are one.
const RESOLUTION: Duration = Duration::from_micros(20);
/// From here on the runtime's timer is fine enough.
const FAR: Duration = Duration::from_millis(50);

/// The alarm clock.
pub(crate) struct Timer {
    fd: AsyncFd<OwnedFd>,
    /// What the `timerfd` is set to; it may ring early, never late.
    near: Option<Instant>,
    far: Option<Instant>,
}

impl Timer {
    /// Makes one. Must be called on the runtime that awaits it.
    pub(crate) fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let fd = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe for types that may give their descriptor away; \
                      an OwnedFd does not"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Timer { fd, near: None, far: None })
    }

    /// Sets the alarm; an earlier setting is replaced, though it may still ring.
    pub(crate) fn set(&mut self, now: Instant, at: Instant) -> io::Result<()> {
        let wait = at.saturating_duration_since(now);
        if wait >= FAR {
            self.far = Some(at);
            return Ok(());
        }
        self.far = None;
        if self.near.is_some_and(|set| set <= at + RESOLUTION) {
            return Ok(());
        }
        let wait = wait.max(Duration::from_micros(1));
        let it_value = Timespec { tv_sec: 0, tv_nsec: wait.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        self.near = Some(at);
        Ok(())
    }

    /// Waits for the alarm. Cancelling the wait loses nothing.
    pub(crate) async fn ring(&mut self) -> io::Result<()> {
        let Some(far) = self.far else { return self.ring_near().await };
        tokio::select! {
            ring = self.ring_near() => ring,
            () = tokio::time::sleep_until(far.into()) => Ok(()),
        }
    }

    async fn ring_near(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.fd.readable().await?;
            let mut count = [0_u8; 8];
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut count)?)) {
                Ok(Ok(_)) => {
                    ready.clear_ready();
                    self.near = None;
                    return Ok(());
                }
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}
