//! W3C trace context on its way through a function: an output that comes from a record carries
//! the record's `traceparent` and `tracestate`, as they are.
//!
//! They are copied together or not at all, and never at the cost of the output: where they do
//! not fit, it goes without them, and is counted.

use crate::attributes::{Attributes, MAX_ATTRIBUTE_BYTES};

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// Longest context that is copied, names included. The standard asks for 512 bytes of
/// `tracestate`, and each of a record's outputs gets a copy.
const MAX_CONTEXT_BYTES: usize = 1024;
/// Most bytes of all copies of a call, as many as its output frame may have: small outputs
/// must not become large by what a publisher wrote.
const MAX_CALL_BYTES: usize = 1 << 20;

/// What became of a record's context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carried {
    /// The record has none, or the output one of its own.
    Nothing,
    /// So many properties were added behind those of the output.
    Properties(usize),
    /// It does not fit.
    NoRoom,
}

/// Room for the copies of one call.
#[derive(Debug, Default)]
pub(crate) struct Room {
    max_properties: usize,
    bytes: usize,
}

impl Room {
    /// For outputs of at most so many user properties, as many as a publisher may send.
    pub(crate) fn new(max_properties: usize) -> Room {
        Room { max_properties, bytes: MAX_CALL_BYTES }
    }

    /// Adds the context of a record with the properties `from` to an output that has none.
    pub(crate) fn carry(&mut self, from: &[(String, String)], to: &mut Attributes) -> Carried {
        if to.user.iter().any(is_context) || !from.iter().any(|(name, _)| name == PARENT) {
            return Carried::Nothing;
        }
        let context = || from.iter().filter(|pair| is_context(pair));
        let bytes: usize = context().map(|(name, value)| name.len() + value.len()).sum();
        let own = to.user.len();
        let added = context().count();
        if bytes > self.bytes.min(MAX_CONTEXT_BYTES) || own + added > self.max_properties {
            return Carried::NoRoom;
        }
        to.user.extend(context().cloned());
        let mut encoded = Vec::new();
        to.encode(&mut encoded);
        if encoded.len() > MAX_ATTRIBUTE_BYTES {
            to.user.truncate(own);
            return Carried::NoRoom;
        }
        self.bytes -= bytes;
        Carried::Properties(added)
    }
}

fn is_context((name, _): &(String, String)) -> bool {
    name == PARENT || name == STATE
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// What an output with these properties has after it came from a record with those.
    fn check(
        from: &[(&str, &str)],
        own: &[(&str, &str)],
        carried: Carried,
        after: &[(&str, &str)],
    ) {
        let mut to = Attributes { user: pairs(own), ..Attributes::default() };
        assert_eq!(Room::new(4).carry(&pairs(from), &mut to), carried);
        assert_eq!(to.user, pairs(after));
    }

    #[test]
    fn both_properties_go_together_and_only_to_an_output_that_has_neither() {
        let unit = ("unit", "C");
        let parent = (PARENT, TRACE);
        let state = (STATE, "a=1");
        check(&[state, unit, parent], &[unit], Carried::Properties(2), &[unit, state, parent]);
        check(&[parent], &[], Carried::Properties(1), &[parent]);
        check(&[state], &[], Carried::Nothing, &[]);
        check(&[("Traceparent", TRACE)], &[], Carried::Nothing, &[]);
        check(&[unit], &[unit], Carried::Nothing, &[unit]);
        let own = (PARENT, "own");
        check(&[parent, state], &[own], Carried::Nothing, &[own]);
        let own = (STATE, "own");
        check(&[parent, state], &[own], Carried::Nothing, &[own]);
    }

    #[test]
    fn an_output_at_its_limits_goes_without() {
        let unit = ("unit", "C");
        let (parent, state) = ((PARENT, TRACE), (STATE, "a=1"));
        check(&[parent, state], &[unit; 2], Carried::Properties(2), &[unit, unit, parent, state]);
        check(&[parent, state], &[unit; 3], Carried::NoRoom, &[unit; 3]);
        let long = "x".repeat(MAX_CONTEXT_BYTES - PARENT.len() - TRACE.len() - STATE.len());
        let state = (STATE, long.as_str());
        check(&[parent, state], &[], Carried::Properties(2), &[parent, state]);
        let longer = format!("{long}x");
        check(&[parent, (STATE, &longer)], &[], Carried::NoRoom, &[]);
        // The stored form has 5 bytes around each property.
        let fits = "x".repeat(MAX_ATTRIBUTE_BYTES - 5 - PARENT.len() - TRACE.len() - 5 - 1);
        let (full, fuller) = (("k", fits.as_str()), ("kk", fits.as_str()));
        check(&[parent], &[full], Carried::Properties(1), &[full, parent]);
        check(&[parent], &[fuller], Carried::NoRoom, &[fuller]);
    }

    #[test]
    fn all_copies_of_a_call_together_have_a_bound() {
        let mut room = Room::new(4);
        let state = "x".repeat(1000 - PARENT.len() - TRACE.len() - STATE.len());
        let from = pairs(&[(PARENT, TRACE), (STATE, &state)]);
        let mut carried = 0;
        while room.carry(&from, &mut Attributes::default()) != Carried::NoRoom {
            carried += 1;
        }
        assert_eq!(carried, MAX_CALL_BYTES / 1000);
    }
}
