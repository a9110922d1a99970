//! What a sensor's readings say, by their number.

use crate::options::Route;

/// What the function has to make of a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadingKind {
    /// Nothing.
    Ordinary,
    /// An alert: it is over the limit.
    Over,
    /// A dead letter: it has no number.
    Poison,
}

/// See [`ReadingKind`].
pub(crate) fn kind_of(reading: u64) -> ReadingKind {
    match reading % 40 {
        3 | 13 | 23 | 33 => ReadingKind::Over,
        7 => ReadingKind::Poison,
        _ => ReadingKind::Ordinary,
    }
}

/// Whether it says nothing: it deletes what was retained before.
pub(crate) fn is_empty(route: Route, reading: u64) -> bool {
    route == Route::State && reading % 10 == 9
}

/// The payload of a sensor's reading, with up to `padding` bytes more than it needs.
pub(crate) fn payload(name: &str, route: Route, padding: u64, reading: u64) -> String {
    if is_empty(route, reading) {
        return String::new();
    }
    let notes = "x".repeat((reading * 37 % padding) as usize);
    match kind_of(reading) {
        ReadingKind::Ordinary => {
            format!("{{\"id\":\"{name}-{reading}\",\"value\":21.5,\"notes\":\"{notes}\"}}")
        }
        ReadingKind::Over => {
            format!("{{\"id\":\"{name}-{reading}\",\"value\":31.5,\"notes\":\"{notes}\"}}")
        }
        ReadingKind::Poison => format!("{{\"id\":\"{name}-{reading}\",\"value\":\"?\"}}"),
    }
}
