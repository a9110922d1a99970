//! Log lines of a device, forwarded to its gateway.

use tidegate_mqtt::{Client, Qos};

use crate::form::{Form, JsonForm};
use crate::queue::{Overflow, Queue};
use crate::record::Value;
use crate::time::Time;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Level {
    /// Somebody has to act.
    Error,
    /// It is not as it should be.
    Warn,
    /// It is worth knowing.
    Info,
    /// For who looks for a mistake.
    Debug,
}

impl Level {
    const fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

/// Longest line as it is forwarded; a longer one is dropped, and counted.
const MOST: usize = 160;

/// Lines that wait, the oldest go first when there is no room. A line is
/// `{"level":"warn","time":null,"text":"..."}`, with `"dropped":3` when so many were dropped since the start.
#[derive(Debug)]
pub struct Log<'b> {
    queue: Queue<'b>,
    most: Level,
}

impl<'b> Log<'b> {
    /// Forwards lines up to this level.
    #[must_use]
    pub fn new(bytes: &'b mut [u8], most: Level) -> Log<'b> {
        Log { queue: Queue::new(bytes, Overflow::DropOldest), most }
    }

    /// From now on, lines up to this level.
    pub fn set_level(&mut self, most: Level) {
        self.most = most;
    }

    /// Says something.
    pub fn say(&mut self, level: Level, time: Time, text: &str) {
        if level > self.most {
            return;
        }
        let mut bytes = [0; MOST];
        let mut form = JsonForm::begin(&mut bytes, 3);
        form.name("level");
        form.text(level.name());
        form.name("time");
        time.write(&mut form);
        form.name("text");
        form.text(text);
        if self.queue.dropped() > 0 {
            form.name("dropped");
            form.uint(self.queue.dropped().into());
        }
        // Where it is too long, nothing is left of it; the queue counts what it cannot hold.
        let length = form.end().unwrap_or(usize::MAX);
        match bytes.get(..length) {
            Some(line) => self.queue.push(line),
            None => self.queue.note_dropped(),
        }
    }

    /// Hands over to the client what it takes. Lines may be lost on their way.
    pub fn flush(&mut self, client: &mut Client<'_>, topic: &str) {
        self.queue.flush(client, topic, Qos::AtMostOnce);
    }

    /// Lines that were dropped since the start.
    #[must_use]
    pub fn dropped(&self) -> u32 {
        self.queue.dropped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_up_to_the_level_wait_and_long_ones_are_counted() {
        let mut bytes = [0; 256];
        let mut log = Log::new(&mut bytes, Level::Warn);
        log.say(Level::Info, Time::unknown(), "not now");
        log.say(Level::Error, Time::unknown(), "pump \"7\" is dry");
        log.say(Level::Warn, Time::unknown(), &"x".repeat(MOST));
        assert_eq!(log.dropped(), 1);
        let line = br#"{"level":"error","time":null,"text":"pump \"7\" is dry"}"#;
        assert_eq!(log.queue.front(), Some(&line[..]));
        log.set_level(Level::Debug);
        log.say(Level::Debug, Time::unknown(), "now");
        log.queue.pop();
        // Whoever reads it learns that one is missing.
        assert!(log.queue.front().unwrap().ends_with(b"\"now\",\"dropped\":1}"));
    }
}
