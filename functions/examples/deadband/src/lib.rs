//! Report by exception: passes a reading on when it has moved out of the dead band around the one
//! that was passed on last, and, as a sign of life, when that is too long ago.
//!
//! What it does and how to configure it is in `README.md`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use tidegate_guest::json::Json;
use tidegate_guest::text::{concat, push_template};
use tidegate_guest::{Batch, Config, Error, Function, Message, Nack, Out, State};

tidegate_guest::function!(Deadband);

/// Nanoseconds of a second.
const SECOND: f64 = 1e9;

/// The function, with its configuration.
#[derive(Debug, Clone)]
pub struct Deadband {
    field: String,
    topic: String,
    /// Half the width of the band, in the reading's unit.
    band: f64,
    /// The same as a share of the last reading passed on; the wider of the two counts.
    share: f64,
    /// Nanoseconds after which a reading is passed on in any case; 0 = never.
    heartbeat_ns: i64,
}

impl Function for Deadband {
    fn new(config: &Config<'_>) -> Result<Self, Error> {
        config.only(&["field", "topic", "band", "percent", "heartbeat"])?;
        let not_negative = |key: &str| {
            let value = config.number(key, 0.0)?;
            if value < 0.0 {
                let text = concat(&["`", key, "` in the configuration must not be negative"]);
                return Err(Error::DeadLetter(text));
            }
            Ok(value)
        };
        Ok(Self {
            field: config.string("field", "value")?,
            topic: config.string("topic", "changes/{topic}")?,
            band: not_negative("band")?,
            share: not_negative("percent")? / 100.0,
            // The cast saturates: 292 years are for ever.
            heartbeat_ns: (not_negative("heartbeat")? * SECOND) as i64,
        })
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        for message in batch.messages() {
            match self.value(&message) {
                Ok(value) => self.reading(&message, value, out, state)?,
                Err(reason) => out.nack(&message, &Nack::dead(&reason)),
            }
        }
        Ok(())
    }
}

impl Deadband {
    fn value(&self, message: &Message<'_>) -> Result<f64, String> {
        let payload = Json::parse(message.payload())
            .map_err(|error| concat(&["the payload is not JSON: ", &error.text()]))?;
        payload
            .path(&self.field)
            .and_then(|found| found.as_f64())
            .ok_or_else(|| concat(&["the payload has no number at `", &self.field, "`"]))
    }

    fn reading(
        &self,
        message: &Message<'_>,
        value: f64,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        let key = message.topic().as_bytes();
        let last = state.get::<Vec<u8>>(key)?.and_then(|bytes| Passed::decode(&bytes));
        let now = Passed { value, time_ns: message.time_ns() };
        if last.is_none_or(|last| self.is_news(last, now)) {
            state.put(key, &now.encode());
            let mut topic = String::new();
            push_template(&mut topic, &self.topic, "topic", message.topic());
            out.emit_for(message, &topic, message.payload());
        }
        Ok(())
    }

    fn is_news(&self, last: Passed, now: Passed) -> bool {
        let band = self.band.max(self.share * last.value.abs());
        let silence = now.time_ns.saturating_sub(last.time_ns);
        (now.value - last.value).abs() > band
            || (self.heartbeat_ns > 0 && silence >= self.heartbeat_ns)
    }
}

/// The last reading of a topic that was passed on: 16 bytes of state.
#[derive(Debug, Clone, Copy)]
struct Passed {
    value: f64,
    time_ns: i64,
}

impl Passed {
    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        bytes.extend_from_slice(&self.value.to_le_bytes());
        bytes.extend_from_slice(&self.time_ns.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (value, time_ns) = bytes.split_first_chunk::<8>()?;
        let time_ns = i64::from_le_bytes(*time_ns.first_chunk::<8>()?);
        Some(Self { value: f64::from_le_bytes(*value), time_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::Deadband;

    #[test]
    fn the_cases_pass_natively() {
        tidegate_fixtures::native::run::<Deadband>(env!("CARGO_MANIFEST_DIR"));
    }
}
