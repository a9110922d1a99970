//! Tumbling windows: minimum, maximum, mean, last and count of each sensor's readings, by the time
//! of the readings, late ones included as long as they are not too late.
//!
//! What it does and how to configure it is in `README.md`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod window;

use crate::window::{Series, Window};
use alloc::string::String;
use alloc::vec::Vec;
use tidegate_guest::decimal::push_decimal;
use tidegate_guest::json::{Json, push_string};
use tidegate_guest::text::{concat, push_signed, push_template};
use tidegate_guest::{Batch, Config, Error, Function, Message, Nack, Out, State};

tidegate_guest::function!(Downsample);

/// Windows of one sensor that are open at a time, at most: 52 bytes of state each.
const MAX_OPEN: f64 = 60.0;

/// The function, with its configuration.
#[derive(Debug, Clone)]
pub struct Downsample {
    /// Milliseconds of a window.
    window_ms: i64,
    /// Milliseconds that a reading may be late.
    lateness_ms: i64,
    field: String,
    /// Where a payload has its time, milliseconds since 1970; empty = the time of receipt.
    time_field: String,
    topic: String,
    sensor_level: usize,
    decimals: u8,
}

impl Function for Downsample {
    fn new(config: &Config<'_>) -> Result<Self, Error> {
        config.only(&[
            "window",
            "lateness",
            "field",
            "time_field",
            "topic",
            "sensor_level",
            "decimals",
        ])?;
        let (window, lateness) = (config.number("window", 60.0)?, config.number("lateness", 0.0)?);
        if !(0.001..=31_536_000.0).contains(&window) {
            return Err(Error::new("`window` in the configuration must be 0.001 to 31536000 (s)"));
        }
        if !(0.0..=window * (MAX_OPEN - 2.0)).contains(&lateness) {
            return Err(Error::new(
                "`lateness` in the configuration must be 0 to 58 times `window`",
            ));
        }
        Ok(Self {
            window_ms: (window * 1e3) as i64,
            lateness_ms: (lateness * 1e3) as i64,
            field: config.string("field", "value")?,
            time_field: config.string("time_field", "")?,
            topic: config.string("topic", "downsampled/{sensor}")?,
            // The cast saturates.
            sensor_level: config.number("sensor_level", 2.0)? as usize,
            decimals: config.number("decimals", 6.0)? as u8,
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
                Ok((time_ms, value)) => self.take(&message, time_ms, value, out, state)?,
                Err(reason) => out.nack(&message, &Nack::dead(&reason)),
            }
        }
        Ok(())
    }
}

impl Downsample {
    /// When a reading was made, and what it says.
    fn reading(&self, message: &Message<'_>) -> Result<(i64, f64), String> {
        let payload = Json::parse(message.payload())
            .map_err(|error| concat(&["the payload is not JSON: ", &error.text()]))?;
        let number = |field: &str| {
            let found = payload.path(field).and_then(|found| found.as_f64());
            found.ok_or_else(|| concat(&["the payload has no number at `", field, "`"]))
        };
        let time_ms = match self.time_field.as_str() {
            "" => message.time_ns().div_euclid(1_000_000),
            field => number(field)? as i64,
        };
        Ok((time_ms, number(&self.field)?))
    }

    fn take(
        &self,
        message: &Message<'_>,
        time_ms: i64,
        value: f64,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        let level = self.sensor_level.checked_sub(1);
        let sensor = level.and_then(|level| message.topic_level(level)).unwrap_or(message.topic());
        let key = sensor.as_bytes();
        let bytes = state.get::<Vec<u8>>(key)?.unwrap_or_default();
        let mut series = Series::decode(&bytes);
        let start = time_ms.div_euclid(self.window_ms).saturating_mul(self.window_ms);
        if start < series.closed_until {
            out.nack(message, &Nack::drop("its window is closed"));
            return Ok(());
        }
        series.add(start, time_ms, value);
        let newest = time_ms.saturating_sub(self.lateness_ms);
        for window in series.close(newest, self.window_ms) {
            self.tell(message, sensor, &window, out);
        }
        state.put(key, &series.encode());
        Ok(())
    }

    fn tell(&self, message: &Message<'_>, sensor: &str, window: &Window, out: &mut Out<'_>) {
        let mut json = String::from("{\"sensor\":");
        push_string(&mut json, sensor);
        json.push_str(",\"start\":");
        push_signed(&mut json, window.start_ms);
        json.push_str(",\"end\":");
        push_signed(&mut json, window.start_ms.saturating_add(self.window_ms));
        json.push_str(",\"count\":");
        push_signed(&mut json, window.count.into());
        let mean = window.sum / f64::from(window.count);
        let numbers =
            [("min", window.min), ("max", window.max), ("mean", mean), ("last", window.last)];
        for (name, value) in numbers {
            json.push_str(",\"");
            json.push_str(name);
            json.push_str("\":");
            push_decimal(&mut json, value, self.decimals);
        }
        json.push('}');
        let mut topic = String::new();
        push_template(&mut topic, &self.topic, "sensor", sensor);
        out.emit_for(message, &topic, json.as_bytes());
    }
}

#[cfg(test)]
mod tests;
