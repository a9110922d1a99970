//! Twins of devices: what each should be like, and is like, as two retained messages
//! (docs/formats/twin.md). They are in the log with all retained messages, and reach a device that
//! connects as those do.
//!
//! Invariants:
//! - the version rises with each change, also after the data directory was lost, as long as the clock
//!   is right: no two states have the same one;
//! - a removal stays known until its place is needed, and who has missed it learns that.
//!
//! Not here: the bytes (`tidegate_wire::twin`), what properties mean.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidegate_broker::{Message, QoS, TopicName};
use tidegate_stream::Position;
use tidegate_wire::twin::{
    Desired, MAX_NAME, MAX_PROPERTIES, MAX_TEXT, MAX_TWIN, Property, Reported, Value, write_desired,
};

use crate::clock::{ClockQuality, Now};
use crate::gateway::Gateway;

/// Client of the messages.
const CLIENT: &str = "tidegate";
/// Most bytes of a device's name.
const MAX_DEVICE: usize = 64;

/// A twin, both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinStatus {
    /// The device.
    pub device: String,
    /// Version of the desired side; 0: nothing was ever desired.
    pub version: u64,
    /// What is desired, in the order of the names.
    pub desired: Vec<TwinProperty>,
    /// The version that the device has heard last; `None`: it has not said anything.
    pub heard: Option<u64>,
    /// What it says that it is like.
    pub reported: Vec<TwinProperty>,
    /// The first desired property that it has not taken, and why.
    pub refused: Option<(String, String)>,
}

/// A property; its value as text: `true`, `21.5`, `"eco"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinProperty {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// What is kept of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    name: String,
    since: u64,
    setting: Setting,
}

/// A value, on its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Setting {
    Nothing,
    Bool(bool),
    Int(i64),
    Fixed { number: i64, digits: u8 },
    Text(String),
}

impl Setting {
    /// As operators write it: `true`, `60`, `21.5`, text with quotes or without; nothing: remove it.
    fn parse(text: &str) -> Result<Setting, String> {
        let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        Ok(match text {
            "" => Setting::Nothing,
            "true" | "false" => Setting::Bool(text == "true"),
            _ => match (text.parse(), decimal(text)) {
                (Ok(number), _) => Setting::Int(number),
                (Err(_), Some((number, digits))) => Setting::Fixed { number, digits },
                (Err(_), None) => {
                    let text = quoted.unwrap_or(text);
                    if text.len() > MAX_TEXT {
                        return Err(format!(
                            "\"{text}\" has {} bytes; a text has at most {MAX_TEXT}",
                            text.len()
                        ));
                    }
                    Setting::Text(text.to_owned())
                }
            },
        })
    }

    fn of(value: Value<'_>) -> Setting {
        match value {
            Value::Nothing => Setting::Nothing,
            Value::Bool(value) => Setting::Bool(value),
            Value::Int(number) => Setting::Int(number),
            Value::Fixed { number, digits } => Setting::Fixed { number, digits },
            Value::Text(text) => Setting::Text(text.to_owned()),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Setting::Nothing => Value::Nothing,
            Setting::Bool(value) => Value::Bool(*value),
            Setting::Int(number) => Value::Int(*number),
            Setting::Fixed { number, digits } => Value::Fixed { number: *number, digits: *digits },
            Setting::Text(text) => Value::Text(text),
        }
    }

    fn show(&self) -> String {
        match self {
            Setting::Nothing => "null".to_owned(),
            Setting::Bool(value) => value.to_string(),
            Setting::Int(number) => number.to_string(),
            Setting::Fixed { number, digits } => {
                let sign = if *number < 0 { "-" } else { "" };
                let width = usize::from(*digits) + 1;
                let all = format!("{:0width$}", number.unsigned_abs());
                let (whole, part) = all.split_at(all.len() - usize::from(*digits));
                let point = if *digits > 0 { "." } else { "" };
                format!("{sign}{whole}{point}{part}")
            }
            Setting::Text(text) => crate::losses::quoted(text),
        }
    }
}

/// `-21.50` as -2150 with two digits; `None` when it is no such number.
fn decimal(text: &str) -> Option<(i64, u8)> {
    let (whole, part) = text.split_once('.')?;
    let digits = part.bytes().all(|byte| byte.is_ascii_digit()) && (1..=9).contains(&part.len());
    let first = whole.strip_prefix('-').unwrap_or(whole);
    let starts = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || !starts {
        return None;
    }
    // At most 9, as looked at above.
    Some((format!("{whole}{part}").parse().ok()?, part.len() as u8))
}

fn shown(properties: impl Iterator<Item = (String, Setting)>) -> Vec<TwinProperty> {
    let mut all: Vec<TwinProperty> = properties
        .filter(|(_, setting)| *setting != Setting::Nothing)
        .map(|(name, setting)| TwinProperty { name, value: setting.show() })
        .collect();
    all.sort_by(|one, other| one.name.cmp(&other.name));
    all
}

/// The desired side as it is kept.
#[derive(Debug, Default)]
struct Wish {
    version: u64,
    complete_from: u64,
    properties: Vec<Kept>,
}

impl Wish {
    fn read(bytes: &[u8]) -> Result<Wish, String> {
        let desired = Desired::read(bytes).map_err(|error| error.to_string())?;
        let kept = |one: Property<'_>| Kept {
            name: one.name.to_owned(),
            since: one.since,
            setting: Setting::of(one.value),
        };
        Ok(Wish {
            version: desired.version,
            complete_from: desired.complete_from,
            properties: desired.properties().map(kept).collect(),
        })
    }

    /// Makes a change; false when it is none.
    fn set(&mut self, version: u64, name: &str, setting: Setting) -> Result<bool, String> {
        let since = version;
        if let Some(kept) = self.properties.iter_mut().find(|one| one.name == name) {
            if kept.setting == setting {
                return Ok(false);
            }
            (kept.setting, kept.since) = (setting, since);
            return Ok(true);
        }
        if setting == Setting::Nothing {
            return Err(format!("there is no property \"{name}\""));
        }
        if !(1..=MAX_NAME).contains(&name.len()) {
            return Err(format!("\"{name}\" is no name; a name has 1 to {MAX_NAME} bytes"));
        }
        if self.properties.len() >= MAX_PROPERTIES {
            self.drop_removed()?;
        }
        self.properties.push(Kept { name: name.to_owned(), since, setting });
        Ok(true)
    }

    /// The removal that is longest ago is not known any more.
    fn drop_removed(&mut self) -> Result<(), String> {
        let removed = self.properties.iter().enumerate();
        let removed = removed.filter(|(_, one)| one.setting == Setting::Nothing);
        let Some((at, oldest)) = removed.min_by_key(|(_, one)| one.since) else {
            return Err(format!("a twin has at most {MAX_PROPERTIES} properties; remove one"));
        };
        self.complete_from = self.complete_from.max(oldest.since);
        self.properties.remove(at);
        Ok(())
    }

    fn write(&self) -> Result<Vec<u8>, String> {
        let mut out = [0; MAX_TWIN];
        let properties = self.properties.iter().map(|one| Property {
            name: &one.name,
            since: one.since,
            value: one.setting.value(),
        });
        let length = write_desired(&mut out, self.version, self.complete_from, properties)
            .map_err(|_| format!("the desired properties take more than {MAX_TWIN} bytes"))?;
        Ok(out.get(..length).unwrap_or_default().to_vec())
    }
}

fn topic(device: &str, side: &str) -> Result<TopicName, String> {
    let plain = |byte: u8| byte > b' ' && !matches!(byte, b'/' | b'+' | b'#' | b'$' | 0x7f..);
    if !(1..=MAX_DEVICE).contains(&device.len()) || !device.bytes().all(plain) {
        return Err(format!("\"{device}\" is no name of a device"));
    }
    TopicName::parse(&format!("tg/{device}/twin/{side}")).map_err(|error| error.to_string())
}

impl Gateway {
    /// A device's twin.
    ///
    /// # Errors
    /// In words: that is no name of a device, or what is kept cannot be read.
    pub fn twin(&self, now: Now, device: &str) -> Result<TwinStatus, String> {
        let wish = self.wish(now, device)?;
        let mut status = TwinStatus {
            device: device.to_owned(),
            version: wish.version,
            desired: shown(wish.properties.into_iter().map(|one| (one.name, one.setting))),
            heard: None,
            reported: Vec::new(),
            refused: None,
        };
        if let Some(message) = self.broker.retained(now.instant, &topic(device, "reported")?) {
            let reported = Reported::read(&message.payload)
                .map_err(|error| format!("what \"{device}\" has reported is no twin: {error}"))?;
            status.heard = Some(reported.desired);
            let all =
                reported.properties().map(|one| (one.name.to_owned(), Setting::of(one.value)));
            status.reported = shown(all);
            status.refused =
                reported.refused().map(|(name, why)| (name.to_owned(), why.to_owned()));
        }
        Ok(status)
    }

    /// Changes what a device should be like: names and values as operators write them, an empty value
    /// removes. Answers the twin, and from where on the change is on flash.
    ///
    /// # Errors
    /// In words; nothing has changed.
    pub fn change_twin(
        &mut self,
        now: Now,
        device: &str,
        changes: &[(String, String)],
    ) -> Result<(TwinStatus, Position), String> {
        if !self.hold.is_empty() {
            return Err("the log is behind; try again".to_owned());
        }
        let mut wish = self.wish(now, device)?;
        let seconds = u64::try_from(now.unix_ms / 1_000).unwrap_or(0);
        let clock = if now.clock == ClockQuality::Synced { seconds } else { 0 };
        let version = (wish.version + 1).max(clock);
        let mut changed = false;
        for (name, value) in changes {
            changed |= wish.set(version, name, Setting::parse(value)?)?;
        }
        if changed {
            wish.version = version;
            let topic = topic(device, "desired")?;
            let mut message = Message::new(topic.clone(), wish.write()?, QoS::AtLeastOnce);
            message.retain = true;
            let message = Arc::new(message);
            self.take_publish(now, None, CLIENT.into(), message.clone(), None);
            let kept = self.broker.retained(now.instant, &topic);
            if kept.is_none_or(|kept| kept.payload != message.payload) {
                return Err("there is no room for another retained message".to_owned());
            }
        }
        Ok((self.twin(now, device)?, self.log.end()))
    }

    fn wish(&self, now: Now, device: &str) -> Result<Wish, String> {
        let kept = self.broker.retained(now.instant, &topic(device, "desired")?);
        let Some(message) = kept else { return Ok(Wish::default()) };
        Wish::read(&message.payload)
            .map_err(|why| format!("what is desired of \"{device}\" cannot be read: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_operators_write_them() {
        for (text, setting, shown) in [
            ("true", Setting::Bool(true), "true"),
            ("-60", Setting::Int(-60), "-60"),
            ("21.50", Setting::Fixed { number: 2_150, digits: 2 }, "21.50"),
            ("-0.05", Setting::Fixed { number: -5, digits: 2 }, "-0.05"),
            ("eco", Setting::Text("eco".to_owned()), "\"eco\""),
            ("\"60\"", Setting::Text("60".to_owned()), "\"60\""),
            ("1.2.3", Setting::Text("1.2.3".to_owned()), "\"1.2.3\""),
            (".5", Setting::Text(".5".to_owned()), "\".5\""),
            ("", Setting::Nothing, "null"),
        ] {
            let parsed = Setting::parse(text).unwrap();
            assert_eq!((&parsed, parsed.show().as_str()), (&setting, shown), "{text}");
        }
        assert!(Setting::parse(&"x".repeat(MAX_TEXT + 1)).is_err());
    }

    #[test]
    fn a_removal_is_known_until_its_place_is_needed() {
        let mut wish = Wish::default();
        for n in 0..MAX_PROPERTIES as u64 {
            assert!(wish.set(n + 1, &format!("p{n}"), Setting::Int(1)).unwrap());
        }
        assert!(wish.set(40, "more", Setting::Int(1)).unwrap_err().contains("at most 32"));
        assert!(!wish.set(40, "p3", Setting::Int(1)).unwrap(), "it is so already");
        assert!(wish.set(41, "p3", Setting::Nothing).unwrap());
        assert!(wish.set(42, "p5", Setting::Nothing).unwrap());
        assert_eq!((wish.properties.len(), wish.complete_from), (MAX_PROPERTIES, 0));
        assert!(wish.set(43, "more", Setting::Int(1)).unwrap());
        assert_eq!((wish.properties.len(), wish.complete_from), (MAX_PROPERTIES, 41));
        assert!(wish.properties.iter().any(|one| one.name == "p5"));
        wish.version = 43;
        let again = Wish::read(&wish.write().unwrap()).unwrap();
        assert_eq!((again.complete_from, again.properties), (41, wish.properties));
    }
}
