//! Finds readings that are far from what a sensor usually says: a mean and a variance that follow
//! it with exponential weights, and a score in standard deviations.
//!
//! What it does and how to configure it is in `README.md`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use tidegate_guest::decimal::{push_decimal, sqrt};
use tidegate_guest::json::{Json, push_string};
use tidegate_guest::text::{concat, push_signed, push_template};
use tidegate_guest::{Batch, Config, Error, Function, Message, Nack, Out, State};

tidegate_guest::function!(Anomaly);

/// The function, with its configuration.
#[derive(Debug, Clone)]
pub struct Anomaly {
    /// Weight of the newest reading.
    alpha: f64,
    /// Standard deviations above which a reading is an anomaly.
    limit: f64,
    /// Readings of a sensor before the first anomaly.
    warm_up: u32,
    /// The standard deviation is taken as no less than this.
    min_deviation: f64,
    field: String,
    topic: String,
    sensor_level: usize,
}

impl Function for Anomaly {
    fn new(config: &Config<'_>) -> Result<Self, Error> {
        config.only(&[
            "alpha",
            "limit",
            "warm_up",
            "min_deviation",
            "field",
            "topic",
            "sensor_level",
        ])?;
        let alpha = config.number("alpha", 0.05)?;
        if !(alpha > 0.0 && alpha <= 0.5) {
            return Err(Error::new("`alpha` in the configuration must be above 0, at most 0.5"));
        }
        let (limit, min_deviation) =
            (config.number("limit", 4.0)?, config.number("min_deviation", 1e-6)?);
        if !(limit > 0.0 && min_deviation > 0.0) {
            return Err(Error::new(
                "`limit` and `min_deviation` in the configuration must be above 0",
            ));
        }
        Ok(Self {
            alpha,
            limit,
            // The casts saturate.
            warm_up: config.number("warm_up", 30.0)? as u32,
            min_deviation,
            field: config.string("field", "value")?,
            topic: config.string("topic", "anomalies/{sensor}")?,
            sensor_level: config.number("sensor_level", 2.0)? as usize,
        })
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        for message in batch.messages() {
            let payload = Json::parse(message.payload());
            let value = payload.ok().and_then(|json| json.path(&self.field)?.as_f64());
            let Some(value) = value else {
                let reason =
                    concat(&["the payload is no JSON with a number at `", &self.field, "`"]);
                out.nack(&message, &Nack::dead(&reason));
                continue;
            };
            let level = self.sensor_level.checked_sub(1);
            let sensor =
                level.and_then(|level| message.topic_level(level)).unwrap_or(message.topic());
            let key = sensor.as_bytes();
            let mut usual = match state.get::<Vec<u8>>(key)? {
                Some(bytes) => Usual::decode(&bytes).unwrap_or(Usual::first(value)),
                None => Usual::first(value),
            };
            let deviation = sqrt(usual.variance).max(self.min_deviation);
            let score = (value - usual.mean) / deviation;
            if usual.count >= self.warm_up && score.abs() > self.limit {
                self.tell(&message, sensor, &usual, (value, deviation, score), out);
            }
            usual.learn(value, deviation, self);
            state.put(key, &usual.encode());
        }
        Ok(())
    }
}

impl Anomaly {
    fn tell(
        &self,
        message: &Message<'_>,
        sensor: &str,
        usual: &Usual,
        (value, deviation, score): (f64, f64, f64),
        out: &mut Out<'_>,
    ) {
        let mut json = String::from("{\"sensor\":");
        push_string(&mut json, sensor);
        let numbers = [
            (",\"value\":", value, 6),
            (",\"mean\":", usual.mean, 6),
            (",\"deviation\":", deviation, 6),
            (",\"score\":", score, 2),
        ];
        for (name, number, decimals) in numbers {
            json.push_str(name);
            push_decimal(&mut json, number, decimals);
        }
        json.push_str(",\"time\":");
        push_signed(&mut json, message.time_ns().div_euclid(1_000_000));
        json.push('}');
        let mut topic = String::new();
        push_template(&mut topic, &self.topic, "sensor", sensor);
        out.emit_for(message, &topic, json.as_bytes());
    }
}

/// What a sensor usually says: 20 bytes of state.
#[derive(Debug, Clone, Copy)]
struct Usual {
    mean: f64,
    variance: f64,
    /// Readings that it is made of.
    count: u32,
}

impl Usual {
    fn first(value: f64) -> Self {
        Self { mean: value, variance: 0.0, count: 0 }
    }

    /// Takes a reading in. One beyond the limit counts as one at the limit: a single spike does
    /// not make the next ones look usual, and a new level is learned all the same.
    fn learn(&mut self, value: f64, deviation: f64, function: &Anomaly) {
        self.count = self.count.saturating_add(1);
        // While it is young the plain mean is better than one that remembers the first reading.
        let alpha = function.alpha.max(1.0 / f64::from(self.count));
        let mut step = value - self.mean;
        if self.count > function.warm_up {
            let most = function.limit * deviation;
            step = step.clamp(-most, most);
        }
        self.mean += alpha * step;
        self.variance = (1.0 - alpha) * (self.variance + alpha * step * step);
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20);
        bytes.extend_from_slice(&self.mean.to_le_bytes());
        bytes.extend_from_slice(&self.variance.to_le_bytes());
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (mean, rest) = bytes.split_first_chunk::<8>()?;
        let (variance, rest) = rest.split_first_chunk::<8>()?;
        let count = u32::from_le_bytes(*rest.first_chunk::<4>()?);
        Some(Self {
            mean: f64::from_le_bytes(*mean),
            variance: f64::from_le_bytes(*variance),
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Anomaly;

    #[test]
    fn the_cases_pass_natively() {
        tidegate_fixtures::native::run::<Anomaly>(env!("CARGO_MANIFEST_DIR"));
    }
}
