//! Samples in a payload.

use alloc::string::String;
use alloc::vec::Vec;
use tidegate_guest::json::Json;
use tidegate_guest::text::concat;

/// Samples of one record at least and at most: the spectrum of 4096 takes 128 KiB of memory.
const MIN_SAMPLES: usize = 8;
const MAX_SAMPLES: usize = 4096;

/// How samples are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// `{"rate":1000,"samples":[0.1,-0.2]}`
    Json,
    /// Whole numbers of two bytes, little-endian.
    I16,
    /// Floats of four bytes, little-endian.
    F32,
}

/// What one record holds.
#[derive(Debug, Clone)]
pub(crate) struct Samples {
    /// Samples a second.
    pub(crate) rate: f64,
    pub(crate) values: Vec<f64>,
}

impl Samples {
    pub(crate) fn parse(
        payload: &[u8],
        format: Format,
        mut rate: f64,
        scale: f64,
    ) -> Result<Self, String> {
        let mut values: Vec<f64> = match format {
            Format::Json => {
                let json = Json::parse(payload)
                    .map_err(|error| concat(&["the payload is not JSON: ", &error.text()]))?;
                rate = json.get("rate").and_then(|rate| rate.as_f64()).unwrap_or(rate);
                let list = json.get("samples").and_then(|samples| numbers(samples.text()));
                list.ok_or("the payload has no list of numbers `samples`")?
            }
            Format::I16 => {
                let (pairs, rest) = payload.as_chunks::<2>();
                whole(rest)?;
                pairs.iter().map(|pair| f64::from(i16::from_le_bytes(*pair))).collect()
            }
            Format::F32 => {
                let (fours, rest) = payload.as_chunks::<4>();
                whole(rest)?;
                fours.iter().map(|four| f64::from(f32::from_le_bytes(*four))).collect()
            }
        };
        if !(MIN_SAMPLES..=MAX_SAMPLES).contains(&values.len()) {
            return Err(concat(&["a record must have 8 to 4096 samples"]));
        }
        if values.iter().any(|value| !value.is_finite()) || !(rate > 0.0 && rate.is_finite()) {
            return Err(concat(&["a sample is no finite number, or `rate` is not above 0"]));
        }
        values.iter_mut().for_each(|value| *value *= scale);
        Ok(Self { rate, values })
    }
}

fn whole(rest: &[u8]) -> Result<(), String> {
    match rest {
        [] => Ok(()),
        [..] => Err(concat(&["the payload ends in the middle of a sample"])),
    }
}

fn numbers(text: &str) -> Option<Vec<f64>> {
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    let number = |text: &str| Json::parse(text.as_bytes()).ok()?.as_f64();
    inside.split(',').take(MAX_SAMPLES + 1).map(number).collect()
}
