//! How a release is taken in.

use crate::cbor::{Field, Fields, FormError, Full, Value, Writer};

const MINUTES_OF_A_DAY: u16 = 24 * 60;

mod key {
    pub(super) const APPLY: u64 = 0;
    pub(super) const SELF_TEST: u64 = 1;
    pub(super) const CONTACT: u64 = 2;
    pub(super) const ATTEMPTS: u64 = 3;
    pub(super) const WINDOW: u64 = 4;
}

const TABLE: [Field; 5] = [
    Field::number(key::APPLY, 0..=2),
    Field::number(key::SELF_TEST, 1..=Policy::MAX_DEADLINE),
    Field::number(key::CONTACT, 1..=Policy::MAX_DEADLINE),
    Field::number(key::ATTEMPTS, 1..=Policy::MAX_ATTEMPTS as u32),
    Field::item(key::WINDOW),
];

/// When a device that has everything may start into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// At once.
    Auto,
    /// When its application, or a command that its application lets through, says so.
    Ask,
    /// Between these times of day, UTC.
    Window {
        /// Minute of the day when it begins, below 1,440.
        from: u16,
        /// How many minutes it lasts, 1 to 1,440.
        minutes: u16,
    },
}

/// How a release is taken in. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When it may be started.
    pub apply: Apply,
    /// Within this time of a start on trial the self-test has to pass.
    pub self_test: u32,
    /// Within this time of a start on trial the gateway has to be reached.
    pub contact: u32,
    /// Starts that it has to prove itself, 1 to 10.
    pub attempts: u8,
}

impl Policy {
    /// Most starts on trial.
    pub const MAX_ATTEMPTS: u8 = 10;
    /// Longest deadline: 30 days.
    pub const MAX_DEADLINE: u32 = 30 * 24 * 3_600;

    /// The default where there is none.
    pub(super) fn read(value: &Value<'_>) -> Result<Policy, FormError> {
        let default = Policy::default();
        let Some(mut reader) = value.item() else { return Ok(default) };
        let values = Fields::read(&mut reader, &TABLE)?;
        let [apply, self_test, contact, attempts, window] = &values;
        let or =
            |value: &Value<'_>, default| if value.is_there() { value.number() } else { default };
        let apply = match (apply.byte(), read_window(window)?) {
            (0, None) => Apply::Auto,
            (1, None) => Apply::Ask,
            (2, Some(window)) => window,
            (2, None) => return Err(FormError::missing(key::WINDOW)),
            _ => return Err(FormError::range(key::WINDOW)),
        };
        Ok(Policy {
            apply,
            self_test: or(self_test, default.self_test),
            contact: or(contact, default.contact),
            attempts: or(attempts, default.attempts.into()) as u8,
        })
    }

    /// Writes it.
    ///
    /// # Errors
    /// The buffer is too small.
    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        let (apply, window) = match self.apply {
            Apply::Auto => (0, None),
            Apply::Ask => (1, None),
            Apply::Window { from, minutes } => (2, Some((from, minutes))),
        };
        writer.map(4 + usize::from(window.is_some()))?;
        writer.uint(key::APPLY)?;
        writer.uint(apply)?;
        writer.uint(key::SELF_TEST)?;
        writer.uint(self.self_test.into())?;
        writer.uint(key::CONTACT)?;
        writer.uint(self.contact.into())?;
        writer.uint(key::ATTEMPTS)?;
        writer.uint(self.attempts.into())?;
        if let Some((from, minutes)) = window {
            writer.uint(key::WINDOW)?;
            writer.array(2)?;
            writer.uint(from.into())?;
            writer.uint(minutes.into())?;
        }
        Ok(())
    }
}

fn read_window(value: &Value<'_>) -> Result<Option<Apply>, FormError> {
    let Some((from, minutes)) = super::read_pair(value, key::WINDOW)? else { return Ok(None) };
    let day = u64::from(MINUTES_OF_A_DAY);
    if from >= day || !(1..=day).contains(&minutes) {
        return Err(FormError::range(key::WINDOW));
    }
    Ok(Some(Apply::Window { from: from as u16, minutes: minutes as u16 }))
}

impl Default for Policy {
    /// At once, with five minutes for the self-test, a day to reach the gateway, three attempts.
    fn default() -> Policy {
        Policy { apply: Apply::Auto, self_test: 300, contact: 24 * 3_600, attempts: 3 }
    }
}
