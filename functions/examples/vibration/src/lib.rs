//! Features of vibration: RMS, peak, crest factor and the strongest lines of the spectrum, in place
//! of thousands of samples.
//!
//! What it does and how to configure it is in `README.md`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod fft;
mod samples;

use crate::fft::amplitudes;
use crate::samples::{Format, Samples};
use alloc::string::String;
use alloc::vec::Vec;
use tidegate_guest::decimal::{push_decimal, sqrt};
use tidegate_guest::json::push_string;
use tidegate_guest::text::{push_signed, push_template};
use tidegate_guest::{Batch, Config, Error, Function, Message, Nack, Out, State};

tidegate_guest::function!(Vibration);

/// Spectral lines that are told at most.
const MAX_PEAKS: f64 = 16.0;

/// The function, with its configuration.
#[derive(Debug, Clone)]
pub struct Vibration {
    format: Format,
    /// Samples a second, where the payload does not say.
    rate: f64,
    /// What a sample is multiplied by.
    scale: f64,
    /// Spectral lines that are told.
    peaks: usize,
    /// Lines below this amplitude are not told.
    floor: f64,
    topic: String,
    sensor_level: usize,
}

impl Function for Vibration {
    fn new(config: &Config<'_>) -> Result<Self, Error> {
        config.only(&["format", "rate", "scale", "peaks", "floor", "topic", "sensor_level"])?;
        let format = match config.string("format", "json")?.as_str() {
            "json" => Format::Json,
            "i16le" => Format::I16,
            "f32le" => Format::F32,
            _ => {
                let text = "`format` in the configuration must be \"json\", \"i16le\" or \"f32le\"";
                return Err(Error::new(text));
            }
        };
        let rate = config.number("rate", 0.0)?;
        if rate < 0.0 || (rate == 0.0 && format != Format::Json) {
            return Err(Error::new("`rate` in the configuration must be the samples a second"));
        }
        let peaks = config.number("peaks", 3.0)?;
        if !(0.0..=MAX_PEAKS).contains(&peaks) {
            return Err(Error::new("`peaks` in the configuration must be 0 to 16"));
        }
        Ok(Self {
            format,
            rate,
            scale: config.number("scale", 1.0)?,
            peaks: peaks as usize,
            floor: config.number("floor", 0.0)?,
            topic: config.string("topic", "vibration/{sensor}")?,
            // The cast saturates.
            sensor_level: config.number("sensor_level", 2.0)? as usize,
        })
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        _: &mut State<'_>,
    ) -> Result<(), Error> {
        for message in batch.messages() {
            match Samples::parse(message.payload(), self.format, self.rate, self.scale) {
                Ok(samples) => self.tell(&message, &samples, out),
                Err(reason) => out.nack(&message, &Nack::dead(&reason)),
            }
        }
        Ok(())
    }
}

impl Vibration {
    fn tell(&self, message: &Message<'_>, samples: &Samples, out: &mut Out<'_>) {
        let level = self.sensor_level.checked_sub(1);
        let sensor = level.and_then(|level| message.topic_level(level)).unwrap_or(message.topic());
        let features = Features::of(&samples.values);
        let mut json = String::from("{\"sensor\":");
        push_string(&mut json, sensor);
        json.push_str(",\"time\":");
        push_signed(&mut json, message.time_ns().div_euclid(1_000_000));
        let numbers = [
            (",\"mean\":", features.mean),
            (",\"rms\":", features.rms),
            (",\"peak\":", features.peak),
            (",\"crest\":", features.crest()),
        ];
        for (name, number) in numbers {
            json.push_str(name);
            push_decimal(&mut json, number, 4);
        }
        json.push_str(",\"peaks\":[");
        for (index, (hz, amplitude)) in self.strongest(samples, features.mean).iter().enumerate() {
            json.push_str(if index == 0 { "{\"hz\":" } else { ",{\"hz\":" });
            push_decimal(&mut json, *hz, 2);
            json.push_str(",\"amplitude\":");
            push_decimal(&mut json, *amplitude, 4);
            json.push('}');
        }
        json.push_str("]}");
        let mut topic = String::new();
        push_template(&mut topic, &self.topic, "sensor", sensor);
        out.emit_for(message, &topic, json.as_bytes());
    }

    /// The strongest lines of the spectrum, frequency and amplitude: those that are higher than
    /// both neighbours.
    fn strongest(&self, samples: &Samples, mean: f64) -> Vec<(f64, f64)> {
        if self.peaks == 0 {
            return Vec::new();
        }
        let (lines, length) = amplitudes(&samples.values, mean);
        let mut found: Vec<(f64, f64)> = Vec::new();
        for at in 1..lines.len().saturating_sub(1) {
            let amplitude = lines[at];
            let is_peak = amplitude >= lines[at - 1] && amplitude > lines[at + 1];
            if is_peak && amplitude > self.floor {
                let hz = at as f64 * samples.rate / length as f64;
                let place = found.partition_point(|(_, stronger)| *stronger >= amplitude);
                if place < self.peaks {
                    found.truncate(self.peaks - 1);
                    found.insert(place, (hz, amplitude));
                }
            }
        }
        found
    }
}

/// What can be said without a spectrum.
#[derive(Debug, Clone, Copy)]
struct Features {
    mean: f64,
    /// Of what is around the mean.
    rms: f64,
    /// Farthest from the mean.
    peak: f64,
}

impl Features {
    fn of(samples: &[f64]) -> Self {
        let count = samples.len() as f64;
        let mean = samples.iter().sum::<f64>() / count;
        let (mut squares, mut peak) = (0.0, 0.0f64);
        for sample in samples {
            let around = sample - mean;
            squares += around * around;
            peak = peak.max(around.abs());
        }
        Self { mean, rms: sqrt(squares / count), peak }
    }

    /// Peak over RMS: 1.41 for a sine, more for shocks; 0 when nothing moves.
    fn crest(&self) -> f64 {
        if self.rms > 0.0 { self.peak / self.rms } else { 0.0 }
    }
}

#[cfg(test)]
mod tests;
