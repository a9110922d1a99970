//! The least that a useful function does: a threshold on the first number of a packed reading,
//! without state. What a call of it costs is the cost of the way in and out, which is what the
//! benchmark is after; the work on top is each function's own.
//!
//! A reading is at least four bytes, the first four a little-endian `f32`. One above the limit
//! (30) is published as it is under `alerts/gauge`.

#![cfg_attr(target_arch = "wasm32", no_std)]

use tidegate_guest::{Batch, Config, Error, Function, Nack, Out, State};

tidegate_guest::function!(Gauge);

/// Bytes of a reading in the benchmark.
pub const READING_BYTES: usize = 128;

/// The function.
#[derive(Debug, Clone)]
pub struct Gauge {
    limit: f32,
}

impl Function for Gauge {
    fn new(config: &Config<'_>) -> Result<Self, Error> {
        config.only(&["limit"])?;
        Ok(Self { limit: config.number("limit", 30.0)? as f32 })
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        _state: &mut State<'_>,
    ) -> Result<(), Error> {
        for message in batch.messages() {
            match message.payload().first_chunk() {
                Some(bytes) if f32::from_le_bytes(*bytes) > self.limit => {
                    out.emit_for(&message, "alerts/gauge", message.payload());
                }
                Some(_) => {}
                None => out.nack(&message, &Nack::dead("a reading has four bytes or more")),
            }
        }
        Ok(())
    }
}
