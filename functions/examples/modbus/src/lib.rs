//! Decodes Modbus registers into named values: 16 and 32 bits, signed, unsigned and float, in
//! every order of bytes that devices use, with scale and offset.
//!
//! What it does and how to configure it is in `README.md`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod frame;
mod value;

use crate::frame::Frame;
use crate::value::Value;
use alloc::string::String;
use alloc::vec::Vec;
use tidegate_guest::decimal::push_decimal;
use tidegate_guest::json::push_string;
use tidegate_guest::text::{concat, push_signed, push_template};
use tidegate_guest::{Batch, Config, Error, Function, Message, Nack, Out, State};

tidegate_guest::function!(Modbus);

/// The function, with its configuration.
#[derive(Debug, Clone)]
pub struct Modbus {
    values: Vec<Value>,
    topic: String,
    sensor_level: usize,
}

impl Function for Modbus {
    fn new(config: &Config<'_>) -> Result<Self, Error> {
        config.only(&["values", "topic", "sensor_level"])?;
        let missing = "`values` is missing in the configuration: for each value its `address` and \
                       `type`";
        let values = config.get("values").ok_or_else(|| Error::new(missing))?;
        let values: Vec<Value> = values
            .members()
            .map(|(name, config)| Value::parse(&name, config))
            .collect::<Result<_, _>>()?;
        if values.is_empty() {
            return Err(Error::new(missing));
        }
        Ok(Self {
            values,
            topic: config.string("topic", "decoded/{sensor}")?,
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
            let payload =
                Frame::parse(message.payload()).and_then(|frame| self.decoded(&message, &frame));
            match payload {
                Ok(payload) => {
                    let mut topic = String::new();
                    push_template(&mut topic, &self.topic, "sensor", self.sensor(&message));
                    out.emit_for(&message, &topic, payload.as_bytes());
                }
                Err(reason) => out.nack(&message, &Nack::dead(&reason)),
            }
        }
        Ok(())
    }
}

impl Modbus {
    fn sensor<'a>(&self, message: &Message<'a>) -> &'a str {
        let level = self.sensor_level.checked_sub(1);
        level.and_then(|level| message.topic_level(level)).unwrap_or(message.topic())
    }

    /// The values that the frame has. One that it has in part is a mistake of the configuration or
    /// of the poller; one that it has not at all comes in another frame.
    fn decoded(&self, message: &Message<'_>, frame: &Frame) -> Result<String, String> {
        let mut json = String::from("{\"time\":");
        push_signed(&mut json, message.time_ns().div_euclid(1_000_000));
        let mut found = false;
        for value in &self.values {
            let Some(registers) = frame.registers(value.address, value.registers())? else {
                continue;
            };
            found = true;
            json.push(',');
            push_string(&mut json, &value.name);
            json.push(':');
            push_decimal(&mut json, value.decode(registers), value.decimals);
        }
        json.push('}');
        match found {
            true => Ok(json),
            false => Err(concat(&["no value of the configuration is in the registers"])),
        }
    }
}

#[cfg(test)]
mod tests;
