//! Publishes an alert when a sensor's reading rises above a limit. What it does and how to configure it
//! is in README.md.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use tidegate_guest::json::{Json, push_string};
use tidegate_guest::text::concat;
use tidegate_guest::{Batch, Config, Error, Function, Message, Nack, Out, State};

tidegate_guest::function!(Alert);

pub struct Alert {
    limit: f64,
    /// A sensor is armed again below this.
    rearm_below: f64,
}

impl Function for Alert {
    fn new(config: &Config<'_>) -> Result<Self, Error> {
        config.only(&["limit", "hysteresis"])?;
        if config.get("limit").is_none() {
            return Err(Error::new("`limit` in the configuration must be a number"));
        }
        let limit = config.number("limit", 0.0)?;
        Ok(Self { limit, rearm_below: limit - config.number("hysteresis", 0.0)? })
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        for message in batch.messages() {
            let payload = Json::parse(message.payload()).ok();
            let value = payload.and_then(|payload| payload.get("value"));
            match value.and_then(|value| Some((value, value.as_f64()?))) {
                Some((text, value)) => self.reading(&message, text.text(), value, out, state)?,
                None => out.nack(&message, &Nack::dead("the payload has no number at `value`")),
            }
        }
        Ok(())
    }
}

impl Alert {
    fn reading(
        &self,
        message: &Message<'_>,
        text: &str,
        value: f64,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        let sensor = message.topic_level(1).filter(|level| !level.is_empty()).unwrap_or(message.topic());
        let key = sensor.as_bytes();
        // Only sensors above the limit have a key, so the state stays as small as the trouble.
        let was_above = state.get::<f64>(key)?.is_some();
        if value > self.limit && !was_above {
            state.put(key, &value);
            let mut name = String::new();
            push_string(&mut name, sensor);
            let payload = concat(&["{\"sensor\":", &name, ",\"value\":", text, "}"]);
            out.emit_for(message, &concat(&["alerts/", sensor]), payload.as_bytes());
        } else if value < self.rearm_below && was_above {
            state.delete(key);
        }
        Ok(())
    }
}
