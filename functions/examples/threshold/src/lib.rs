//! Publishes an alert when a sensor's reading rises above a limit, with hysteresis.
//!
//! What it does and how to configure it is in `README.md`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::borrow::ToOwned;
use alloc::string::String;
use tidegate_guest::json::JsonError;
use tidegate_guest::text::concat;
use tidegate_guest::{Batch, Config, Error, Function, Message, Nack, Out, Picked, State};

tidegate_guest::function!(Threshold);

/// Nanoseconds of a millisecond.
const MILLISECOND: i64 = 1_000_000;

/// The function, with its configuration.
#[derive(Debug, Clone)]
pub struct Threshold {
    limit: f64,
    /// The limit as it was written, for the alerts.
    limit_text: String,
    /// A sensor is armed again below this.
    rearm_below: f64,
    topic: String,
    field: String,
    id_field: String,
    /// Which level of the topic names the sensor, from 1; 0 = the whole topic.
    sensor_level: usize,
    every: bool,
}

impl Function for Threshold {
    fn new(config: &Config<'_>) -> Result<Self, Error> {
        config.only(&[
            "limit",
            "hysteresis",
            "topic",
            "field",
            "id_field",
            "sensor_level",
            "every",
        ])?;
        let Some(limit_text) = config.get("limit") else {
            return Err(Error::new("`limit` is missing in the configuration"));
        };
        let limit = config.number("limit", 0.0)?;
        let hysteresis = config.number("hysteresis", 0.0)?;
        if hysteresis < 0.0 {
            return Err(Error::new("`hysteresis` must not be negative"));
        }
        let level = config.number("sensor_level", 2.0)?;
        // The cast saturates, so what is negative, huge or broken does not come back the same.
        let sensor_level = level as u8;
        if f64::from(sensor_level) != level {
            return Err(Error::new("`sensor_level` must be a whole number to 255"));
        }
        let every = config.flag("every", false)?;
        // What owns memory comes last: whatever fails before has less to give back.
        Ok(Self {
            limit,
            rearm_below: limit - hysteresis,
            sensor_level: sensor_level.into(),
            every,
            topic: config.string("topic", "alerts/{sensor}")?,
            field: config.string("field", "value")?,
            id_field: config.string("id_field", "id")?,
            limit_text: limit_text.text().to_owned(),
        })
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        batch.pick([&self.field, &self.id_field], |message, picked| {
            match self.reading(picked) {
                // Most readings are of no interest to a function without state.
                Ok((_, value)) if self.every && value <= self.limit => {}
                Ok((picked, value)) => {
                    let sensor = self.sensor(&message);
                    if self.is_alert(sensor, value, state)? {
                        self.alert(&message, sensor, &picked, out);
                    }
                }
                Err(reason) => out.nack(&message, &Nack::dead(&reason)),
            }
            Ok(())
        })
    }
}

/// The values that are picked, in their order.
const VALUE: usize = 0;
const ID: usize = 1;

impl Threshold {
    /// What a payload says, and its value; or what is wrong with it.
    fn reading<'a, 'p>(
        &self,
        picked: Result<Picked<'a, 'p>, JsonError>,
    ) -> Result<(Picked<'a, 'p>, f64), String> {
        let picked =
            picked.map_err(|error| concat(&["the payload is not JSON: ", &error.text()]))?;
        match picked.number(VALUE) {
            Some(value) => Ok((picked, value)),
            None => Err(concat(&["the payload has no number at `", &self.field, "`"])),
        }
    }

    /// The topic's level that names the sensor; the whole topic where it has no such level.
    fn sensor<'a>(&self, message: &Message<'a>) -> &'a [u8] {
        let level = self.sensor_level.checked_sub(1);
        let named = level.and_then(|level| message.topic_level_bytes(level));
        named.unwrap_or_else(|| message.topic_bytes())
    }

    /// Decides, and remembers the sensors that are above the limit: only those have a key, so
    /// the state stays as small as the trouble.
    fn is_alert(&self, sensor: &[u8], value: f64, state: &mut State<'_>) -> Result<bool, Error> {
        let above = value > self.limit;
        if self.every {
            return Ok(above);
        }
        let was_above = state.get::<bool>(sensor)?.unwrap_or(false);
        if above && !was_above {
            state.put(sensor, &true);
        } else if was_above && value < self.rearm_below {
            state.delete(sensor);
        }
        Ok(above && !was_above)
    }

    fn alert(
        &self,
        message: &Message<'_>,
        sensor: &[u8],
        picked: &Picked<'_, '_>,
        out: &mut Out<'_>,
    ) {
        // The value and the id as they were written.
        let written = |path| picked.value(path).map_or(&b"null"[..], |value| value.bytes());
        out.write_for(
            message,
            |topic| topic.push_template(&self.topic, "sensor", sensor),
            |payload| {
                payload.push(b"{\"id\":");
                payload.push(written(ID));
                payload.push(b",\"sensor\":");
                payload.push_string(sensor);
                payload.push(b",\"value\":");
                payload.push(written(VALUE));
                payload.push(b",\"limit\":");
                payload.push(self.limit_text.as_bytes());
                payload.push(b",\"time\":");
                payload.push_number(message.time_ns().div_euclid(MILLISECOND));
                payload.push(b"}");
            },
        );
    }
}

#[cfg(test)]
mod tests;
