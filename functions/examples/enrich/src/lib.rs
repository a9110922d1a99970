//! Adds what is known of a device to its readings: a table in the function's state, kept up to
//! date by records of the same stream.
//!
//! What it does and how to configure it is in `README.md`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use tidegate_guest::json::{Json, push_string};
use tidegate_guest::text::{concat, push_template};
use tidegate_guest::{Batch, Config, Error, Function, Message, Nack, Out, State};

tidegate_guest::function!(Enrich);

/// Bytes of an entry of the table at most.
const MAX_ENTRY: usize = 8 << 10;

/// The function, with its configuration.
#[derive(Debug, Clone)]
pub struct Enrich {
    /// First level of the topics of the table's records.
    table: String,
    /// Which level of the topic is the key, from 1, in both kinds of records.
    key_level: usize,
    /// Name of the member that is added.
    member: String,
    topic: String,
    unknown: Unknown,
}

/// What becomes of a reading whose device is not in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    Pass,
    Drop,
    Dead,
}

impl Function for Enrich {
    fn new(config: &Config<'_>) -> Result<Self, Error> {
        config.only(&["table", "key_level", "member", "topic", "unknown"])?;
        let unknown = match config.string("unknown", "pass")?.as_str() {
            "pass" => Unknown::Pass,
            "drop" => Unknown::Drop,
            "dead" => Unknown::Dead,
            _ => {
                let text = "`unknown` in the configuration must be \"pass\", \"drop\" or \"dead\"";
                return Err(Error::new(text));
            }
        };
        // The cast saturates.
        let key_level = config.number("key_level", 2.0)? as usize;
        if key_level == 0 {
            return Err(Error::new("`key_level` in the configuration is counted from 1"));
        }
        Ok(Self {
            table: config.string("table", "devices")?,
            key_level,
            member: config.string("member", "device")?,
            topic: config.string("topic", "enriched/{topic}")?,
            unknown,
        })
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        for message in batch.messages() {
            let Some(key) = message.topic_level(self.key_level - 1) else {
                out.nack(&message, &Nack::dead("the topic has no level with a key"));
                continue;
            };
            let is_table = message.topic_level(0) == Some(&self.table);
            let done = match is_table {
                true => learn(&message, key, state),
                false => self.reading(&message, key, out, state)?,
            };
            if let Err(reason) = done {
                out.nack(&message, &Nack::dead(&reason));
            }
        }
        Ok(())
    }
}

/// Takes an entry into the table; an empty one goes.
fn learn(message: &Message<'_>, key: &str, state: &mut State<'_>) -> Result<(), String> {
    let entry = message.payload();
    if entry.is_empty() {
        state.delete(key.as_bytes());
        return Ok(());
    }
    let json =
        Json::parse(entry).map_err(|error| concat(&["the entry is not JSON: ", &error.text()]))?;
    if json.text().len() > MAX_ENTRY {
        return Err(concat(&["the entry has more than 8192 bytes"]));
    }
    state.put(key.as_bytes(), &String::from(json.text()));
    Ok(())
}

impl Enrich {
    fn reading(
        &self,
        message: &Message<'_>,
        key: &str,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<Result<(), String>, Error> {
        let entry = state.get::<String>(key.as_bytes())?;
        let entry = match (entry, self.unknown) {
            (Some(entry), _) => entry,
            (None, Unknown::Pass) => String::from("null"),
            (None, Unknown::Drop) => {
                out.nack(message, &Nack::drop("its device is not in the table"));
                return Ok(Ok(()));
            }
            (None, Unknown::Dead) => {
                return Ok(Err(concat(&["`", key, "` is not in the table"])));
            }
        };
        Ok(self.enriched(message, &entry).map(|payload| {
            let mut topic = String::new();
            push_template(&mut topic, &self.topic, "topic", message.topic());
            out.emit_for(message, &topic, payload.as_bytes());
        }))
    }

    /// The reading with one member more; one of the same name that it has already goes.
    fn enriched(&self, message: &Message<'_>, entry: &str) -> Result<String, String> {
        let payload = Json::parse(message.payload())
            .map_err(|error| concat(&["the payload is not JSON: ", &error.text()]))?;
        if !payload.is_object() {
            return Err(concat(&["the payload is no JSON object"]));
        }
        let mut json = String::from("{");
        for (name, value) in payload.members().filter(|(name, _)| *name != self.member) {
            push_string(&mut json, &name);
            json.push(':');
            json.push_str(value.text());
            json.push(',');
        }
        push_string(&mut json, &self.member);
        json.push(':');
        json.push_str(entry);
        json.push('}');
        Ok(json)
    }
}

#[cfg(test)]
mod tests {
    use super::Enrich;

    #[test]
    fn the_cases_pass_natively() {
        tidegate_fixtures::native::run::<Enrich>(env!("CARGO_MANIFEST_DIR"));
    }
}
