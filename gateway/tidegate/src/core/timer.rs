//! One alarm clock for the core thread, finer than the runtime's own: the log's quiet rule
//! counts in fractions of a millisecond, which a millisecond timer would round to two.

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

/// The alarm clock.
pub(crate) struct Timer {
    fd: AsyncFd<OwnedFd>,
    set_to: Option<Instant>,
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
        Ok(Timer { fd, set_to: None })
    }

    /// Sets the alarm; an earlier setting is replaced.
    pub(crate) fn set(&mut self, now: Instant, at: Instant) -> io::Result<()> {
        if let Some(old) = self.set_to {
            let apart = if old > at { old - at } else { at - old };
            if apart < RESOLUTION {
                return Ok(());
            }
        }
        let wait = at.saturating_duration_since(now).max(Duration::from_micros(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        timerfd_settime(self.fd.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        self.set_to = Some(at);
        Ok(())
    }

    /// Waits for the alarm.
    pub(crate) async fn ring(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.fd.readable().await?;
            let mut count = [0_u8; 8];
            match ready.try_io(|fd| Ok(rustix::io::read(fd.get_ref(), &mut count)?)) {
                Ok(Ok(_)) => {
                    self.set_to = None;
                    return Ok(());
                }
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}
