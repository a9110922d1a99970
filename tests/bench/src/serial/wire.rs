//! A pseudo-terminal that is as slow as a line: each way, bytes pass one after the other.

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tidegate_link::Micros;

/// Bytes of the gateway that a port's driver holds, and of the device that its port holds.
const HELD: usize = 4_096;
const PORT: usize = 64;
/// Nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// The end of the device.
pub(super) struct Wire {
    end: OwnedFd,
    began: Instant,
    up: Lane,
    down: Lane,
}

/// One way.
struct Lane {
    /// Bytes a second.
    rate: u64,
    waiting: VecDeque<u8>,
    /// When the first that waits has passed, nanoseconds.
    next: u64,
}

impl Lane {
    fn new(rate: u32) -> Lane {
        Lane { rate: rate.into(), waiting: VecDeque::new(), next: 0 }
    }

    fn put(&mut self, Micros(now): Micros, bytes: &[u8]) {
        if self.waiting.is_empty() {
            self.next = self.next.max(1_000 * now + SECOND / self.rate);
        }
        self.waiting.extend(bytes);
    }

    /// How many bytes have passed by now. The caller takes them out.
    fn passed(&self, Micros(now): Micros) -> usize {
        let Some(since) = (1_000 * now).checked_sub(self.next) else { return 0 };
        let count = 1 + since * self.rate / SECOND;
        self.waiting.len().min(count as usize)
    }

    fn take(&mut self, count: usize) -> impl Iterator<Item = u8> {
        self.next += count as u64 * SECOND / self.rate;
        self.waiting.drain(..count)
    }
}

impl Wire {
    /// A line of so many bytes a second, whose gateway's end is at `path`.
    pub(super) fn new(path: &Path, rate: u32) -> Result<Wire> {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let end = openpt(flags).context("no pseudo-terminal")?;
        grantpt(&end)?;
        unlockpt(&end)?;
        let name = ptsname(&end, Vec::new())?;
        let name = Path::new(name.to_str().context("a pseudo-terminal's name is no text")?);
        // As a line, not as a terminal: nothing is echoed before the gateway sets it up itself.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let port = rustix::fs::open(name, flags, Mode::empty())?;
        let mut attributes = tcgetattr(&port)?;
        attributes.make_raw();
        tcsetattr(&port, OptionalActions::Now, &attributes)?;
        let flags = rustix::fs::fcntl_getfl(&end)?;
        rustix::fs::fcntl_setfl(&end, flags | OFlags::NONBLOCK)?;
        std::os::unix::fs::symlink(name, path)
            .with_context(|| format!("cannot make {}", path.display()))?;
        let (up, down) = (Lane::new(rate), Lane::new(rate));
        Ok(Wire { end, began: Instant::now(), up, down })
    }

    pub(super) fn now(&self) -> Micros {
        Micros(self.began.elapsed().as_micros() as u64)
    }

    /// Whether the device's port takes another frame.
    pub(super) fn is_free(&self, now: Micros) -> bool {
        self.up.waiting.len() - self.up.passed(now) < PORT
    }

    /// The device sends.
    pub(super) fn send(&mut self, now: Micros, bytes: &[u8]) {
        self.up.put(now, bytes);
    }

    /// What has passed goes to the gateway, and what the gateway has sent begins to pass; waits a little
    /// when there is nothing.
    pub(super) fn carry(&mut self, now: Micros) -> Result<()> {
        let passed = self.up.passed(now);
        if passed > 0 {
            let bytes: Vec<u8> = self.up.take(passed).collect();
            match rustix::io::write(&self.end, &bytes) {
                Ok(count) if count == bytes.len() => {}
                // The gateway has to be quicker than that: what a port does not take is lost.
                Ok(_) | Err(Errno::AGAIN) => bail!("the gateway does not read its port"),
                Err(error) => return Err(error).context("the line has failed"),
            }
        } else {
            let mut waits = [PollFd::new(&self.end, PollFlags::IN)];
            let short = Timespec { tv_sec: 0, tv_nsec: 500_000 };
            match poll(&mut waits, Some(&short)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for the line"),
            }
        }
        let room = HELD.saturating_sub(self.down.waiting.len());
        let mut bytes = vec![0; room];
        match rustix::io::read(self.end.as_fd(), &mut bytes[..]) {
            Ok(count) => self.down.put(now, &bytes[..count]),
            // EIO: the gateway has not opened its end yet.
            Err(Errno::AGAIN | Errno::IO) => {}
            Err(error) => return Err(error).context("the line has failed"),
        }
        Ok(())
    }

    /// What has passed comes to the device.
    pub(super) fn receive(&mut self, now: Micros, bytes: &mut [u8]) -> usize {
        let count = self.down.passed(now).min(bytes.len());
        bytes.iter_mut().zip(self.down.take(count)).for_each(|(place, byte)| *place = byte);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_pass_at_the_rate_of_the_line_and_no_time_is_saved_up() {
        let mut lane = Lane::new(10_000);
        assert_eq!(lane.passed(Micros(1_000_000)), 0);
        lane.put(Micros(1_000_000), &[7; 100]);
        assert_eq!(lane.passed(Micros(1_000_099)), 0);
        assert_eq!(lane.passed(Micros(1_000_100)), 1);
        assert_eq!(lane.passed(Micros(1_000_950)), 9);
        assert_eq!(lane.take(9).count(), 9);
        assert_eq!(lane.passed(Micros(1_000_999)), 0);
        assert_eq!(lane.passed(Micros(1_001_000)), 1);
        assert_eq!(lane.take(91).count(), 91);
        lane.put(Micros(1_002_000), &[7; 2]);
        assert_eq!(lane.passed(Micros(1_010_000)), 0, "behind those before");
        assert_eq!(lane.passed(Micros(1_010_100)), 1);
    }
}
