//! Brings payloads of many makers into one schema: fields are renamed, numbers are converted from
//! the unit that the maker uses.
//!
//! What it does and how to configure it is in `README.md`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod field;

use crate::field::Field;
use alloc::string::String;
use alloc::vec::Vec;
use tidegate_guest::json::{Json, push_string};
use tidegate_guest::text::{concat, push_signed, push_template};
use tidegate_guest::{Batch, Config, Error, Function, Message, Nack, Out, State};

tidegate_guest::function!(Normalise);

/// The function, with its configuration.
#[derive(Debug, Clone)]
pub struct Normalise {
    fields: Vec<Field>,
    topic: String,
    sensor_level: usize,
}

impl Function for Normalise {
    fn new(config: &Config<'_>) -> Result<Self, Error> {
        config.only(&["fields", "topic", "sensor_level"])?;
        let missing = "`fields` is missing in the configuration: for each field where it is `from`";
        let fields = config.get("fields").ok_or_else(|| Error::new(missing))?;
        let fields: Vec<Field> = fields
            .members()
            .map(|(name, config)| Field::parse(&name, config))
            .collect::<Result<_, _>>()?;
        if fields.is_empty() {
            return Err(Error::new(missing));
        }
        Ok(Self {
            fields,
            topic: config.string("topic", "normalised/{sensor}")?,
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
            let level = self.sensor_level.checked_sub(1);
            let sensor =
                level.and_then(|level| message.topic_level(level)).unwrap_or(message.topic());
            match self.normalised(&message, sensor) {
                Ok(payload) => {
                    let mut topic = String::new();
                    push_template(&mut topic, &self.topic, "sensor", sensor);
                    out.emit_for(&message, &topic, payload.as_bytes());
                }
                Err(reason) => out.nack(&message, &Nack::dead(&reason)),
            }
        }
        Ok(())
    }
}

impl Normalise {
    fn normalised(&self, message: &Message<'_>, sensor: &str) -> Result<String, String> {
        let payload = Json::parse(message.payload())
            .map_err(|error| concat(&["the payload is not JSON: ", &error.text()]))?;
        let mut json = String::from("{\"sensor\":");
        push_string(&mut json, sensor);
        json.push_str(",\"time\":");
        push_signed(&mut json, message.time_ns().div_euclid(1_000_000));
        for field in &self.fields {
            field.push(payload, &mut json)?;
        }
        json.push('}');
        Ok(json)
    }
}

#[cfg(test)]
mod tests;
