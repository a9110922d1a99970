//! The device's side of its twin: docs/formats/twin.md. What it should be like comes as the retained message
//! of `tg/{device}/twin/desired`, in each connection; what it is like goes to `tg/{device}/twin/reported`.
//!
//! Invariant: each change is handed over once, in its newest state, however often the connection breaks.

use tidegate_mqtt::{Client, Message, Publish, PublishError};
pub use tidegate_wire::twin::Value as Property;
use tidegate_wire::twin::{Desired, MAX_NAME, MAX_TEXT, MAX_TWIN, begin_reported, write_refused};

use crate::form::Cbor;
use crate::record::Record;

/// What is desired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// Everything goes back to its default: what follows is all that is desired.
    Reset,
    /// One property.
    Set {
        /// Its name.
        name: &'a str,
        /// Its value; [`Property::Nothing`]: it was removed, and goes back to its default.
        value: Property<'a>,
    },
}

/// See the module. 80 bytes.
#[derive(Clone, Copy, Debug)]
pub struct Twin {
    heard: u64,
    report_due: bool,
    refused: Option<Refused>,
}

/// The first property that was not taken.
#[derive(Clone, Copy, Debug)]
struct Refused {
    name: [u8; MAX_NAME],
    length: u8,
    why: &'static str,
}

impl Twin {
    /// Of a device that has kept the version that it heard last; 0: none.
    #[must_use]
    pub const fn new(heard: u64) -> Twin {
        Twin { heard, report_due: true, refused: None }
    }

    /// The version that was heard last, to be kept over restarts together with what it has changed.
    #[must_use]
    pub const fn heard(&self) -> u64 {
        self.heard
    }

    /// Whether something is to be reported: a new version was heard, or [`Twin::changed`] was said.
    #[must_use]
    pub const fn is_report_due(&self) -> bool {
        self.report_due
    }

    /// What the device is like has changed.
    pub fn changed(&mut self) {
        self.report_due = true;
    }

    /// Takes what is desired, and hands over what has changed since the version that was heard last;
    /// `apply` says in at most 64 bytes why it does not take something. False when the message is another
    /// one, or nobody's of this version.
    pub fn take(
        &mut self,
        message: &Message<'_>,
        mut apply: impl FnMut(Change<'_>) -> Result<(), &'static str>,
    ) -> bool {
        if !(message.topic.starts_with("tg/") && message.topic.ends_with("/twin/desired")) {
            return false;
        }
        let Ok(desired) = Desired::read(message.payload) else { return false };
        if desired.version == self.heard {
            return true;
        }
        let mut since = self.heard;
        if since == 0 || since < desired.complete_from || since > desired.version {
            since = 0;
            // Nothing is wrong with what it was like from the start.
            let _ = apply(Change::Reset);
        }
        self.refused = None;
        for one in desired.since(since) {
            let outcome = apply(Change::Set { name: one.name, value: one.value });
            if let (Err(why), None) = (outcome, &self.refused) {
                self.refused = Refused::new(one.name, why);
            }
        }
        (self.heard, self.report_due) = (desired.version, true);
        true
    }

    /// Says what the device is like: the record's fields are the properties. Numbers are whole ones or
    /// [`crate::Fixed`], no floats.
    ///
    /// # Errors
    /// The client does not take it (now); it stays due.
    pub fn report(
        &mut self,
        client: &mut Client<'_>,
        topic: &str,
        properties: &impl Record,
    ) -> Result<(), PublishError> {
        let mut out = [0; MAX_TWIN];
        let length = self.write(&mut out, properties).ok_or(PublishError::TooLong)?;
        let payload = out.get(..length).unwrap_or_default();
        client.publish(&Publish { retain: true, ..Publish::new(topic, payload) })?;
        self.report_due = false;
        Ok(())
    }

    fn write(&self, out: &mut [u8], properties: &impl Record) -> Option<usize> {
        let mut at = begin_reported(out, self.heard, self.refused.is_some()).ok()?;
        at += properties.write::<Cbor>(out.get_mut(at..)?)?;
        if let Some(refused) = &self.refused {
            let name = refused.name.get(..refused.length.into()).unwrap_or_default();
            let name = core::str::from_utf8(name).unwrap_or_default();
            at += write_refused(out.get_mut(at..)?, name, refused.why).ok()?;
        }
        Some(at)
    }
}

impl Refused {
    fn new(name: &str, why: &'static str) -> Option<Refused> {
        let mut bytes = [0; MAX_NAME];
        bytes.get_mut(..name.len())?.copy_from_slice(name.as_bytes());
        let most = why.floor_char_boundary(MAX_TEXT);
        let why = why.get(..most).unwrap_or_default();
        Some(Refused { name: bytes, length: name.len() as u8, why })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;
    use crate::record::Fixed;
    use std::string::{String, ToString};
    use std::vec::Vec;

    use tidegate_wire::twin::{Property as Kept, Reported, Value, write_desired};

    record! {
        struct State: "pump/1" {
            limit: Fixed<1>,
            on: bool,
        }
    }

    fn desired(version: u64, complete_from: u64, properties: &[(&str, u64, Value<'_>)]) -> Vec<u8> {
        let mut out = [0; MAX_TWIN];
        let kept = properties.iter().map(|(name, since, value)| {
            let (since, value) = (*since, *value);
            Kept { name, since, value }
        });
        let length = write_desired(&mut out, version, complete_from, kept).unwrap();
        out[..length].to_vec()
    }

    fn take(twin: &mut Twin, bytes: &[u8]) -> Vec<String> {
        let message = Message {
            topic: "tg/pump-7/twin/desired",
            payload: bytes,
            retain: true,
            response_topic: None,
            correlation: None,
        };
        let mut changes = Vec::new();
        let taken = twin.take(&message, |change| {
            changes.push(match change {
                Change::Reset => "reset".to_string(),
                Change::Set { name, .. } => name.to_string(),
            });
            match change {
                Change::Set { name: "mode", .. } => Err("there is no such mode"),
                Change::Set { .. } | Change::Reset => Ok(()),
            }
        });
        assert!(taken);
        changes
    }

    const LIMIT: Value<'_> = Value::Fixed { number: 215, digits: 1 };

    #[test]
    fn each_change_is_handed_over_once_and_only_what_has_changed() {
        let mut twin = Twin::new(0);
        let first = desired(3, 0, &[("limit", 1, LIMIT), ("on", 3, Value::Bool(true))]);
        assert_eq!(take(&mut twin, &first), ["reset", "limit", "on"]);
        assert_eq!(twin.heard(), 3);
        // The next connection brings it again.
        assert!(take(&mut twin, &first).is_empty());
        let second = [("limit", 1, LIMIT), ("on", 3, Value::Nothing), ("x", 5, Value::Int(1))];
        let mut woken = Twin::new(twin.heard());
        assert_eq!(take(&mut woken, &desired(5, 0, &second)), ["x"]);
        // It was away for too long, or the gateway counts anew.
        assert_eq!(take(&mut Twin::new(3), &desired(9, 4, &second)), ["reset", "limit", "on", "x"]);
        assert_eq!(take(&mut Twin::new(12), &desired(5, 0, &second)).len(), 4);
    }

    #[test]
    fn other_messages_are_not_taken() {
        let mut twin = Twin::new(0);
        let bytes = desired(3, 0, &[]);
        for (topic, payload) in [
            ("tg/pump-7/ota/cmd", &bytes[..]),
            ("x/pump-7/twin/desired", &bytes),
            ("tg/pump-7/twin/desired", &bytes[..1]),
        ] {
            let message =
                Message { topic, payload, retain: true, response_topic: None, correlation: None };
            assert!(!twin.take(&message, |_| panic!("nothing has changed")));
        }
        assert_eq!(twin.heard(), 0);
    }

    #[test]
    fn what_it_is_like_is_reported_with_what_it_has_not_taken() {
        let (mut shelf, mut input) = ([0; 256], [0; 32]);
        let config = tidegate_mqtt::Config::new("pump-7");
        let mut client = Client::new(config, &mut shelf, &mut input);
        let mut twin = Twin::new(3);
        let changes = [("mode", 4, Value::Text("eco")), ("limit", 4, LIMIT)];
        assert_eq!(take(&mut twin, &desired(4, 0, &changes)), ["mode", "limit"]);
        assert!(twin.is_report_due());
        let state = State { limit: Fixed(215), on: true };
        let mut out = [0; MAX_TWIN];
        let length = twin.write(&mut out, &state).unwrap();
        let reported = Reported::read(&out[..length]).unwrap();
        assert_eq!(
            (reported.desired, reported.refused()),
            (4, Some(("mode", "there is no such mode")))
        );
        let values: Vec<_> = reported.properties().map(|one| (one.name, one.value)).collect();
        assert_eq!(values, [("limit", LIMIT), ("on", Value::Bool(true))]);
        twin.report(&mut client, "tg/pump-7/twin/reported", &state).unwrap();
        assert!(!twin.is_report_due());
        twin.changed();
        assert!(twin.is_report_due());
        assert_eq!(twin.report(&mut client, "no/+/topic", &state), Err(PublishError::Topic),);
        assert!(twin.is_report_due(), "it stays due");
    }
}
