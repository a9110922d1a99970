//! Publishes an alert when a sensor's reading rises above a limit, with hysteresis.
//!
//! What it does and how to configure it is in `README.md`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::borrow::ToOwned;
use alloc::string::String;
use tidegate_guest::json::{Json, push_string};
use tidegate_guest::text::{append, concat, push_signed, push_template};
use tidegate_guest::{Batch, Config, Error, Function, Message, Nack, Out, State};

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
        for message in batch.messages() {
            match self.reading(&message) {
                // Most readings are of no interest to a function without state.
                Ok(reading) if self.every && reading.value <= self.limit => {}
                Ok(reading) => {
                    let sensor = self.sensor(&message);
                    if self.is_alert(sensor, &reading, state)? {
                        self.alert(&message, sensor, &reading, out);
                    }
                }
                Err(reason) => out.nack(&message, &Nack::dead(&reason)),
            }
        }
        Ok(())
    }
}

/// What a payload says.
struct Reading<'a> {
    value: f64,
    /// The value and the id as they were written.
    written: Json<'a>,
    id: Option<Json<'a>>,
}

impl Threshold {
    /// Reads a payload, or says what is wrong with it.
    fn reading<'a>(&self, message: &Message<'a>) -> Result<Reading<'a>, String> {
        let [found, id] = Json::pick(message.payload(), [&self.field, &self.id_field])
            .map_err(|error| concat(&["the payload is not JSON: ", &error.text()]))?;
        let value = found.and_then(|found| found.as_f64());
        let (Some(written), Some(value)) = (found, value) else {
            return Err(concat(&["the payload has no number at `", &self.field, "`"]));
        };
        Ok(Reading { value, written, id })
    }

    /// The topic's level that names the sensor; the whole topic where it has no such level.
    fn sensor<'a>(&self, message: &Message<'a>) -> &'a str {
        let level = self.sensor_level.checked_sub(1);
        level.and_then(|level| message.topic_level(level)).unwrap_or_else(|| message.topic())
    }

    /// Decides, and remembers the sensors that are above the limit: only those have a key, so
    /// the state stays as small as the trouble.
    fn is_alert(
        &self,
        sensor: &str,
        reading: &Reading<'_>,
        state: &mut State<'_>,
    ) -> Result<bool, Error> {
        let above = reading.value > self.limit;
        if self.every {
            return Ok(above);
        }
        let key = sensor.as_bytes();
        let was_above = state.get::<bool>(key)?.unwrap_or(false);
        if above && !was_above {
            state.put(key, &true);
        } else if was_above && reading.value < self.rearm_below {
            state.delete(key);
        }
        Ok(above && !was_above)
    }

    fn alert(&self, message: &Message<'_>, sensor: &str, reading: &Reading<'_>, out: &mut Out<'_>) {
        let id = reading.id.map_or("null", |id| id.text());
        // Room for most alerts: a text that grows is copied again and again.
        let mut payload = String::with_capacity(256);
        append(&mut payload, &["{\"id\":", id, ",\"sensor\":"]);
        push_string(&mut payload, sensor);
        let (value, limit) = (reading.written.text(), &self.limit_text);
        append(&mut payload, &[",\"value\":", value, ",\"limit\":", limit, ",\"time\":"]);
        push_signed(&mut payload, message.time_ns().div_euclid(MILLISECOND));
        append(&mut payload, &["}"]);
        let mut topic = String::with_capacity(64);
        push_template(&mut topic, &self.topic, "sensor", sensor);
        out.emit_for(message, &topic, payload.as_bytes());
    }
}

#[cfg(test)]
mod tests;
