//! The gateway's time over MQTT (docs/formats/time.md): asks now and then on `tg/{device}/time/req`, with QoS 0,
//! and makes of the answers on `tg/{device}/time/now` what a serial link makes of its pings.
//!
//! ```
//! use tidegate_mqtt::{Client, Config, Event, Micros};
//! use tidegate_telemetry::{Time, TimeSync};
//!
//! let config = Config { subscriptions: &["tg/pump-7/time/now"], ..Config::new("pump-7") };
//! # let (mut shelf, mut input) = ([0; 64], [0; 64]);
//! let mut client = Client::new(config, &mut shelf, &mut input);
//! let mut sync = TimeSync::new(Micros::from_millis(600_000));
//!
//! // In the loop, before the client's output is sent.
//! # let now = Micros(0);
//! sync.ask(now, &mut client, "tg/pump-7/time/req")?;
//! # let mut bytes = &[][..];
//! while let Some(event) = client.handle_input(now, &mut bytes) {
//!     match event {
//!         Event::Message(message) if sync.take(now, &message) => {}
//!         Event::Message(_) => { /* another one */ }
//!         _ => {}
//!     }
//! }
//! // Unknown until the first answer is there.
//! let time = Time::of(sync.clock(), now);
//! assert_eq!((time.millis(), time.time_quality()), (None, None));
//! # Ok::<(), tidegate_mqtt::PublishError>(())
//! ```
//!
//! Invariants:
//! - the error of a time is at most what [`TimeQuality::error`](tidegate_link::TimeQuality) says, however long
//!   messages take, as long as the gateway's clock goes right and the device's is off by no more than 61 ppm;
//! - a question is answered once: what comes twice, or after the next question, does not count.
//!
//! Not here: clocks. On a serial line the link does it: [`tidegate_link::Link::clock`].

use tidegate_link::{Clock, Micros, TimeQuality};
use tidegate_mqtt::{Client, Message, Publish, PublishError, Qos};
use tidegate_wire::time::{Answer, Question};

/// From the first question to the second; then twice as long each time.
const FIRST_WAIT: Micros = Micros::from_millis(1_000);
/// What two times may differ by beside their errors: each is cut to microseconds four times.
const ROUNDING: u64 = 8;

/// See the module. 184 bytes.
#[derive(Clone, Copy, Debug)]
pub struct TimeSync {
    clock: Clock,
    /// The question that is not answered yet.
    asked: Option<Micros>,
    /// When to ask next.
    due: Micros,
    wait: Micros,
    every: Micros,
}

impl TimeSync {
    /// Asks at once, eight times in the first two minutes, then that often: the clocks may run apart by 37 ms in
    /// ten minutes.
    #[must_use]
    pub const fn new(every: Micros) -> TimeSync {
        let wait = if every.0 < FIRST_WAIT.0 { every } else { FIRST_WAIT };
        TimeSync { clock: Clock::new(), asked: None, due: Micros(0), wait, every }
    }

    /// Asks if it is time, and the client is connected; `topic` is `tg/{device}/time/req`.
    ///
    /// # Errors
    /// The client does not take it (now); it stays due.
    pub fn ask(
        &mut self,
        now: Micros,
        client: &mut Client<'_>,
        topic: &str,
    ) -> Result<(), PublishError> {
        if now < self.due || !client.is_up() {
            return Ok(());
        }
        let question = Question { sent: now.0 }.write();
        client.publish(&Publish { qos: Qos::AtMostOnce, ..Publish::new(topic, &question) })?;
        (self.asked, self.due) = (Some(now), now.after(self.wait));
        self.wait = self.wait.after(self.wait).min(self.every);
        Ok(())
    }

    /// When [`TimeSync::ask`] has something to do, if the client is connected then.
    #[must_use]
    pub const fn next_deadline(&self) -> Micros {
        self.due
    }

    /// Takes an answer. False when the message is another one, or of no version that this one knows.
    pub fn take(&mut self, now: Micros, message: &Message<'_>) -> bool {
        if !(message.topic.starts_with("tg/") && message.topic.ends_with("/time/now")) {
            return false;
        }
        let Some(answer) = Answer::read(message.payload) else { return false };
        if self.asked != Some(Micros(answer.sent)) {
            return true;
        }
        self.asked = None;
        let times = [answer.sent, answer.received, answer.answered];
        let mut alone = Clock::new();
        alone.take(times, now, answer.trusted);
        match (self.clock.now(now), alone.now(now)) {
            (Some(known), Some(new)) if agree(known, new) => {
                self.clock.take(times, now, answer.trusted);
            }
            (_, Some(_)) => self.clock = alone,
            // These times cannot be.
            (_, None) => {}
        }
        true
    }

    /// The gateway's time: [`crate::Time::of`].
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }
}

/// Whether both can be right. If not, the gateway's clock was set, or the device's goes worse than it should:
/// what was known before is no use.
fn agree((known, old): (u64, TimeQuality), (time, new): (u64, TimeQuality)) -> bool {
    let most = old.error.0.saturating_add(new.error.0).saturating_add(ROUNDING);
    known.abs_diff(time) <= most && old.trusted == new.trusted
}

#[cfg(test)]
mod tests;
